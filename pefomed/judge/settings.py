"""How a judging is to be done, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pefomed.judge.cost import Budget, Prices
from pefomed.judge.endpoint import Endpoint


@dataclass(frozen=True)
class JudgeSettings:
    """How to judge.

    Attributes:
        endpoint: Whom to ask.
        offline: Take the offline stand-in instead, which needs no network, key, store or money.
        repeats: Independent verdicts on each prediction; the paper has 10.
        seed: Repeat k (from 0) is asked with seed + k, where the server takes seeds.
        attempts: Asks for one verdict, as long as replies come that are none. Another seed goes with each.
        price_input: Price of a million prompt tokens; None: costs are not reckoned.
        price_output: Price of a million completion tokens, in the same currency.
        max_cost: What all that the store ever paid for may cost; None: no bound. What a request costs that the server
            never answered is not known and not counted.
        keep_failed: Leave what failed in an earlier run as it is, instead of asking again.
        agreement: Name of the use agreement under which credentialed data may be sent; see `pefomed.disclosure`.
        store: SQLite file of what was asked; "" for one beside the result, under its name with the ending `.sqlite`.
        lease_s: Seconds after which the questions of a process that died are asked again.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    offline: bool = False
    repeats: int = 1
    seed: int = 0
    attempts: int = 3
    price_input: float | None = None
    price_output: float | None = None
    max_cost: float | None = None
    keep_failed: bool = False
    agreement: str = ""
    store: str = ""
    lease_s: float = 20.0

    def __post_init__(self) -> None:
        """Raises ValueError for what can never work."""
        for name, least in (("repeats", 1), ("seed", 0), ("attempts", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"parameter {name} is {value!r}; it must be a whole number of at least {least}")
        if isinstance(self.lease_s, bool) or not 0.1 <= self.lease_s < float("inf"):
            raise ValueError(f"parameter lease_s is {self.lease_s!r}; it must be at least 0.1 seconds")
        prices = Prices(self.price_input, self.price_output)  # which check themselves
        if self.max_cost is not None:
            Budget(prices, self.max_cost)

    @property
    def prices(self) -> Prices:
        """Both prices, which may be unknown."""
        return Prices(self.price_input, self.price_output)

    @property
    def budget(self) -> Budget | None:
        """The bound on cost; None without one."""
        return None if self.max_cost is None else Budget(self.prices, self.max_cost)


@dataclass(frozen=True)
class JudgeSummary:
    """What came of a judging.

    Attributes:
        out: judge.jsonl.
        record: The record beside it.
        n: Verdicts wanted: predictions times repeats.
        ok: Verdicts there are.
        failed: Asked for, and not to be had.
        not_asked: Left when judging was stopped; they stand as `failed` in judge.jsonl.
        stopped: Why it was stopped; "" where it was not.
        usage: Everything that was counted since the store was made, by name; {} offline.
        cost: What that comes to; None where no prices are known.
    """

    out: Path
    record: Path
    n: int
    ok: int
    failed: int
    not_asked: int
    stopped: str
    usage: dict[str, int]
    cost: float | None

    @property
    def complete(self) -> bool:
        """Whether every prediction was judged in every repeat."""
        return self.ok == self.n

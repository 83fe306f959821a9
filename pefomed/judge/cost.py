"""What judging costs: tokens by estimate before, by the server's count after, and what they come to in money.

    prices = Prices(input=2.5, output=10.0)          # of the price list, per million tokens
    prices.cost(Tokens(prompt=1_000_000, completion=50_000))  # 3.0

No price is built in: prices change, and the name of a model does not tell who serves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: English text in the tokenizers of today's models; an estimate that other languages and escaped characters exceed.
CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 8  # role and separators


@dataclass(frozen=True)
class Tokens:
    """A number of tokens sent, and a number of tokens received."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def __mul__(self, times: int) -> Tokens:
        return Tokens(self.prompt * times, self.completion * times)

    @property
    def total(self) -> int:
        """Both together."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Prices:
    """Prices in any one currency, per million tokens; None where they are not known.

    Attributes:
        input: Price of a million prompt tokens.
        output: Price of a million completion tokens.
    """

    input: float | None = None
    output: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for one price without the other, and for what is no price."""
        if (self.input is None) != (self.output is None):
            missing = "price_input" if self.input is None else "price_output"
            raise ValueError(f"parameter {missing} is missing; give both prices per million tokens, or none")
        for name, value in (("price_input", self.input), ("price_output", self.output)):
            if value is not None and (isinstance(value, bool) or not 0 <= value < float("inf")):
                raise ValueError(f"parameter {name} is {value!r}; it must be a price per million tokens, at least 0")

    @property
    def known(self) -> bool:
        """Whether there are prices."""
        return self.input is not None

    def cost(self, tokens: Tokens) -> float:
        """What tokens cost; 0 where no prices are known."""
        return (tokens.prompt * (self.input or 0.0) + tokens.completion * (self.output or 0.0)) / 1_000_000


@dataclass(frozen=True)
class Budget:
    """A bound on cost.

    Attributes:
        prices: They must be known.
        most: What may be spent, in the prices' currency.
    """

    prices: Prices
    most: float

    def __post_init__(self) -> None:
        """Raises ValueError for a bound that cannot be kept or is none."""
        if isinstance(self.most, bool) or not 0 < self.most < float("inf"):
            raise ValueError(f"parameter max_cost is {self.most!r}; it must be a positive amount of money")
        if not self.prices.known:
            raise ValueError(
                "parameter max_cost needs the prices; give price_input and price_output, per million tokens"
            )

    def allows(self, tokens: Tokens) -> bool:
        """Whether tokens cost no more than may be spent."""
        return self.prices.cost(tokens) <= self.most


def estimated_tokens(messages: list[dict[str, Any]]) -> int:
    """Prompt tokens by estimate: a quarter of the characters. Only texts count; pictures do not.

    Args:
        messages: Chat messages.
    """
    return sum(len(_text(message)) // CHARACTERS_PER_TOKEN + _TOKENS_PER_MESSAGE for message in messages)


def most_tokens(messages: list[dict[str, Any]], response_format: Mapping[str, Any] | None) -> int:
    """Prompt tokens at most: today's tokenizers make no token of less than a byte.

    Args:
        messages: Chat messages of texts.
        response_format: The JSON schema that goes with them, which servers count in as well.
    """
    texts = [_text(message) for message in messages] + [json.dumps(response_format) if response_format else ""]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return size + _TOKENS_PER_MESSAGE * (len(messages) + 1)


def usage_tokens(usage: Mapping[str, int]) -> Tokens | None:
    """Tokens of a reply's usage; None where the server did not state them."""
    if "prompt_tokens" not in usage or "completion_tokens" not in usage:
        return None
    return Tokens(usage["prompt_tokens"], usage["completion_tokens"])


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))

"""What a judge was asked and has said: an SQLite file from which an interrupted run goes on.

    with JudgeStore("judge.sqlite") as store:
        if store.claim(key, reserve=Tokens(900, 300)) == "ours":
            store.finish(key, Judged("ok", score=1, reply=text, usage=usage), requests=1)

A key stands for one question to the judge. Before it is asked it is claimed, with a lease that the process renews as
long as it lives; so several processes share a store, and what a dead one had claimed is free again when its lease has
run out. An answer is stored before the next question is asked: a process killed at any moment loses what was under way
and nothing else. (A power cut may also take the last moments' answers: they are handed to the operating system, but
not forced to the disk one by one.) Keep the file on a local disk; file locks over a network cannot be relied on.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pefomed.judge.cost import Budget, Tokens

_APPLICATION = 0x5065464A  # tells our files from other programs' databases
_VERSION = 1
_TABLES = """
CREATE TABLE items (
    key TEXT PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('asked', 'ok', 'failed')),
    score INTEGER, reply TEXT, usage TEXT, error TEXT, model TEXT, finished REAL,
    owner TEXT, lease REAL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX asked ON items (owner) WHERE status = 'asked';
CREATE TABLE paid (name TEXT PRIMARY KEY, amount INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE unsupported (endpoint TEXT, parameter TEXT, PRIMARY KEY (endpoint, parameter)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Judged:
    """What came of a question.

    Attributes:
        status: `ok`, or `failed` with the reason in `error`.
        score: The verdict; None where there is none.
        reply: The reply's text, also one that is no verdict.
        usage: Tokens of the request that brought the reply.
        error: One line; "" for `ok`.
        model: As the server names what answered.
    """

    status: Literal["ok", "failed"]
    score: int | None = None
    reply: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    error: str = ""
    model: str = ""


class JudgeStore:
    """One store, opened by one process; use it from one thread at a time.

    Attributes:
        path: The SQLite file.
        lease_s: Seconds for which a claim outlives its last renewal.
    """

    def __init__(self, path: str | Path, lease_s: float = 20.0) -> None:
        """Open a store, or make one.

        Args:
            path: The file; missing parent folders are created.
            lease_s: Renew more often than this, and ask a dead process's questions again after it.

        Raises:
            ValueError: The file is something else, or of a newer version.
            OSError: It cannot be opened.
        """
        self.path, self.lease_s = Path(path), lease_s
        self._owner = secrets.token_hex(8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            self._sql = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
            self._prepare()

    def __enter__(self) -> JudgeStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is claimed and close the file."""
        self.release()
        self._sql.close()

    def get(self, key: str) -> Judged | None:
        """What came of a question; None where it was not asked, or is being asked."""
        with self._told():
            row = self._sql.execute(
                "SELECT status, score, reply, usage, error, model FROM items WHERE key = ? AND status != 'asked'",
                (key,),
            ).fetchone()
        return Judged(row[0], row[1], row[2], json.loads(row[3]), row[4], row[5]) if row else None

    def is_settled(self, key: str, retry_failed_before: float = 0.0) -> bool:
        """Whether nothing is left to ask: judged, or failed at or after that time (seconds of `time.time`)."""
        with self._told():
            row = self._sql.execute("SELECT status, finished FROM items WHERE key = ?", (key,)).fetchone()
        return row is not None and _settled(*row, retry_failed_before)

    def claim(
        self,
        key: str,
        reserve: Tokens,
        lost: Tokens | None = None,
        retry_failed_before: float = 0.0,
        budget: Budget | None = None,
    ) -> Literal["ours", "settled", "busy", "too dear"]:
        """Try to get a question for this process.

        Args:
            key: The question.
            reserve: Tokens that asking may cost, set aside until it is finished.
            lost: Tokens that a dead process may have paid for the same question; `reserve` where nothing is said.
            retry_failed_before: Questions that failed before this time are asked again.
            budget: Bound on everything that was paid out of this store and is set aside.

        Returns:
            `ours`: ask it, and call `finish`. `settled`: there is nothing to ask. `busy`: it is being asked. `too
            dear`: asking might exceed the budget.
        """
        now = time.time()
        with self._transaction():
            row = self._sql.execute(
                "SELECT status, finished, lease, prompt, completion FROM items WHERE key = ?", (key,)
            ).fetchone()
            if row and _settled(row[0], row[1], retry_failed_before):
                return "settled"
            if row and row[0] == "asked":
                if row[2] > now:
                    return "busy"
                # Whether its owner died before or after asking cannot be known; the budget takes the worse.
                gone = lost or reserve
                self._add(_lost(1, gone))
                self._sql.execute("DELETE FROM items WHERE key = ?", (key,))
            if budget and not budget.allows(self._bound() + reserve):
                return "too dear"
            self._sql.execute(
                "INSERT OR REPLACE INTO items (key, status, owner, lease, prompt, completion) "
                "VALUES (?, 'asked', ?, ?, ?, ?)",
                (key, self._owner, now + self.lease_s, reserve.prompt, reserve.completion),
            )
        return "ours"

    def finish(self, key: str, judged: Judged, **paid: int) -> None:
        """Store what came of a claimed question, and what it has cost, in one stroke.

        A verdict is never replaced. Where the lease ran out and somebody else asks, a verdict counts and a failure
        does not.

        Args:
            key: The question.
            judged: What came of it.
            **paid: As for `pay`.
        """
        values = (judged.status, judged.score, judged.reply, json.dumps(judged.usage), judged.error, judged.model)
        with self._transaction():
            self._add(paid)
            self._sql.execute(
                "UPDATE items SET status = ?, score = ?, reply = ?, usage = ?, error = ?, model = ?, finished = ?, "
                "prompt = 0, completion = 0 WHERE key = ? AND status != 'ok' AND (owner = ? OR ? = 'ok')",
                (*values, time.time(), key, self._owner, judged.status),
            )

    def pay(self, **amounts: int) -> None:
        """Count what has been paid for in vain.

        Args:
            **amounts: Numbers by name. The budget looks at `prompt_tokens`, `completion_tokens` (stated by a server),
                `assumed_prompt_tokens` and `assumed_completion_tokens` (not stated, hence the most that it can be).
        """
        with self._transaction():
            self._add(amounts)

    def paid(self) -> dict[str, int]:
        """Everything that was counted since the store was made, by name."""
        with self._told():
            return dict(self._sql.execute("SELECT name, amount FROM paid ORDER BY name"))

    def renew(self) -> None:
        """Prolong the lease of all that this process has claimed; call it every quarter of `lease_s`."""
        with self._transaction():
            self._sql.execute(
                "UPDATE items SET lease = ? WHERE owner = ? AND status = 'asked'",
                (time.time() + self.lease_s, self._owner),
            )

    def release(self) -> None:
        """Give back what this process has claimed and not finished; it counts as lost."""
        with self._transaction():
            number, prompt, completion = self._sql.execute(
                "SELECT count(*), total(prompt), total(completion) FROM items WHERE owner = ? AND status = 'asked'",
                (self._owner,),
            ).fetchone()
            if number:
                self._add(_lost(number, Tokens(int(prompt), int(completion))))
                self._sql.execute("DELETE FROM items WHERE owner = ? AND status = 'asked'", (self._owner,))

    def unclaim(self, key: str) -> None:
        """Give back a question that this process has claimed and that was certainly not answered."""
        with self._transaction():
            self._sql.execute("DELETE FROM items WHERE key = ? AND owner = ? AND status = 'asked'", (key, self._owner))

    def note_unsupported(self, endpoint: str, parameter: str) -> None:
        """Remember that a server does not take a parameter, so that no later run tries it again."""
        with self._transaction():
            self._sql.execute("INSERT OR IGNORE INTO unsupported VALUES (?, ?)", (endpoint, parameter))

    def unsupported(self, endpoint: str) -> tuple[str, ...]:
        """The parameters that were noted for a server."""
        with self._told():
            rows = self._sql.execute("SELECT parameter FROM unsupported WHERE endpoint = ? ORDER BY 1", (endpoint,))
            return tuple(name for (name,) in rows)

    def _bound(self) -> Tokens:
        """Tokens that were paid, may have been, or are set aside by any process."""
        paid = dict(self._sql.execute("SELECT name, amount FROM paid"))
        prompt, completion = self._sql.execute(
            "SELECT total(prompt), total(completion) FROM items WHERE status = 'asked'"
        ).fetchone()
        return Tokens(
            paid.get("prompt_tokens", 0) + paid.get("assumed_prompt_tokens", 0) + int(prompt),
            paid.get("completion_tokens", 0) + paid.get("assumed_completion_tokens", 0) + int(completion),
        )

    def _add(self, amounts: dict[str, int]) -> None:
        self._sql.executemany(
            "INSERT INTO paid VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET amount = amount + excluded.amount",
            [(name, amount) for name, amount in amounts.items() if amount],
        )

    def _prepare(self) -> None:
        with self._transaction():  # the lock decides which of several processes makes the tables
            (application,) = self._sql.execute("PRAGMA application_id").fetchone()
            (version,) = self._sql.execute("PRAGMA user_version").fetchone()
            (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application != _APPLICATION and tables:
                raise ValueError(f"{self.path}: a database of another program; name another file for the store")
            if tables and version != _VERSION:
                raise ValueError(f"{self.path}: a store of version {version}, not {_VERSION}; name another file")
            if not tables:
                for statement in _TABLES.split(";\n"):
                    self._sql.execute(statement)
                self._sql.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._sql.execute(f"PRAGMA user_version = {_VERSION}")
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Names the file in what SQLite complains of: a full disk, a lock that is never given back, damage."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path}: {error}; is the disk full, or the folder not to be written?") from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # a fault of ours, such as a use after closing
                raise
            raise ValueError(f"{self.path}: not a judge's store ({error}); name another file") from error


def _lost(number: int, tokens: Tokens) -> dict[str, int]:
    return {"lost": number, "assumed_prompt_tokens": tokens.prompt, "assumed_completion_tokens": tokens.completion}


def _settled(status: Any, finished: Any, retry_failed_before: float) -> bool:
    return status == "ok" or (status == "failed" and finished >= retry_failed_before)

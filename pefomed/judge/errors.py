"""What may come instead of a usable reply; raised by `endpoint.ask`."""

from __future__ import annotations


class AskError(Exception):
    """No usable reply; its text is one line without the key.

    Attributes:
        usage: As in `Reply`: what the useless reply has cost, {} where none came or nothing was stated.
        text: The useless reply's text, "" where there is none.
        answered: Whether the server replied at all, and may want to be paid.
    """

    def __init__(self, reason: str, usage: dict[str, int] | None = None, text: str = "", answered: bool = False):
        super().__init__(reason)
        self.usage, self.text, self.answered = usage or {}, text, answered


class NoAnswer(AskError):
    """Timeouts, cut connections or the server's own errors, and all retries spent."""


class Rejected(AskError):
    """The server does not take this very request."""


class Refusal(AskError):
    """The model or a filter declined to answer."""


class BadReply(AskError):
    """A reply that is none: not JSON, no choice, no text, or cut off. Asking again may help."""


class Unsupported(AskError):
    """The server does not know an optional parameter, named by `parameter`; without it the request may do."""

    def __init__(self, parameter: str, reason: str):
        super().__init__(reason)
        self.parameter = parameter


class WrongEndpoint(AskError, ValueError):
    """Key, address or model are wrong: no request can succeed."""

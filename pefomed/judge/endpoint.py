"""An OpenAI-compatible chat endpoint: where it is, how it is asked, and what may come back.

    endpoint = Endpoint(base_url="http://127.0.0.1:8000/v1", model="my-model")
    async with make_client(endpoint) as client:
        reply = await ask(client, endpoint, messages, response_format("vqa"), seed=0)

The key is read from the environment variable OPENAI_API_KEY whenever a request is sent. It stands in no field, file or
message: what a server says is searched for it before anybody else sees it.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pefomed.judge.errors import AskError, BadReply, NoAnswer, Refusal, Rejected, Unsupported, WrongEndpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI_URL = "https://api.openai.com/v1"
#: What a server may lack. `max_tokens` is the older name of `max_completion_tokens`, and sent in its place.
OPTIONAL_PARAMETERS = ("response_format", "seed", "temperature", "max_completion_tokens", "max_tokens")
_HIDDEN = "(key)"
_SHORTEST_SECRET = 6  # "EMPTY" and "none" are what one gives to servers without keys
_COMPLAINT = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|extra|not (permitted|allowed|available|implemented)|invalid"
)


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, which model, and how much at a time.

    Attributes:
        base_url: Address up to and including the version, as `openai` takes it; neither a user nor a query in it.
        model: Name of the model at that address.
        temperature: None to send none, as models with fixed sampling want it.
        timeout_s: Seconds for one try, from connecting to the last byte.
        concurrency: Most requests under way at a time.
        max_tokens_in_flight: Most tokens under way at a time by estimate, prompt and completion; one request may
            always go.
        max_retries: Tries of `openai` after the first: timeouts, cut connections, statuses 408, 409, 429 and 5xx.
        structured: Ask for replies by JSON schema.
        max_completion_tokens: Longest reply in tokens, hidden reasoning included.
        omit: Those of `OPTIONAL_PARAMETERS` that the server does not take.
    """

    base_url: str = OPENAI_URL
    model: str = "gpt-4o-2024-08-06"
    temperature: float | None = 0.0
    timeout_s: float = 60.0
    concurrency: int = 16
    max_tokens_in_flight: int = 200_000
    max_retries: int = 5
    structured: bool = True
    max_completion_tokens: int = 300
    omit: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for what can never work; a faulty address is not repeated, as it may hold a key."""
        object.__setattr__(self, "base_url", _checked_url(self.base_url))
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"parameter model is {self.model!r}; name a model of the server")
        for name, least in (("concurrency", 1), ("max_tokens_in_flight", 1), ("max_completion_tokens", 1)):
            _check_number(name, getattr(self, name), int, least)
        _check_number("max_retries", self.max_retries, int, 0)
        _check_number("timeout_s", self.timeout_s, (int, float), 0.001)
        if self.temperature is not None:
            _check_number("temperature", self.temperature, (int, float), 0)
        unknown = [name for name in self.omit if name not in OPTIONAL_PARAMETERS]
        if unknown:
            raise ValueError(f"parameter omit: {unknown[0]!r} is none of {', '.join(OPTIONAL_PARAMETERS)}")


@dataclass(frozen=True)
class Reply:
    """What a model said.

    Attributes:
        text: Never blank.
        usage: `prompt_tokens`, `completion_tokens`, `total_tokens`, as far as the server stated them.
        request_id: The server's, or "".
        model: As the server names the model that answered, or "".
        retries: Tries of `openai` before this reply.
    """

    text: str
    usage: dict[str, int]
    request_id: str
    model: str
    retries: int


def api_key() -> str:
    """The key from the environment, "" where there is none.

    Raises:
        ValueError: It cannot stand in a header. The message does not show it.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"environment variable {KEY_VARIABLE}: holds a blank or a character that no key has")
    return key


def make_client(endpoint: Endpoint) -> AsyncOpenAI:
    """The `openai` client for an endpoint; close it, or use it in `async with`.

    Proxies of the environment are used, but not for this very machine. Redirections are not followed, so that texts
    reach nobody but the server that was named.

    Raises:
        ValueError: The address is OpenAI's and there is no key, or the key is malformed.
    """
    import openai

    if not api_key() and endpoint.base_url == OPENAI_URL:
        raise ValueError(f"environment variable {KEY_VARIABLE} is not set; put the key there, and nowhere else")
    # httpx or its successor: whichever this release of openai is built on.
    bases = [kind.__module__.partition(".")[0] for kind in openai.DefaultAsyncHttpxClient.__mro__]
    httpx = importlib.import_module(next(name for name in bases if name.startswith("httpx")))

    class WholeTryTimeout(openai.DefaultAsyncHttpxClient):
        """Bounds a try as a whole: httpx bounds each wait alone, and a server may drip for ever."""

        async def send(self, request: Any, **options: Any) -> Any:
            try:
                async with asyncio.timeout(endpoint.timeout_s):
                    return await super().send(request, **options)
            except TimeoutError:
                raise httpx.ReadTimeout("not whole in time", request=request) from None

    async def current_key() -> str:
        return api_key() or "none"  # the client insists on some word

    return openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=current_key,
        max_retries=endpoint.max_retries,
        timeout=endpoint.timeout_s,
        http_client=WholeTryTimeout(
            timeout=endpoint.timeout_s,
            trust_env=not is_loopback(endpoint.base_url),
            follow_redirects=False,
            limits=httpx.Limits(max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency),
        ),
    )


async def ask(
    client: AsyncOpenAI,
    endpoint: Endpoint,
    messages: list[dict[str, Any]],
    response_format: dict[str, Any] | None,
    seed: int | None,
) -> Reply:
    """Ask once (`openai` tries again by itself where no answer comes).

    Args:
        client: From `make_client`.
        endpoint: Where, which model, which parameters.
        messages: Chat messages; contents may be texts or parts, such as pictures.
        response_format: A JSON schema as `schema.response_format` gives it; None, or `structured` off: free text.
        seed: None to send none.

    Raises:
        AskError: By its subclasses: what came instead of a usable reply.
    """
    import openai

    optional = optional_parameters(endpoint, response_format, seed)
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=endpoint.model, messages=messages, **optional
        )
    # `from None` everywhere: the original holds the request, which holds the key.
    except openai.APITimeoutError:
        raise NoAnswer(f"no answer within {endpoint.timeout_s:g} s, tried {endpoint.max_retries + 1} times") from None
    except openai.APIConnectionError as error:
        cause = type(error.__cause__ or error).__name__
        raise NoAnswer(f"connection failed ({cause}), tried {endpoint.max_retries + 1} times") from None
    except openai.APIStatusError as error:
        raise status_error(error, optional) from None
    except UnicodeEncodeError:
        raise Rejected("the messages hold half of a character pair (a lone surrogate), which cannot be sent") from None
    try:
        completion = raw.parse()
    except (ValueError, TypeError, openai.OpenAIError):
        raise BadReply("the response is not JSON", text=hide_key(raw.text)[:200], answered=True) from None
    return reply_of(completion, raw.request_id or "", raw.retries_taken, endpoint)


def hide_key(text: str) -> str:
    """A text as it may be written down: without the key, and without what looks like one; fit for UTF-8."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if len(key) >= _SHORTEST_SECRET:
        text = text.replace(key, _HIDDEN)
    # OpenAI repeats a wrong key's first and last characters.
    text = re.sub(r"\bsk-[\w*-]{4,}", _HIDDEN, text)
    return text.encode("utf-8", "replace").decode("utf-8")


def is_loopback(base_url: str) -> bool:
    """Whether an address means this very machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def optional_parameters(endpoint: Endpoint, form: dict[str, Any] | None, seed: int | None) -> dict[str, Any]:
    """What of `OPTIONAL_PARAMETERS` is sent, with `form` as response format."""
    values = {
        "response_format": form if endpoint.structured else None,
        "seed": seed,
        "temperature": endpoint.temperature,
        "max_completion_tokens": endpoint.max_completion_tokens,
        "max_tokens": endpoint.max_completion_tokens if "max_completion_tokens" in endpoint.omit else None,
    }
    return {name: value for name, value in values.items() if value is not None and name not in endpoint.omit}


def status_error(error: Any, optional: dict[str, Any]) -> AskError:
    """Sort the statuses: nothing can succeed, this request cannot, a parameter is unknown, the server is at fault."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    said = _one_line(message if isinstance(message, str) and message else error.response.text)
    status = error.status_code
    if status in (401, 402, 404, 405) or status < 400:
        return WrongEndpoint(f"the endpoint answers {status}: {said}; check {KEY_VARIABLE}, base_url and model")
    if status in (400, 422, 501):
        named = error.param if isinstance(error.param, str) else ""
        for name in optional:
            mentioned = re.search(rf"\b{name}\b", said) and _COMPLAINT.search(said.lower())
            if named.partition(".")[0] == name or (not named and mentioned):
                return Unsupported(name, f"the server does not take {name}: {said}")
    if status in (408, 409, 429) or status >= 500:
        return NoAnswer(f"status {status} to the last: {said}")
    return Rejected(f"status {status}: {said}")


def reply_of(completion: Any, request_id: str, retries: int, endpoint: Endpoint) -> Reply:
    """Look at a response as at anything that a stranger sends: any field may lack or be of any type."""
    usage = _usage(getattr(completion, "usage", None))
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise BadReply("the response holds no choice", usage, answered=True)
    message, finish = getattr(choices[0], "message", None), getattr(choices[0], "finish_reason", None)
    content, refusal = getattr(message, "content", None), getattr(message, "refusal", None)
    text = hide_key(content) if isinstance(content, str) else ""
    if (isinstance(refusal, str) and refusal) or finish == "content_filter":
        said = f": {_one_line(refusal)}" if isinstance(refusal, str) else " (content filter)"
        raise Refusal(f"the model refused{said}", usage, text, answered=True)
    if finish == "length":
        limit = endpoint.max_completion_tokens
        raise BadReply(f"the reply is cut off at {limit} tokens; allow more completion tokens", usage, text, True)
    if not text.strip():
        raise BadReply("the reply is empty", usage, answered=True)
    model = getattr(completion, "model", None)
    named = hide_key(model) if isinstance(model, str) else ""
    return Reply(text, usage, hide_key(request_id), named, retries)


def _usage(usage: Any) -> dict[str, int]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    found = {name: getattr(usage, name, None) for name in names}
    return {name: value for name, value in found.items() if type(value) is int and value >= 0}


def _one_line(text: str) -> str:
    text = " ".join(hide_key(text).split())
    return text if len(text) <= 300 else f"{text[:297]}..."


def _checked_url(url: str) -> str:
    """An address in its one form: scheme and host in lower case, no slash at the end."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("parameter base_url is no address; give one such as http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"parameter base_url holds a user, a query or a fragment; leave it out, and put a key into {KEY_VARIABLE}"
        )
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def _check_number(name: str, value: Any, kind: Any, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < float("inf"):
        raise ValueError(f"parameter {name} is {value!r}; it must be a number of at least {least}")

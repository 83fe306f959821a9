"""The lines of the Batch API's files: a request each on the way out, a response or an error each on the way back.

The reply in a line is read by the same functions as one that comes over the wire: what is a verdict, a refusal or an
unknown parameter there is one here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pefomed.judge.cost import Tokens, most_tokens, usage_tokens
from pefomed.judge.endpoint import Endpoint, hide_key, optional_parameters, reply_of, status_error
from pefomed.judge.errors import AskError, BadReply, NoAnswer, Rejected, Unsupported
from pefomed.judge.questions import Question
from pefomed.judge.schema import parse_plain_reply, parse_reply, response_format
from pefomed.judge.store import Judged

URL = "/v1/chat/completions"


@dataclass(frozen=True)
class Outcome:
    """What one line of a result says.

    Attributes:
        judged: As the store takes it.
        paid: Amounts by name, as the store counts them.
        unsupported: The optional parameter that the server does not take; "" where that is not what it says.
    """

    judged: Judged
    paid: dict[str, int]
    unsupported: str = ""


@dataclass
class Results:
    """What the files of one batch say.

    Attributes:
        outcomes: By `custom_id`; of several for one request a verdict counts, else the first.
        doubled: Lines for requests that had one already.
        strange: Lines for requests that were not in the batch.
        unreadable: Lines that are no result at all.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    doubled: int = 0
    strange: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class _LineError:
    """An error of a line, with what `status_error` looks at in those of `openai`."""

    status_code: int
    param: Any
    body: dict[str, str]


def takes_schema(endpoint: Endpoint) -> bool:
    """Whether replies are asked for by JSON schema."""
    return endpoint.structured and "response_format" not in endpoint.omit


def request_line(question: Question, endpoint: Endpoint, task: str, seed: int) -> bytes:
    """A request as a line of a batch's input; its `custom_id` is the question's key, 64 characters.

    Args:
        question: What to ask.
        endpoint: Which model, and which parameters.
        task: `vqa` or `report`.
        seed: Goes with the request where the server takes seeds.
    """
    form = response_format(task) if takes_schema(endpoint) else None
    body = {"model": endpoint.model, "messages": question.messages} | optional_parameters(endpoint, form, seed)
    line = {"custom_id": question.key, "method": "POST", "url": URL, "body": body}
    return json.dumps(line).encode("ascii") + b"\n"


def requested(lines: Iterable[bytes]) -> dict[str, Tokens]:
    """Which questions an input file asks, and the most tokens that each may cost."""
    found = {}
    for line in lines:
        request = json.loads(line)
        body = request["body"]
        completion = body.get("max_completion_tokens") or body.get("max_tokens") or 0
        found[request["custom_id"]] = Tokens(most_tokens(body["messages"], body.get("response_format")), completion)
    return found


def read_results(contents: Iterable[bytes], asked: dict[str, Tokens], task: str, endpoint: Endpoint) -> Results:
    """Read output and error file of a batch, in whatever order and state they are.

    Args:
        contents: The files.
        asked: From `requested`.
        task: `vqa` or `report`.
        endpoint: As the batch was asked with.
    """
    results = Results()
    for line in _lines(contents):
        name = line.get("custom_id") if isinstance(line, dict) else None
        if not isinstance(name, str):
            results.unreadable += 1
        elif name not in asked:
            results.strange += 1
        else:
            known = results.outcomes.get(name)
            results.doubled += known is not None
            if known is None or known.judged.status != "ok":
                found = _outcome(line, asked[name], task, endpoint)
                if known is None or found.judged.status == "ok":
                    results.outcomes[name] = found
    return results


def unanswered(reason: str) -> Outcome:
    """The outcome of a request that stands in no file."""
    return Outcome(Judged("failed", error=one_line(reason)), {"unanswered": 1})


def _lines(contents: Iterable[bytes]) -> Iterator[Any]:
    for content in contents:
        for line in content.split(b"\n"):
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):  # cut off, not UTF-8, not JSON
                    yield None


def _outcome(line: dict[str, Any], most: Tokens, task: str, endpoint: Endpoint) -> Outcome:
    try:
        reply = _read(line, endpoint)
        try:
            score = (parse_reply if takes_schema(endpoint) else parse_plain_reply)(reply.text, task)
        except ValueError as error:
            raise BadReply(str(error), reply.usage, reply.text, answered=True) from error
        return Outcome(Judged("ok", score, reply.text, reply.usage, "", reply.model), _paid(reply.usage, most))
    except Unsupported as error:
        return Outcome(Judged("failed", error=str(error)), {}, error.parameter)
    except AskError as error:
        paid = _paid(error.usage, most) if error.answered else {"unanswered": 1}
        return Outcome(
            Judged("failed", None, error.text, error.usage, str(error)),
            paid | {"malformed": int(isinstance(error, BadReply))},
        )


def _read(line: dict[str, Any], endpoint: Endpoint) -> Any:
    """The `Reply` of a line; any field may lack or be of any type.

    Raises:
        AskError: What stands there in place of a reply.
    """
    from openai.types.chat import ChatCompletion

    response, error = line.get("response"), line.get("error")
    if not isinstance(response, dict):
        if isinstance(error, dict):
            raise NoAnswer(one_line(f"the batch: {error.get('code')}: {error.get('message')}"))
        raise BadReply("the result holds neither a response nor an error")
    status, body = response.get("status_code"), response.get("body")
    body = body if isinstance(body, dict) else {}
    if status == 200:
        identity = response.get("request_id")
        # As openai itself builds it: nothing is checked, whatever fails to fit is left as it is.
        known = {name: value for name, value in body.items() if name in ChatCompletion.model_fields}
        return reply_of(ChatCompletion.construct(**known), identity if isinstance(identity, str) else "", 0, endpoint)
    if type(status) is not int:
        raise BadReply("the result states no status")
    said = body.get("error") if isinstance(body.get("error"), dict) else {}
    message = one_line(str(said.get("message") or "nothing"))
    failed = status_error(_LineError(status, said.get("param"), {"message": message}), _sent(endpoint))
    # In a batch, no error of one line speaks for the others.
    raise failed if isinstance(failed, Unsupported) else Rejected(f"status {status}: {message}")


def _sent(endpoint: Endpoint) -> dict[str, Any]:
    return optional_parameters(endpoint, {} if takes_schema(endpoint) else None, 0)


def _paid(usage: dict[str, int], most: Tokens) -> dict[str, int]:
    tokens, counts = usage_tokens(usage), {"requests": 1, "batched": 1}
    if tokens:
        return counts | {"prompt_tokens": tokens.prompt, "completion_tokens": tokens.completion}
    assumed = {"assumed_prompt_tokens": most.prompt, "assumed_completion_tokens": most.completion}
    return counts | {"unreported": 1} | assumed


def one_line(text: str) -> str:
    """What a server says, as it may be written down: short, without the key, on one line."""
    text = " ".join(hide_key(text).split())
    return text if len(text) <= 300 else f"{text[:297]}..."

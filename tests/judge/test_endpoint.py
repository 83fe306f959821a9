"""One request and its answer, by the real client and a real server, with every fault that a server can have."""

from __future__ import annotations

import asyncio
import json
import socket
import traceback

import pytest
from server import Answer, Server, error

from pefomed.judge.endpoint import Endpoint, api_key, ask, hide_key, make_client
from pefomed.judge.errors import AskError, BadReply, NoAnswer, Refusal, Rejected, Unsupported, WrongEndpoint
from pefomed.judge.schema import response_format

MESSAGES = [{"role": "system", "content": "rate"}, {"role": "user", "content": "{}"}]
SLOW = 30.0  # seconds: far beyond the timeouts here


def put(url: str, messages=MESSAGES, seed=3, **changes):
    endpoint = Endpoint(**{"base_url": url, "model": "judge", "timeout_s": 5.0, "max_retries": 2} | changes)

    async def once():
        async with make_client(endpoint) as client:
            return await ask(client, endpoint, messages, response_format("vqa"), seed)

    return asyncio.run(once())


def first(answer: Answer):
    """A script: this answer once, then the usual one."""
    return lambda body, times: answer if times == 0 else None


def always(answer: Answer):
    return lambda body, times: answer


def test_a_reply_comes_back_whole_and_the_request_holds_what_was_asked_for(secret) -> None:
    with Server(always(Answer(headers={"x-request-id": "r-1"}))) as server:
        reply = put(server.url)
    assert json.loads(reply.text)["score"] in (0, 1)
    assert reply.usage == {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    assert (reply.request_id, reply.model, reply.retries) == ("r-1", "judge-2024", 0)
    assert server.bodies == [
        {
            "model": "judge",
            "messages": MESSAGES,
            "temperature": 0.0,
            "seed": 3,
            "max_completion_tokens": 300,
            "response_format": response_format("vqa"),
        }
    ]
    assert server.headers[0]["authorization"] == f"bearer {secret}"


def test_what_is_omitted_or_unset_is_not_sent() -> None:
    with Server() as server:
        put(server.url, seed=None, structured=False, temperature=None, omit=("max_completion_tokens",))
        put(server.url, omit=("seed", "temperature", "response_format", "max_completion_tokens", "max_tokens"))
    assert set(server.bodies[0]) == {"model", "messages", "max_tokens"}
    assert set(server.bodies[1]) == {"model", "messages"}


TRANSIENT = {
    "429 with Retry-After": error(429, "slow down", retry_after="0.01"),
    "500": error(500, "oops"),
    "503 that is no JSON": Answer(503, {"Content-Type": "text/html"}, b"<h1>down</h1>"),
    "408": error(408, "timeout"),
    "cut connection": Answer(cut=True),
    "timeout": Answer(delay=SLOW),
    "slow body": Answer(drip=0.05),
}


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_what_passes_is_tried_again(answer: Answer) -> None:
    with Server(first(answer)) as server:
        reply = put(server.url, timeout_s=1.5)
    assert reply.retries == 1 and server.requests == 2


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_what_does_not_pass_ends_after_the_stated_number_of_tries(answer: Answer) -> None:
    with Server(always(answer)) as server, pytest.raises(NoAnswer):
        put(server.url, timeout_s=0.4, max_retries=1)
    assert server.requests == 2


def test_nobody_listens() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}/v1"
        with pytest.raises(NoAnswer, match="connection failed.*tried 2 times"):
            put(url, max_retries=1)


USELESS = {
    "malformed JSON": (Answer(body=b'{"choices": ['), "not JSON"),
    "empty body": (Answer(body=b""), "not JSON"),
    "HTML": (Answer(headers={"Content-Type": "text/html"}, body=b"<p>hello</p>"), "no choice"),
    "a list": (Answer(body=b"[1, 2]"), "no choice"),
    "null": (Answer(body=b"null"), "no choice"),
    "no choices": (Answer(body=b'{"object": "chat.completion"}'), "no choice"),
    "empty choices": (Answer(body=b'{"choices": [], "usage": {"prompt_tokens": 5}}'), "no choice"),
    "choices of another type": (Answer(body=b'{"choices": "two"}'), "no choice"),
    "a choice of another type": (Answer(body=b'{"choices": [7]}'), "empty"),
    "no message": (Answer(changes={"message": None}), "empty"),
    "content of another type": (Answer(content=5), "empty"),
    "null content": (Answer(message={"content": None}), "empty"),
    "blank content": (Answer(content=" \n"), "empty"),
    "cut off": (Answer(content='{"reason": "be', changes={"finish_reason": "length"}), "cut off at 300 tokens"),
}


@pytest.mark.parametrize(("answer", "said"), USELESS.values(), ids=USELESS.keys())
def test_a_useless_reply_is_told_from_a_missing_one(answer: Answer, said: str) -> None:
    with Server(always(answer)) as server, pytest.raises(BadReply, match=said) as caught:
        put(server.url)
    assert caught.value.answered and server.requests == 1


def test_the_usage_of_a_useless_reply_is_known() -> None:
    with Server(always(Answer(content=""))) as server, pytest.raises(BadReply) as caught:
        put(server.url)
    assert caught.value.usage["prompt_tokens"] == 100


@pytest.mark.parametrize(
    "answer",
    [Answer(message={"content": None, "refusal": "I cannot"}), Answer(changes={"finish_reason": "content_filter"})],
    ids=["refusal", "filter"],
)
def test_refusals_are_not_repeated(answer: Answer) -> None:
    with Server(always(answer)) as server, pytest.raises(Refusal, match="refused"):
        put(server.url)
    assert server.requests == 1


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_a_request_that_is_rejected_is_not_repeated(status: int) -> None:
    with (
        Server(always(error(status, "context too long"))) as server,
        pytest.raises(Rejected, match="context too long"),
    ):
        put(server.url)
    assert server.requests == 1


@pytest.mark.parametrize("status", [401, 402, 404, 405])
def test_wrong_keys_addresses_and_models_are_users_mistakes(status: int) -> None:
    with (
        Server(always(error(status, "no"))) as server,
        pytest.raises(WrongEndpoint, match="base_url and model") as hit,
    ):
        put(server.url)
    assert isinstance(hit.value, ValueError) and server.requests == 1


def test_redirections_are_not_followed() -> None:
    with Server() as other:
        away = Answer(307, {"Location": f"{other.url}/chat/completions"}, b"{}")
        with Server(always(away)) as server, pytest.raises(WrongEndpoint, match="307"):
            put(server.url)
        assert other.requests == 0


@pytest.mark.parametrize("name", ["response_format", "seed", "temperature", "max_completion_tokens"])
@pytest.mark.parametrize("style", ["named", "told", "detail"])
def test_parameters_that_a_server_lacks_are_named(name: str, style: str) -> None:
    detail = {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}]}
    answer = {
        "named": error(400, "Invalid value.", f"{name}.type" if name == "response_format" else name),
        "told": error(400, f"Unsupported parameter: '{name}' is not supported with this model."),
        "detail": Answer(422, body=json.dumps(detail).encode()),
    }[style]
    with Server(always(answer)) as server, pytest.raises(Unsupported) as caught:
        put(server.url)
    assert caught.value.parameter == name and server.requests == 1


def test_half_a_character_pair_is_rejected_before_it_is_sent() -> None:
    with Server() as server, pytest.raises(Rejected, match="lone surrogate"):
        put(server.url, [{"role": "user", "content": "\ud800"}])


def test_half_a_character_pair_in_a_reply_can_be_written_down() -> None:
    with Server(always(Answer(content="a\ud800b"))) as server:
        assert put(server.url).text == "a?b"


def echo(secret: str) -> dict[str, Answer]:
    return {
        "401": error(401, f"Incorrect API key provided: {secret}. Find yours at ..."),
        "401 masked": error(401, "Incorrect API key provided: sk-test-***********seen."),
        "400": error(400, f"bad header Authorization: Bearer {secret}"),
        "500": error(500, secret),
        "not JSON": Answer(body=f"{{{secret}".encode()),
        "cut off": Answer(content=secret, changes={"finish_reason": "length"}),
        "refusal": Answer(message={"refusal": f"no, {secret}"}),
    }


@pytest.mark.parametrize("kind", list(echo("")))
def test_a_server_that_repeats_the_key_does_not_get_it_into_an_error(kind: str, secret) -> None:
    with Server(always(echo(secret)[kind])) as server, pytest.raises(AskError) as caught:
        put(server.url, max_retries=0)
    told = f"{caught.value.text} {''.join(traceback.format_exception(caught.value))}"
    assert secret not in told and "seen" not in told


def test_a_server_that_repeats_the_key_does_not_get_it_into_a_reply(secret) -> None:
    with Server(always(Answer(content=f"the key is {secret}"))) as server:
        assert put(server.url).text == "the key is (key)"


def test_words_that_stand_for_no_key_are_left_alone(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert hide_key("there is none") == "there is none"


def test_a_server_of_ones_own_needs_no_key_and_openai_does(monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with Server() as server:
        put(server.url)
    assert server.headers[0]["authorization"] == "bearer none"
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not set"):
        make_client(Endpoint())


@pytest.mark.parametrize("key", ["sk-abc def-secret", "sk-abc\ndef-secret", "sk-äöü-secret"])
def test_a_malformed_key_is_refused_without_being_shown(key: str, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match="OPENAI_API_KEY") as caught:
        api_key()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hidden@host/v1",
        "https://hidden@host/v1",
        "https://host/v1?api_key=hidden",
        "https://host/v1#hidden",
        "hidden",
        "ftp://hidden/v1",
        "http://host:hidden/v1",
        "",
        None,
    ],
)
def test_addresses_that_hold_a_key_or_are_none_are_refused_without_being_shown(url) -> None:
    with pytest.raises(ValueError, match="parameter base_url") as caught:
        Endpoint(base_url=url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", " "),
        ("concurrency", 0),
        ("concurrency", 2.5),
        ("max_tokens_in_flight", -1),
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("timeout_s", float("inf")),
        ("max_retries", True),
        ("temperature", -0.1),
        ("max_completion_tokens", "many"),
        ("omit", ("messages",)),
    ],
)
def test_faulty_parameters_are_named(name: str, value) -> None:
    with pytest.raises(ValueError, match=f"parameter {name}"):
        Endpoint(**{name: value})


def test_equal_addresses_have_one_form() -> None:
    assert Endpoint(base_url="HTTP://LocalHost:80/v1/").base_url == "http://localhost:80/v1"

"""What the judge's tests share: predictions, a key that must not be found anywhere, and quick retries."""

import pytest

SECRET = "sk-test-0123456789-never-to-be-seen"


@pytest.fixture(autouse=True)
def secret(monkeypatch) -> str:
    """The key of all requests; a proxy that must not be used for this very machine is set as well."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("OPENAI_LOG", raising=False)
    return SECRET


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch) -> None:
    """`openai` waits half a second before its first retry and doubles that; here it would be most of the time."""
    import openai._base_client

    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.05)

"""Keys and addresses, which show nowhere, and the arguments of a reasoner behind a server."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import tte
from chat_server import (
    ChatServer,
    chat_server,
    remote,
    status,
    stream,
)

KEY = "sk-very-secret-0123456789"


def test_the_key_is_the_environments_or_the_given_one(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    monkeypatch.setenv("MY_KEY", "mine")
    remote(server).think("x")
    remote(server, api_key_env="MY_KEY").think("x")
    remote(server, api_key=KEY).think("x")
    remote(server, api_key_env=None).think("x")
    sent_keys = [request.headers.get("authorization") for request in server.requests]
    assert sent_keys == ["Bearer from-environment", "Bearer mine", f"Bearer {KEY}", None]


def test_the_key_shows_nowhere(server: ChatServer) -> None:
    reasoner = remote(server, api_key=KEY)
    described = [repr(reasoner), str(reasoner.model), reasoner.model.fingerprint, reasoner.model.recipe]
    assert not [text for text in described if KEY in text]
    assert KEY.encode() not in pickle.dumps(reasoner)
    assert reasoner.model.fingerprint == remote(server).model.fingerprint
    server.default = status(401, f"the key Bearer {KEY} is wrong")
    with pytest.raises(tte.RemoteError, match=r"the key Bearer \*\*\* is wrong") as caught:
        reasoner.think("x")
    assert KEY not in str(caught.value)
    copied = copy.deepcopy(reasoner)
    server.default = stream("a")
    copied.think("x")
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["a b", "a\r\nX-Other: b", "ä", "a\0b", "x" * 9000])
def test_a_key_that_no_header_can_have_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tte.InputError, match="api_key has what no key has") as caught:
        tte.RemoteReasoner("http://localhost", "m", api_key=key)
    assert key not in str(caught.value)
    if "\0" not in key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(tte.InputError, match="the environment variable OPENAI_API_KEY has what no key has"):
            tte.RemoteReasoner("http://localhost", "m")


def test_redirects_are_not_followed_and_show_no_secrets(server: ChatServer) -> None:
    with chat_server() as other:
        target = f"http://user:pass@127.0.0.1:{other.port}/v1/chat/completions?token=hidden"
        for code in (301, 302, 303, 307, 308):
            server.default = status(code, Location=target)
            with pytest.raises(tte.RemoteError, match=f"{code} .a redirect to http://127.0.0.1:{other.port}") as caught:
                remote(server, api_key=KEY).think("x")
            assert not {"pass", "hidden"} & set(str(caught.value).replace("@", " ").replace("=", " ").split())
        assert other.requests == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "is empty"),
        ("localhost:8000", "is no URL"),
        ("ftp://a/v1", "neither http nor https"),
        ("http://", "no"),
        ("file:///etc/passwd", "neither|no URL"),
        ("http://user:hunter2@a/v1", "user name or password"),
        ("http://hunter2@a/v1", "user name or password"),
        ("http://a/v1?key=hunter2", "query"),
        ("http://a/v1#x", "fragment"),
        ("http://a/v1\r\nX: y", "space"),
        ("http://a b/v1", "space"),
        ("http://ä/v1", "ASCII"),
        ("http://a:99999/v1", "no URL"),
        ("http://" + "a" * 5000, "longer"),
        ("http://us er:hunter2@a/", "space"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_without_their_secrets(url: str, why: str) -> None:
    with pytest.raises(tte.InputError, match=f"base_url is .*{why}") as caught:
        tte.RemoteReasoner(url, "m")
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("url", ["{}", "{}/", "{}/chat/completions"])
def test_an_address_may_end_as_people_write_it(server: ChatServer, url: str) -> None:
    tte.RemoteReasoner(url.format(server.url), "m").think("x")
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "model is"),
        ({"model": "a\nb"}, "model is"),
        ({"model": 3}, "model is 3"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_retries": -1}, "max_retries"),
        ({"retry_delay": -1}, "retry_delay"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"total_timeout": float("nan")}, "total_timeout"),
        ({"stream": 1}, "stream"),
        ({"extra": [1]}, "extra"),
        ({"extra": {"a": {1}}}, "extra"),
        ({"extra": {1: 2}}, "extra"),
        ({"extra": {"a": [{1: 2}]}}, "extra"),
        ({"extra": {"stream": False}}, "stream"),
        ({"api_key": 5}, "api_key is a int"),
        ({"api_key": ""}, "api_key is empty"),
        ({"media_limits": 5}, "media_limits"),
        ({"max_response_bytes": 5}, "max_response_bytes"),
    ],
)
def test_arguments_are_checked_in_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        tte.RemoteReasoner("http://localhost/v1", **{"model": "m", **options})


def test_a_raw_recipe_is_refused() -> None:
    with pytest.raises(tte.ModelError, match='style "raw"'):
        tte.RemoteReasoner("http://localhost/v1", "m", recipe="qwen2_vl_vlm2vec")

"""A reasoner behind a server where a loaded one could stand: embedders, stores, copies."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tte
from chat_server import (
    ChatServer,
    raw,
    remote,
    status,
    stream,
)
from references import noise


def test_it_says_what_it_is_and_what_it_has_not() -> None:
    reasoner = tte.RemoteReasoner("http://LocalHost:1/v1", "Qwen/Some-7B", max_concurrent=3)
    assert repr(reasoner) == "RemoteReasoner('http://LocalHost:1/v1', 'Qwen/Some-7B')"
    assert (str(reasoner.model.path), reasoner.model.server) == ("Qwen/Some-7B", "http://LocalHost:1/v1")
    for member in ("backend", "tokenizer"):
        with pytest.raises(tte.Error, match=f"Qwen/Some-7B is behind the server .* has no {member} here"):
            getattr(reasoner, member)
    again = pickle.loads(pickle.dumps(reasoner))
    assert (repr(again), again._given["max_concurrent"]) == (repr(reasoner), 3)
    same = tte.RemoteReasoner("https://localhost:1/v1/", "Qwen/Some-7B").model.fingerprint
    assert same == reasoner.model.fingerprint
    others = [
        ("http://other:1/v1", "Qwen/Some-7B", None),
        ("http://localhost:2/v1", "Qwen/Some-7B", None),
        ("http://localhost:1/tenant/v1", "Qwen/Some-7B", None),
        ("http://localhost:1/v1", "b", None),
        ("http://localhost:1/v1", "Qwen/Some-7B", {"a": 1}),
    ]
    assert same not in [tte.RemoteReasoner(url, name, extra=extra).model.fingerprint for url, name, extra in others]


def test_it_thinks_and_an_embedder_here_embeds(server: ChatServer) -> None:
    embedder = tte.Embedder("nano")
    items = ["the red circle", {"image": noise(40, 40), "text": "what ?"}]
    server.default = stream("<think>is it", " red ?</think>", " yes")
    result = tte.think_then_embed(items, reasoner=remote(server), embedder=embedder, progress=False)
    traces = remote(server).think(items, progress=False)
    assert [t and t.text for t in result.traces] == [t.text for t in traces] == ["<think>is it red ?</think> yes"] * 2
    np.testing.assert_allclose(result.embeddings, embedder.embed(items, traces, progress=False), atol=2e-5)
    assert result.stats.thought == 2
    assert result.stats.generated_tokens == 6
    loaded = tte.think_then_embed(items, reasoner=remote(server), embedder=embedder.model.path, think="queries")
    np.testing.assert_allclose(loaded.embeddings, result.embeddings, atol=2e-5)


def test_one_refused_item_takes_no_vector_with_it(server: ChatServer) -> None:
    server.default = lambda h: (status(400, "no") if "bad" in str(h.chat.requests[-1].messages) else stream("ok"))(h)
    result = tte.think_then_embed(
        ["a", "bad", "b"], reasoner=remote(server, max_concurrent=1), embedder=tte.Embedder("nano"), on_error="skip",
        progress=False,
    )  # fmt: skip
    assert np.isfinite(result.embeddings).all(axis=1).tolist() == [True, False, True]
    assert [e.index for e in result.errors] == [1]


def test_traces_are_kept_by_model_host_and_prompt(server: ChatServer, tmp_path: Path) -> None:
    items = ["a", "b", {"image": noise(9, 9)}]
    with tte.TraceStore(tmp_path / "t.sqlite") as store:
        first = store.think(remote(server), items, progress=False)
        assert len(server.requests) == 3
        again = store.think(remote(server, max_concurrent=2), items, progress=False)
        result = tte.think_then_embed(
            items, reasoner=remote(server), embedder=tte.Embedder("nano"), store=store, progress=False
        )
        assert len(server.requests) == 3
        assert first == again == result.traces
        store.think(tte.RemoteReasoner(server.url, "another"), "a")
        store.think(remote(server, extra={"top_k": 1}), "a")
        store.think(remote(server), "a", max_new_tokens=3)
        assert len(server.requests) == 6


def test_a_store_keeps_what_came_before_the_server_died(server: ChatServer, tmp_path: Path) -> None:
    server.then(stream("one"))
    server.default = raw(b"")
    with tte.TraceStore(tmp_path / "t.sqlite") as store:
        with pytest.raises(tte.RemoteError):
            store.think(remote(server, max_concurrent=1, max_retries=0), ["a", "b"], progress=False)
        assert len(store) == 1
        server.default = stream("two")
        assert [t.text for t in store.think(remote(server), ["a", "b"], progress=False)] == ["one", "two"]

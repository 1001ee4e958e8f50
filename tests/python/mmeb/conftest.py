"""Fixtures of the benchmark's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tte


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny copy of the benchmark in its real layout; tests must not change it."""
    from make_tree import write_tree

    return write_tree(tmp_path_factory.mktemp("mmeb"))


def _complete(text: str) -> tte.Trace:
    trace = tte.Trace.__new__(tte.Trace)
    trace.__setstate__((text, "a", "b", [1, 2, 3], "v", tte.FinishReason.STOP, "", 11, 3))
    return trace


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its two exports; tests must not change them."""
    folder = tmp_path_factory.mktemp("stores")
    named: Any = type("Named", (), {})()
    fields = {"path": folder / "m", "fingerprint": "f", "dtype": "float32", "recipe": "{}", "base": None}
    named.model = type("Model", (), fields)()
    with tte.TraceStore(folder / "traces.sqlite") as store:
        for i in range(20):
            store.put(store.request(named, f"item {i}"), _complete(f"<think>{i}</think> öä {i}" * 10), seconds=0.5)
        store.export(folder / "traces.jsonl")
        store.export(folder / "traces.parquet")
    return folder

"""Fixtures of the benchmark's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny copy of the benchmark in its real layout; tests must not change it."""
    from make_tree import write_tree

    return write_tree(tmp_path_factory.mktemp("mmeb"))

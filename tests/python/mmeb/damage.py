"""What can happen to a file, and what may come of it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tte
from tte import _command

LONGEST = 500
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def other_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1, 2]}), sink)
    return bytes(sink.getvalue())


def bytes_of(change: str, good: bytes) -> bytes:
    """A file's content after something happened to it; what flips and cuts where is the same at every call."""
    kind, _, number = change.partition(" ")
    places = random.Random(f"{number} {len(good)}")
    at = places.randrange(max(1, len(good)))
    if kind == "flip":
        return good[:at] + bytes([good[at] ^ 1 << places.randrange(8)]) + good[at + 1 :]
    if kind == "cut":
        return good[:at]
    if kind == "swap":
        return good[at:] + good[:at]
    if kind == "zeros":
        return good[:at] + bytes(min(64, len(good) - at)) + good[at + 64 :]
    return {
        "empty": b"",
        "byte": b"\n",
        "image": PNG,
        "parquet": other_parquet(),
        "sqlite": b"SQLite format 3\0" + bytes(200),
        "text": b"not what it was",
        "not-utf8": good[: len(good) // 2] + b"\xff\xfe" + good[len(good) // 2 :],
        "null": b"null\n",
        "list": b"[]\n",
        "object": b"{}\n",
        "number": b"1e999\n",
        "nan": b'{"a": NaN}\n',
        "surrogate": b'{"key": "\\ud800"}\n',
        "deep": b"[" * 200_000,
        "twice": good + good,
    }[kind]


CHANGES = [
    *(f"flip {i}" for i in range(12)), *(f"cut {i}" for i in range(4)), *(f"swap {i}" for i in range(3)), "zeros 0",
    "zeros 1", "empty", "byte", "image", "parquet", "sqlite", "text", "not-utf8", "null", "list", "object", "number",
    "nan", "surrogate", "deep", "twice",
]  # fmt: skip


def replace(path: Path, change: str, good: bytes) -> None:
    """Put something else in a file's place: other bytes, or what is no file."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    if change == "folder":
        path.mkdir()
    elif change == "pipe":
        os.mkfifo(path)
    elif change == "itself":
        path.symlink_to(path.name)
    elif change != "gone":
        path.write_bytes(bytes_of(change, good))


NO_FILES = ["folder", "pipe", "itself", "gone"]


def sentence(error: Exception, *names: str) -> None:
    """An error is one short sentence with one of the names in it."""
    message = _command.told(error)
    assert "\n" not in message, message
    assert len(message) < LONGEST, message
    assert any(name in message for name in names), message
    assert message.rstrip("'\"").endswith("."), message


def check(read: Callable[[], Any], whole: Any, *names: str) -> bool:
    """What is read is as it was, or an error that names the file; returns whether it was an error."""
    try:
        found = read()
    except (tte.Error, OSError) as error:
        sentence(error, *names)
        return True
    assert found == whole
    return False


def content(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".sqlite":
        with tte.TraceStore(path, read_only=True) as store:
            return list(store.records())
    with tte.TraceStore(path.with_name("new.sqlite")) as store:
        store.merge(path)
        return list(store.records())

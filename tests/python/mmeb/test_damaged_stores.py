"""Whatever happened to a trace store or an export of one, it is read as it was or refused in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tte
from damage import CHANGES, NO_FILES, check, content, replace, sentence
from tte import _command, _content, _files
from tte._trace_files import STORED


@pytest.mark.parametrize("change", [*CHANGES, *NO_FILES])
@pytest.mark.parametrize("name", ["traces.sqlite", "traces.jsonl", "traces.parquet"])
def test_stores_and_exports(stores: Path, tmp_path: Path, name: str, change: str) -> None:
    path = tmp_path / name
    replace(path, change, (stores / name).read_bytes())
    whole = content(stores / "traces.sqlite")
    if change in ("byte", "empty") and path.suffix == ".jsonl":
        whole = []
    failed = check(lambda: content(path), whole, name)
    assert failed or change.startswith(("flip", "zeros", "swap", "twice", "byte", "empty"))
    if path.suffix == ".sqlite" and change not in ("gone", "pipe", "folder", "itself", "empty", "byte"):
        check(lambda: (tte.TraceStore(path).close(), content(path))[1], whole, name)


@pytest.mark.parametrize("column", ["key", "text", "token_ids", "finish", "prompt_tokens", "seconds", "checksum"])
@pytest.mark.parametrize("value", [None, 7, -1, 1e300, "x", b"\xff\xfe\x00", b"12345678"])
def test_cells_of_another_kind(stores: Path, tmp_path: Path, column: str, value: Any) -> None:
    path = tmp_path / "traces.sqlite"
    shutil.copy(stores / path.name, path)
    database = sqlite3.connect(path)
    try:
        database.execute(f"UPDATE traces SET {column} = ? WHERE id = 5", [value])
        database.commit()
    except sqlite3.IntegrityError:  # NULL is refused by SQLite itself.
        return
    finally:
        database.close()
    assert check(lambda: content(path), None, f"{path}, trace 5")
    with pytest.raises(tte.InputError) as caught:
        content(path)
    assert ("again" in str(caught.value), "export it" in str(caught.value)) == (True, False)
    if column != "key":
        with tte.TraceStore(path) as store:
            key = content(stores / path.name)[4]["key"]
            assert check(lambda: store.get(key), None, f"{path}, trace 5")
            # What is damaged can be removed, and the rest is there.
            assert store.drop_damaged() == 1
            assert len(list(store.records())) == len(store) == 19


@pytest.mark.parametrize("column", ["key", "text", "token_ids", "finish", "prompt_tokens", "seconds", "checksum"])
@pytest.mark.parametrize("value", [None, True, -1.5, "x", [], ["x"], {"a": 1}, "\ud800", 10**30, "y" * 5000])
def test_values_of_exports_of_another_kind(stores: Path, tmp_path: Path, column: str, value: Any) -> None:
    path = tmp_path / "traces.jsonl"
    record = {**json.loads((stores / path.name).read_text().splitlines()[0]), column: value}
    path.write_text(json.dumps(record) + "\n")
    fine = column == "checksum" and value is None  # Exports of other programs may have none.
    assert check(lambda: len(content(path)), 1, f"{path}, row 1", f"{path}, line 1") is not fine


@pytest.mark.parametrize("name", ["traces.jsonl", "traces.parquet"])
@pytest.mark.parametrize("column", STORED)
@pytest.mark.parametrize("text", [False, True])
def test_a_damaged_name_hides_no_damage(stores: Path, tmp_path: Path, name: str, column: str, text: bool) -> None:
    path, store = tmp_path / name, tmp_path / "other.sqlite"
    data = (stores / name).read_bytes()
    footer = 0 if path.suffix == ".jsonl" else len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    quote = '"' if path.suffix == ".jsonl" else ""
    old, new = (f"{quote}{each}{quote}".encode() for each in (column, column[:-1] + chr(ord(column[-1]) ^ 1)))
    assert old in data[footer:]
    rest = data[footer:].replace(old, new)
    if text:
        assert b">0<" in data
        path.write_bytes((data[:footer] + rest).replace(b">0<", b">1<"))
    else:
        path.write_bytes(data[:footer] + rest)
    assert check(lambda: content(path), None, name)
    with tte.TraceStore(store) as other, pytest.raises(tte.InputError):
        other.merge(path)
    with tte.TraceStore(store) as other:
        assert len(other) == 0
    if column in ("checksum", "text"):
        assert check(lambda: tte.read_traces(path, key="key", text="text"), None, name)


@pytest.mark.parametrize("name", ["traces.jsonl", "traces.parquet"])
def test_traces_of_a_store_that_others_read_are_checked(stores: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.copy(stores / name, path)
    traces = tte.read_traces(path, key="key", text="text")
    assert len(traces) == 20

    def rewrite(change: Callable[[dict[str, Any]], dict[str, Any]], **metadata: str) -> None:
        if name.endswith("l"):
            rows = [change(json.loads(line)) for line in (stores / name).read_text().splitlines()]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            table = pa.Table.from_pylist([change(row) for row in pq.read_table(stores / name).to_pylist()])
            pq.write_table(table.replace_schema_metadata({"tte.traces": "20", **metadata} if metadata else None), path)

    def read() -> dict[str, tte.Trace]:
        return tte.read_traces(path, key="key", text="text")

    rewrite(lambda row: {**row, "text": row["text"] + "!"})
    assert check(read, None, f"{path}, row 1 is damaged")
    # What others take out of an export, or write beside it, is theirs.
    rewrite(lambda row: {"key": row["key"], "text": row["text"] + "!"})
    assert [trace.text for trace in read().values()] == [trace.text + "!" for trace in traces.values()]
    rewrite(lambda row: {**row, "score": 1})
    assert read() == traces
    rewrite(lambda row: {**{k: v for k, v in row.items() if k != "checksum"}, "score": 1})
    assert check(read, None, f"{path}, row 1 has no 'checksum', but 'score'")
    if name.endswith("t"):
        rewrite(lambda row: {**row, "checksum": row["checksum"] if "7" in row["text"] else None}, by="us")
        for call in (read, lambda: content(path)):
            assert check(call, None, "but a trace has no checksum")


def test_another_schema_is_refused(tmp_path: Path, stores: Path) -> None:
    for number, statement in enumerate(
        [
            "DROP TABLE traces",
            "ALTER TABLE traces DROP COLUMN text",
            "PRAGMA user_version = 9",
            "PRAGMA application_id = 1",
        ]
    ):
        path = tmp_path / f"{number}.sqlite"
        shutil.copy(stores / "traces.sqlite", path)
        database = sqlite3.connect(path)
        database.execute(statement)
        database.commit()
        database.close()
        assert check(lambda path=path: content(path), None, path.name)


def test_a_full_disk_is_called_one(tmp_path: Path, stores: Path) -> None:
    path = tmp_path / "traces.sqlite"
    with tte.TraceStore(path) as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(tte.InputError, match=r"traces\.sqlite cannot be used \(.*full\): free some space") as error:
            store.merge(stores / "traces.jsonl")
        sentence(error.value, "traces.sqlite")
        assert _command.exit_code(error.value) == 1  # As of every other disk that is full.
        assert not _files.is_of_one(error.value)
        store._db.execute("PRAGMA max_page_count = 1000")
        assert store.merge(stores / "traces.jsonl") == 20


def test_a_store_that_cannot_be_written_to(tmp_path: Path, stores: Path) -> None:
    path = tmp_path / "traces.sqlite"
    shutil.copy(stores / path.name, path)
    with tte.TraceStore(path) as store:
        store._db.execute("PRAGMA query_only = 1")
        with pytest.raises(tte.InputError, match=r"can be written to, or open it with read_only"):
            store.merge(stores / "traces.jsonl") or store._insert([])


def test_digests_are_of_regular_files_of_a_size(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.png"
    with sparse.open("wb") as file:
        file.truncate(60 << 30)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    frames = tmp_path / "frames"
    frames.mkdir()
    shutil.copy(__file__, frames / "1.png")
    for name in (
        "sparse.png",
        "pipe.png",
        "loop.png",
        "/dev/zero",
        "/dev/stdin",
        "gone.png",
        "a\0b",
        "x" * 5000,
        "\ud800",
    ):
        with pytest.raises(tte.InputError) as error:
            _content.file_digest(tmp_path / name)
        sentence(error.value, Path(name).name[:20].encode(errors="backslashreplace").decode(), "a\\x00b", "a\0b")
    assert _content.file_digest(frames)
    (frames / "2.png").symlink_to(sparse)
    with pytest.raises(tte.InputError, match="over the limit") as error:
        _content.file_digest(frames)
    sentence(error.value, "2.png")
    (frames / "2.png").unlink()
    os.mkfifo(frames / "2.png")
    with pytest.raises(tte.InputError, match="a pipe, socket or device") as error:
        _content.file_digest(frames)
    sentence(error.value, "2.png")

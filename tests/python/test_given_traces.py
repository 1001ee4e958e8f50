"""Traces that others have written, read from their files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from tte import _files

ROWS = [
    {"id": "a", "trace": "<think>it is</think> red"},
    {"id": 7, "trace": "blue"},
    {"id": "c", "trace": None},
    {"id": "a", "trace": "<think>it is</think> red"},
]


def write(path: Path, rows: list[Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_of_keys_and_texts(tmp_path: Path, suffix: str) -> None:
    rows = [{**row, "id": str(row["id"])} for row in ROWS] if suffix == ".parquet" else ROWS
    traces = tte.read_traces(write(tmp_path / f"t{suffix}", rows))
    assert list(traces) == ["a", "7"]
    assert (traces["a"].thinking, traces["a"].conclusion) == ("it is", "red")
    assert traces["a"].finish == tte.FinishReason.GIVEN
    embedder = tte.Embedder("nano")
    result = tte.think_then_embed(
        ["x", "y"], think=[traces.get("a"), traces.get("c")], reasoner=tte.Reasoner("nano"), embedder=embedder
    )
    np.testing.assert_allclose(result.embeddings, embedder.embed(["x", "y"], [traces["a"], None]), atol=2e-5)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_names_of_files_are_bytes(tmp_path: Path, suffix: str) -> None:
    odd = tmp_path / os.fsdecode(b"\xff" + suffix.encode())
    write(tmp_path / f"t{suffix}", [{"id": "a", "trace": "red"}]).rename(odd)
    assert tte.read_traces(odd)["a"].text == "red"
    with tte.TraceStore(tmp_path / "store.sqlite") as store:
        assert store.export(odd) == 0
        assert store.merge(odd) == 0
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(tte.InputError, match="pipe, socket or device"):
        tte.read_traces(tmp_path / f"pipe{suffix}")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_fields_may_lie_within_others(tmp_path: Path, suffix: str) -> None:
    def answer(name: str, content: str | None, thinking: str | None) -> dict[str, Any]:
        message = {"content": content, "reasoning_content": thinking}
        return {"custom_id": name, "response": {"body": {"choices": [{"message": message}]}}}

    path = write(tmp_path / f"batch{suffix}", [answer("1", "so red", "it is"), answer("2", None, None)])
    message = "response.body.choices.0.message"
    traces = tte.read_traces(path, key="custom_id", text=f"{message}.content", thinking=f"{message}.reasoning_content")
    assert {name: trace.text for name, trace in traces.items()} == {"1": "<think>it is</think>so red"}
    assert write(tmp_path / "dots.jsonl", [{"id": 1, "a.b": "x", "a": {"b": "y"}}])
    assert tte.read_traces(tmp_path / "dots.jsonl", text="a.b")["1"].text == "x"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"trace": "x"}], r"t\.jsonl, row 1 has None as its 'id'"),
        ([{"id": "", "trace": "x"}], "row 1 has '' as its 'id'"),
        ([{"id": True, "trace": "x"}], "row 1 has True"),
        ([{"id": "a", "trace": "x"}, {"id": "b", "trace": ["x"]}], "row 2 has .* as its 'trace': it must be a text"),
        ([{"id": "a", "trace": "x"}, {"id": "a", "trace": "y"}], "row 2 has the key 'a' of an earlier row"),
        ([{"id": "a", "trace": "\ud800"}], "line 1 has text that is not UTF-8"),
        ([3], "line 1 is not an object"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        tte.read_traces(write(tmp_path / "t.jsonl", rows))


def test_the_mark_in_front_of_a_text_file_is_no_part_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(tte.read_traces(path)) == ["a", "7"]
    with tte.TraceStore(tmp_path / "a.sqlite") as store, tte.TraceStore(tmp_path / "b.sqlite") as other:
        store.think(tte.Reasoner("nano"), "a cat", max_new_tokens=2, progress=False)
        store.export(tmp_path / "export.jsonl")
        export = (tmp_path / "export.jsonl").read_bytes()
        (tmp_path / "export.jsonl").write_bytes(b"\xef\xbb\xbf" + export)
        assert other.merge(tmp_path / "export.jsonl") == 1
    (tmp_path / "about.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert _files.read_json(tmp_path / "about.json", "") == {"a": 1}


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name in ("t.csv", "missing.jsonl", "missing.parquet"):
        with pytest.raises(tte.InputError, match=name.replace(".", r"\.")):
            tte.read_traces(tmp_path / name)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(tte.InputError, match=r"bad\.parquet"):
        tte.read_traces(tmp_path / "bad.parquet")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("field", "value"), [("trace", None), ("response.body", {"body": None}), ("response.body", None)]
)
def test_texts_that_are_all_null_are_no_traces(tmp_path: Path, suffix: str, field: str, value: Any) -> None:
    rows = [{"id": "a", field.split(".", maxsplit=1)[0]: value}, {"id": "b", field.split(".", maxsplit=1)[0]: value}]
    path = write(tmp_path / f"t{suffix}", rows)
    with pytest.warns(UserWarning, match=rf"t\{suffix} has no trace: the '{field}' of all 2 rows is null"):
        assert tte.read_traces(path, text=field) == {}
    with pytest.raises(tte.InputError, match="has no row with a 'other': name the field of texts"):
        tte.read_traces(path, text="other")
    with pytest.raises(tte.InputError, match=r"has no row with a 'id\.text': name the field of texts"):
        tte.read_traces(path, text="id.text")


def test_a_field_of_thinking_that_no_row_has(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"id": "a", "trace": "red", "why": None}, {"id": "b", "trace": "blue"}])
    assert tte.read_traces(path, thinking="why")["a"].text == "red"
    with pytest.raises(tte.InputError, match=r"t\.jsonl has no row with a 'typo': name the field of thinking"):
        tte.read_traces(path, thinking="typo")


def test_a_field_of_digits_without_end_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"id": "a", "trace": ["red"]}])
    assert tte.read_traces(path, text="trace.0")["a"].text == "red"
    with pytest.raises(
        tte.InputError, match=r"t\.jsonl has no row with a 'trace\.9+\.\.\.9+': name the field of texts"
    ):
        tte.read_traces(path, text="trace." + "9" * 5000)

"""The batch callable by itself, the job's folder, and the job on a real local Ray."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_register_timeout_seconds", "240")  # Ray's own limit is for idle machines.

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tte
from PIL import Image
from references import noise
from tte import _hub
from tte.integrations._jobs import MAX_TRIES, JobFolder, check_ids, embedding_array, fingerprint
from tte.integrations._pair import describe
from tte.integrations.ray import (
    ITEM_COLUMNS,
    RESULT_COLUMNS,
    BatchEmbedder,
    JobSummary,
    _ShardWriter,
    read_results,
    run_job,
)
from zoo import ENDLESS, ZOO, misunderstood

IMAGES = [noise(56, 56, seed=s) for s in range(4)]
CLIP_FILE = Path(__file__).parent.parent.parent / "data" / "media" / "clip.mp4"


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def cells(*values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


@pytest.fixture(scope="module")
def embedder() -> tte.Embedder:
    return tte.Embedder(_hub.bundled("embedder"), device="cpu")


@pytest.fixture(scope="module")
def plain(embedder: tte.Embedder) -> BatchEmbedder:
    return BatchEmbedder(embedder)


# The callable.


def test_every_kind_of_cell(plain: BatchEmbedder, embedder: tte.Embedder, tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png(IMAGES[0]))
    image_part = {"type": "image", "image": IMAGES[0], "text": None}
    turns = [{"role": "user", "content": cells(image_part, {"type": "text", "text": "hi", "image": None})}]
    clean = [{"role": "user", "content": [{"type": "image", "image": IMAGES[0]}, {"type": "text", "text": "hi"}]}]
    said = [{"role": "user", "content": "hi"}]
    rows: list[tuple[dict[str, Any], Any]] = [
        ({"text": np.str_("a b")}, "a b"),
        ({"image": png(IMAGES[0]), "text": "a b"}, {"image": IMAGES[0], "text": "a b"}),
        ({"image": str(path)}, path),
        ({"image": IMAGES[0]}, IMAGES[0]),
        ({"image": {"bytes": png(IMAGES[0]), "path": None}}, IMAGES[0]),
        ({"image": {"bytes": None, "path": str(path)}}, path),
        ({"images": cells(IMAGES[0], png(IMAGES[1]))}, {"images": IMAGES[:2]}),
        ({"images": np.stack(IMAGES[:2])}, {"images": IMAGES[:2]}),
        ({"video": np.stack(IMAGES), "text": "x"}, {"video": IMAGES, "text": "x"}),
        ({"video": cells(*[png(p) for p in IMAGES])}, {"video": IMAGES}),
        ({"video": str(CLIP_FILE)}, {"video": CLIP_FILE}),
        ({"video": CLIP_FILE.read_bytes()}, {"video": CLIP_FILE}),
        ({"videos": [str(CLIP_FILE), np.stack(IMAGES)]}, {"videos": [CLIP_FILE, IMAGES]}),
        ({"text": "a b", "instruction": "count"}, {"text": "a b", "instruction": "count"}),
        ({"messages": cells(*turns)}, clean),
        ({"messages": json.dumps(said), "text": float("nan")}, said),
    ]
    names = ("text", "image", "images", "video", "videos", "instruction", "messages")
    batch = {name: cells(*[row.get(name) for row, _ in rows]) for name in names}
    out = plain({"id": np.arange(len(rows)), **batch})
    assert list(out["error"]) == [None] * len(rows)
    expected = np.concatenate([embedder.embed([item], progress=False) for _, item in rows])
    wrong = [i for i in range(len(rows)) if np.abs(out["embedding"][i] - expected[i]).max() > 1e-6]
    assert wrong == []
    assert set(out) == {"id", "text", "instruction", "embedding", "trace", "trace_tokens", "error"}


def test_traces_sides_and_settings() -> None:
    embed = BatchEmbedder(device="cpu", family="image_qa", max_new_tokens=8, keep=["key"], vector_dtype="float16")
    batch = {"key": np.array(["x", "y"]), "caption": np.array(["a b", "c"])}
    with pytest.raises(tte.InputError, match=r"none of the columns caption, key is one of text, image"):
        embed(batch)
    embed = BatchEmbedder(
        device="cpu", family="image_qa", max_new_tokens=8, keep=["key"], vector_dtype="float16",
        columns={"text": "caption"},
    )  # fmt: skip
    out = embed(batch)
    expected = tte.think_then_embed(["a b", "c"], task="image_qa", max_new_tokens=8, think="recipe", progress=False)
    assert out["embedding"].dtype == np.float16
    np.testing.assert_array_equal(out["embedding"], expected.embeddings.astype(np.float16))
    assert list(out["trace"]) == [t.text for t in expected.traces if t is not None]
    assert list(out["trace_tokens"]) == [len(t.token_ids) for t in expected.traces if t is not None]
    assert list(out) == ["key", "embedding", "trace", "trace_tokens", "error"]
    settings = embed.settings()
    assert settings["decoding"] == {"max_new_tokens": 8}
    assert settings["reasoner"]["recipe"]["name"] == "tte-nano-reasoner"
    assert fingerprint(settings) == fingerprint(json.loads(json.dumps(settings)))
    targets = BatchEmbedder(device="cpu", family="image_qa", side="target", columns={"text": "caption"})(batch)
    assert list(targets["trace"]) == [None, None]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "a pyarrow batch", "series", "pyarrow columns"])
def test_a_batch_may_be_a_table(embedder: tte.Embedder, kind: str) -> None:
    import pandas as pd
    import polars as pl

    columns: dict[str, Any] = {
        "id": [3, 4, 5], "text": ["a", None, "c"], "image": [None, png(IMAGES[0]), None],
        "messages": [None, None, [{"role": "user", "content": "b"}]],
    }  # fmt: skip
    del columns["messages" if kind == "polars" else "image"]  # Rows that have all of a struct's fields.
    moved = pd.DataFrame(columns, index=[2, 0, 1])  # Its rows have names, which are not their places.
    batch = {
        "pandas": moved,
        "polars": pl.DataFrame(columns),
        "pyarrow": pa.table(columns),
        "a pyarrow batch": pa.RecordBatch.from_pydict(columns),
        "series": {name: moved[name] for name in moved},
        "pyarrow columns": {name: pa.array(values) for name, values in columns.items()},
    }[kind]
    embed = BatchEmbedder(embedder, id_column="id")
    out, expected = embed(batch), embed(columns)
    np.testing.assert_array_equal(out["embedding"], expected["embedding"])
    assert list(out["id"]) == [3, 4, 5]
    assert list(out["error"]) == list(expected["error"])
    assert sum(error is None for error in out["error"]) >= 2


def test_bad_batches_are_refused(embedder: tte.Embedder) -> None:
    embed = BatchEmbedder(embedder)
    with pytest.raises(
        tte.InputError, match=r"unequal numbers of cells \('text' 2, 'image' 1\): give one for each row"
    ):
        embed({"text": np.array(["a", "b"]), "image": cells(None)})
    for column in ("ab", b"ab", {0: "a"}, {"a"}, 5, None, np.array("a"), iter("a")):
        with pytest.raises(tte.InputError, match=r"the batch's column 'text' is .*: it must be a list or an array"):
            embed({"text": column})
    for batch in ("ab", ["a"], None, 5, np.zeros((2, 2)), pa.array(["a"]), embedder, dict):
        with pytest.raises(tte.InputError, match=r"the batch is .*: it must be a dict of columns"):
            embed(batch)
    wrong = misunderstood(embed, {}, ["batch"], ["batch"])
    assert not wrong, "\n".join(wrong)


def test_columns_that_are_not_there_are_named(embedder: tte.Embedder) -> None:
    batch = {"text": ["a", "b"], "c" * 5000: ["a", "b"]}
    for options, argument in (
        ({"id_column": "id"}, "id_column names 'id'"),
        ({"id_column": "i" * 5000}, "id_column names 'iii"),
        ({"keep": ["text", "id"]}, "keep names 'id'"),
        ({"columns": {"text": "caption"}}, r"columns\['text'\] names 'caption'"),
    ):
        with pytest.raises(tte.InputError, match=rf"{argument}.*which is no column: name one of ccc.*, text") as error:
            BatchEmbedder(embedder, **options)(batch)  # type: ignore[arg-type]
        assert len(str(error.value)) < 500
    for own in RESULT_COLUMNS:
        with pytest.raises(tte.InputError, match=f"keep names '{own}', which the results have themselves"):
            BatchEmbedder(embedder, keep=[own])
    embed = BatchEmbedder(embedder, id_column="id")
    assert len(embed({})["error"]) == len(embed({"text": []})["error"]) == 0
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(tte.InputError, match="two columns 'text': give each a name of its own"):
        BatchEmbedder(embedder)(twice)


def test_a_row_may_be_called_anything(embedder: tte.Embedder) -> None:
    names = [*ZOO.values(), "a\nb", "x" * 5000, "\ud800" * 5000, b"\xff" * 5000, np.str_("\ud800"), [["x"] * 9] * 9]
    count = len(names)
    for column in ({"text": ["fine"] * count}, {"image": [b"rubbish"] * count}, {"messages": ["["] * count}):
        errors = BatchEmbedder(embedder, id_column="id")({"id": names, **column})["error"]
        assert all(error is None for error in errors) == ("text" in column)
        for error in filter(None, errors):
            assert error.startswith("row ")
            assert len(error.encode()) < 500
            assert "\n" not in error


def test_messages_that_are_no_json_take_no_other_row_with_them(embedder: tte.Embedder) -> None:
    good = json.dumps([{"role": "user", "content": "hi"}])
    bad = ["[" * 20_000, '{"a":' * 20_000, "[", "", "NaN", '"\\ud800"', "\ud800", '[{"role": NaN}]', "5", "null", "{}"]
    deep = json.dumps([{"role": "user", "content": json.loads("[" * 500 + "]" * 500)}])
    out = BatchEmbedder(embedder)({"messages": [good, *bad, deep, good]})
    assert [error is None for error in out["error"]] == [True, *[False] * (len(bad) + 1), True]
    for row, error in enumerate(out["error"]):
        assert error is None or (error.startswith(f"row {row}") and len(error.encode()) < 500)


def test_bad_rows_get_an_error_and_the_others_a_vector(embedder: tte.Embedder) -> None:
    embed = BatchEmbedder(embedder, id_column="id")
    batch = {
        "id": np.array([10, 11, 12, 13, 14]),
        "text": cells("fine", None, "a", "b", "c"),
        "image": cells(None, None, b"rubbish", "/no/such.png", IMAGES[0].astype(np.float32)),
    }
    out = embed(batch)
    assert out["error"][0] is None
    messages = ("row 11 is empty", "row 12.*encoded image", "row 13.*no/such.png", "row 14.*float32")
    for row, message in enumerate(messages, 1):
        assert re.search(message, out["error"][row])
        assert np.isnan(out["embedding"][row]).all()
    np.testing.assert_array_equal(out["embedding"][:1], embedder.embed(["fine"], progress=False))
    assert embed({"id": np.array([]), "text": np.array([])})["embedding"].shape == (0, embedder.dim)


@pytest.mark.parametrize("column", ITEM_COLUMNS)
def test_whatever_is_in_a_cell_takes_no_other_row_with_it(embedder: tte.Embedder, column: str) -> None:
    embed = BatchEmbedder(embedder)
    values = [value for kind, value in ZOO.items() if kind not in ENDLESS]
    batch = {"text": cells("fine", *[None] * len(values), "fine"), column: cells("fine", *values, "fine")}
    if column not in ("text", "instruction"):
        batch[column][[0, -1]] = None
    out = embed(batch)
    for row in (0, -1):
        assert out["error"][row] is None
        assert np.isfinite(out["embedding"][row]).all()
    for error, vector in zip(out["error"], out["embedding"], strict=True):
        assert np.isfinite(vector).all() == (error is None)
        assert error is None or (error.startswith("row ") and len(error) < 500 and "\n" not in error), error


def test_mistakes_are_found_before_work_starts(embedder: tte.Embedder) -> None:
    for options, message in (
        ({"columns": {"picture": "x"}}, "'picture'"),
        ({"side": "left"}, "side is 'left'"),
        ({"vector_dtype": "int8"}, "vector_dtype is 'int8'"),
        ({"think": True}, "needs a reasoner"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_tokens": 5}, "max_tokens"),
    ):
        with pytest.raises(tte.InputError, match=message):
            BatchEmbedder(embedder, **options)  # type: ignore[arg-type]
    options = (
        "think", "side", "family", "instruction", "columns", "keep", "id_column", "device", "dtype", "vector_dtype",
        "normalize", "truncate_dim", "exit_on_device_error", "max_new_tokens", "reasoner", "embedder",
    )  # fmt: skip
    wrong = misunderstood(lambda **given: BatchEmbedder(**{"embedder": embedder, **given}), {}, options)
    assert not wrong, "\n".join(wrong)
    with pytest.raises(tte.InputError, match="keep names 'key'"):
        BatchEmbedder(embedder, keep=["key"])({"text": np.array(["a"])})
    with pytest.raises(tte.InputError, match="without embedder"):
        BatchEmbedder(reasoner=_hub.bundled("reasoner"))


def test_a_lost_device_ends_the_worker(embedder: tte.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def end(code: int) -> None:
        assert code == 1
        raise Ended

    def lost(*arguments: Any, **options: Any) -> None:
        raise tte.DeviceError("cuda:0 is lost")

    batch = {"text": np.array(["a"])}
    monkeypatch.setattr(os, "_exit", end)
    for exits, error in ((False, tte.DeviceError), (True, Ended)):
        embed = BatchEmbedder(embedder, exit_on_device_error=exits)
        monkeypatch.setattr(embed.pair, "run", lost)
        with pytest.raises(error):
            embed(batch)


def test_the_callable_needs_neither_ray_nor_pyarrow() -> None:
    code = (
        "import sys\n"
        "sys.modules['ray'] = sys.modules['pyarrow'] = None\n"
        "import numpy as np\n"
        "from tte.integrations import ray\n"
        "out = ray.BatchEmbedder(device='cpu', think=False)({'text': np.array(['a'])})\n"
        "assert out['embedding'].shape == (1, 192), out\n"
        "try:\n"
        "    ray.run_job('x.parquet', 'out', id_column='id')\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(': pip install "ray[data]" pyarrow aiohttp')


# The folder.


def rows(ids: list[int], errors: list[str | None], value: float = 0) -> pa.Table:
    vectors = np.full((len(ids), 2), value, np.float32)
    return pa.table(
        {
            "id": ids,
            "embedding": embedding_array(vectors, [e is not None for e in errors]),
            "error": pa.array(errors, pa.string()),
        }
    )


def test_success_wins_and_errors_are_tried_again(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job", "id")
    assert folder.read().num_rows == 0
    assert folder.open({"a": 1}) == 1
    assert folder.finished().to_pylist() == []
    folder.write(1, rows([1, 2], [None, "bad"], 1))
    folder.write(1, rows([3, 4], ["bad", "bad"], 1))
    assert folder.finished().to_pylist() == ["1"]
    assert folder.open({"a": 1}) == 2
    folder.write(2, rows([2, 3, 4], [None, "worse", None], 2))
    folder.write(2, rows([1], ["late"], 2))
    assert folder.open({"a": 1}) == 3
    folder.write(3, rows([4], ["again"], 3))
    table = folder.read().sort_by("id")
    assert table["id"].to_pylist() == [1, 2, 3, 4]
    assert table["error"].to_pylist() == [None, None, "worse", None]
    assert table["embedding"].to_pylist() == [[1, 1], [2, 2], None, [2, 2]]
    assert sorted(folder.finished().to_pylist()) == ["1", "2", "4"]
    assert pa.types.is_fixed_size_list(table["embedding"].type)


def test_a_batch_written_twice_is_one_shard(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, "id")
    folder.open({})
    assert folder.write(1, rows([1, 2], [None, None])) == folder.write(1, rows([1, 2], [None, None]))
    (tmp_path / ".part-0001-x.parquet.7.tmp").write_bytes(b"half a shard")
    assert len(folder.shards()) == 1
    folder.open({})
    assert not list(tmp_path.glob(".*.tmp"))


def test_rows_that_kill_their_workers_end_the_job(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, "id")
    folder.open({})
    folder.begin(1, [1, 2])
    folder.write(1, rows([1, 2], [None, None]))
    assert not list(tmp_path.glob(".*.tries"))
    for _ in range(MAX_TRIES):
        folder.begin(1, [7, 8])
    with pytest.raises(tte.Error, match="died 5 times over the 2 rows from id 7"):
        folder.begin(1, [7, 8])
    folder.begin(1, [9])
    folder.open({})
    folder.begin(2, [7, 8])


def test_another_jobs_folder_is_refused(tmp_path: Path) -> None:
    settings = {"embedder": {"weights": "a" * 32}, "decoding": {"max_new_tokens": 4}}
    JobFolder(tmp_path / "job", "id").open(settings)
    with pytest.raises(tte.InputError, match=r"decoding\.max_new_tokens is 4 there and 5 here"):
        JobFolder(tmp_path / "job", "id").open({**settings, "decoding": {"max_new_tokens": 5}})
    with pytest.raises(tte.InputError, match=r"decoding\.max_new_tokens is 4 there and not set here"):
        JobFolder(tmp_path / "job", "id").open({**settings, "decoding": {}})
    with pytest.raises(tte.InputError, match="ids are in 'id', not 'key'"):
        JobFolder(tmp_path / "job", "key").open(settings)
    (tmp_path / "job" / "job.json").write_text("{")
    with pytest.raises(tte.InputError, match=r"job\.json cannot be read"):
        JobFolder(tmp_path / "job", "id").open(settings)
    with pytest.raises(tte.InputError, match=r"job\.json cannot be read"):
        read_results(tmp_path / "job")
    whole = {"format": 1, "fingerprint": "", "settings": {}, "runs": 1, "id_column": "id"}
    (tmp_path / "job" / "job.json").write_text(json.dumps(whole))
    (tmp_path / "job" / "part-0001-a.parquet").write_bytes(b"PAR1")
    with pytest.raises(tte.InputError, match=r"part-0001-a\.parquet cannot be read"):
        read_results(tmp_path / "job")
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other" / "x.parquet")
    with pytest.raises(tte.InputError, match="give an empty folder"):
        JobFolder(tmp_path / "other", "id").open(settings)
    with pytest.raises(tte.InputError, match="not the folder of a job"):
        read_results(tmp_path / "other")
    wrong = misunderstood(lambda folder: read_results(folder), {}, ["folder"])
    assert not wrong, "\n".join(wrong)
    manifest = tmp_path / "other" / "job.json"
    good = {"format": 1, "fingerprint": "", "settings": {}, "runs": 1, "id_column": "x"}
    others = [None, [], {}, {"format": 1}, {**good, "format": 9}, {**good, "runs": "1"}, {**good, "id_column": None}]
    others += [{**good, "runs": value} for value in (-1, True, 1.0, 10**400, 1 << 31)] + [{**good, "format": True}]
    for content in ["", "{", "[" * 9999, *map(json.dumps, others)]:
        manifest.write_text(content)
        with pytest.raises(tte.InputError, match=r"job\.json cannot be read"):
            read_results(tmp_path / "other")
    manifest.write_text(json.dumps(good))
    (tmp_path / "other" / "part-0001-0.parquet").write_bytes(b"nothing")
    with pytest.raises(tte.InputError, match=r"part-0001-0\.parquet cannot be read"):
        read_results(tmp_path / "other")


def test_ids_are_checked() -> None:
    assert check_ids(pa.chunked_array([[1, 2], [3]]), "id").to_pylist() == ["1", "2", "3"]
    assert check_ids(pa.chunked_array([], pa.string()), "id").to_pylist() == []
    with pytest.raises(tte.InputError, match=r"1 ids in 'id' are not unique, such as 'b' \(2 rows\)"):
        check_ids(pa.chunked_array([["a", "b"], ["b"]]), "id")
    with pytest.raises(tte.InputError, match="1 rows have no id"):
        check_ids(pa.chunked_array([["a", None]]), "id")
    with pytest.raises(tte.InputError, match="of type double"):
        check_ids(pa.chunked_array([[1.5]]), "id")


def test_whatever_a_job_is_made_with_a_message_is_short(tmp_path: Path) -> None:
    long = "x" * 5000
    path = tmp_path.joinpath(*["d" * 200] * 8)
    settings = {"a": long, "b" * 5000: 1}
    JobFolder(path, "id").open(settings)
    begun = JobFolder(path, long)
    for _ in range(MAX_TRIES):
        begun.begin(1, [long])
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.parquet").write_bytes(b"")
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("holds the results of another job", lambda: JobFolder(path, "id").open({**settings, "a": "y" + long})),
        ("is 1 there and not set here", lambda: JobFolder(path, "id").open({"a": long})),
        ("was filled by a job", lambda: JobFolder(path, long).open(settings)),
        ("the worker died 5 times", lambda: begun.begin(1, [long])),
        ("has parquet files", lambda: JobFolder(other, "id").open(settings)),
        ("cannot be made", lambda: JobFolder(other / "x.parquet" / "y", "id").open(settings)),
        ("are not unique", lambda: check_ids(pa.chunked_array([[long, long]]), long)),
        ("have no id", lambda: check_ids(pa.chunked_array([[None, "x"]]), long)),
        ("of type double", lambda: check_ids(pa.chunked_array([[1.0]]), long)),
        ("of type struct", lambda: check_ids(pa.chunked_array([[{long: 1}]]), long)),
        ("are damaged", lambda: check_ids(pa.chunked_array([invalid_text()]), long)),
    ]
    for message, call in calls:
        with pytest.raises(tte.Error, match=message) as error:
            call()
        assert len(str(error.value)) < 500, message
        assert "\n" not in str(error.value)


def invalid_text() -> pa.Array:
    return pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )


def test_shards_that_are_not_the_jobs_are_refused(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job", "id")
    folder.open({"a": 1})
    shard = folder.path / "part-0001-a.parquet"
    none = pa.array([None], pa.string())
    for table, message in (
        (pa.table({"x": [1]}), "it has not one column 'id'"),
        (pa.table({"id": [1]}), "it has not one column 'error'"),
        (pa.table({"id": [1], "error": [5]}), "its 'error' is of type int64"),
        (pa.table({"id": [[1]], "error": none}), "its 'id' is of type list<"),
        (pa.table({"id": [1.5], "error": none}), "its 'id' is of type double"),
        (pa.table({"id": pa.array([None], pa.int64()), "error": none}), "1 of its rows have no id"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2]), none], names=["id", "id", "error"]), "'id'"),
        (pa.table({"id": invalid_text(), "error": none}), "Invalid UTF8"),
    ):
        pq.write_table(table, shard)
        for call in (folder.finished, folder.read):
            with pytest.raises(tte.InputError, match=r"part-0001-a\.parquet cannot be read") as error:
                call()
            assert message in str(error.value)
            assert str(error.value).endswith("remove it and run the job again.")
    for make in (shard.mkdir, lambda: os.mkfifo(shard)):
        shard.unlink() if shard.is_file() else None
        make()
        with pytest.raises(tte.InputError, match="cannot be read"):
            folder.finished()
        shard.rmdir() if shard.is_dir() else shard.unlink()
    folder.write(1, rows([1], [None]))
    other = rows([2], [None]).append_column("kept", pa.array([5]))
    folder.write(1, other)
    folder.write(1, rows([3], [None]).append_column("kept", pa.array(["x"])))
    with pytest.raises(tte.InputError, match=r"job cannot be read .*: remove the shards whose columns are of other"):
        folder.read()


@pytest.mark.parametrize("content", [b"abc", b"", b"\xff", b"-7", b"9" * 100, None])
def test_damaged_counts_of_tries_are_counted_again(tmp_path: Path, content: bytes | None) -> None:
    folder = JobFolder(tmp_path, "id")
    folder.open({})
    folder.begin(1, [7])
    (tries,) = tmp_path.glob(".*.tries")
    tries.unlink()
    os.mkfifo(tries) if content is None else tries.write_bytes(content)
    for _ in range(MAX_TRIES):
        folder.begin(1, [7])
    with pytest.raises(tte.Error, match="died 5 times"):
        folder.begin(1, [7])


def test_what_ends_a_job_is_the_workers_own_sentence(tmp_path: Path) -> None:
    arguments = {"embedder": _hub.bundled("embedder"), "id_column": "id", "keep": ["id", "more"], "device": "cpu"}
    expected = fingerprint(BatchEmbedder(**arguments).settings())
    folder = JobFolder(tmp_path / "job", "id")
    folder.open({})
    write = _ShardWriter(arguments, str(folder.path), 1, expected)
    batch = {"id": np.array(["a", "b"]), "text": cells("fine", None), "more": cells(1, 2)}
    done = write(batch)
    assert [done[name][0] for name in ("rows", "errors", "kind", "why")] == [2, 1, "", ""]
    mixed = write({**batch, "id": np.array(["c", "d"]), "more": cells(1, "x")})
    assert (mixed["rows"][0], mixed["kind"][0]) == (0, "InputError")
    assert re.match(r"the column 'more' cannot be written \(.*\): leave it out of keep\.$", mixed["why"][0])
    for _ in range(MAX_TRIES):
        folder.begin(1, ["e"])
    last = write({name: values[:1] for name, values in {**batch, "id": np.array(["e"])}.items()})
    assert (last["kind"][0], last["why"][0][:23]) == ("Error", "the worker died 5 times")
    shutil.rmtree(folder.path)
    gone = write(batch)
    assert (gone["kind"][0], "job cannot be written (No such file" in gone["why"][0]) == ("InputError", True)
    with pytest.raises(tte.InputError, match="this worker's models are not those"):
        _ShardWriter(arguments, str(folder.path), 1, "other")


# The job, on a real Ray, whose processes take long to start on a busy machine.


slow = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    import ray
    import ray.data

    for attempt in range(4):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            break
        except Exception as error:
            # Its node gives up when its agents need more than 15 s to start, which cannot be configured.
            if attempt == 3 or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@slow
def test_job_is_resumed_grows_and_is_refused(local_ray: Any, embedder: tte.Embedder, tmp_path: Path) -> None:
    jpegs = [png(noise(28, 28, seed=s)) for s in range(7)]
    data = pa.table({"key": [f"k{i}" for i in range(8)], "text": ["what ?"] * 8, "jpeg": [*jpegs, b"rubbish"]})
    pq.write_table(data.slice(0, 6), tmp_path / "a.parquet")
    options: dict[str, Any] = {
        "id_column": "key", "embedder": _hub.bundled("embedder"), "columns": {"text": "text", "image": "jpeg"},
        "keep": ["text"], "rows_per_shard": 3, "device": "cpu",
    }  # fmt: skip
    out = tmp_path / "out"
    assert run_job(tmp_path / "a.parquet", out, **options) == JobSummary(rows=6, skipped=0, embedded=6, errors=0)
    first = {path.name: path.read_bytes() for path in out.glob("part-*.parquet")}
    assert len(first) == 2

    # As after kill -9 during the second shard; and the data have grown.
    lost = sorted(first)[1]
    (out / lost).unlink()
    (out / f".{lost}.1.tmp").write_bytes(first[lost][:100])
    gone = len(pq.read_table(pa.BufferReader(first[lost])))
    pq.write_table(data.slice(6), tmp_path / "b.parquet")
    summary = run_job(str(tmp_path / "*.parquet"), out, **options)
    assert summary == JobSummary(rows=8, skipped=6 - gone, embedded=gone + 1, errors=1)
    table = read_results(out).sort_by("key")
    assert table["key"].to_pylist() == data["key"].to_pylist()
    assert table["text"].to_pylist() == ["what ?"] * 8
    assert [error is None for error in table["error"].to_pylist()] == [True] * 7 + [False]
    assert "row k7" in table["error"][7].as_py()
    expected = embedder.embed([{"image": jpeg, "text": "what ?"} for jpeg in jpegs], progress=False)
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()[:7]), expected, atol=1e-6)

    # Nothing to do: no worker starts. Another fingerprint: refused.
    same = local_ray.data.from_arrow(data.slice(0, 6))
    assert run_job(same, out, **options) == JobSummary(rows=6, skipped=6, embedded=0, errors=0)
    with pytest.raises(tte.InputError, match='instruction is not set there and "count" here'):
        run_job(same, out, instruction="count", **options)


@slow
def test_job_says_what_is_wrong(local_ray: Any, tmp_path: Path) -> None:
    data = local_ray.data.from_arrow(pa.table({"key": ["a", "b"], "text": ["x", "x"]}))
    out = tmp_path / "out"
    with pytest.raises(tte.InputError, match="ids in 'text' are not unique"):
        run_job(data, out, id_column="text")
    with pytest.raises(tte.ModelError, match="not a folder"):
        run_job(data, out, id_column="key", embedder="/no/such")
    for options, message in (
        ({"id_column": "page"}, "id_column names 'page', which is no column: name one of key, text"),
        ({"keep": ["page"]}, "keep names 'page', which is no column"),
        ({"keep": "key"}, "keep is 'key'"),
        ({"columns": {"text": "caption"}}, r"columns\['text'\] names 'caption', which is no column"),
        ({"columns": {"picture": "text"}}, "columns has 'picture'"),
        ({"id_column": 5}, "id_column is 5"),
    ):
        with pytest.raises(tte.InputError, match=message):
            run_job(data, out, **{"id_column": "key", **options})  # type: ignore[arg-type]
    clash = local_ray.data.from_arrow(pa.table({"error": ["a"], "x": ["x"], "n": [5]}))
    with pytest.raises(tte.InputError, match="id_column names 'error', which the results have themselves"):
        run_job(clash, out, id_column="error")
    with pytest.raises(tte.InputError, match="none of the columns error, n, x is one of text"):
        run_job(clash, out, id_column="n")
    with pytest.raises(tte.InputError, match="no file matches"):
        run_job(tmp_path / "*.parquet", out, id_column="key")
    with pytest.raises(tte.InputError, match="concurrency is 0"):
        run_job(data, out, id_column="key", concurrency=0)
    with pytest.raises(tte.InputError, match="data is a dict"):
        run_job({}, out, id_column="key")
    assert not out.exists()
    mixed = local_ray.data.from_items([{"key": "a", "text": "x", "n": 1j}, {"key": "b", "text": "x", "n": 2j}])
    with pytest.raises(tte.InputError, match=r"^the column 'n' cannot be written \(.*\): leave it out of keep\.$"):
        run_job(mixed, out, id_column="key", keep=["n"], embedder=_hub.bundled("embedder"), device="cpu")


@slow
def test_the_class_is_ray_datas_own_idiom(local_ray: Any) -> None:
    dataset = local_ray.data.from_items([{"id": i, "text": f"text {i}"} for i in range(5)])
    embedded = dataset.map_batches(
        BatchEmbedder,
        fn_constructor_kwargs={"device": "cpu", "family": "visdoc", "max_new_tokens": 8},
        batch_size=2,
        num_cpus=1,
        compute=local_ray.data.ActorPoolStrategy(size=1),
    )
    found = {row["id"]: row for row in embedded.take_all()}
    texts = [f"text {i}" for i in range(5)]
    expected = tte.think_then_embed(texts, task="visdoc", think="recipe", max_new_tokens=8, progress=False)
    for i in range(5):
        np.testing.assert_allclose(found[i]["embedding"], expected.embeddings[i], atol=1e-6)
        assert found[i]["trace"] == expected.traces[i].text
        assert found[i]["error"] is None


def test_settings_tell_files_beside_the_weights(tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    shutil.copytree(_hub.bundled("embedder"), folder)
    before = describe(tte.Embedder(folder))
    with (folder / "preprocessor_config.json").open("a") as file:
        file.write("\n")
    assert describe(tte.Embedder(folder)) != before

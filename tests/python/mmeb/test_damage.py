"""Whatever happened to a file of a run, a table or a list of tasks, it is read as it was or refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tte
from damage import CHANGES, LONGEST, NO_FILES, PNG, check, content, replace, sentence
from make_tree import IMAGE_REPO, VIDEO_DATA, image_row, jsonl, parquet, write_image
from nano_data import NanoData, system
from results import write_result
from tte.mmeb.cli import main
from tte.mmeb.data.loaders import load
from tte.mmeb.data.tasks import find, read_tasks
from tte.mmeb.report.results import read
from tte.mmeb.run import run
from tte.mmeb.run.blocks import assemble
from tte.mmeb.run.manifest import SCORED, ResultFolder, sealed
from tte.mmeb.run.run import Options, run_dataset
from tte.mmeb.run.scores import score_folder

# Result folders.


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done, and one of the same data whose blocks are there."""
    folder = tmp_path_factory.mktemp("results")
    data, pair = NanoData(folder / "images", count=6), system(None, "never")
    run_dataset(data, folder / "done", pair, options=Options(block=8), progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "finish", lambda *_: {})
        run_dataset(data, folder / "blocks", pair, options=Options(block=8), progress=False)
    return folder


@pytest.fixture
def quiet(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[int, str]]:
    """Run a command; returns its exit code and what it wrote to stderr."""

    def command(arguments: list[str]) -> tuple[int, str]:
        capsys.readouterr()
        code = main(arguments)
        return code, capsys.readouterr().err

    return command


def test_names_that_are_not_utf8(results: Path, stores: Path, tmp_path: Path, quiet: Any) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    whole = content(stores / "traces.sqlite")
    for suffix in (".sqlite", ".jsonl", ".parquet"):
        shutil.copy(stores / f"traces{suffix}", folder / f"traces{suffix}")
        assert content(folder / f"traces{suffix}") == whole
    with tte.TraceStore(folder / "traces.sqlite") as store:
        assert store.export(folder / "again.parquet") == len(whole)
    assert content(folder / "again.parquet") == whole
    shutil.copytree(results / "done", folder / "done")
    assert quiet(["score", str(folder / "done")])[0] == 0
    sound, found = (read(each / "done", []).tasks["Nano-image_ret"] for each in (results, folder))
    assert (found.scores, found.queries) == (sound.scores, sound.queries)
    parquet(tmp_path / "data" / IMAGE_REPO / "GQA/test.parquet", [image_row("i", "t", "GQA/1.jpg", "", ["a"], [""])])
    shutil.copytree(tmp_path / "data", folder, dirs_exist_ok=True)
    assert load("GQA", folder).num_queries == 1


def lines(text: str, *starts: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(starts)]


@pytest.mark.parametrize("change", [*CHANGES, *NO_FILES])
@pytest.mark.parametrize(
    "name",
    ["manifest.json", "score.json", "predictions.jsonl", "queries.npy", "queries.parquet", "candidates.parquet"],
)
def test_result_folders(results: Path, tmp_path: Path, name: str, change: str) -> None:
    out = tmp_path / "out"
    place = out / "image" / "Nano-image_ret"
    shutil.copytree(results / "done", out)
    other = out / "image" / "Nano-other"
    shutil.copytree(place, other)  # One that is whole, which must come through.
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["task"]["name"] = other.name
    (other / "manifest.json").write_text(json.dumps(sealed(manifest)))
    replace(place / name, change, (place / name).read_bytes())

    def reported() -> Any:
        run = read(out, [])
        assert run.tasks["Nano-other"].score == pytest.approx(100 * manifest["score"])
        if place.name in run.damaged:
            raise tte.InputError(run.damaged[place.name])
        found = run.tasks[place.name]
        return [o.value for o in found.outcomes], found.scores, found.queries, found.candidates

    sound = read(results / "done", []).tasks[place.name]
    whole = [o.value for o in sound.outcomes], sound.scores, sound.queries, sound.candidates
    if not (name == "manifest.json" and change in NO_FILES):  # Without a manifest it is no result folder.
        check(reported, whole, name)
    if name not in ("score.json", "predictions.jsonl"):
        check(lambda: score_folder(place).scores, sound.scores, name)


def test_commands_go_on_past_what_is_damaged(results: Path, tmp_path: Path, quiet: Any) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    for name in ("MSVD", "MSR-VTT", "DiDeMo"):
        write_result(out, find(name), [True, False])
    shutil.copytree(results / "done", out, dirs_exist_ok=True)
    (out / "video/MSVD/manifest.json").write_bytes(b"\xff")
    (out / "video/MSR-VTT/queries.parquet").write_bytes(PNG)
    (out / "video/DiDeMo/score.json").write_bytes(b"[]")
    code, told = quiet(["report", str(out), "--model-name", "m"])
    assert code == 3
    named = [line.split(": ")[1].split(", ")[1] for line in lines(told, "left out: ")]
    assert named == ["DiDeMo", "MSR-VTT", "MSVD"]
    found = json.loads((out / "report/m.json").read_bytes())["metrics"]
    assert [found["video"][name] for name in named] == ["READ_ERROR"] * 3
    assert isinstance(found["image"]["Nano-image_ret"], dict)
    for command in (["score", str(out)], ["merge", str(out)]):
        code, told = quiet(command)
        assert code == 3
        assert {"MSVD", "MSR-VTT"} <= {line.split(": ")[1] for line in lines(told, "left out: ")}
        assert all(len(line) < LONGEST for line in told.splitlines())


@pytest.mark.parametrize("change", [*CHANGES, *NO_FILES])
def test_blocks(results: Path, tmp_path: Path, change: str) -> None:
    shutil.copytree(results / "blocks", tmp_path, dirs_exist_ok=True)
    folder = ResultFolder(tmp_path / "image" / "Nano-image_ret")
    part = folder.part_path("candidates", 1)
    good, whole = part.read_bytes(), folder.read_part("candidates", 1)
    replace(part, change, good)
    with pytest.raises(tte.InputError) as error:
        folder.read_part("candidates", 1)
    sentence(error.value, str(part))
    assert change == "gone" or "run again" in str(error.value)
    if change.startswith("flip") and good[:8] == part.read_bytes()[:8]:
        assert "block 1 of candidates" in str(error.value)
    replace(part, "gone", b"")
    part.write_bytes(good)
    np.testing.assert_array_equal(folder.read_part("candidates", 1).vectors, whole.vectors)


def test_a_flipped_byte_of_vectors_names_the_block(results: Path, tmp_path: Path, quiet: Any) -> None:
    shutil.copytree(results / "done", tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.glob("*/*/candidates.npy")
    data = bytearray(file.read_bytes())
    row = np.load(file).shape[1] * 4
    data[-len(np.load(file)) * row + 9 * row] ^= 1  # In the tenth row: the second block of eight.
    file.write_bytes(data)
    for command in (["score", str(tmp_path)], ["merge", str(tmp_path)]):
        code, told = quiet(command)
        assert code == 1
        assert f"{file}, block 1, is damaged" in lines(told, "left out: ")[0]


@pytest.mark.parametrize("change", ["empty", "flip 0", "text", "gone"])
@pytest.mark.parametrize("name", SCORED)
def test_what_scoring_wrote_is_made_again(results: Path, tmp_path: Path, quiet: Any, name: str, change: str) -> None:
    pytest.importorskip("matplotlib")
    shutil.copytree(results / "done", tmp_path, dirs_exist_ok=True)
    place = tmp_path / "image" / "Nano-image_ret"
    good = (place / name).read_bytes()
    replace(place / name, change, good)
    code, told = quiet(["report", str(tmp_path)])
    assert code != 0
    assert f"`python -m tte.mmeb score {tmp_path}` makes it again" in told
    assert quiet(["merge", str(tmp_path)])[0] == 0
    assert (place / name).read_bytes() == good
    assert quiet(["report", str(tmp_path)])[0] == 0


@pytest.mark.parametrize("name", ["queries.npy", "candidates.parquet"])
def test_damaged_files_are_made_again_from_blocks_that_are_kept(
    results: Path, tmp_path: Path, quiet: Any, name: str
) -> None:
    shutil.copytree(results / "blocks", tmp_path, dirs_exist_ok=True)
    folder = ResultFolder(tmp_path / "image" / "Nano-image_ret")
    assemble(folder, folder.manifest())
    good = (folder.path / name).read_bytes()
    (folder.path / name).write_bytes(good[:-1])
    code, told = quiet(["score", str(tmp_path)])
    assert code == 1
    assert f"`python -m tte.mmeb merge {tmp_path}` makes it again" in told
    part = folder.part_path("queries", 0)
    kept = part.read_bytes()
    part.unlink()
    assert "run the rest of it" in quiet(["merge", str(tmp_path)])[1]
    part.write_bytes(kept)
    assert quiet(["merge", str(tmp_path)])[0] == 0
    assert (folder.path / name).read_bytes() == good


@pytest.mark.parametrize("value", [None, "x" * 3000, -1, 0.5, [], {"a": 1}, True])
def test_manifests_that_were_changed(results: Path, tmp_path: Path, quiet: Any, value: Any) -> None:
    shutil.copytree(results / "done", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "image" / "Nano-image_ret" / "manifest.json"
    manifest = json.loads(path.read_text())
    for key in (key for key, good in manifest.items() if good != value):
        path.write_text(json.dumps({**manifest, key: value}))
        with pytest.raises(tte.InputError) as error:
            ResultFolder(path.parent).manifest()
        sentence(error.value, str(path))
    code, told = quiet(["score", str(tmp_path)])
    assert code == 1
    assert "manifest.json" in told


# Data.


@pytest.mark.parametrize("change", [*CHANGES, *NO_FILES])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_tables(tmp_path: Path, quiet: Any, kind: str, change: str) -> None:
    rows = [image_row("i", f"text {i}", "GQA/1.jpg", "", ["a", "ö"], ["", ""]) for i in range(30)]
    write_image(tmp_path / "image-tasks/GQA/1.jpg")
    parquet(tmp_path / IMAGE_REPO / "OK-VQA/test-00000-of-00001.parquet", rows)
    path = tmp_path / IMAGE_REPO / f"GQA/test-00000-of-00001.{kind}"
    if kind == "parquet":
        parquet(path, rows)
    elif kind == "jsonl":
        jsonl(path, rows)
    else:
        path.parent.mkdir(parents=True)
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)

    def read() -> list[Any]:
        data = load("GQA", tmp_path)
        return [(query.entry.name, query.candidates, query.labels) for query in data.queries()]

    whole = read()
    replace(path, change, path.read_bytes())
    try:
        read()
    except tte.Error as error:
        sentence(error, f"GQA: {path}", f"GQA: '{path}", "GQA: the table")
    code, told = quiet(["prompts", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--tasks", "GQA", "OK-VQA"])
    assert code in (0, 3)  # The other one is written.
    assert all(len(line) < LONGEST for line in told.splitlines())
    assert len((tmp_path / "out/OK-VQA_queries.jsonl").read_text().splitlines()) == len(whole)


def test_damaged_offsets_of_arrow_files_are_not_followed(tmp_path: Path) -> None:
    """Arrow's own reader trusts them, and ends the process."""
    path = tmp_path / IMAGE_REPO / "GQA/test-00000-of-00001.arrow"
    path.parent.mkdir(parents=True)
    table = pa.Table.from_pylist([image_row("i", f"text {i}", "a.jpg", "", ["a", "b"], ["", ""]) for i in range(30)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    good = path.read_bytes()
    refused = 0
    for at in range(3, len(good), 60):  # Here and there the highest byte of an offset.
        path.write_bytes(good[:at] + b"\x7f" + good[at + 1 :])
        try:
            list(load("GQA", tmp_path).queries())
        except tte.InputError as error:
            sentence(error, path.name)
            refused += 1
    assert refused > 10


CELLS: list[Any] = [
    None,
    7,
    0.5,
    True,
    "",
    "x" * 5000,
    "\ud800",
    [],
    [1],
    ["a", None],
    {"a": 1},
    "../../x",
    "/etc/passwd",
]


@pytest.mark.parametrize("value", CELLS, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(
    ("name", "column"),
    [
        *(("HMDB51", column) for column in ("video_id", "pos_text")),
        *(("MomentSeeker", column) for column in ("query", "input_frames", "positive_frames", "negative_frames")),
        *(("QVHighlight", column) for column in ("query", "video_path")),
        *(("SmthSmthV2", column) for column in ("video_id", "neg_text")),
    ],
)
def test_cells_of_tables_of_another_kind(
    tree: Path, tmp_path: Path, quiet: Any, name: str, column: str, value: Any
) -> None:
    names = {"HMDB51": "hmdb51", "MomentSeeker": "momentseeker", "QVHighlight": "qvhighlight", "SmthSmthV2": "ssv2"}
    for folder in ("video-tasks/frames",):
        (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder).symlink_to(tree / folder)
    source = tree / VIDEO_DATA / f"{names[name]}.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows[0][column] = value
    path = tmp_path / VIDEO_DATA / source.name
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for command in (["check"], ["prompts", "--out", str(tmp_path / "out"), "--keep-going"]):
        code, told = quiet([*command, "--data", str(tmp_path), "--tasks", name])
        assert code in (0, 1, 3)
        assert all(len(line) < LONGEST for line in told.splitlines()), told


@pytest.mark.parametrize("change", [*CHANGES, "folder", "pipe", "itself"])
def test_files_of_tasks(tmp_path: Path, change: str) -> None:
    good = json.dumps({"tasks": [{
        "name": "Mine", "category": "I-CLS", "modality": "image", "metric": "hit@1", "scored": False,
        "family": "image_cls", "parser": "image_cls", "repos": ["a/b"],
    }]}).encode()  # fmt: skip
    replace(tmp_path / "tasks.json", change, good)
    try:
        read_tasks(tmp_path / "tasks.json")
    except tte.InputError as error:
        sentence(error, "tasks.json")


@pytest.mark.parametrize("value", [None, 1, True, -1, [], ["a", 1], {}, "../x", "", "a/b", "x" * 5000, "\n", "ä"])
@pytest.mark.parametrize(
    "key", ["name", "category", "metric", "scored", "parser", "repos", "labels", "queries", "limit", "z"]
)
def test_tasks_of_another_shape(tmp_path: Path, quiet: Any, key: str, value: Any) -> None:
    task = {
        "name": "Mine", "category": "I-CLS", "modality": "image", "metric": "hit@1", "scored": False,
        "family": "image_cls", "parser": "image_cls", "repos": ["a/b"], key: value,
    }  # fmt: skip
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": [task]}))
    code, told = quiet(["check", "--data", str(tmp_path)])
    assert code in (1, 2)
    assert all(len(line) < LONGEST for line in told.splitlines()), told


@pytest.mark.parametrize("change", [*CHANGES, *NO_FILES])
def test_leaderboard_files(tmp_path: Path, change: str) -> None:
    from tte.mmeb.report import leaderboard

    path = tmp_path / "Theirs.json"
    good = json.dumps({"metadata": {"model_name": "T"}, "metrics": {"video": {"MSVD": {"hit@1": 0.25}}}}).encode()
    replace(path, change, good)
    try:
        leaderboard.read(path)
    except tte.InputError as error:
        sentence(error, "Theirs.json")


@pytest.mark.parametrize(
    "found",
    [
        {"metadata": 3, "metrics": {"image": [1]}},
        {"metadata": {"model_name": [1]}, "metrics": {"image": {"A": {"hit@1": "x", "b": True, "c": 7}}}},
        {"metrics": {"image": {"A": None}, "video": 3}},
    ],
)
def test_leaderboard_files_of_another_shape(tmp_path: Path, found: Any) -> None:
    from tte.mmeb.report import leaderboard

    (tmp_path / "a.json").write_text(json.dumps(found))
    try:
        name, scores = leaderboard.read(tmp_path / "a.json")
    except tte.InputError as error:
        sentence(error, "a.json")
    else:
        assert name == "a"
        assert all(values == {} for values in scores.values())


@pytest.mark.parametrize("change", [*CHANGES, *NO_FILES])
@pytest.mark.parametrize("name", ["GQA_qry", "GQA_tgt", "GQA_info.jsonl"])
def test_files_of_the_reference(tmp_path: Path, quiet: Any, name: str, change: str) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    vectors = {name: np.ones(4, np.float32) for name in ("a", "b")}
    (folder / "GQA_qry").write_bytes(pickle.dumps(np.ones((2, 4), np.float32)))
    (folder / "GQA_tgt").write_bytes(pickle.dumps(vectors))
    row = {"cand_names": ["a", "b"], "label_name": "a", "rel_scores": None}
    (folder / "GQA_info.jsonl").write_text((json.dumps(row) + "\n") * 2)
    replace(folder / name, change, (folder / name).read_bytes())
    code, told = quiet(["score", str(tmp_path), "--pickles"])
    assert code in (0, 1, 2)
    assert all(len(line) < LONGEST for line in told.splitlines()), told

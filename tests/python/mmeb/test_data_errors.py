"""Hostile and broken data: one sentence that names data set and file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tte.mmeb
from make_tree import FRAMES, IMAGE_REPO, VISDOC, frame_folder, image_row, jsonl, moment, parquet
from tte.mmeb.data import tables

GOOD = image_row("i", "t", "GQA/1.jpg", "", ["a"], [""])


def gqa(root: Path, rows: list[dict[str, Any]]) -> Path:
    return parquet(root / IMAGE_REPO / "GQA/test-00000-of-00001.parquet", rows)


def fails(root: Path, name: str, **options: Any) -> str:
    """Load, read everything, and return the error."""
    with pytest.raises(tte.InputError) as error:
        data = tte.mmeb.load(name, root, **options)
        list(data.queries())
        list(data.candidates())
    message = str(error.value)
    assert message.startswith(f"{name}: "), message
    assert "\n" not in message
    assert message.endswith((".", ")")), message
    return message


def test_missing_column(tmp_path: Path) -> None:
    file = gqa(tmp_path, [{key: value for key, value in GOOD.items() if key != "qry_text"}])
    assert fails(tmp_path, "GQA").startswith(f"GQA: {file} has no column 'qry_text', it has qry_inst, qry_img_path")


def test_broken_parquet(tmp_path: Path) -> None:
    file = gqa(tmp_path, [GOOD])
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert f"{file} cannot be read (" in fails(tmp_path, "GQA")
    file.write_bytes(b"")
    assert f"{file} cannot be read (" in fails(tmp_path, "GQA")


def test_damage_inside_of_a_parquet_file(tmp_path: Path) -> None:
    file = gqa(tmp_path, [{**GOOD, "qry_text": f"text {i}"} for i in range(200)])
    content = bytearray(file.read_bytes())
    content[20:200] = b"\xff" * 180
    file.write_bytes(content)
    assert str(file) in fails(tmp_path, "GQA")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{\n", "line 1 is not JSON"), ("[1]\n", "line 1 is not an object"), ("\xff", "text that is not UTF-8")],
)
def test_broken_json_lines(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "video-tasks/data/hmdb51.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode("latin-1"))
    message = fails(tmp_path, "HMDB51")
    assert str(file) in message
    assert reason in message


@pytest.mark.parametrize("path", ["../../secret.jpg", "/etc/passwd", "GQA/../../x.jpg", "..", "a\0b"])
def test_paths_that_leave_the_folder(tmp_path: Path, path: str) -> None:
    file = gqa(tmp_path, [{**GOOD, "qry_img_path": path}])
    message = fails(tmp_path, "GQA")
    assert f"{file}, row 0" in message


@pytest.mark.parametrize("video", ["../../../etc", "/etc"])
def test_videos_that_leave_the_folder(tmp_path: Path, video: str) -> None:
    frame_folder(tmp_path / FRAMES / "video_cls/HMDB51/ok", 1)
    file = jsonl(tmp_path / "video-tasks/data/hmdb51.jsonl", [{"video_id": video, "pos_text": "wave"}])
    assert f"{file}, row 0" in fails(tmp_path, "HMDB51")


def test_pages_and_clips_that_leave_the_folder(tmp_path: Path) -> None:
    base = tmp_path / VISDOC / "data/openbmb/VisRAG-Ret-Test-ArxivQA"
    jsonl(base / "queries/train.jsonl", [{"query-id": "1", "query": "q"}])
    jsonl(base / "qrels/train.jsonl", [{"query-id": "1", "corpus-id": "../../a.png", "score": 1}])
    jsonl(base / "corpus/train.jsonl", [{"corpus-id": "../../a.png"}])
    assert "../../a" in fails(tmp_path, "VisRAG_ArxivQA")
    frame_folder(tmp_path / FRAMES / "video_mret/MomentSeeker/video_frames/a", 1)
    rows = [moment("q", "", ["a.mp4"], ["b.mp4"]), moment("q", "../../../../x.jpg", ["a.mp4"], ["b.mp4"])]
    jsonl(tmp_path / "video-tasks/data/momentseeker.jsonl", rows)
    assert "row 1" in fails(tmp_path, "MomentSeeker")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tgt_text": []}, "column 'tgt_text' is []; it must be a list of texts, not empty"),
        ({"tgt_text": None}, "column 'tgt_text' is None"),
        ({"qry_img_path": ""}, "qry_img_path is empty"),
        ({"qry_text": 1.5}, "column 'qry_text' is 1.5; it must be text"),
    ],
)
def test_cells_of_image_tasks(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    jsonl(tmp_path / "image-tasks/data/GQA.jsonl", [{**GOOD, **change}])
    assert reason in fails(tmp_path, "GQA")


def test_targets_of_unequal_number(tmp_path: Path) -> None:
    row = image_row("i", "t", "", "", ["", ""], ["a.jpg"])
    jsonl(tmp_path / "image-tasks/data/MSCOCO_t2i.jsonl", [row])
    assert "tgt_text has 2 entries, but tgt_img_path has 1" in fails(tmp_path, "MSCOCO_t2i")


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("EgoSchema", {"video_idx": "e", "question": "q", "answer": "9", "option": ["a", "b"]}, "a number from 0 to 1"),
        ("EgoSchema", {"video_idx": "e", "question": "q", "answer": None, "option": ["a"]}, "column 'answer' is None"),
        ("Video-MME", {"question": "q", "videoID": "v", "options": ["A. x"], "answer": "B"}, "a letter from A to A"),
        ("ActivityNetQA", {"video_name": "v", "question": "q", "answer": "maybe"}, "the answer is 'maybe'"),
        ("MSVD", {"video_id": "v", "caption": []}, "column 'caption' is []"),
        ("HMDB51", {"video_id": None, "pos_text": "x"}, "column 'video_id' is None"),
    ],
)
def test_cells_of_video_tasks(tmp_path: Path, name: str, row: dict[str, Any], reason: str) -> None:
    jsonl(tmp_path / f"video-tasks/data/{name}.jsonl", [row])
    group = {"EgoSchema": "qa", "Video-MME": "qa", "ActivityNetQA": "qa", "MSVD": "ret", "HMDB51": "cls"}[name]
    (tmp_path / FRAMES / f"video_{group}" / name).mkdir(parents=True)
    message = fails(tmp_path, name)
    assert reason in message
    assert "row 0" in message


def test_no_frames_at_all(tmp_path: Path) -> None:
    jsonl(tmp_path / "video-tasks/data/hmdb51.jsonl", [{"video_id": "v", "pos_text": "wave"}])
    folder = tmp_path / FRAMES / "video_cls/HMDB51"
    assert fails(tmp_path, "HMDB51") == f"HMDB51: {folder} is missing: unpack video-tasks/frames/video_cls.tar.gz."


def test_grades_that_are_no_numbers(tmp_path: Path) -> None:
    base = tmp_path / VISDOC / "data/vidore/docvqa_test_subsampled_beir"
    jsonl(base / "queries/test.jsonl", [{"query-id": 1, "query": "q"}])
    jsonl(base / "qrels/test.jsonl", [{"query-id": 1, "corpus-id": 1, "score": "high"}])
    jsonl(base / "corpus/test.jsonl", [{"corpus-id": 1}])
    assert "a score is 'high'" in fails(tmp_path, "ViDoRe_docvqa")


def test_settings(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(tte.InputError, match=r"There is no task 'MSV': did you mean MSVD or "):
        tte.mmeb.load("MSV", tmp_path)
    with pytest.raises(tte.InputError, match=r"style is 'e5'"):
        tte.mmeb.load("GQA", tmp_path, style="e5")
    with pytest.raises(tte.InputError, match=r"num_frames is -2"):
        tte.mmeb.load("K700", tree, num_frames=-2)
    with pytest.raises(tte.InputError, match=r"limit is 0"):
        tte.mmeb.load("K700", tree, limit=0)
    with pytest.raises(tte.InputError, match=r"nowhere is not a folder"):
        tte.mmeb.load("K700", tmp_path / "nowhere")


def test_pyarrow_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(tte.InputError, match=r"pip install pyarrow$"):
        tables.require_pyarrow()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "is not a file of tasks"),
        ('{"tasks": [1]}', "a task is an object with a name"),
        ('{"tasks": [{"name": "x", "sie": 1}]}', "has the unknown key 'sie'"),
        ('{"tasks": [{"name": "x"}]}', "has no 'category'"),
        ("{", "cannot be read (Expecting"),
    ],
)
def test_files_of_tasks(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(content)
    with pytest.raises(tte.InputError) as error:
        tte.mmeb.tasks(extra=[file])
    assert str(file) in str(error.value)
    assert reason in str(error.value)


def test_further_tasks(tmp_path: Path) -> None:
    task = {
        "name": "Mine", "category": "I-QA", "modality": "image", "metric": "hit@1", "scored": False,
        "family": "image_qa", "parser": "image_qa", "labels": "HMDB51",
    }  # fmt: skip
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps({"tasks": [task]}))
    assert [t.name for t in tte.mmeb.tasks(["Mine"], [file])] == ["Mine"]
    assert len(tte.mmeb.tasks(extra=[file])) == 79
    jsonl(tmp_path / "image-tasks/data/Mine.jsonl", [GOOD])
    assert tte.mmeb.load("Mine", tmp_path, extra_tasks=[file]).num_queries == 1
    for change, reason in (
        ({"name": "GQA"}, "is defined twice"),
        ({"category": "V-QA"}, "there is no category"),
        ({"metric": "acc"}, "metric is 'acc'"),
        ({"labels": "K800"}, "asks for the labels of 'K800'"),
        ({"labels": [1]}, "labels must be a list of strings"),
        ({"limit": "None"}, "limit cannot be 'None'"),
    ):
        file.write_text(json.dumps({"tasks": [{**task, **change}]}))
        with pytest.raises(tte.InputError, match=reason):
            tte.mmeb.tasks(extra=[file])
    file.write_text(json.dumps({"tasks": [{**task, "parser": "magic"}]}))
    with pytest.raises(tte.InputError, match=r"Mine: the parser 'magic' is unknown"):
        tte.mmeb.load("Mine", tmp_path, extra_tasks=[file])


@pytest.mark.parametrize("value", ["9" * 5000, "9" * 20, "1.5", "²", "-1", True, None, 2, 1e300])
def test_what_is_no_index_is_refused(value: object) -> None:
    with pytest.raises(tte.InputError, match="it must be a number from 0 to 1") as error:
        tables.index({"x": value}, "x", 2, "a row")
    assert len(str(error.value)) < 500
    assert tables.index({"x": "1"}, "x", 2, "a row") == 1

"""Commands tasks, check, prompts."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tte.mmeb
from make_tree import FRAMES, jsonl, write_image
from tte.mmeb.cli import main
from tte.mmeb.data.check import check_task


def test_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    out = capsys.readouterr().out
    assert "78 tasks, 78 of them scored" in out
    assert main(["tasks", "--all", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == 82
    assert [task["name"] for task in listed if not task["scored"]] == [
        "MomentSeeker_1k8",
        "ViDoRe_biomedical_lectures_v2",
        "ViDoRe_economics_reports_v2",
        "ViDoRe_esg_reports_v2",
    ]
    assert main(["tasks", "--tasks", "V-RET"]) == 0
    assert "5 tasks" in capsys.readouterr().out
    assert main(["tasks", "--tasks", "V-RE"]) == 2
    assert "error: There is no task 'V-RE'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tasks", "check", "prompts"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: python -m tte.mmeb {command}" in capsys.readouterr().out


def test_check(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--data", str(tree), "--tasks", "K700", "MomentSeeker", "OK-VQA", "VisRAG_ArxivQA"]) == 1
    out = capsys.readouterr().out
    assert "incomplete  I-QA      OK-VQA          2 of 1000  2/2" in out
    assert "OK-VQA: it has 2 of 1000 queries: fetch it again" in out
    assert "4 tasks: 4 incomplete" in out
    assert main(["check", "--data", str(tree), "--tasks", "GQA", "RefCOCO", "ViDoSeek-doc", "--json"]) == 1
    reports = {report["name"]: report for report in json.loads(capsys.readouterr().out)}
    assert [reports[name]["status"] for name in ("GQA", "RefCOCO", "ViDoSeek-doc")] == [
        "missing",
        "incomplete",
        "missing",
    ]
    assert reports["RefCOCO"]["media_missing"] == 3
    assert reports["RefCOCO"]["examples"][0] == str(tree / "image-tasks/RefCOCO/0.jpg")
    assert "image-tasks/mmeb_v1.tar.gz" in reports["RefCOCO"]["notes"][0]


def test_check_groups_what_is_missing_together(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--data", str(tree), "--tasks", "GQA", "TextVQA", "VizWiz"]) == 1
    out = capsys.readouterr().out
    assert "The same for 2 more tasks of ziyjiang/MMEB_Test_Instruct: GQA, TextVQA." in out


def test_check_finds_broken_tables_and_missing_frames(tmp_path: Path) -> None:
    rows = [{"video_id": "a", "pos_text": "wave"}, {"video_id": "b", "pos_text": "eat"}]
    file = jsonl(tmp_path / "video-tasks/data/hmdb51.jsonl", rows)
    write_image(tmp_path / FRAMES / "video_cls/HMDB51/a/1.jpg")
    task = replace(tte.mmeb.tasks(["HMDB51"])[0], queries=2)
    report = check_task(task, tmp_path)
    assert (report.status, report.media, report.media_missing) == ("incomplete", 2, 1)
    assert report.examples == [str(tmp_path / FRAMES / "video_cls/HMDB51/b")]
    assert check_task(task, tmp_path, quick=True).status == "complete"
    file.write_text("{")
    report = check_task(task, tmp_path)
    assert report.status == "broken"
    assert str(file) in report.notes[0]


def test_prompts(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prompts"
    names = ["MSCOCO_t2i", "K700", "QVHighlight", "ViDoRe_docvqa"]
    options = ["--prompt-style", "vlm2vec", "--num-frames", "2"]
    assert main(["prompts", "--data", str(tree), "--out", str(out), "--tasks", *names, *options]) == 0
    assert "4 tasks written" in capsys.readouterr().out

    def rows(name: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in (out / name).read_text(encoding="utf-8").splitlines()]

    assert rows("MSCOCO_t2i_queries.jsonl")[0] == {
        "id": "0",
        "text": "Find me an everyday image that matches the given caption: Man riding a motor bike.\n",
        "images": [],
        "video_frames": [],
        "candidates": ["MSCOCO_t2i/0.jpg", "MSCOCO_t2i/1.jpg"],
        "label": ["MSCOCO_t2i/0.jpg"],
        "rel_scores": None,
    }
    assert rows("MSCOCO_t2i_candidates.jsonl")[2] == {
        "id": "MSCOCO_t2i/2.jpg",
        "text": "<|image_pad|>\nRepresent the given image.\n",
        "images": ["image-tasks/MSCOCO_t2i/2.jpg"],
        "video_frames": [],
    }
    assert rows("K700_queries.jsonl")[1]["video_frames"] == [
        "video-tasks/frames/video_cls/K700/vid_a/frame_0001.jpg",
        "video-tasks/frames/video_cls/K700/vid_a/frame_0012.jpg",
    ]
    assert rows("K700_queries.jsonl")[1]["candidates"] is None
    assert rows("ViDoRe_docvqa_queries.jsonl")[0]["rel_scores"] == [1.0]
    assert len(rows("QVHighlight_candidates.jsonl")) == 6
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}_{kind}.jsonl" for name in names for kind in ("queries", "candidates")
    )


def test_prompts_of_what_is_there(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "--data", str(tree), "--out", str(tmp_path), "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "42 tasks written" in out
    assert "36 tasks have no tables" in out
    assert main(["prompts", "--data", str(tree), "--out", str(tmp_path), "--tasks", "GQA"]) == 1
    assert "error: GQA: the table 'GQA'" in capsys.readouterr().err


def test_prompts_with_missing_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"video_id": "a", "pos_text": "wave"}, {"video_id": "b", "pos_text": "eat"}]
    jsonl(tmp_path / "video-tasks/data/hmdb51.jsonl", rows)
    write_image(tmp_path / FRAMES / "video_cls/HMDB51/a/1.jpg")
    command = ["prompts", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--tasks", "HMDB51"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: HMDB51: the frame folder ")
    assert list((tmp_path / "out").iterdir()) == []
    assert main([*command, "--keep-going"]) == 3
    assert "1 entries have an error" in capsys.readouterr().out
    written = [json.loads(line) for line in (tmp_path / "out/HMDB51_queries.jsonl").read_text().splitlines()]
    assert "error" not in written[0]
    assert written[1]["error"].startswith("HMDB51: the frame folder ")


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["prompts", "--out", "out"],
        ["run", "--embedder", "nano", "--out", "out"],
        ["traces", "--reasoner", "nano", "--store", "out/traces.sqlite"],
    ],
    ids=lambda command: command[0],
)
def test_a_data_folder_that_is_not_there(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--data", "gone"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: gone is not a folder: give the folder with image-tasks")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ["prompts", "--out", "file"],
        ["prompts", "--out", "file/below"],
        ["run", "--embedder", "nano", "--out", "file"],
        ["mini", "--out", "file"],
    ],
    ids=" ".join,
)
def test_a_path_that_cannot_be_used(
    command: list[str], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    data = [] if command[0] == "mini" else ["--data", str(tree)]
    assert main([*command, *data]) == 2
    error = capsys.readouterr().err
    assert re.search(r"^error: '.*file.*' cannot be used \((File exists|Not a directory)\): check the", error, re.M)
    assert "Traceback" not in error


def test_a_store_below_a_file(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    store = tmp_path / "file" / "traces.sqlite"
    assert main(["traces", "--reasoner", "nano", "--store", str(store), "--data", str(tree)]) == 2
    error = capsys.readouterr().err
    assert re.search(r"^error: .*file is not a folder: make it, or give the trace store another one\.$", error, re.M)
    assert "Traceback" not in error


def test_an_export_is_checked_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "traces.sqlite"
    assert main(["traces", "--store", str(store), "--export", str(tmp_path / "gone" / "traces.jsonl")]) == 2
    assert "gone is not a folder: make it" in capsys.readouterr().err


def test_a_data_folder_with_tasks_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = tte.mmeb.tasks(["HMDB51"])[0]
    own = {**asdict(task), "name": "Mine", "scored": False, "repos": [], "queries": None, "candidates": None}
    own = {key: value for key, value in own.items() if value is not None and key not in ("files", "folders", "aliases")}
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps({"tasks": [own]}), encoding="utf-8")
    jsonl(tmp_path / "video-tasks/data/Mine.jsonl", [{"video_id": "a", "pos_text": "wave"}])
    write_image(tmp_path / FRAMES / "video_cls/Mine/a/1.jpg")
    check = ["check", "--data", str(tmp_path), "--json"]
    for given in ([], ["--extra-tasks", str(file)], ["--tasks", "Mine"]):
        assert main([*check, *given]) == 0
        assert [report["name"] for report in json.loads(capsys.readouterr().out)] == ["Mine"]
    assert main([*check, "--quick", "--tasks", "HMDB51"]) == 1
    assert [report["name"] for report in json.loads(capsys.readouterr().out)] == ["HMDB51"]

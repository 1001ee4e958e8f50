"""What is not whole is never scored in silence: missing shards and rows, missing and changed media, failed items."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from make_tree import FRAMES, IMAGE_REPO, VIDEO_DATA, frame_folder, image_row, jsonl, parquet, write_image
from nano_data import NanoData, system
from tte.mmeb.cli import main
from tte.mmeb.data import layout
from tte.mmeb.data.check import check_task
from tte.mmeb.data.loaders import load
from tte.mmeb.data.tasks import find, shortfall
from tte.mmeb.run.blocks import Shard
from tte.mmeb.run.manifest import ResultFolder
from tte.mmeb.run.run import Options, merge, run_dataset
from tte.mmeb.score.scoring import Row, score

WORDS = ["red circle", "blue star", "green square", "3"]


def write_classes(root: Path, name: str = "HatefulMemes", rows: int = 4, shards: int = 1) -> Path:
    """An image task with few queries, in shards."""
    made = []
    for i in range(rows):
        write_image(root / "image-tasks" / name / f"{i}.png", 20 * i, (56, 56))
        pool = [WORDS[i % 4], *(w for w in WORDS if w != WORDS[i % 4])]
        made.append(image_row("", "what is in the image ?", f"{name}/{i}.png", "", pool, [""] * 4))
    folder = root / IMAGE_REPO / name
    for number in range(shards):
        parquet(folder / f"test-{number:05d}-of-{shards:05d}.parquet", made[number::shards])
    return folder


def run(root: Path, out: Path, *more: str) -> int:
    return main(["run", "--data", str(root), "--embedder", "nano", "--out", str(out), *more])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["test-00000-of-00002"], r"has 1 of the 2 files of its table, without number 1: fetch"),
        (["test-00001-of-00003"], r"has 1 of the 3 files of its table, without number 0, 2: fetch"),
        (["a-00000-of-00002", "a-00001-of-00002", "a-00000-of-00003"], r"a-00000-of-00003\S* does not belong beside"),
        (["a-00000-of-00001-0123", "a-00000-of-00001-4567"], r"different versions of a table, so keep"),
        (["a-00002-of-00002"], r"does not belong"),
        (["a_0_of_2"], r"without number 1"),
    ],
)
def test_shards_that_are_missing_or_mixed_are_named(tmp_path: Path, names: list[str], message: str) -> None:
    row = image_row("i", "t", "GQA/1.jpg", "", ["a"], [""])
    for name in names:
        parquet(tmp_path / IMAGE_REPO / "GQA" / f"{name}.parquet", [row])
    with pytest.raises(tte.InputError, match=message) as error:
        load("GQA", tmp_path)
    assert str(error.value).startswith("GQA: ")
    assert check_task(find("GQA"), tmp_path).status == "incomplete"


@pytest.mark.parametrize("names", [["0000", "0001"], ["x-test"], ["a-00000-of-00002", "a-00001-of-00002"], ["test-7"]])
def test_whole_tables_are_taken(tmp_path: Path, names: list[str]) -> None:
    row = image_row("i", "t", "GQA/1.jpg", "", ["a"], [""])
    for name in names:
        parquet(tmp_path / IMAGE_REPO / "GQA" / f"{name}.parquet", [row])
    assert load("GQA", tmp_path).num_queries == len(names)


def test_a_missing_shard_is_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    folder = write_classes(data, rows=8, shards=2)
    (folder / "test-00001-of-00002.parquet").unlink()
    assert main(["check", "--data", str(data), "--tasks", "HatefulMemes"]) == 1
    assert "without number 1" in capsys.readouterr().out
    assert run(data, out, "--tasks", "HatefulMemes") == 1
    told = capsys.readouterr().err
    assert "left out: HatefulMemes: " in told
    assert "HatefulMemes: HatefulMemes: " not in told
    assert not list(out.glob("*/*/score.json"))
    assert main(["prompts", "--data", str(data), "--out", str(out), "--tasks", "image"]) == 1
    assert "without number 1" in capsys.readouterr().err


def test_the_sizes_that_are_known_are_compared() -> None:
    task = find("ViDoRe_arxivqa")
    assert shortfall(task, 500, 500) == ""
    assert shortfall(task, 4, 500) == "4 of 500 queries"
    assert shortfall(task, 501, 499) == "501 queries instead of 500 and 499 of 500 candidates"
    assert shortfall(task, 7, 500, limit=7) == ""
    assert shortfall(task, 6, None, limit=7) == "6 of 7 queries"
    assert shortfall(find("Country211"), 1000, 5) == ""


def test_a_short_table_is_told_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    data, out = tmp_path / "data", tmp_path / "out"
    write_classes(data)
    write_classes(data, "N24News")
    assert run(data, out, "--tasks", "HatefulMemes") == 3
    assert "HatefulMemes: it has 4 of 1000 queries: its score is not the benchmark's" in capsys.readouterr().err
    assert run(data, out, "--tasks", "HatefulMemes") == 3  # Nothing is left to do, and it is told again.
    assert main(["score", str(out)]) == 3
    assert "4 of 1000 queries" in capsys.readouterr().err
    assert run(data, tmp_path / "look", "--tasks", "HatefulMemes", "--limit", "3") == 0
    for folder, word in (
        (out, "INCOMPLETE: 4 of 1000 queries"),
        (tmp_path / "look", "INCOMPLETE: the first 3 queries"),
    ):
        assert main(["report", str(folder), "--model-name", "m"]) == 0
        told = json.loads((folder / "report" / "m.json").read_text())["metrics"]["image"]
        assert told["HatefulMemes"] == word
    assert "4 of 1000 queries" in (out / "report" / "index.html").read_text()


def test_shards_that_are_not_merged_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    write_classes(tmp_path / "data")
    out = tmp_path / "out"
    assert run(tmp_path / "data", out, "--tasks", "HatefulMemes", "--block", "2", "--shard", "1/2") == 0
    assert main(["report", str(out), "--model-name", "m"]) == 0
    assert "blocks are missing: run the rest of it" in capsys.readouterr().out
    told = json.loads((out / "report" / "m.json").read_text())["metrics"]["image"]["HatefulMemes"]
    assert told.startswith("UNFINISHED: ")
    assert "blocks are missing" in (out / "report" / "index.html").read_text()
    assert run(tmp_path / "data", out, "--tasks", "HatefulMemes", "--block", "2", "--shard", "2/2") == 0
    assert main(["report", str(out), "--model-name", "m"]) == 0
    assert "not merged: give it to `merge`" in capsys.readouterr().out


def test_clips_that_are_missing_are_counted(tmp_path: Path) -> None:
    jsonl(tmp_path / VIDEO_DATA / "charades_sta.jsonl", [{"query": "q", "video_path": "v.mp4"}])
    clips = tmp_path / FRAMES / "video_mret/Charades_STA/v"
    for name in ("query", "positive_clip", *(f"negative_clip_{i}" for i in range(8))):
        frame_folder(clips / name, 1)
    short = load("Charades-STA", tmp_path).shortfall()
    assert short == "1 of 727 queries and 1 of 1 videos with another number of clips than 10"
    frame_folder(clips / "negative_clip_8", 1)
    assert load("Charades-STA", tmp_path).shortfall() == "1 of 727 queries"


# Candidates that failed.


def scored(right: int, failed: list[int], pool: list[int] | None = None) -> tuple[Any, dict[str, Any]]:
    """Ten candidates, a query nearest to number 0, then 1, ...; some of them failed."""
    candidates = np.array([[1 - 0.05 * i, 0.05 * i] for i in range(10)], np.float32)
    candidates[failed] = np.nan
    names = [str(i) for i in range(10)]
    rows = [Row("0", None if pool is None else [str(i) for i in pool], [str(right)], None)]
    import io

    written = io.BytesIO()
    found = score(np.array([[1, 0]], np.float32), rows, candidates, names, predictions=written)
    return found, json.loads(written.getvalue())


@pytest.mark.parametrize("pool", [None, [9, 8, 7, 3, 2, 1, 0]])
def test_failed_candidates_stay_in_the_pool_and_rank_last(pool: list[int] | None) -> None:
    whole, _ = scored(3, [], pool)
    found, written = scored(3, [0, 1], pool)
    assert sorted(written["prediction"]) == sorted(str(i) for i in pool or range(10))
    assert set(written["prediction"][-2:]) == {"0", "1"}
    assert written["scores"][-2:] == [None, None]
    assert found.scores["mrr@5"] == 1 / 2
    assert found.details["failed_candidates"] == 2
    assert found.details["queries_with_failed_candidates"] == 1
    # Had they come first, the score would not be above that of the whole pool.
    assert found.details["failed_candidates_first"]["mrr@5"] == whole.scores["mrr@5"] == 1 / 4


@pytest.mark.parametrize("pool", [None, [3, 2], [3]])
def test_a_right_candidate_that_failed_is_a_miss(pool: list[int] | None) -> None:
    found, written = scored(3, [3], pool)
    assert written["prediction"][-1] == "3"
    assert written["rank"] is None
    assert {found.scores[key] for key in ("hit@1", "hit@10", "recall@10", "mrr@10", "ndcg_linear@10")} == {0}
    everything, _ = scored(3, list(range(10)), pool)
    assert everything.scores["hit@10"] == 0


# Media that change.


@pytest.fixture
def started(tmp_path: Path) -> tuple[Path, Path]:
    """A data folder, and a run of it that is done."""
    write_classes(tmp_path / "data")
    out = tmp_path / "out"
    assert run(tmp_path / "data", out, "--tasks", "HatefulMemes") == 3
    return tmp_path / "data", out


def reason(capsys: pytest.CaptureFixture[str]) -> str:
    return next(line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: "))


def test_changed_media_are_noticed(started: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data, out = started
    image = data / "image-tasks/HatefulMemes/1.png"
    again = ("--tasks", "HatefulMemes")
    before, status = image.read_bytes(), image.stat()

    # Another time, the same content: refused, until the content is compared.
    os.utime(image, ns=(1, 1))
    assert run(data, out, *again) == 1
    assert "Media of HatefulMemes are not those" in reason(capsys)
    assert run(data, out, *again, "--verify") == 3
    assert run(data, out, *again) == 3

    # Another content of the same size and time: only --verify can tell.
    image.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    os.utime(image, ns=(1, 1))
    assert run(data, out, *again) == 3
    assert run(data, out, *again, "--verify") == 1
    assert "another content of '1' gave (queries, number 1)" in reason(capsys)

    # Another content altogether, and a file that is gone.
    write_image(image, 99, (56, 56))
    assert run(data, out, *again, "--retry-errors") == 1
    image.unlink()
    assert run(data, out, *again) == 1
    image.write_bytes(before)
    os.utime(image, ns=(status.st_atime_ns, 1))
    assert run(data, out, *again) == 3


def test_media_that_were_missing_can_be_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_classes(data)
    image = data / "image-tasks/HatefulMemes/1.png"
    content = image.read_bytes()
    image.unlink()
    assert run(data, out, "--tasks", "HatefulMemes") == 3
    assert "1 of 4 queries failed (a query that failed is a miss" in capsys.readouterr().err
    image.write_bytes(content)
    assert run(data, out, "--tasks", "HatefulMemes") == 1
    assert run(data, out, "--tasks", "HatefulMemes", "--retry-errors") == 3
    assert ResultFolder(out / "image/HatefulMemes").manifest()["failed"]["queries"] == 0


def test_media_that_change_during_the_run_are_noticed(tmp_path: Path) -> None:
    class Changing(NanoData):
        asked = 0

        def media_state(self) -> dict[str, Any]:
            self.asked += 1
            return {"files": self.asked}

    with pytest.raises(tte.InputError, match="changed while it was run"):
        run_dataset(Changing(tmp_path / "images", count=2), tmp_path / "out", system(None, "never"), progress=False)


def test_frames_pages_and_sizes_are_part_of_the_state(tree: Path) -> None:
    for name in ("K700", "QVHighlight", "MomentSeeker", "ViDoRe_docvqa", "MSCOCO_t2i", "NExTQA"):
        data = load(name, tree)
        state = data.media_state()
        assert state["files"] > 0
        assert state == load(name, tree).media_state()
    # The frames of a folder without folders of clips count as well.
    flat = 4 + 3 + 2 + 2
    assert load("QVHighlight", tree).media_state()["files"] == 20 + 8 + 3 + 8 + flat


def test_machines_with_media_of_other_times_merge(tmp_path: Path) -> None:
    outs = []
    for i in range(2):
        data = tmp_path / f"data{i}"
        write_classes(data)
        os.utime(data / "image-tasks/HatefulMemes/1.png", ns=(1, 1 + i))
        outs.append(tmp_path / f"out{i}")
        dataset = load("HatefulMemes", data)
        options = Options(block=1, shard=Shard(i, 2))
        assert run_dataset(dataset, outs[i], system(None, "never"), options=options, progress=False) is None
    assert [task.name for task, _ in merge(tmp_path / "all", outs).found] == ["HatefulMemes"]
    manifest = ResultFolder(outs[1] / "image/HatefulMemes")
    manifest.update(media={**manifest.manifest()["media"], "sizes": "other"})
    (failed, *_) = merge(tmp_path / "other", outs).failed
    assert failed[0] == "HatefulMemes"
    assert "media.sizes" in failed[1]


def test_errors_of_shards_are_input_errors() -> None:
    assert issubclass(layout.ShardsError, tte.InputError)


# Disks.


def test_a_full_disk_ends_the_run_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "data")
    write_classes(tmp_path / "data", "N24News")
    out, tasks = tmp_path / "out", ("--tasks", "HatefulMemes", "N24News")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # As the system says it: without a name.

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert run(tmp_path / "data", out, *tasks) == 1
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: the disk is full at '{out}/image/")
    assert "free some space and give the same command again" in error
    assert not list(out.rglob("*.tmp"))
    assert run(tmp_path / "data", out, *tasks) == 3
    assert len(list(out.glob("*/*/score.json"))) == 2


def test_a_folder_that_cannot_be_written_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(tmp_path / "data")
    write_classes(tmp_path / "data", "N24News")
    (tmp_path / "out" / "image").mkdir(parents=True)
    (tmp_path / "out" / "image" / "N24News").write_text("a file where the folder would be")
    assert run(tmp_path / "data", tmp_path / "out", "--tasks", "HatefulMemes", "N24News") == 3
    assert "N24News' cannot be used (" in reason(capsys)
    assert (tmp_path / "out/image/HatefulMemes/score.json").is_file()

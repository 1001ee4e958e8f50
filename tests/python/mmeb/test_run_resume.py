"""Stopped at any point, a run goes on to the very same scores; shards merge to them; other runs are refused."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from nano_data import NanoData, system
from tte.mmeb.run import run
from tte.mmeb.run.blocks import Shard
from tte.mmeb.run.manifest import ResultFolder
from tte.mmeb.run.run import TRACES, Options, merge, run_dataset

SCRIPT = Path(__file__).with_name("nano_data.py")
SMALL = Options(block=4)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    list(NanoData(folder).candidates())
    list(NanoData(folder).queries())
    return folder


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole")
    with tte.TraceStore(out / TRACES) as store:
        run_dataset(NanoData(images), out, system(store, "recipe"), options=SMALL, progress=False)
        yield out


def folder_of(out: Path) -> Path:
    return out / "image" / "Nano-image_ret"


def same_scores(one: Path, other: Path) -> None:
    for name in ("score.json", "predictions.jsonl", "details.json"):
        assert (folder_of(one) / name).read_bytes() == (folder_of(other) / name).read_bytes(), name
    for side in ("queries", "candidates"):
        vectors = [np.load(folder_of(out) / f"{side}.npy") for out in (one, other)]
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPT), str(images), str(tmp_path), "recipe"]
    # Anywhere in the work: before the first block, between blocks, among the last files.
    for change in (2, 5, 9, 14, 20):
        killed = subprocess.run([*command, str(change)], stdout=subprocess.DEVNULL).returncode
        assert killed == -signal.SIGKILL, f"all was done before change {change}"
    subprocess.run(command, check=True)
    same_scores(tmp_path, whole)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (folder_of(tmp_path) / "parts").exists()


def test_kept_traces_are_not_written_again(whole: Path, images: Path, tmp_path: Path) -> None:
    with tte.TraceStore(whole / TRACES) as store:
        before = len(store)
        assert before > 8
        pair = system(store, "recipe")
        assert pair.reasoner is not None

        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("thought again")

        pair.reasoner = Silent(pair.reasoner, never)  # type: ignore[assignment]
        run_dataset(NanoData(images), tmp_path, pair, options=SMALL, progress=False)
        assert len(store) == before
    same_scores(tmp_path, whole)


class Silent:
    """A reasoner that must not think."""

    def __init__(self, reasoner: tte.Reasoner, never: Any) -> None:
        self.model = reasoner.model
        self._native = type("Native", (), {"think": never})()


@pytest.mark.parametrize("one_folder", [True, False])
def test_shards_merge_to_the_same_scores(images: Path, whole: Path, tmp_path: Path, one_folder: bool) -> None:
    outs = [tmp_path / "out" if one_folder else tmp_path / f"shard{i}" for i in range(3)]
    for i, out in enumerate(outs):
        out.mkdir(exist_ok=True)
        with tte.TraceStore(out / TRACES) as store:
            options = Options(block=4, shard=Shard(i, 3))
            pair = system(store, "recipe")
            assert run_dataset(NanoData(images), out, pair, options=options, progress=False) is None
        if i < 2:
            report = merge(tmp_path / "early", outs[: i + 1])
            assert len(report.failed) == 1
            assert "blocks are missing" in report.failed[0][1]
    report = merge(tmp_path / "out", [] if one_folder else outs)
    assert [task.name for task, _ in report.found] == ["Nano-image_ret"]
    same_scores(tmp_path / "out", whole)
    with tte.TraceStore(tmp_path / "out" / TRACES) as store, tte.TraceStore(whole / TRACES) as all_of_them:
        assert len(store) == len(all_of_them)


def test_what_is_done_is_not_done_again(whole: Path, images: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in folder_of(whole).rglob("*") if path.name != ".lock"}
    with tte.TraceStore(whole / TRACES) as store:
        run_dataset(NanoData(images), whole, system(store, "recipe"), options=SMALL, progress=False)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_results_of_another_run_are_refused(whole: Path, images: Path) -> None:
    data = NanoData(images)
    with tte.TraceStore(whole / TRACES) as store:
        pair = system(store, "recipe")
        with pytest.raises(
            tte.InputError, match=r"Nano-image_ret holds results of another run \(think recipe, now never"
        ):
            run_dataset(data, whole, system(None, "never"), progress=False)
        pair.truncate_dim = 16
        with pytest.raises(tte.InputError, match=r"truncate_dim none, now 16"):
            run_dataset(data, whole, pair, progress=False)
        pair.truncate_dim = None
        pair.decoding = {"max_new_tokens": 5}
        with pytest.raises(tte.InputError, match=r"decoding\.max_new_tokens none, now 5"):
            run_dataset(data, whole, pair, progress=False)
        pair.decoding = {}
        revised = NanoData(images)
        revised.revision = "2"
        with pytest.raises(tte.InputError, match=r"data\.fingerprint .*give another --out folder"):
            run_dataset(revised, whole, pair, progress=False)
        with pytest.raises(tte.InputError, match=r"data\.limit none, now 3"):
            run_dataset(NanoData(images), whole, pair, settings={"limit": 3}, progress=False)
        pair.embedder = tte.Embedder(pair.embedder.model.path, quantization="int8")
        with pytest.raises(tte.InputError, match=r"embedder\.quantization none, now int8"):
            run_dataset(data, whole, pair, progress=False)
    assert not (folder_of(whole) / "parts").exists()


def test_two_runs_in_one_folder_are_refused(images: Path, tmp_path: Path) -> None:
    data = NanoData(images)
    with ResultFolder(folder_of(tmp_path)).locked(shared=False), pytest.raises(tte.InputError, match="another run"):
        run_dataset(data, tmp_path, system(None, "never"), progress=False)


def test_damaged_blocks_are_named(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = NanoData(images)
    with monkeypatch.context() as patch:
        patch.setattr(run, "finish", lambda *_: {})
        run_dataset(data, tmp_path, system(None, "never"), options=SMALL, progress=False)
    part = ResultFolder(folder_of(tmp_path)).part_path("queries", 0)
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(tte.InputError, match=r"queries-0000000\.part is damaged"):
        run_dataset(data, tmp_path, system(None, "never"), options=SMALL, progress=False)
    part.unlink()
    found = run_dataset(data, tmp_path, system(None, "never"), options=SMALL, progress=False)
    assert found is not None
    assert found["num_data"] == 8


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "²/4", "1/", "-1/4", "1/4 ", "1/" + "9" * 5000, "x" * 5000])
def test_other_shards_are_refused(text: str) -> None:
    with pytest.raises(tte.InputError, match="shard is") as error:
        Shard.parse(text)
    assert len(str(error.value)) < 500

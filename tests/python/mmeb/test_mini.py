"""The miniature: what the models see of its files is what the generator drew and wrote."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from tte import _hub, nano
from tte.mmeb import load
from tte.mmeb.data.tasks import MINI_TASKS
from tte.mmeb.mini import layout as mini_layout
from tte.mmeb.mini import mini
from tte.nano.drafts import INSTRUCTIONS

pytest.importorskip("pyarrow")
COUNT = 11  # One more than a group that shares its pool.


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    mini_layout.write(folder, seed=5, count=COUNT)
    return folder


@pytest.fixture(scope="module")
def processor() -> tte.Processor:
    return tte.Processor(_hub.bundled("embedder"))


def seen(processor: tte.Processor, item: Any, **kwargs: Any) -> dict[str, Any]:
    return {key: np.asarray(value) for key, value in processor(item, **kwargs).items()}


def drawn(item: nano.Item) -> dict[str, Any]:
    """The generator's own item with its prompt as plain text: no preset of a recipe is needed."""
    parts: dict[str, Any] = {"text": item.prompt}
    if item.image is not None:
        parts = {"image": item.image, **parts}
    if item.video is not None:
        parts = {"video": list(item.video), **parts}
    return parts


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mini_layout, "_save", full)
    with pytest.raises(OSError, match="No space left") as error:
        mini_layout.write(tmp_path, seed=5, count=1)
    assert error.value.filename == str(tmp_path)


@pytest.mark.parametrize("task", nano.tasks())
def test_models_see_what_the_generator_made(data: Path, processor: tte.Processor, task: str) -> None:
    dataset = load(mini_layout.NAMES[task], data, extra_tasks=[MINI_TASKS])
    assert dataset.task.family == task
    samples = nano.generate(task, 5, COUNT)
    queries = list(dataset.queries())
    entries = {entry.name: entry for entry in dataset.candidates()}
    assert dataset.num_queries == len(queries) == COUNT
    assert dataset.num_candidates == len(entries)
    for index in (0, COUNT - 1):
        query, sample = queries[index], samples[index]
        assert query.candidates is not None
        assert len(query.candidates) == len(sample.candidates)
        assert len(query.labels) == 1
        wanted = [sample.candidates[sample.label], *(c for i, c in enumerate(sample.candidates) if i != sample.label)]
        assert query.labels[0] in query.candidates
        if task in ("video_cls", "video_qa"):  # Options keep their order; elsewhere the right one is the first.
            wanted = list(sample.candidates)
            assert entries[query.labels[0]].text == sample.candidates[sample.label].text
        elif task == "video_mret":  # Folders in natural order: negative_clip_1, ..., positive.
            wanted = [*wanted[1:], wanted[0]]
            assert query.candidates[-1] == query.labels[0]
        else:
            assert query.candidates[0] == query.labels[0]
        pairs = [(query.entry, sample.query, "query")]
        pairs += [(entries[name], item, "target") for name, item in zip(query.candidates[:4], wanted[:4], strict=True)]
        for entry, item, side in pairs:
            ours = seen(processor, entry.item(), stage="embed", task=task, side=side)
            theirs = seen(processor, drawn(item), stage="embed")
            assert ours.keys() == theirs.keys()
            for key, value in theirs.items():
                np.testing.assert_array_equal(ours[key], value, err_msg=f"{entry.name}: {key}")


def test_queries_of_a_group_share_their_images(data: Path) -> None:
    dataset = load("Mini-ImageRet", data, extra_tasks=[MINI_TASKS])
    pools = [set(query.candidates or ()) for query in dataset.queries()]
    assert all(pool == pools[0] for pool in pools[:10])
    assert not pools[0] & pools[10]


def test_writing_again_keeps_what_is_there(data: Path) -> None:
    table = data / "image-tasks/data/MMEB-Mini/Mini-ImageQA/test-00000-of-00001.parquet"
    before = table.stat().st_mtime_ns
    mini_layout.write(data, seed=5, count=COUNT)
    assert table.stat().st_mtime_ns == before


def test_an_interrupted_data_set_is_written_again(tmp_path: Path) -> None:
    part = tmp_path / ".mini" / "Mini-ImageCls.part" / "image-tasks"
    part.mkdir(parents=True)
    (part / "half").write_text("x")
    mini_layout.write(tmp_path, seed=0, count=2, tasks=["image_cls"])
    assert not part.exists()
    assert load("Mini-ImageCls", tmp_path, extra_tasks=[MINI_TASKS]).num_queries == 2


def test_same_seed_gives_same_data_and_another_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        mini_layout.write(tmp_path / name, seed=1, count=3, tasks=["visdoc"])
    stamps = [json.loads((tmp_path / name / ".mini" / "Mini-VisDoc.json").read_text()) for name in "ab"]
    assert stamps[0] == stamps[1]
    with pytest.raises(tte.InputError, match="holds the miniature of seed 1 with 3 queries a task, not of seed 2"):
        mini_layout.write(tmp_path / "a", seed=2, count=3)


def direct_ranks(task: str, samples: list[nano.Sample], *, think: bool) -> list[int]:
    """Rank of the right candidate of each query, without any file: the generator's items in one call."""
    embedder = tte.Embedder(_hub.bundled("embedder" if think else "embedder-no-think"))
    reasoner = tte.Reasoner(_hub.bundled("reasoner"))
    items, sides, places = [], [], []
    for sample in samples:
        start = len(items)
        items += [drawn(sample.query), *(drawn(candidate) for candidate in sample.candidates)]
        sides += ["query", *["target"] * len(sample.candidates)]
        places.append(start)
    for item in items:  # The presets of the recipe have the instructions.
        if item["text"] in INSTRUCTIONS:
            del item["text"]
    found = tte.think_then_embed(
        items, reasoner=reasoner, embedder=embedder, think="recipe" if think else False, task=task, side=sides,
        progress=False,
    ).embeddings  # fmt: skip
    ranks = []
    for start, sample in zip(places, samples, strict=True):
        scores = found[start + 1 : start + 1 + len(sample.candidates)].astype(np.float64) @ found[start]
        ranks.append(int((scores > scores[sample.label]).sum()) + 1)
    return ranks


def test_the_whole_way_gives_what_direct_calls_give(tmp_path: Path) -> None:
    names, modes = ["image_vg", "visdoc"], ["think", "no-think"]
    outcome = mini.run(tmp_path, 3, 4, tasks=names, modes=modes, progress=False)
    for task in names:
        modality = "visdoc" if task == "visdoc" else "image"
        samples = nano.generate(task, 3, 4)
        for mode in modes:
            folder = tmp_path / "seed-3" / "results" / mode / modality / mini_layout.NAMES[task]
            rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
            ranks = [row["rank"] for row in rows]
            assert ranks == direct_ranks(task, samples, think=mode == "think")
            assert outcome.hits[mode][mini_layout.NAMES[task]] == 100 * ranks.count(1) / 4
    text = outcome.page.read_text(encoding="utf-8")
    assert "MMEB-V2 in miniature" in text
    assert "data:image/webp" in text
    scores = {path: path.read_bytes() for path in tmp_path.rglob("score.json")}
    again = mini.run(tmp_path, 3, 4, tasks=names, modes=modes, progress=False)
    assert again.hits == outcome.hits
    assert scores == {path: path.read_bytes() for path in tmp_path.rglob("score.json")}
    assert mini.table([again]).count("|\n") == 3


def test_unknown_task_and_count(capsys: pytest.CaptureFixture[str]) -> None:
    from tte.mmeb.cli import main

    assert main(["mini", "--tasks", "chess"]) == 2
    assert "There is no task 'chess' in miniature" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["mini", "--seed", "0", "-1"])
    assert ended.value.code == 2
    assert "argument --seed: it is -1: it must be a whole number, from 0" in capsys.readouterr().err


def test_the_data_folder_says_what_its_tasks_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tte.mmeb.cli import main

    options = ["mini", "--out", str(tmp_path), "--data-only", "--count", "2", "--tasks"]
    folder = tmp_path / "seed-0" / "data"
    for added, names in (("image_cls", ["Mini-ImageCls"]), ("visdoc", ["Mini-ImageCls", "Mini-VisDoc"])):
        assert main([*options, added]) == 0
        assert capsys.readouterr().out.strip() == f"python -m tte.mmeb check --data {folder}"
        assert main(["check", "--data", str(folder), "--json"]) == 0
        assert [report["name"] for report in json.loads(capsys.readouterr().out)] == names
    assert main(["check", "--data", str(folder), "--extra-tasks", str(MINI_TASKS), "--tasks", "Mini-VisDoc"]) == 0
    assert main(["mini", "--out", str(tmp_path), "--data-only", "--count", "3"]) == 2
    assert "holds the miniature of seed 0 with 2 queries a task" in capsys.readouterr().err


def test_pyarrow_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from tte.mmeb.cli import main

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["mini", "--out", str(tmp_path / "out")]) == 2
    assert "parquet needs pyarrow, which is not installed: pip install pyarrow" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

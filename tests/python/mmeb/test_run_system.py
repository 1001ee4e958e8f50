"""What is run on a block: who is reasoned about, where traces come from, what a bad item does."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tte
from nano_data import NanoData, system
from tte import _hub, _options
from tte.mmeb.data.loaders import Source
from tte.mmeb.data.types import Entry
from tte.mmeb.run.embed import System
from tte.mmeb.run.run import Options, run_dataset, run_tasks, setup
from tte.mmeb.run.traces import write_traces

QUESTIONS = ["what is left of the red circle ?", "how many 3 ?", "what is above the blue star ?"]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with tte.TraceStore(tmp_path / "traces.sqlite") as store:
        yield store


def texts(*values: str) -> list[Entry]:
    return [Entry(str(i), "", value, prompt=value) for i, value in enumerate(values)]


def go(pair: System, entries: list[Entry], side: Any = "query", family: str = "image_qa") -> list[Any]:
    return pair.run(entries, [f"item {entry.name}" for entry in entries], family=family, side=side)


@pytest.mark.parametrize(
    ("think", "query", "target", "label"),
    [
        ("never", False, False, False),
        ("always", True, True, True),
        ("queries", True, False, False),
        ("recipe", True, True, False),
    ],
)
def test_who_is_thought_about(store: tte.TraceStore, think: Any, query: bool, target: bool, label: bool) -> None:
    pair = system(store, think)
    assert pair.thinks("image_ret", "query") is query
    assert pair.thinks("image_ret", "target") is target
    assert pair.thinks("image_cls", "target") is label
    found = go(pair, texts(QUESTIONS[0]))
    assert (found[0].trace is not None) is query
    assert len(store) == int(query)


def test_vectors_and_traces_are_those_of_the_single_call(store: tte.TraceStore) -> None:
    pair = system(store, "always")
    assert pair.embedder is not None
    fresh = go(pair, texts(*QUESTIONS))
    kept = go(pair, texts(*QUESTIONS))
    result = tte.think_then_embed(
        [{"text": text} for text in QUESTIONS],
        reasoner=pair.reasoner, embedder=pair.embedder, task="image_qa", progress=False,
    )  # fmt: skip
    for i, outcome in enumerate(fresh):
        trace = result.traces[i]
        assert trace is not None
        assert outcome.trace == kept[i].trace == trace.text
        assert outcome.tokens == len(trace.token_ids)
        np.testing.assert_allclose(outcome.vector, result.embeddings[i], atol=1e-6)
        np.testing.assert_allclose(kept[i].vector, result.embeddings[i], atol=1e-6)
        assert kept[i].think_seconds == outcome.think_seconds > 0
        assert outcome.row()["seconds"] == outcome.think_seconds + outcome.embed_seconds


def test_equal_items_are_run_once(store: tte.TraceStore) -> None:
    found = go(system(store, "always"), texts(QUESTIONS[0], QUESTIONS[1], QUESTIONS[0]))
    assert len(store) == 2
    assert found[0] == found[2]
    np.testing.assert_array_equal(found[0].vector, found[2].vector)


def test_a_bad_item_has_an_error_and_touches_no_other(store: tte.TraceStore, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nno image")
    good = texts(QUESTIONS[0])[0]
    entries = [good, Entry("1", "", "", (tmp_path / "gone.png",)), Entry("2", "", "", (broken,))]
    entries.append(Entry("3", "", "", error="its frames are missing"))
    for think in ("always", "never"):
        found = go(system(store, think), entries)
        assert [outcome.error is None for outcome in found] == [True, False, False, False]
        assert "gone.png cannot be read" in found[1].error
        assert "broken.png" in found[2].error
        assert "its frames are missing" in found[3].error
        assert all(outcome.vector is None and outcome.trace is None for outcome in found[1:])
        np.testing.assert_allclose(found[0].vector, go(system(store, think), [good])[0].vector, atol=1e-6)


def test_a_recipe_without_the_task_is_passed_none(store: tte.TraceStore, tmp_path: Path) -> None:
    embedder = tte.Embedder(_hub.bundled("embedder"), recipe="raw")
    reasoner = tte.Reasoner(_hub.bundled("reasoner"))
    pair = System(embedder, reasoner, store, "always")
    assert pair.notes("image_qa") == [
        "the embedder's recipe has no preset for the task image_qa: no task is passed to it"
    ]
    assert len(pair.notes("other")) == 2
    items = [{"text": text} for text in QUESTIONS]
    traces = reasoner.think(items, task="image_qa", progress=False)
    found = go(pair, texts(*QUESTIONS))
    assert [outcome.trace for outcome in found] == [trace.text for trace in traces]
    vectors = embedder.embed(items, traces, progress=False)
    np.testing.assert_allclose(np.stack([outcome.vector for outcome in found]), vectors, atol=1e-6)


def test_what_a_recipe_leaves_out_by_null_is_absent(store: tte.TraceStore, tmp_path: Path) -> None:
    keys = ("tasks", "instruction", "trace", "decoding", "benchmark_prompts", "dims", "description")
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "little", **dict.fromkeys(keys)}))
    reasoner = tte.Reasoner(_hub.bundled("reasoner"), recipe=tmp_path / "recipe.json")
    embedder = tte.Embedder(_hub.bundled("embedder"), recipe=tmp_path / "recipe.json")
    pair = System(embedder, reasoner, store, "recipe")
    assert len(pair.notes("image_qa")) == 2
    assert pair.thinks("image_qa", "query")
    assert _options.rules(embedder.model.recipe) == {"name": "little"}
    assert tte.Reranker(reasoner)._thought(tte.Trace("a")).text == "a</think>"


def test_what_contradicts_itself_is_refused(store: tte.TraceStore) -> None:
    embedder = tte.Embedder(_hub.bundled("embedder"))
    with pytest.raises(tte.InputError, match="there is no reasoner"):
        System(embedder, None, store, "always")
    with pytest.raises(tte.InputError, match="there is no trace store"):
        System(embedder, tte.Reasoner(_hub.bundled("reasoner")), None, "always")
    with pytest.raises(tte.InputError, match="think is 'sometimes'"):
        System(embedder, think="sometimes")  # type: ignore[arg-type]


def test_failed_items_are_misses_and_can_be_run_again(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    data = NanoData(images, count=4)
    paths = [query.entry.images[0] for query in data.queries() if query.entry.images]
    good = paths[0].read_bytes()
    paths[0].write_bytes(b"\x89PNG\r\n\x1a\nno image")
    pair, small = system(None, "never"), Options(block=3)
    first = run_dataset(data, out, pair, options=small, progress=False)
    folder = out / "image" / data.task.name
    manifest = json.loads((folder / "manifest.json").read_bytes())
    table = pq.read_table(folder / "queries.parquet").to_pylist()
    failed = [row for row in table if row["error"]]
    assert manifest["failed"]["queries"] == manifest["totals"]["queries"]["errors"] == len(failed) > 0
    assert failed[0]["error"].startswith(f"Nano-image_ret, query '{failed[0]['id']}'")
    assert np.isnan(np.load(folder / "queries.npy")[int(failed[0]["id"])]).all()
    again = run_dataset(data, out, pair, options=small, progress=False)
    assert again == first
    paths[0].write_bytes(good)
    retried = run_dataset(data, out, pair, options=Options(block=3, retry_errors=True), progress=False)
    clean = run_dataset(NanoData(images, count=4), tmp_path / "clean", pair, options=small, progress=False)
    assert retried == clean != first
    assert not (folder / "parts").exists()


def test_result_files(tmp_path: Path, store: tte.TraceStore) -> None:
    data = NanoData(tmp_path / "images", count=4, local=False)
    found = run_dataset(data, tmp_path / "out", system(store, "recipe"), options=Options(block=3), progress=False)
    folder = tmp_path / "out" / "image" / data.task.name
    assert found is not None
    assert json.loads((folder / "score.json").read_bytes()) == found
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["status"] == "scored"
    assert manifest["think"] == "recipe"
    assert manifest["score"] == found["hit@1"]
    assert manifest["ties"].keys() == {"queries", "optimistic", "pessimistic"}
    queries, candidates = (np.load(folder / f"{side}.npy") for side in ("queries", "candidates"))
    assert queries.dtype == candidates.dtype == np.float32
    tables = {side: pq.read_table(folder / f"{side}.parquet").to_pylist() for side in ("queries", "candidates")}
    assert [row["id"] for row in tables["queries"]] == ["0", "1", "2", "3"]
    assert [row["name"] for row in tables["candidates"]] == [entry.name for entry in data.candidates()]
    assert len(queries) == 4
    assert len(candidates) == len(tables["candidates"]) == data.num_candidates
    row = tables["queries"][1]
    assert row["candidates"] is None
    assert row["labels"] == ["1:0"]
    assert row["trace"]
    assert row["tokens"] > 0
    assert row["seconds"] > 0
    # Equal items have equal vectors, so they tie exactly.
    by_key: dict[str, list[int]] = {}
    for i, candidate in enumerate(tables["candidates"]):
        by_key.setdefault(candidate["key"], []).append(i)
    assert all((candidates[places] == candidates[places[0]]).all() for places in by_key.values())


def test_traces_ahead_of_time_are_those_of_the_run(tmp_path: Path, store: tte.TraceStore) -> None:
    data = NanoData(tmp_path / "images", count=3)
    pair = system(store, "recipe")
    ahead = System(None, pair.reasoner, store, "recipe")
    thought, failed = write_traces(data, ahead, block=5, progress=False)
    assert (thought, failed) == (data.num_queries + data.num_candidates, 0)
    count = len(store)
    run_dataset(data, tmp_path / "out", pair, options=Options(block=4), progress=False)
    assert len(store) == count
    assert write_traces(data, ahead, block=7, progress=False) == (thought, 0)
    assert len(store) == count


def test_data_that_are_missing_leave_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = NanoData(tmp_path / "images", count=3)

    def load(self: Source, task: Any) -> NanoData:
        if task.name == "gone":
            raise tte.InputError("gone: its table is not there.")
        return data

    monkeypatch.setattr(Source, "load", load)
    tasks: Any = [SimpleNamespace(name="gone", family="image_ret"), data.task]
    with caplog.at_level(logging.INFO, "tte.mmeb"):
        report = run_tasks(tasks, Source(tmp_path), tmp_path / "out", system(None, "never"), progress=False)
    assert [reason for _, reason in report.failed] == ["its table is not there."]
    assert [task.name for task, _ in report.found] == ["Nano-image_ret"]
    assert "gone is left out: its table is not there." in caplog.text
    averages = json.loads((tmp_path / "out" / "averages.json").read_bytes())
    assert averages["scores"].keys() == {"Nano-image_ret"}
    with pytest.raises(tte.InputError, match="not there"):
        run_tasks(tasks, Source(tmp_path), tmp_path / "out", system(None, "never"), strict=True, progress=False)


@pytest.mark.parametrize(
    ("given", "embedder", "reasoner", "taken", "warnings"),
    [
        (None, "vlm2vec", "vlm2vec", "vlm2vec", []),
        (None, "vlm2vec", None, "vlm2vec", []),
        (None, None, "vlm2vec", "vlm2vec", []),
        (None, "vlm2vec", "plain", "vlm2vec", ["--prompt-style vlm2vec too"]),
        ("plain", "vlm2vec", "plain", "plain", []),
        ("vlm2vec", "plain", None, "vlm2vec", ["adds words of its own"]),
    ],
)
def test_prompt_style(
    given: str | None,
    embedder: str | None,
    reasoner: str | None,
    taken: str,
    warnings: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def model(style: str | None) -> Any:
        recipe = json.dumps({"name": "one", "benchmark_prompts": style})
        return None if style is None else SimpleNamespace(model=SimpleNamespace(recipe=recipe))

    pair: Any = SimpleNamespace(embedder=model(embedder), reasoner=model(reasoner))
    arguments: Any = SimpleNamespace(
        prompt_style=given, limit=None, data=tmp_path, num_frames=None, extra_tasks=[], tasks=None,
        strip_stray_tokens=False,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "tte.mmeb"):
        assert setup.source(arguments, pair).style == taken
    assert len(caplog.messages) == len(warnings)
    assert all(part in message for part, message in zip(warnings, caplog.messages, strict=True))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"decoding": {"max_new_tokens": -3}}, "max_new_tokens"),
        ({"decoding": {"temperature": -1.0}}, "temperature"),
        ({"truncate_dim": 7777}, "truncate_dim is 7777"),
        ({"truncate_dim": 0}, "truncate_dim is 0"),
    ],
)
def test_options_are_checked_before_anything_is_written(options: dict[str, Any], reason: str) -> None:
    embedder = system(None, "never").embedder
    with pytest.raises(tte.InputError, match=reason):
        System(embedder, **options)


def test_failed_items_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = NanoData(tmp_path / "images", count=3)
    next(iter(data.queries())).entry.images[0].write_bytes(b"no image")
    source: Any = SimpleNamespace(load=lambda task: data, num_frames=None, limit=None, stray_tokens=True)
    with caplog.at_level(logging.WARNING, "tte.mmeb"):
        run_tasks([data.task], source, tmp_path / "out", system(None, "never"), progress=False)
    assert "1 of " in caplog.text
    assert "--retry-errors" in caplog.text


@pytest.mark.parametrize("name", ["queries.npy", "candidates.npy", "queries.parquet", "candidates.parquet"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_complete_folder_that_was_damaged_is_refused(tmp_path: Path, name: str, cut: bool) -> None:
    data = NanoData(tmp_path / "images", count=3)
    run_dataset(data, tmp_path / "out", system(None, "never"), progress=False)
    (file,) = (tmp_path / "out").glob(f"*/*/{name}")
    if cut:
        file.write_bytes(file.read_bytes()[:-40])
    else:
        file.unlink()
    with pytest.raises(tte.InputError, match=f"{name} cannot be read.*run again"):
        run_dataset(data, tmp_path / "out", system(None, "never"), progress=False)

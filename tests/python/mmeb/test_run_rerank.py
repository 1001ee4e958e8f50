"""The best candidates of each query, judged one by one: the order is the judge's, stopped or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tte
from make_tree import IMAGE_REPO, image_row, parquet, write_image
from nano_data import NanoData, system
from tte import _hub
from tte.mmeb.cli import main
from tte.mmeb.run.manifest import ResultFolder
from tte.mmeb.run.rerank import Judge, rerank
from tte.mmeb.run.run import Options, run_dataset
from tte.mmeb.score.metrics import query_scores


@pytest.fixture(scope="module")
def reranker() -> tte.Reranker:
    return tte.Reranker(tte.Reasoner(_hub.bundled("reasoner")), labels=[" red", " blue"])


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[NanoData, ResultFolder]:
    data = NanoData(tmp_path_factory.mktemp("images"), "image_qa", count=5)
    out = tmp_path_factory.mktemp("out")
    run_dataset(data, out, system(None, "never"), options=Options(block=4), progress=False)
    return data, ResultFolder(out / "image" / data.task.name)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_order_is_the_judges(scored: tuple[NanoData, ResultFolder], reranker: tte.Reranker) -> None:
    data, folder = scored
    values = rerank(data, folder, Judge(reranker, top=4))
    before, after = (lines(folder.path / f"{name}.jsonl") for name in ("predictions", "reranked"))
    entries = {entry.name: entry for entry in data.candidates()}
    hits = []
    for query, old, new in zip(data.queries(), before, after, strict=True):
        first = old["prediction"][:4]
        items = [{"text": entries[name].text} for name in first]
        asked = {"images": list(query.entry.images), "text": query.entry.text or query.entry.prompt}
        scores = reranker.score(asked, items, progress=False)
        order = sorted(range(4), key=lambda i: -scores[i])
        assert new["prediction"] == [*(first[i] for i in order), *old["prediction"][4:]]
        assert new["scores"] == pytest.approx([scores[i] for i in order], abs=1e-5)
        hits.append(query_scores(new["prediction"][:10], query.labels)["hit@1"])
    assert values["hit@1"] == pytest.approx(sum(hits) / 5)
    assert values == json.loads((folder.path / "reranked.json").read_text())
    assert values["reranker"]["top"] == 4
    assert values["reranker"]["rule"]["labels"] == [" red", " blue"]


def test_a_run_that_ends_early_goes_on(
    scored: tuple[NanoData, ResultFolder], reranker: tte.Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = scored
    whole = rerank(data, folder, Judge(reranker, top=3))
    judged: list[Any] = []
    score = tte.Reranker.score

    def until(count: int) -> None:
        def limited(self: tte.Reranker, query: Any, documents: Any, **options: Any) -> Any:
            if len(judged) == count:
                raise KeyboardInterrupt
            judged.append(query)
            return score(self, query, documents, **options)

        monkeypatch.setattr(tte.Reranker, "score", limited)

    until(2)
    with pytest.raises(KeyboardInterrupt):
        rerank(data, folder, Judge(reranker, top=3))
    part = folder.path / "reranking.jsonl"
    part.write_bytes(part.read_bytes() + b'{"query": 2, "sco')  # It ended while it wrote.
    until(100)
    assert rerank(data, folder, Judge(reranker, top=3)) == whole
    assert len(judged) == 5
    assert not part.exists()
    judged.clear()
    until(2)
    with pytest.raises(KeyboardInterrupt):
        rerank(data, folder, Judge(reranker, top=3))
    until(100)
    other = rerank(data, folder, Judge(reranker, top=2))
    assert len(judged) == 2 + 5, "what another rule has judged is judged again"
    assert other["reranker"]["top"] == 2


def test_no_trace_of_a_run_that_ends_early_is_written_again(
    scored: tuple[NanoData, ResultFolder], reranker: tte.Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = scored
    judge = Judge(tte.Reranker(reranker.reasoner, labels=[" red", " blue"], think=True), top=2)
    put, kept = tte.TraceStore.put, []

    def until(count: int) -> None:
        def limited(self: tte.TraceStore, request: Any, trace: tte.Trace, **options: Any) -> bool:
            if len(kept) == count:
                raise KeyboardInterrupt
            kept.append(request.key)
            return put(self, request, trace, **options)

        monkeypatch.setattr(tte.TraceStore, "put", limited)

    until(3)
    with pytest.raises(KeyboardInterrupt):
        rerank(data, folder, judge)
    until(100)
    values = rerank(data, folder, judge)
    assert len(kept) == len(set(kept)) == 10
    assert not list(folder.path.glob("reranking.*"))
    assert rerank(data, folder, judge) == values

    def full(*arguments: Any, **options: Any) -> bool:
        raise tte.InputError("the disk is full: free some space.")

    monkeypatch.setattr(tte.TraceStore, "put", full)
    with pytest.raises(tte.InputError, match="disk is full"):
        rerank(data, folder, judge)


def test_only_what_is_scored_is_reranked(
    scored: tuple[NanoData, ResultFolder], reranker: tte.Reranker, tmp_path: Path
) -> None:
    data, _ = scored
    options = Options(block=4, judge=Judge(reranker, top=1))
    values = run_dataset(data, tmp_path, system(None, "never"), options=options, progress=False)
    assert values is not None
    assert values["reranked"]["hit@1"] == values["hit@1"], "the first alone stays the first"
    folder = ResultFolder(tmp_path / "image" / data.task.name)
    folder.update(status="embedded")
    with pytest.raises(tte.InputError, match="is not scored"):
        rerank(data, folder, Judge(reranker))
    assert replace(options, judge=None) == Options(block=4)


def test_the_command_prints_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    words = ["red circle", "blue star", "green square"]
    rows = []
    for i in range(3):
        write_image(data / "image-tasks" / "GQA" / f"{i}.png", 20 * i, (56, 56))
        rows.append(image_row("find it: ", f"what is {i} ?", f"GQA/{i}.png", "", words, [""] * 3))
    parquet(data / IMAGE_REPO / "GQA" / "test-00000-of-00001.parquet", rows)
    command = ["run", "--data", str(data), "--embedder", "nano", "--tasks", "GQA", "--out", str(tmp_path / "out")]
    assert main([*command, "--rerank-think"]) == 2
    assert "--rerank-think is given without --rerank" in capsys.readouterr().err
    assert main([*command, "--limit", "3", "--rerank", "nano", "--top", "2"]) == 0
    assert "\nreranked:\nGQA" in capsys.readouterr().out
    (found,) = tmp_path.glob("out/image/GQA/reranked.json")
    assert json.loads(found.read_text())["num_data"] == 3

"""Reranking: the best candidates of each query of a scored data set, judged one by one.

Beside the files of a result folder there are then

    reranked.jsonl   rankings: the candidates that were judged, best first, then the others as they were
    reranked.json    the benchmark's metrics of these, and what judged them
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tte import _content, _files, _items, _tte, trace_store
from tte._rerank import Reranker
from tte.mmeb.data.types import Dataset, Entry, Query
from tte.mmeb.run.manifest import ResultFolder, again, write_json
from tte.mmeb.score import metrics
from tte.trace_store import TraceStore


@dataclass(frozen=True)
class Judge:
    """What judges, and how many candidates of each query."""

    reranker: Reranker
    top: int = 20
    """0: all that the ranking has."""

    def identity(self) -> dict[str, Any]:
        """Everything that changes what it says."""
        model = self.reranker.reasoner.model
        return {
            "model": _content.run_identity(model),
            "rule": self.reranker.rule,
            "top": self.top,
        }


def rerank(dataset: Dataset, folder: ResultFolder, judge: Judge) -> dict[str, Any]:
    """Judge the best candidates of every query; goes on where it was.

    Returns:
        The content of `reranked.json`: metrics, and under "reranker" what judged.

    Raises:
        InputError: the folder is not scored.

    """
    manifest = folder.manifest()
    if manifest["status"] != "scored":
        raise _tte.InputError(f"{folder.path} is not scored: run or score it before it is reranked.")
    identity = {**judge.identity(), "ranking": manifest["checksums"]["predictions.jsonl"]}
    done = _Done(folder.path / "reranking.jsonl", identity)
    rankings = folder.path / "predictions.jsonl"
    ranked = list(_files.json_lines(rankings, str(rankings), again(rankings)))
    chosen = [row["prediction"][: judge.top or None] for row in ranked]
    wanted = {name for i, names in enumerate(chosen) if i not in done.scores for name in names}
    entries = {entry.name: entry for entry in dataset.candidates() if entry.name in wanted}
    traces = folder.path / "reranking.sqlite"
    with TraceStore(traces) if judge.reranker.rule["think"] else nullcontext() as store:
        for index, (query, names) in enumerate(zip(dataset.queries(), chosen, strict=True)):
            if names and index not in done.scores:
                done.add(index, _judged(judge.reranker, query, [entries[name] for name in names], store))
    values = _finish(folder, ranked, chosen, done, identity)
    trace_store.remove(traces)
    return values


def _judged(reranker: Reranker, query: Query, entries: list[Entry], store: TraceStore | None) -> list[float | None]:
    """Scores of a query's candidates; None for those that cannot be judged, and for all where the query cannot."""
    try:
        documents = [_item(entry) for entry in entries]
        item = _item(query.entry)
        if query.entry.instruction:
            item["instruction"] = query.entry.instruction
        asked = _items.read(item, "the query")
    except _tte.InputError:
        return [None] * len(entries)
    scores = reranker.score(asked, documents, on_error="skip", progress=False, store=store)
    return [None if np.isnan(score) else float(score) for score in scores]


def _item(entry: Entry) -> dict[str, Any]:
    """An entry in the data's own words: the reranker's prompt has a place for the instruction."""
    media: dict[str, Any] = {}
    if entry.images:
        media["images"] = list(entry.images)
    if entry.video_frames:
        media["video"] = list(entry.video_frames)
    text = entry.text or ("" if media else entry.prompt)
    return {**media, "text": text} if text or not media else media


class _Done:
    """What was judged so far, in a file that grows by a line a query."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.scores: dict[int, list[float | None]] = {}
        lines = list(self._lines())
        if lines[:1] == [identity]:
            self.scores = {int(line["query"]): line["scores"] for line in lines[1:]}
        text = [identity, *({"query": query, "scores": scores} for query, scores in self.scores.items())]
        with _files.replacing(path) as file:  # Without a last line that was cut off.
            file.write("".join(f"{json.dumps(line)}\n" for line in text).encode())

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.path.is_file():
            try:
                yield from _files.json_lines(self.path, str(self.path), again(self.path))
            except _tte.InputError:  # The process ended while it wrote.
                return

    def add(self, query: int, scores: list[float | None]) -> None:
        self.scores[query] = scores
        with _files.writing(self.path), self.path.open("ab") as file:
            file.write(f"{json.dumps({'query': query, 'scores': scores})}\n".encode())


def _finish(
    folder: ResultFolder,
    ranked: list[dict[str, Any]],
    chosen: list[list[str]],
    done: _Done,
    identity: dict[str, Any],
) -> dict[str, Any]:
    rows = []
    with _files.replacing(folder.path / "reranked.jsonl") as file:
        for index, (row, names) in enumerate(zip(ranked, chosen, strict=True)):
            scores = done.scores.get(index, [])
            keys = [float("-inf") if score is None else score for score in scores]
            order = sorted(range(len(names)), key=lambda i: -keys[i])  # Stable: ties stay as they were ranked.
            prediction = [names[i] for i in order] + row["prediction"][len(names) :]
            labels, grades = metrics.unique_labels(row["label"], row["rel_scores"])
            # A candidate that failed to be embedded has no score, and is not found.
            found = {name for name, score in zip(row["prediction"], row["scores"], strict=True) if score is not None}
            first = [name if name in found else None for name in prediction[:10]]
            rows.append(metrics.query_scores(first, labels, grades))
            judged = [scores[i] for i in order]
            file.write((json.dumps({**row, "prediction": prediction, "scores": judged}) + "\n").encode())
    values = {**metrics.mean(rows), "num_data": len(rows), "reranker": identity}
    write_json(folder.path / "reranked.json", values)
    done.path.unlink()
    return values

"""Scores of embeddings: rankings, the benchmark's metrics, ties; the command `score`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte import _command, _extras, _files
from tte._tte import InputError
from tte.mmeb import metrics, pickles
from tte.mmeb.average import table
from tte.mmeb.manifest import (
    AGAIN,
    EMBEDDED,
    SCORED,
    SIDES,
    TASK_KEYS,
    ResultFolder,
    check_bytes,
    check_files,
    file_checksums,
    replacing,
    write_json,
)
from tte.mmeb.ranking import DEPTH, Pool, Ranked, rank
from tte.mmeb.tasks import Task, tasks

Relevance = Literal["correct", "reference"]
RELEVANCE: tuple[Relevance, ...] = ("correct", "reference")
"""Which grade a label has: its own, or the one that the reference harness gives it (`metrics.reference_labels`)."""
TOP = 100
"""How much of a ranking is written by default."""


@dataclass(frozen=True, slots=True)
class Row:
    """What scoring needs of a query."""

    name: str
    candidates: Sequence[str] | None
    """Its own pool in order; None: all candidates."""
    labels: Sequence[str]
    relevance: Sequence[float] | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one data set."""

    scores: dict[str, float | int]
    """What goes into `score.json`."""
    details: dict[str, Any]
    """Ties, errors, the other way of reading grades."""


def score(
    queries: NDArray[np.float32],
    rows: Sequence[Row],
    candidates: NDArray[np.float32],
    names: Sequence[str],
    *,
    relevance: Relevance = "correct",
    top: int = TOP,
    predictions: IO[bytes] | None = None,
) -> Scored:
    """Rank and score.

    Args:
        queries: float32 [N, D]; a row that is not finite is a query that failed: a miss.
        rows: one per query.
        candidates: float32 [M, D], may be a memory map; a row that is not finite is a candidate that failed: a wrong
            one ranks last, a right one is a miss.
        names: of the candidates.
        relevance: "correct" or "reference".
        top: how much of each ranking is written; 0: all of it.
        predictions: where the rankings go, one JSON object a line.

    Raises:
        InputError: sizes do not fit, or a pool has a name that is not among the candidates.

    """
    if len(queries) != len(rows) or len(candidates) != len(names) or queries.shape[1] != candidates.shape[1]:
        raise InputError(
            f"{len(queries)} query vectors of size {queries.shape[1]} for {len(rows)} queries and {len(candidates)} "
            f"candidate vectors of size {candidates.shape[1]} for {len(names)} names do not fit together."
        )
    index = {name: i for i, name in enumerate(names)}
    pool = Pool(candidates)
    usable = np.array([row.error is None for row in rows], bool) & np.isfinite(queries).all(axis=1)
    which: list[int] = np.flatnonzero(usable).tolist()
    ranked = pool.scores(queries[which], [_members(rows[i], index) for i in which])
    tally = _Tally(relevance)
    # What failed is no right candidate: it is never found, whatever its rank.
    right = {name: i for name, i in index.items() if pool.usable[i]}
    for i, row in enumerate(rows):
        found, failed = None, 0
        if usable[i]:
            members, values = next(ranked)
            found = rank(members, values, _grades(row, right), max(top, 10) if top else 0)
            failed = _failed_wrong(members, pool, {index[label] for label in row.labels if label in index})
        tally.add(row, found, right, failed)
        if predictions is not None:
            predictions.write((json.dumps(_prediction(row, found, names), ensure_ascii=False) + "\n").encode())
    return tally.result(failed_candidates=int((~pool.usable).sum()))


def _members(row: Row, index: dict[str, int]) -> NDArray[np.int64] | None:
    if row.candidates is None:
        return None
    try:
        return np.fromiter((index[name] for name in row.candidates), np.int64, len(row.candidates))
    except KeyError as error:
        raise InputError(
            f"query {row.name}: its candidate {str(error.args[0])[:80]!r} is not among those that were embedded."
        ) from None


def _failed_wrong(members: NDArray[np.int64], pool: Pool, labels: set[int]) -> int:
    """How many wrong candidates of a query failed."""
    failed = set(members[~pool.usable[members]].tolist())
    return len(failed - labels)


def _grades(row: Row, index: dict[str, int]) -> dict[int, float]:
    labels, grades = metrics.unique_labels(row.labels, row.relevance)
    values = [1.0] * len(labels) if grades is None else grades
    return {index[label]: grade for label, grade in zip(labels, values, strict=True) if label in index}


def _prediction(row: Row, found: Ranked | None, names: Sequence[str]) -> dict[str, Any]:
    return {
        "prediction": [] if found is None else [names[i] for i in found.top],
        "label": list(row.labels),
        "rel_scores": None if row.relevance is None else list(row.relevance),
        "id": row.name,
        "scores": [] if found is None else [round(v, 6) if math.isfinite(v) else None for v in found.scores],
        "rank": None if found is None else found.label_rank,
    }


class _Tally:
    """Scores query by query."""

    def __init__(self, relevance: Relevance) -> None:
        if relevance not in RELEVANCE:
            raise InputError(f"relevance is {relevance!r}: it must be one of {', '.join(RELEVANCE)}.")
        self.relevance = relevance
        self.correct: list[dict[str, float]] = []
        self.reference: list[dict[str, float]] = []
        self.optimistic: list[dict[str, float]] = []
        self.pessimistic: list[dict[str, float]] = []
        self.lowest: list[dict[str, float]] = []
        self.tied = self.failed = self.unreachable = self.shortened = 0

    def add(self, row: Row, found: Ranked | None, index: dict[str, int], failed: int = 0) -> None:
        """Score one query.

        Args:
            row: the query.
            found: its ranking; None: it failed, which is a miss.
            index: the candidates that did not fail, by name.
            failed: how many wrong candidates of its pool failed.

        """
        if found is None:
            self.failed += 1
            for rows in (self.correct, self.reference, self.optimistic, self.pessimistic, self.lowest):
                rows.append(dict.fromkeys(metrics.KEYS, 0.0))
            return
        # Labels by number; one that is no candidate keeps a number that no prediction has.
        numbers = {label: index.get(label, -1 - i) for i, label in enumerate(dict.fromkeys(row.labels))}
        self.unreachable += sum(number < 0 for number in numbers.values())
        labels, grades = metrics.unique_labels(row.labels, row.relevance)
        wanted = [numbers[label] for label in labels]
        correct = metrics.query_scores(found.top, wanted, grades)
        theirs, their_grades = metrics.reference_labels(row.labels, row.relevance)
        same = found.repeated == found.top[: len(found.repeated)] and (theirs, their_grades) == (labels, grades)
        self.correct.append(correct)
        self.reference.append(
            correct
            if same
            else metrics.query_scores(found.repeated, [numbers[label] for label in theirs], their_grades)
        )
        self.tied += found.tied
        self.shortened += failed > 0
        # As if what failed had come first: None stands for each.
        ahead = metrics.query_scores([*[None] * min(failed, DEPTH), *found.top], wanted, grades) if failed else correct
        self.lowest.append(ahead)
        for rows, first in ((self.optimistic, found.optimistic), (self.pessimistic, found.pessimistic)):
            rows.append(metrics.query_scores(first, wanted, grades) if found.tied else correct)

    def result(self, failed_candidates: int) -> Scored:
        """Means over the queries."""
        correct, reference = metrics.mean(self.correct), metrics.mean(self.reference)
        chosen = correct if self.relevance == "correct" else reference
        count = len(self.correct)
        details = {
            "relevance": self.relevance,
            "correct": correct,
            "reference": reference,
            "ties": {
                "queries": self.tied,
                "optimistic": metrics.mean(self.optimistic),
                "pessimistic": metrics.mean(self.pessimistic),
            },
            "failed_queries": self.failed,
            "failed_candidates": failed_candidates,
            "queries_with_failed_candidates": self.shortened,
            "failed_candidates_first": metrics.mean(self.lowest),
            "labels_without_candidate": self.unreachable,
        }
        return Scored({**chosen, "num_pred": count - self.failed, "num_data": count}, details)


def score_folder(path: Path, *, relevance: Relevance = "correct", top: int = TOP) -> Scored:
    """Score a result folder and write `predictions.jsonl`, `details.json` and, last, `score.json`.

    Raises:
        InputError: the folder's embeddings are not complete.

    """
    folder = ResultFolder(path)
    manifest = folder.manifest()
    if manifest["status"] == "embedding":
        raise InputError(f"{path} is not complete: run the rest of it, or merge its shards, before scoring.")
    queries, candidates = check_files(path, manifest)
    check_bytes(path, manifest, EMBEDDED)
    names = _column(path / "candidates.parquet", "name")
    with replacing(path / "predictions.jsonl") as predictions:
        found = score(
            queries, list(_rows(path / "queries.parquet")), candidates, names,
            relevance=relevance, top=top, predictions=predictions,
        )  # fmt: skip
    _write(path, found)
    metric = manifest["task"]["metric"]
    ties = found.details["ties"]
    folder.update(
        status="scored",
        checksums={**manifest["checksums"], **{name: file_checksums(path / name) for name in SCORED}},
        score=found.scores[metric],
        relevance=relevance,
        ties={
            "queries": ties["queries"],
            "optimistic": ties["optimistic"][metric],
            "pessimistic": ties["pessimistic"][metric],
        },
        failed={
            "queries": found.details["failed_queries"],
            "candidates": found.details["failed_candidates"],
            "queries_with_failed_candidates": found.details["queries_with_failed_candidates"],
            "score_with_these_first": found.details["failed_candidates_first"][metric],
        },
    )
    return found


def failures(manifest: Mapping[str, Any]) -> str:
    """One sentence about items that failed and what that does to the score; "" if none did."""
    totals, counts = manifest.get("totals", {}), manifest["counts"]
    failed = {side: int(totals.get(side, {}).get("errors", 0)) for side in SIDES}
    if not any(failed.values()):
        return ""
    parts = [f"{failed[side]} of {counts[side]} {side}" for side in reversed(SIDES) if failed[side]]
    about = manifest.get("failed", {})
    effect = "a query that failed is a miss, and so is a right candidate"
    if touched := int(about.get("queries_with_failed_candidates", 0)):
        effect += (
            f"; wrong candidates that failed rank last, which helps {touched} queries: had they come first, the score "
            f"would be {100 * float(about['score_with_these_first']):.2f}"
        )
    return f"{' and '.join(parts)} failed ({effect}); `report` lists them, `run --retry-errors` tries again"


def notes(manifest: Mapping[str, Any]) -> list[str]:
    """What is not whole in a data set's results, a sentence each; nothing if it can stand beside others'."""
    short = manifest.get("shortfall")
    told = [f"it has {short}: its score is not the benchmark's; `check` says what is missing"] if short else []
    return [*told, *filter(None, [failures(manifest)])]


def _write(path: Path, found: Scored) -> None:
    write_json(path / "details.json", found.details)
    write_json(path / "score.json", found.scores)


def _column(path: Path, name: str) -> list[str]:
    _, parquet = _extras.pyarrow()
    with _files.reading(path, AGAIN), parquet.ParquetFile(path) as file:
        return [value for batch in file.iter_batches(columns=[name]) for value in batch.column(0).to_pylist()]


def _rows(path: Path) -> Iterator[Row]:
    _, parquet = _extras.pyarrow()
    columns = ["id", "candidates", "labels", "relevance", "error"]
    interned: dict[str, str] = {}
    with _files.reading(path, AGAIN), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for row in batch.to_pylist():
                pool = row["candidates"]
                # Pools repeat the same names from row to row: kept once, not a million times.
                kept = None if pool is None else [interned.setdefault(name, name) for name in pool]
                yield Row(row["id"], kept, row["labels"], row["relevance"], row["error"])


def score_reference(folder: Path, task: Task, *, relevance: Relevance = "correct", top: int = TOP) -> Scored:
    """Score what the reference harness wrote for one data set: `<DS>_qry`, `<DS>_tgt`, `<DS>_info.jsonl`.

    Its pickles are read without running anything that is in them. Writes `<DS>/score.json` and the rest beside them.

    Raises:
        InputError: names the file that is missing or broken.

    """
    names, candidates = pickles.read_vectors(folder / f"{task.name}_tgt")
    queries = pickles.read_array(folder / f"{task.name}_qry")
    rows = list(_reference_rows(folder / f"{task.name}_info.jsonl", local=task.local))
    path = folder / task.name
    path.mkdir(exist_ok=True)
    with replacing(path / "predictions.jsonl") as predictions:
        found = score(queries, rows, candidates, names, relevance=relevance, top=top, predictions=predictions)
    _write(path, found)
    return found


def _reference_rows(path: Path, *, local: bool) -> Iterator[Row]:
    remedy = "write it again with the reference's evaluation"
    for number, found in enumerate(_files.json_lines(path, str(path), remedy)):
        with _files.reading(path, remedy):
            label = found["label_name"]
            labels = [str(name) for name in (label if isinstance(label, list) else [label])]
            pool = [str(name) for name in found["cand_names"]] if local else None
            grades = found.get("rel_scores")
            yield Row(str(number), pool, labels, None if grades is None else [float(grade) for grade in grades])


def result_folders(
    out: Path, names: Sequence[str] | None = None, damaged: list[tuple[Path, str]] | None = None
) -> list[tuple[Task, Path]]:
    """The result folders below `out` with the tasks that they are of, in the benchmark's order.

    Args:
        out: the --out folder of runs.
        names: names, categories or modalities; None: all.
        damaged: takes the folders whose manifest is damaged, with the error; None: it is raised.

    """
    order = {task.name: i for i, task in enumerate(tasks(["image", "video", "visdoc"]))}
    wanted = None if names is None else set(names)
    found = []
    for path in out.glob("*/*/manifest.json"):
        try:
            task = task_of(ResultFolder(path.parent).manifest())
        except InputError as error:
            if damaged is None:
                raise
            damaged.append((path.parent, str(error)))
            continue
        if wanted is None or wanted & {task.name, task.category, task.modality}:
            found.append((task, path.parent))
    return sorted(found, key=lambda pair: (order.get(pair[0].name, len(order)), pair[0].name))


def task_json(task: Task) -> dict[str, Any]:
    """What a manifest keeps of its task."""
    return {key: getattr(task, key) for key in TASK_KEYS}


def task_of(manifest: dict[str, Any]) -> Task:
    """The task of a manifest."""
    return Task(**{key: manifest["task"][key] for key in TASK_KEYS})


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the options of scoring to a command."""
    parser.add_argument(
        "--relevance",
        choices=RELEVANCE,
        default="correct",
        help="grades as the data have them, or as the reference harness mixes them up (details.json has both)",
    )
    parser.add_argument("--top", type=int, default=TOP, help="how much of each ranking is written; 0: all of it")


def add_score(subparsers: Any) -> None:
    """Add the command `score`."""
    parser = subparsers.add_parser(
        "score",
        help="score embeddings again, without a model",
        description="Score the embeddings of a result folder again: no model is needed.",
        epilog="example: python -m tte.mmeb score results/tte --relevance reference",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="the --out folder of `run`")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="names, categories or modalities; default: all")
    parser.add_argument(
        "--pickles",
        action="store_true",
        help="DIR/<modality>/ holds <DS>_qry, <DS>_tgt, <DS>_info.jsonl of the reference; nothing in them is run",
    )
    add_scoring(parser)
    parser.set_defaults(command=_score)


def _score(arguments: argparse.Namespace) -> int:
    options = {"relevance": arguments.relevance, "top": arguments.top}
    damaged: list[tuple[Path, str]] = []
    if arguments.pickles:
        known = tasks(arguments.tasks or ["image", "video", "visdoc"])
        places = [(t, arguments.out / t.modality) for t in known]
        places = [(t, folder) for t, folder in places if (folder / f"{t.name}_qry").exists()]
    else:
        places = result_folders(arguments.out, arguments.tasks, damaged)
    found: list[tuple[Task, float]] = []
    told: list[str] = []
    for task, path in places:
        try:
            if arguments.pickles:
                scored = score_reference(path, task, **options)
            else:
                folder = ResultFolder(path)
                with folder.locked(shared=False):
                    folder.clean()
                    scored = score_folder(path, **options)
                told += [f"{task.name}: {note}" for note in notes(folder.manifest())]
            found.append((task, float(scored.scores[task.metric])))
        except (InputError, OSError) as error:
            damaged.append((path, _command.told(error)))
    if not found and not damaged:
        raise InputError(f"{arguments.out} holds nothing to score: give the --out folder of a run.")
    if found:
        print_scores(found)
    for note in told:
        print(f"not whole: {note}", file=sys.stderr)
    for path, reason in damaged:
        print(f"left out: {path.name}: {reason}", file=sys.stderr)
    return 1 if not found else 3 if told or damaged else 0


def print_scores(found: Sequence[tuple[Task, float]]) -> None:
    """Print main metrics and averages, in percent."""
    width = max(len(task.name) for task, _ in found)
    for task, value in found:
        print(f"{task.name:<{width}}  {task.metric:<14} {100 * value:6.2f}")
    published = {task.name for task in tasks()}
    scores = {task.name: value for task, value in found}
    # The averages of the benchmark where any of it was run, else of what was run.
    over = None if published & scores.keys() else [task for task, _ in found]
    print(f"\n{table(scores, over)}")

"""Scores of embeddings: rankings, the benchmark's metrics, ties; the command `score`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte import _extras
from tte._tte import InputError
from tte.mmeb import metrics, pickles
from tte.mmeb.average import table
from tte.mmeb.manifest import SIDES, ResultFolder, replacing, write_json
from tte.mmeb.ranking import Pool, Ranked, rank
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
        candidates: float32 [M, D], may be a memory map; a row that is not finite is never ranked.
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
    for i, row in enumerate(rows):
        found = rank(*next(ranked), _grades(row, index), max(top, 10) if top else 0) if usable[i] else None
        tally.add(row, found, index)
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
        "scores": [] if found is None else [round(value, 6) for value in found.scores],
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
        self.tied = self.failed = self.unreachable = 0

    def add(self, row: Row, found: Ranked | None, index: dict[str, int]) -> None:
        """Score one query; None: it failed, which is a miss."""
        if found is None:
            self.failed += 1
            for rows in (self.correct, self.reference, self.optimistic, self.pessimistic):
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
            "labels_without_candidate": self.unreachable,
        }
        return Scored({**chosen, "num_pred": count, "num_data": count}, details)


def score_folder(path: Path, *, relevance: Relevance = "correct", top: int = TOP) -> Scored:
    """Score a result folder and write `predictions.jsonl`, `details.json` and, last, `score.json`.

    Raises:
        InputError: the folder's embeddings are not complete.

    """
    folder = ResultFolder(path)
    manifest = folder.manifest()
    if manifest.get("status") not in ("embedded", "scored"):
        raise InputError(f"{path} is not complete: run the rest of it, or merge its shards, before scoring.")
    queries, candidates = check_files(path, manifest)
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
        score=found.scores[metric],
        relevance=relevance,
        ties={
            "queries": ties["queries"],
            "optimistic": ties["optimistic"][metric],
            "pessimistic": ties["pessimistic"][metric],
        },
        failed={key: found.details[f"failed_{key}"] for key in ("queries", "candidates")},
    )
    return found


def check_files(path: Path, manifest: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Open the vectors of queries and candidates of a complete result folder: memory maps.

    Raises:
        InputError: names the file that is missing, cut off, or not of this folder.

    """
    pa, parquet = _extras.pyarrow()
    vectors: dict[str, NDArray[np.float32]] = {}
    for side in SIDES:
        wanted = (int(manifest["counts"][side]), int(manifest["dim"]))
        for kind in ("npy", "parquet"):
            file = path / f"{side}.{kind}"
            try:
                if kind == "npy":
                    vectors[side] = np.load(file, mmap_mode="r", allow_pickle=False)
                    shape = vectors[side].shape
                else:
                    shape = (parquet.read_metadata(file).num_rows, wanted[1])
            except (OSError, ValueError, EOFError, pa.ArrowException) as error:
                raise InputError(f"{file} cannot be read ({error}): remove {path} and run again.") from error
            if shape != wanted:
                raise InputError(f"{file} has the shape {shape} instead of {wanted}: remove {path} and run again.")
    return vectors["queries"], vectors["candidates"]


def failures(manifest: Mapping[str, Any]) -> str:
    """One sentence about items that failed, which rank as misses; "" if none did."""
    failed = sum(int(total["errors"]) for total in manifest.get("totals", {}).values())
    if not failed:
        return ""
    count = sum(int(number) for number in manifest["counts"].values())
    return (
        f"{failed} of {count} items failed and count as misses: `report` lists them, `run --retry-errors` tries again"
    )


def _write(path: Path, found: Scored) -> None:
    write_json(path / "details.json", found.details)
    write_json(path / "score.json", found.scores)


def _column(path: Path, name: str) -> list[str]:
    _, parquet = _extras.pyarrow()
    with parquet.ParquetFile(path) as file:
        return [value for batch in file.iter_batches(columns=[name]) for value in batch.column(0).to_pylist()]


def _rows(path: Path) -> Iterator[Row]:
    _, parquet = _extras.pyarrow()
    columns = ["id", "candidates", "labels", "relevance", "error"]
    interned: dict[str, str] = {}
    with parquet.ParquetFile(path) as file:
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
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                found = json.loads(line)
                label = found["label_name"]
                labels = [str(name) for name in (label if isinstance(label, list) else [label])]
                pool = [str(name) for name in found["cand_names"]] if local else None
                yield Row(str(number), pool, labels, found.get("rel_scores"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}).") from error


def result_folders(out: Path, names: Sequence[str] | None = None) -> list[tuple[Task, Path]]:
    """The result folders below `out` with the tasks that they are of, in the benchmark's order.

    Args:
        out: the --out folder of runs.
        names: names, categories or modalities; None: all.

    """
    order = {task.name: i for i, task in enumerate(tasks(["image", "video", "visdoc"]))}
    found = [(task_of(ResultFolder(path.parent).manifest()), path.parent) for path in out.glob("*/*/manifest.json")]
    wanted = None if names is None else set(names)
    return sorted(
        ((task, path) for task, path in found if wanted is None or wanted & {task.name, task.category, task.modality}),
        key=lambda pair: (order.get(pair[0].name, len(order)), pair[0].name),
    )


_TASK_KEYS = ("name", "category", "modality", "metric", "scored", "family", "parser", "local")


def task_json(task: Task) -> dict[str, Any]:
    """What a manifest keeps of its task."""
    return {key: getattr(task, key) for key in _TASK_KEYS}


def task_of(manifest: dict[str, Any]) -> Task:
    """The task of a manifest."""
    return Task(**{key: manifest["task"][key] for key in _TASK_KEYS})


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
    parser.set_defaults(command=_command)


def _command(arguments: argparse.Namespace) -> int:
    options = {"relevance": arguments.relevance, "top": arguments.top}
    if arguments.pickles:
        known = tasks(arguments.tasks or ["image", "video", "visdoc"])
        places = [
            (t, arguments.out / t.modality) for t in known if (arguments.out / t.modality / f"{t.name}_qry").is_file()
        ]
        found = [(task, score_reference(folder, task, **options)) for task, folder in places]
    else:
        found = [(task, score_folder(path, **options)) for task, path in result_folders(arguments.out, arguments.tasks)]
    if not found:
        raise InputError(f"{arguments.out} holds nothing to score: give the --out folder of a run.")
    print_scores([(task, float(scored.scores[task.metric])) for task, scored in found])
    if not arguments.pickles:
        for task, path in result_folders(arguments.out, arguments.tasks):
            if note := failures(ResultFolder(path).manifest()):
                print(f"{task.name}: {note}")
    return 0


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

"""Result folders as the report reads them: `<folder>/<modality>/<data set>/` with scores, rankings and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tte import _extras, _files
from tte._tte import InputError
from tte.mmeb.data.tasks import Task, shortfall
from tte.mmeb.report.leaderboard import MODALITIES
from tte.mmeb.run.blocks import block_count, missing_blocks
from tte.mmeb.run.manifest import (
    SCORED,
    SIDES,
    ResultFolder,
    again,
    check_bytes,
    check_files,
    embedded,
    read_json,
)
from tte.mmeb.run.scores import notes, task_of
from tte.mmeb.score import metrics

SHOWN = 3
"""How many of the best candidates of a query are kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one query came out."""

    top: tuple[str, ...]
    """The best candidates, best first."""
    labels: tuple[str, ...]
    rank: int | None
    """Rank of the first right candidate, from 1; None: there is none, or the query failed."""
    value: float
    """The task's own metric of this query, from 0 to 1."""
    cosines: tuple[float | None, ...] = ()
    """Beside `top`; None: that candidate failed."""

    @property
    def hit(self) -> bool:
        """Whether a right candidate came first."""
        return self.rank == 1


@dataclass(frozen=True, slots=True)
class Column:
    """What a run recorded of the queries, or of the candidates, of a data set; one entry per row."""

    names: list[str]
    traces: list[str | None]
    tokens: list[int | None]
    seconds: list[float | None]
    errors: list[str | None]

    def known_tokens(self) -> list[float]:
        """Lengths of the traces that were written."""
        return [float(t) for t, trace in zip(self.tokens, self.traces, strict=True) if trace is not None and t]

    def known_seconds(self) -> list[float]:
        """Seconds of the rows that have them."""
        return [float(s) for s in self.seconds if s is not None and s > 0]


@dataclass(frozen=True)
class TaskRun:
    """One data set of one run."""

    task: Task
    folder: Path
    manifest: dict[str, Any]
    scores: dict[str, Any] | None
    """None: not scored yet."""

    @property
    def limit(self) -> int | None:
        """Number of queries that it was cut to on purpose."""
        found: int | None = self.manifest["identity"]["data"].get("limit")
        return found

    @cached_property
    def unfinished(self) -> str:
        """What is left to do, in words; "" if it is scored."""
        if self.scores is not None:
            return ""
        if self.manifest["status"] != "embedding":
            return "it is not scored: give it to `score`"
        missing = missing_blocks(ResultFolder(self.folder), self.manifest)
        total = sum(block_count(self.manifest, side) for side in SIDES)
        left = sum(map(len, missing.values()))
        if not left:
            return "its shards are not merged: give it to `merge`"
        return f"{left} of {total} blocks are missing: run the rest of it, and `merge` its shards"

    @property
    def shortfall(self) -> str:
        """Where its size is not the benchmark's; "" where it is."""
        counts = self.manifest["counts"]
        return str(self.manifest["shortfall"]) or shortfall(self.task, counts["queries"], None, self.limit)

    @property
    def notes(self) -> list[str]:
        """What is not whole, a sentence each."""
        told = notes({**self.manifest, "shortfall": self.shortfall})
        return [self.unfinished, *told] if self.unfinished else told

    @property
    def score(self) -> float | None:
        """The main metric in percent."""
        value = (self.scores or {}).get(self.task.metric)
        return None if value is None else 100 * float(value)

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """How each query came out, in order; empty without rankings."""
        path = self.folder / "predictions.jsonl"
        if self.scores is None:
            return []
        with _files.reading(path, again(path)):
            rows = _files.json_lines(path, str(path), again(path))
            return [_outcome(row, self.task.metric) for row in rows]

    @cached_property
    def queries(self) -> Column:
        """What the run recorded of the queries."""
        return _column(self.folder / "queries.parquet")

    @cached_property
    def candidates(self) -> Column:
        """What the run recorded of the candidates."""
        return _column(self.folder / "candidates.parquet")

    def about(self, side: Literal["queries", "candidates"], rows: Sequence[int]) -> list[dict[str, Any]]:
        """Text, images and frames of some rows, as the run recorded them."""
        _, pq = _extras.pyarrow()

        path = self.folder / f"{side}.parquet"
        if not rows:
            return []
        with _files.reading(path, again(path)), _files.for_arrow(path) as file:
            wanted = [c for c in ("text", "images", "video_frames", "trace") if c in pq.read_schema(file).names]
            if not wanted:
                return [{} for _ in rows]
            found: list[dict[str, Any]] = pq.read_table(file, columns=wanted).take(list(rows)).to_pylist()
        return found

    @cached_property
    def candidate_rows(self) -> dict[str, int]:
        """Row of each candidate."""
        return {name: i for i, name in enumerate(self.candidates.names)}


@dataclass(frozen=True)
class Run:
    """One way of running the benchmark: a result folder under a short name."""

    name: str
    folder: Path
    tasks: dict[str, TaskRun]
    damaged: dict[str, str] = field(default_factory=dict)
    """Data sets whose files cannot be read, with the reason."""

    @property
    def limits(self) -> list[int]:
        """Numbers of queries that data sets were cut to: such scores are for a quick look."""
        return sorted({t.limit for t in self.tasks.values() if t.limit is not None})

    def scores(self) -> dict[str, float]:
        """Main metric of each scored data set, as a fraction."""
        return {name: t.score / 100 for name, t in self.tasks.items() if t.score is not None}

    @property
    def dimension(self) -> int | None:
        """Length of the vectors."""
        return next((int(t.manifest["dim"]) for t in self.tasks.values()), None)


def _outcome(row: dict[str, Any], metric: str) -> Outcome:
    labels = row["label"] if isinstance(row["label"], list) else [row["label"]]
    prediction = row["prediction"] or []
    cosines = tuple(None if s is None else float(s) for s in row["scores"][:SHOWN])
    wanted, grades = metrics.unique_labels([str(label) for label in labels], row.get("rel_scores"))
    # A right candidate that failed stands in the ranking and is not found.
    first = [str(p) if s is not None else None for p, s in zip(prediction[:10], row["scores"][:10], strict=True)]
    value = metrics.query_scores(first, wanted, grades)[metric]
    return Outcome(
        tuple(str(p) for p in prediction[:SHOWN]), tuple(str(x) for x in labels), row["rank"], value, cosines
    )


def _column(path: Path) -> Column:
    _, pq = _extras.pyarrow()

    if not path.exists():
        return Column([], [], [], [], [])
    with _files.reading(path, again(path)), _files.for_arrow(path) as file:
        schema = set(pq.read_schema(file).names)
        key = "id" if "id" in schema else "name"
        wanted = [c for c in (key, "trace", "tokens", "seconds", "error") if c in schema]
        table = pq.read_table(file, columns=wanted).to_pydict()
        count = len(table[key])

    def column(name: str) -> list[Any]:
        return list(table.get(name) or [None] * count)

    errors = [e or None for e in column("error")]
    return Column([str(n) for n in table[key]], column("trace"), column("tokens"), column("seconds"), errors)


def _folders(folder: Path) -> Iterator[Path]:
    for modality in MODALITIES:
        if (folder / modality).is_dir():
            yield from sorted(p.parent for p in (folder / modality).glob("*/manifest.json"))


def read(folder: Path, known: Sequence[Task], name: str | None = None) -> Run:
    """Read a result folder.

    Args:
        folder: what `run` wrote.
        known: the tasks that may be in it; their order is the report's.
        name: what to call the run; default: its way of thinking, as its manifests say.

    Raises:
        InputError: there is nothing in it, or nothing but damaged data sets.

    """
    order = {task.name: i for i, task in enumerate(known)}
    found: list[TaskRun] = []
    damaged: dict[str, str] = {}
    for at in _folders(folder):
        try:
            found.append(_read_one(at, known))
        except InputError as error:
            damaged[at.name] = str(error)
    if not found:
        raise InputError(
            next(iter(damaged.values()), "")
            or f"{folder} holds no results: give a folder that `python -m tte.mmeb run` wrote (with image/, video/ or "
            "visdoc/ in it)."
        )
    found.sort(key=lambda run: (order.get(run.task.name, len(order)), run.task.name))
    if name is None:
        name = mode_of(found[0].manifest) or folder.name
    return Run(name, folder, {run.task.name: run for run in found}, damaged)


def _read_one(at: Path, known: Sequence[Task]) -> TaskRun:
    folder = ResultFolder(at)
    manifest = folder.manifest()
    own = task_of(manifest)
    task = next((task for task in known if task.name == own.name), own)
    scores = None
    if manifest["status"] != "embedding":
        check_files(at, manifest)
        check_bytes(at, manifest, [name for name in embedded(manifest) if name.endswith(".parquet")])
    if manifest["status"] == "scored":
        check_bytes(at, manifest, SCORED)
        scores = read_json(at / "score.json")
    return TaskRun(task, at, manifest, scores)


_MODES = {"always": "think", "recipe": "think", "never": "no-think", "queries": "queries-only"}


def mode_of(manifest: dict[str, Any]) -> str | None:
    """Find how a run thought, from a manifest: "think", "no-think" or "queries-only"."""
    return _MODES.get(str(manifest.get("think")))


def embedder_of(manifest: dict[str, Any]) -> str | None:
    """Name of the embedder's folder, from a manifest."""
    path = manifest.get("models", {}).get("embedder", {}).get("path")
    return Path(str(path)).name if path else None

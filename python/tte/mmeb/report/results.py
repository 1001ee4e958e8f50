"""Result folders as the report reads them: `<folder>/<modality>/<data set>/` with scores, rankings and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tte import _extras
from tte._tte import InputError
from tte.mmeb.report.leaderboard import MODALITIES
from tte.mmeb.scores import check_files
from tte.mmeb.tasks import Task

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
    cosines: tuple[float, ...] = ()
    """Beside `top`."""

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
    def score(self) -> float | None:
        """The main metric in percent."""
        value = (self.scores or {}).get(self.task.metric)
        return None if value is None else 100 * float(value)

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """How each query came out, in order; empty without rankings."""
        path = self.folder / "predictions.jsonl"
        if not path.exists():
            return []
        with path.open(encoding="utf-8") as lines:
            return [_outcome(json.loads(line)) for line in lines]

    @cached_property
    def queries(self) -> Column:
        """What the run recorded of the queries."""
        return _column(self.folder / "queries.parquet")

    @cached_property
    def candidates(self) -> Column:
        """What the run recorded of the candidates."""
        return _column(self.folder / "candidates.parquet")

    def about(self, side: Literal["queries", "candidates"], rows: Sequence[int]) -> list[dict[str, Any]]:
        """Text, pictures and frames of some rows, as the run recorded them."""
        _, pq = _extras.pyarrow()

        path = self.folder / f"{side}.parquet"
        wanted = [c for c in ("text", "images", "video_frames") if c in pq.read_schema(path).names]
        if not wanted or not rows:
            return [{} for _ in rows]
        found: list[dict[str, Any]] = pq.read_table(path, columns=wanted).take(list(rows)).to_pylist()
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

    @property
    def limits(self) -> list[int]:
        """Numbers of queries that data sets were cut to: such scores are for a quick look."""
        found = {t.manifest.get("identity", {}).get("data", {}).get("limit") for t in self.tasks.values()}
        return sorted(limit for limit in found if limit is not None)

    def scores(self) -> dict[str, float]:
        """Main metric of each scored data set, as a fraction."""
        return {name: t.score / 100 for name, t in self.tasks.items() if t.score is not None}

    @property
    def dimension(self) -> int | None:
        """Length of the vectors."""
        for t in self.tasks.values():
            if (t.folder / "queries.npy").exists():
                return int(np.load(t.folder / "queries.npy", mmap_mode="r").shape[-1])
        return None


def _outcome(row: dict[str, Any]) -> Outcome:
    labels = row["label"] if isinstance(row["label"], list) else [row["label"]]
    prediction = row["prediction"] or []
    rank = row.get("rank")
    if "rank" not in row:
        wanted = {str(label) for label in labels}
        rank = next((i for i, name in enumerate(prediction, 1) if str(name) in wanted), None)
    cosines = tuple(float(s) for s in (row.get("scores") or ())[:SHOWN])
    return Outcome(tuple(str(p) for p in prediction[:SHOWN]), tuple(str(x) for x in labels), rank, cosines)


def _column(path: Path) -> Column:
    _, pq = _extras.pyarrow()

    if not path.exists():
        return Column([], [], [], [], [])
    schema = set(pq.read_schema(path).names)
    key = "id" if "id" in schema else "name"
    wanted = [c for c in (key, "trace", "tokens", "seconds", "error") if c in schema]
    table = pq.read_table(path, columns=wanted).to_pydict()
    count = len(table[key])

    def column(name: str) -> list[Any]:
        return list(table.get(name) or [None] * count)

    errors = [e or None for e in column("error")]
    return Column([str(n) for n in table[key]], column("trace"), column("tokens"), column("seconds"), errors)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): remove it and score again.") from None
    return found if isinstance(found, dict) else None


def _folders(folder: Path) -> Iterator[Path]:
    for modality in MODALITIES:
        if (folder / modality).is_dir():
            yield from sorted(p for p in (folder / modality).iterdir() if p.is_dir())


def read(folder: Path, known: Sequence[Task], name: str | None = None) -> Run:
    """Read a result folder.

    Args:
        folder: what `run` wrote.
        known: the tasks that may be in it; their order is the report's.
        name: what to call the run; default: its way of thinking, as its manifests say.

    Raises:
        InputError: there is nothing in it, or a file is damaged.

    """
    found = {p.name: p for p in _folders(folder)}
    tasks = {
        t.name: TaskRun(t, at, _json(at / "manifest.json") or {}, _json(at / "score.json"))
        for t in known
        if (at := found.get(t.name)) is not None
    }
    if not tasks:
        raise InputError(
            f"{folder} holds no results: give a folder that `python -m tte.mmeb run` wrote (with image/, video/ or "
            "visdoc/ in it)."
        )
    for run in tasks.values():
        if "counts" in run.manifest and run.manifest.get("status") in ("embedded", "scored"):
            check_files(run.folder, run.manifest)
    if name is None:
        name = mode_of(next(iter(tasks.values())).manifest) or folder.name
    return Run(name, folder, tasks)


_MODES = {"always": "think", "recipe": "think", "never": "no-think", "queries": "queries-only"}


def mode_of(manifest: dict[str, Any]) -> str | None:
    """Find how a run thought, from a manifest: "think", "no-think" or "queries-only"."""
    return _MODES.get(str(manifest.get("think")))


def embedder_of(manifest: dict[str, Any]) -> str | None:
    """Name of the embedder's folder, from a manifest."""
    path = manifest.get("models", {}).get("embedder", {}).get("path")
    return Path(str(path)).name if path else None

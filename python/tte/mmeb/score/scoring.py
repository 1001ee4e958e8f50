"""Scores of vectors: every query's ranking, the benchmark's metrics, ties, and what failed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte._tte import InputError
from tte.mmeb.score import metrics
from tte.mmeb.score.late import Late
from tte.mmeb.score.ranking import DEPTH, Pool, Ranked, rank

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
    late: Late | None = None,
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
        late: vectors of tokens, and how they are compared; None: the vectors alone are.

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
    pools = [_members(rows[i], index) for i in which]
    ranked = pool.scores(queries[which], pools)
    if late is not None:
        ranked = late.scores(which, pools, queries, pool, ranked)
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

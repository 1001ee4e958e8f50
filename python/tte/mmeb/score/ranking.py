"""Ranking candidates by dot product: in 64-bit, stable, in blocks of bounded memory, with ties known exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]

_SCORE_BYTES = 128 << 20
_COLUMN_BYTES = 64 << 20
_WHOLE_POOL_FACTOR = 16
DEPTH = 10
"""How deep the metrics look."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One query's ranking."""

    top: list[int]
    """Candidates, best first, no one twice; ties in the order of the pool."""
    scores: list[float]
    """Their dot products."""
    repeated: list[int]
    """The first `DEPTH` with those repeated that the pool repeats, as the reference ranks them."""
    optimistic: list[int | None]
    """The first `DEPTH` if every tie fell for the labels; None where any other candidate stands."""
    pessimistic: list[int | None]
    """The same if every tie fell against them."""
    tied: bool
    """Whether a label ties with a candidate that is none, or with a label of another grade."""
    label_rank: int | None
    """Rank of the first label, from 1; None if no label is in the pool."""


class Pool:
    """All candidates of a data set. Equal vectors are computed once, so that their scores are equal to the last bit.

    Args:
        vectors: float32 [M, D], may be a memory map; a row that is not finite is a candidate that failed, which ranks
            after all others.

    """

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        first: dict[bytes, int] = {}
        self.usable = np.zeros(len(vectors), bool)
        self._class = np.zeros(len(vectors), np.int64)
        members: list[int] = []
        for begin in range(0, len(vectors), 4096):
            # + 0 turns -0 into 0.
            block = np.ascontiguousarray(vectors[begin : begin + 4096], np.float32) + np.float32(0)
            self.usable[begin : begin + len(block)] = np.isfinite(block).all(axis=1)
            for i, row in enumerate(block, start=begin):
                key = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
                number = first.setdefault(key, len(members))
                if number == len(members):
                    members.append(i)
                self._class[i] = number
        self._first = np.array(members, np.int64)
        self._rows = max(1, _SCORE_BYTES // (8 * max(1, len(members))))

    def scores(self, queries: Vectors, pools: Sequence[Indices | None]) -> Iterator[tuple[Indices, Floats]]:
        """Candidates of each query with their dot products; those that failed have -inf.

        Args:
            queries: float32 [N, D].
            pools: each query's candidates; None: all.

        """
        whole = np.arange(len(self.usable))
        for begin in range(0, len(queries), self._rows):
            some = np.asarray(queries[begin : begin + self._rows], np.float64)
            chosen = pools[begin : begin + self._rows]
            sizes = [len(self.usable) if pool is None else len(pool) for pool in chosen]
            # A row against everything is a matrix product, which is faster than gathering a large part of the pool.
            everything = len(self._first) <= _WHOLE_POOL_FACTOR * max(1, sum(sizes) // len(sizes))
            table = None  # Before the next one is made: one at a time is in memory.
            table = self._product(some) if everything else None
            for i, pool in enumerate(chosen):
                members = whole if pool is None else pool
                classes = self._class[members]
                if table is not None:
                    found = table[i, classes]
                else:
                    distinct, back = np.unique(classes, return_inverse=True)
                    found = (self._distinct(distinct) @ some[i])[back]
                yield members, np.where(self.usable[members], found, -np.inf)

    def _product(self, queries: Floats) -> Floats:
        """Dot products of queries with every distinct candidate: [N, distinct]."""
        out = np.empty((len(queries), len(self._first)))
        width = max(1, _COLUMN_BYTES // (8 * max(1, queries.shape[1])))
        for begin in range(0, len(self._first), width):
            columns = self._distinct(slice(begin, begin + width))
            np.matmul(queries, columns.T, out=out[:, begin : begin + width])
        return out

    def _distinct(self, which: Indices | slice) -> Floats:
        """Some of the distinct vectors, those of candidates that failed as zeros: [number, D]."""
        rows = self._first[which]
        return np.where(self.usable[rows, None], np.asarray(self.vectors[rows], np.float64), 0.0)


def rank(members: Indices, scores: Floats, grades: dict[int, float], top: int) -> Ranked:
    """Rank one query's candidates.

    Args:
        members: candidates in the order of the pool, maybe some more than once.
        scores: their dot products.
        grades: the labels among all candidates, with their grades.
        top: how many are wanted; 0: all.

    """
    first_ten = [int(members[i]) for i in _best(scores, DEPTH)]
    if not (members[1:] > members[:-1]).all():
        where = np.sort(np.unique(members, return_index=True)[1])
        members, scores = members[where], scores[where]
    best = _best(scores, top or len(members))
    labels = [(i, grades[int(members[i])]) for i in _positions(members, grades)]
    optimistic, pessimistic, tied = _extremes(members, scores, labels)
    return Ranked(
        top=[int(members[i]) for i in best],
        scores=[float(scores[i]) for i in best],
        repeated=first_ten,
        optimistic=optimistic,
        pessimistic=pessimistic,
        tied=tied,
        label_rank=min((_rank(scores, i) for i, _ in labels), default=None),
    )


def _best(scores: Floats, count: int) -> Indices:
    """Positions of the `count` largest, best first, ties by position."""
    if count * 4 < len(scores):
        # Everything that ties with the last one stays, so that position decides among all of them.
        threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = np.flatnonzero(scores >= threshold)
        return candidates[np.argsort(-scores[candidates], kind="stable")][:count]
    return np.argsort(-scores, kind="stable")[:count]


def _positions(members: Indices, grades: dict[int, float]) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.isin(members, np.fromiter(grades, np.int64, len(grades))))]


def _rank(scores: Floats, position: int) -> int:
    own = scores[position]
    return 1 + int((scores > own).sum()) + int((scores[:position] == own).sum())


def _extremes(
    members: Indices, scores: Floats, labels: list[tuple[int, float]]
) -> tuple[list[int | None], list[int | None], bool]:
    """The first ten if ties fell for the labels, and if they fell against them; whether there are such ties."""
    other = np.ones(len(members), bool)
    other[[i for i, _ in labels]] = False
    others = scores[other]
    groups: dict[float, set[float]] = {}
    for i, grade in labels:
        groups.setdefault(float(scores[i]), set()).add(grade)
    above = {value: int((others > value).sum()) for value in groups}
    beside = {value: int((others == value).sum()) for value in groups}
    tied = any(beside[value] or len(grades) > 1 for value, grades in groups.items())
    size = min(DEPTH, len(members))

    def place(sign: int) -> list[int | None]:
        out: list[int | None] = [None] * size
        ordered = sorted(labels, key=lambda label: (-scores[label[0]], -sign * label[1]))
        for before, (i, _) in enumerate(ordered):
            value = float(scores[i])
            at = before + above[value] + (0 if sign > 0 else beside[value])
            if at < size:
                out[at] = int(members[i])
        return out

    return place(1), place(-1), tied

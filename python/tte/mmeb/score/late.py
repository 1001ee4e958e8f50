"""Late interaction: candidates are compared by the vectors of their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tte._maxsim import maxsim
from tte._tokens import TokenEmbeddings
from tte.mmeb.score.ranking import Floats, Indices, Pool, Vectors

Scoring = Literal["single", "maxsim", "mean_maxsim", "hybrid"]
SCORINGS: tuple[Scoring, ...] = ("single", "maxsim", "mean_maxsim", "hybrid")
"""Single vectors; the sum or the mean over the query's tokens of their best match; cosine plus that mean (SMART)."""

_SCORE_BYTES = 128 << 20


@dataclass(frozen=True)
class Late:
    """Token vectors of a data set's queries and candidates. Equal sets have equal scores, to the last bit."""

    queries: TokenEmbeddings
    candidates: TokenEmbeddings
    scoring: Scoring

    def scores(
        self,
        which: Sequence[int],
        pools: Sequence[Indices | None],
        queries: Vectors,
        pool: Pool,
        single: Iterator[tuple[Indices, Floats]],
    ) -> Iterator[tuple[Indices, Floats]]:
        """Candidates of each query with their scores; those that failed have -inf.

        Args:
            which: the queries.
            pools: each one's candidates; None: all.
            queries: single vectors of all queries, float32 [N, D].
            pool: single vectors of the candidates.
            single: each one's candidates with the dot products of single vectors.

        """
        lengths = _norms(pool.vectors)
        for query, own, (members, products) in zip(which, self._tokens(which, pools), single, strict=True):
            found = own
            if self.scoring == "hybrid":
                divisors = _norms(queries[query : query + 1])[0] * lengths[members]
                cosines = np.divide(products, divisors, where=divisors > 0, out=np.zeros(len(members)))
                found = own + np.where(np.isfinite(products), cosines, 0.0)
            yield members, np.where(np.isfinite(products) & ~np.isnan(found), found, -np.inf)

    def _tokens(self, which: Sequence[int], pools: Sequence[Indices | None]) -> Iterator[Floats]:
        rows = max(1, _SCORE_BYTES // (4 * max(1, len(self.candidates))))
        mean = self.scoring != "maxsim"
        for begin in range(0, len(which), rows):
            some, chosen = which[begin : begin + rows], pools[begin : begin + rows]
            asked = TokenEmbeddings.of([self.queries[i] for i in some])
            table = maxsim(asked, self.candidates, mean=mean) if any(p is None for p in chosen) else None
            for i, members in enumerate(chosen):
                if table is not None:
                    yield np.asarray(table[i] if members is None else table[i, members], np.float64)
                    continue
                assert members is not None
                distinct, back = np.unique(members, return_inverse=True)
                sets = TokenEmbeddings.of([self.candidates[int(j)] for j in distinct]) if len(distinct) else None
                found = maxsim(asked[i : i + 1], sets, mean=mean)[0] if sets is not None else np.empty(0)
                yield np.asarray(found[back], np.float64)


def _norms(vectors: NDArray[np.float32]) -> Floats:
    found = np.empty(len(vectors))
    for begin in range(0, len(vectors), 4096):
        found[begin : begin + 4096] = np.linalg.norm(np.asarray(vectors[begin : begin + 4096], np.float64), axis=1)
    return found

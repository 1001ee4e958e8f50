"""Scores of queries and documents that have one vector per token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from tte import _options, _tte
from tte._keywords import named
from tte._tokens import TokenEmbeddings, joined

Sets = TokenEmbeddings | Any
_BLOCK_ROWS = 1 << 17
"""Rows of documents that are scored between two looks at the best ones."""
_MOST_WEIGHT = 1e6


class Best(NamedTuple):
    """The best documents of each query, best first; of equal ones the one that comes first."""

    indices: NDArray[np.int64]
    """int64 [queries, k]; -1 where there are no more documents with a score."""
    scores: NDArray[np.float32]
    """float32 [queries, k]; NaN there."""


# fmt: off
@overload
def maxsim(
    queries: Sets, documents: Sets, *, k: None = None, mean: bool = False, threads: int = 0,
    progress: _options.Progress = False, cancel: _tte.CancelToken | None = None,
) -> NDArray[np.float32]: ...
@overload
def maxsim(
    queries: Sets, documents: Sets, *, k: int, mean: bool = False, threads: int = 0,
    progress: _options.Progress = False, cancel: _tte.CancelToken | None = None,
) -> Best: ...
# fmt: on


@named
def maxsim(
    queries: Sets,
    documents: Sets,
    *,
    k: int | None = None,
    mean: bool = False,
    threads: int = 0,
    progress: _options.Progress = False,
    cancel: _tte.CancelToken | None = None,
) -> NDArray[np.float32] | Best:
    """Score every document for every query, as ColBERT does.

    For each token of the query the largest dot product with a token of the document, summed over the query's tokens.
    Documents are read once, in order, in blocks: a corpus that is mapped from a file (:meth:`TokenEmbeddings.load`) is
    never copied into memory. Products of float16 vectors are computed and summed in float32.

    Args:
        queries: a :class:`TokenEmbeddings`, or a list of arrays [tokens, dim], float16 or float32.
        documents: likewise, of the same dim.
        k: only the `k` best documents of each query.
        mean: the mean over the query's tokens instead of their sum.
        threads: threads that compute; 0: one per core.
        progress: a bar, nothing, or a callable ``(done, total)``, in documents.
        cancel: stops the call from another thread.

    Returns:
        float32 [queries, documents], or with `k` a :class:`Best`. An item without vectors gives NaN, and is nobody's
        best. A score depends on its own query and document only, to the bit.

    Raises:
        InputError: what is no such sets, or sets of different dim.
        CancelledError: `cancel` was used.

    """
    left, right = _sets(queries, "queries"), _sets(documents, "documents")
    if left.dim != right.dim:
        raise _tte.InputError(
            f"queries have vectors of {left.dim} dimensions, documents of {right.dim}: embed both with the same "
            "embedder and truncate_dim."
        )
    by_sum = not _options.flag(mean, "mean")
    some = _options.whole(threads, "threads", 0, _options.INT32)
    token = _options.cancel_token(cancel)

    def score(begin: int, end: int) -> NDArray[np.float32]:
        block = right[begin:end]
        return _tte.maxsim(
            left.vectors, left.offsets, block.vectors, block.offsets, mean=not by_sum, threads=some, cancel=token
        )

    return _scored(score, left, right, k, progress)


@named
def mean_maxsim(
    queries: Sets,
    documents: Sets,
    *,
    k: int | None = None,
    threads: int = 0,
    progress: _options.Progress = False,
    cancel: _tte.CancelToken | None = None,
) -> NDArray[np.float32] | Best:
    """:func:`maxsim` divided by the number of the query's tokens: of unit vectors, between -1 and 1."""
    arguments: dict[str, Any] = {"k": k, "mean": True, "threads": threads, "progress": progress, "cancel": cancel}
    found: NDArray[np.float32] | Best = maxsim(queries, documents, **arguments)
    return found


@named
def hybrid(
    queries: TokenEmbeddings,
    documents: TokenEmbeddings,
    *,
    k: int | None = None,
    pooled_weight: float = 1.0,
    token_weight: float = 1.0,
    threads: int = 0,
    progress: _options.Progress = False,
    cancel: _tte.CancelToken | None = None,
) -> NDArray[np.float32] | Best:
    """Late interaction on top of an ordinary embedder (SMART): cosine of the pooled vectors plus mean MaxSim.

    ``pooled_weight * cosine + token_weight * mean_maxsim``. Arguments, results and errors are those of :func:`maxsim`;
    both need `pooled`, as `Embedder.embed_tokens` gives it.
    """
    for name, each in (("queries", queries), ("documents", documents)):
        if not isinstance(each, TokenEmbeddings):
            raise _options.refuse(name, each, "a tte.TokenEmbeddings with pooled vectors")
        if each.pooled is None:
            raise _tte.InputError(
                f"{name} has no pooled vectors (its `pooled` is None): give it float32 [items, dim], as "
                "Embedder.embed_tokens does, or use tte.maxsim."
            )
    cosine = _options.real(pooled_weight, "pooled_weight", -_MOST_WEIGHT, _MOST_WEIGHT)
    tokens = _options.real(token_weight, "token_weight", -_MOST_WEIGHT, _MOST_WEIGHT)
    own = unit(np.asarray(queries.pooled))

    def score(begin: int, end: int) -> NDArray[np.float32]:
        block = documents[begin:end]
        late = maxsim(queries, block, mean=True, threads=threads, cancel=cancel)
        return np.asarray(cosine * (own @ unit(np.asarray(block.pooled)).T) + tokens * late, dtype=np.float32)

    maxsim(queries[:0], documents[:0], threads=threads, cancel=cancel)  # Which says what does not fit.
    return _scored(score, queries, documents, k, progress)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length; those of zeros stay."""
    # Squares of large and small numbers are no float32: divided by a power of two, which rounds nothing.
    rows = np.ldexp(rows, -np.frexp(np.abs(rows).max(axis=1, keepdims=True, initial=0))[1])
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms == 0, 1, norms), dtype=np.float32)


def _sets(given: Any, name: str) -> TokenEmbeddings:
    if isinstance(given, TokenEmbeddings):
        return given
    return joined(given, name)


def _blocks(sets: TokenEmbeddings) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(sets):
        end = int(np.searchsorted(sets.offsets, sets.offsets[begin] + _BLOCK_ROWS, "right")) - 1
        end = min(max(end, begin + 1), len(sets))
        yield begin, end
        begin = end


def _scored(
    score: Callable[[int, int], NDArray[np.float32]],
    queries: TokenEmbeddings,
    documents: TokenEmbeddings,
    k: int | None,
    progress: _options.Progress,
) -> NDArray[np.float32] | Best:
    most = None if k is None else min(_options.whole(k, "k", 1, _options.INT32), len(documents))
    whole = np.full((len(queries), len(documents) if most is None else 0), np.nan, np.float32)
    best = Best(
        np.full((len(queries), most or 0), -1, np.int64), np.full((len(queries), most or 0), np.nan, np.float32)
    )
    with _options.progress_bar(progress, len(documents), "score") as report:
        for begin, end in _blocks(documents):
            scores = score(begin, end)
            if most is None:
                whole[:, begin:end] = scores
            else:
                best = _better(best, scores, begin, most)
            if report is not None:
                report(end, len(documents))
    return whole if most is None else best


def _better(best: Best, scores: NDArray[np.float32], begin: int, k: int) -> Best:
    """The best of those before and of further documents, which begin at `begin`."""
    numbers = np.broadcast_to(np.arange(begin, begin + scores.shape[1]), scores.shape)
    indices = np.concatenate([best.indices, np.where(np.isnan(scores), -1, numbers)], axis=1)
    values = np.concatenate([best.scores, scores], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]  # NaN is last.
    return Best(np.take_along_axis(indices, order, 1), np.take_along_axis(values, order, 1))

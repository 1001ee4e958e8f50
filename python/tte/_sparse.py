"""Sparse vectors: the few dimensions of each item that are not 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tte import _options, _text, _tte
from tte._keywords import named
from tte._tokens import checked_array


@named
@dataclass(eq=False, repr=False)
class SparseEmbeddings:
    """Sparse vectors of items, in the layout of CSR matrices.

    ``sparse[i]`` is the pair (indices, values) of item i, which is what indexes of sparse vectors take.
    ``scipy.sparse.csr_matrix((s.values, s.indices, s.indptr), shape=s.shape)`` is a matrix of all.
    """

    values: NDArray[np.float32]
    """float32 [entries], all above 0."""
    indices: NDArray[np.int32]
    """int32 [entries]: the dimension of each value, ascending in each item, 0 to dim - 1."""
    indptr: NDArray[np.int64]
    """int64 [items + 1]: entries ``indptr[i]`` to ``indptr[i + 1]`` are item i's; none of one that was skipped."""
    dim: int
    """Dimensions, most of which are 0."""
    pooled: NDArray[np.float32]
    """float32 [items, D]: the dense vectors of the same pass, as `Embedder.embed` gives them; NaN where an item was
    skipped."""

    def __post_init__(self) -> None:
        """Raise `InputError` for arrays that do not fit each other."""
        name = "SparseEmbeddings."
        self.values = checked_array(self.values, f"{name}values", "float32 [entries]", 1, ("float32",))
        entries = len(self.values)
        self.indices = checked_array(self.indices, f"{name}indices", "int32 [entries]", 1, ("int32",), entries)
        self.indptr = checked_array(self.indptr, f"{name}indptr", "int64 [items + 1]", 1, ("int64",))
        self.dim = _options.whole(self.dim, f"{name}dim", 1, _options.INT32)
        ends = self.indptr
        if len(ends) == 0 or ends[0] != 0 or ends[-1] != entries or bool((np.diff(ends) < 0).any()):
            raise _tte.InputError(
                f"{name}indptr is {_text.shown(ends)} for {entries} entries: it must ascend from 0 to that."
            )
        steps = np.diff(self.indices) > 0
        steps[ends[(ends > 0) & (ends < entries)] - 1] = True  # Where the next item begins.
        inside = entries == 0 or bool(self.indices.min() >= 0 and self.indices.max() < self.dim)
        if not (inside and bool(steps.all())):
            raise _options.refuse(f"{name}indices", self.indices, f"of each item ascending, from 0 to {self.dim - 1}")
        shape = "float32 [items, D]"
        self.pooled = checked_array(self.pooled, f"{name}pooled", shape, 2, ("float32",), len(self))

    @property
    def shape(self) -> tuple[int, int]:
        """Items and dimensions."""
        return len(self), self.dim

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, index: Any) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Indices and values of one item; no copies."""
        at = _options.position(index, len(self))
        if isinstance(at, slice):
            raise _options.refuse("index", index, "a number")
        entries = slice(int(self.indptr[at]), int(self.indptr[at + 1]))
        return self.indices[entries], self.values[entries]

    def dot(self, other: SparseEmbeddings) -> NDArray[np.float32]:
        """Scores of every item against every item of `other`: dot products, float32 [items, items of other]."""
        if not isinstance(other, SparseEmbeddings) or other.dim != self.dim:
            raise _options.refuse("other", other, f"SparseEmbeddings of {self.dim} dimensions")
        rows = np.repeat(np.arange(len(other)), np.diff(other.indptr))
        scores = np.empty((len(self), len(other)), np.float32)
        for i in range(len(self)):
            indices, values = self[i]
            dense = np.zeros(self.dim, np.float32)
            dense[indices] = values
            scores[i] = np.bincount(rows, weights=dense[other.indices] * other.values, minlength=len(other))
        return scores

    def __repr__(self) -> str:
        return f"SparseEmbeddings({len(self)} items, {len(self.values)} entries of {self.dim} dimensions)"


def taken(native: _tte.SparseEmbeddings, pooled: NDArray[np.float32]) -> SparseEmbeddings:
    """The engine's result as arrays; its memory is moved."""
    return SparseEmbeddings(native.take_values(), native.take_indices(), native.offsets, native.dim, pooled)

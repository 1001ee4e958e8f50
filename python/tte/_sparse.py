"""Sparse vectors: the few dimensions of each item that are not 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tte import _options, _tte


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

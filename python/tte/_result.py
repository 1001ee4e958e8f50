"""What think_then_embed returns."""

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tte import _items, _options, _text, _tte
from tte._display import STYLE, escape, item_html, score_html, short_html, trace_html
from tte._inputs import Item
from tte._keywords import named
from tte._maxsim import unit
from tte._tokens import TokenEmbeddings


@named
@dataclass(eq=False, repr=False)
class Result:
    """What :func:`think_then_embed` returns. Shows itself in a notebook: images, traces, neighbours."""

    embeddings: NDArray[np.float32]
    """float32 [N, dim]; the row of an item that was skipped is NaN."""
    traces: list[_tte.Trace | None]
    """One per item; None where it was not reasoned about."""
    timings: list[_tte.Timings]
    """Seconds by stage, one per item."""
    stats: _tte.CallStats
    """Seconds and tokens of the whole call."""
    errors: list[_tte.ItemError] = field(default_factory=list)
    """Items that were skipped, with `on_error="skip"`."""
    inputs: list[Item] = field(default_factory=list)
    """The items as they were handed in."""
    tokens: TokenEmbeddings | None = None
    """With `tokens` of the call: vectors of each item's tokens."""
    without_trace: NDArray[np.float32] | None = None
    """With `without_trace` of the call: the vectors of the prompts without their traces, float32 [N, dim]."""
    _read: list[_items.Item | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raise `InputError` for what is none of these, here and not where it is shown."""
        self.embeddings = vectors_of(self.embeddings, "Result.embeddings")
        kinds: dict[str, Any] = {
            "traces": (_tte.Trace, type(None)),
            "timings": _tte.Timings,
            "errors": _tte.ItemError,
            "inputs": object,
        }
        for name, kind in kinds.items():
            value = getattr(self, name)
            if type(value) is not list or not all(isinstance(each, kind) for each in value):
                raise _options.refuse(f"Result.{name}", value, f"a list as think_then_embed returns it in {name}")
        if len(self.traces) != len(self.embeddings):
            raise _tte.InputError(
                f"Result.traces has {len(self.traces)} entries for {len(self.embeddings)} rows of embeddings: give one "
                "(or None) for each."
            )
        if self.tokens is not None and not isinstance(self.tokens, TokenEmbeddings):
            raise _options.refuse("Result.tokens", self.tokens, "a tte.TokenEmbeddings, or None")
        if self.without_trace is not None:
            self.without_trace = vectors_of(self.without_trace, "Result.without_trace")
        if not isinstance(self.stats, _tte.CallStats):
            raise _options.refuse("Result.stats", self.stats, "a tte.CallStats")

    def __len__(self) -> int:
        return len(self.embeddings)

    def similarity(self, other: Result | NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Cosine of every item to every item of `other` (default: of this result), float32 [N, M].

        Args:
            other: a Result, or vectors [M, dim] (or one, [dim]). Rows of items that were skipped give NaN.

        Raises:
            InputError: `other` is something else, or has vectors of another size.

        """
        theirs = self.embeddings if other is None else vectors_of(other, "other")
        if theirs.shape[1] != self.embeddings.shape[1]:
            raise _tte.InputError(
                f"other has vectors of {theirs.shape[1]} dimensions, these have {self.embeddings.shape[1]}: embed both "
                "with the same embedder and truncate_dim."
            )
        return np.asarray(unit(self.embeddings) @ unit(theirs).T, dtype=np.float32)

    def neighbours(
        self, k: int = 5, other: Result | NDArray[np.float32] | None = None
    ) -> list[list[tuple[int, float]]]:
        """The `k` nearest items of `other` to each item, best first, as (index, cosine); ties by index.

        Args:
            k: how many.
            other: a Result, or vectors [M, dim]; default: the other items of this result.

        An item that was skipped has no neighbours and is nobody's.

        """
        return self._neighbours(range(len(self)), _options.count(k, "k"), other)

    def _neighbours(
        self, rows: range, k: int, other: Result | NDArray[np.float32] | None = None
    ) -> list[list[tuple[int, float]]]:
        near: list[list[tuple[int, float]]] = []
        for begin in range(rows.start, rows.stop, _BLOCK):
            some = range(begin, min(begin + _BLOCK, rows.stop))
            part = Result(self.embeddings[some.start : some.stop], [None] * len(some), [], self.stats)
            scores = part.similarity(self if other is None else other)
            if other is None:
                scores[range(len(some)), some] = np.nan  # Itself.
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # NaN is last.
            for row, best in zip(scores, order, strict=True):
                near.append([(int(j), float(row[j])) for j in best if not np.isnan(row[j])])
        return near

    def _item(self, index: int) -> Any:
        """An item as it was read, else as it was handed in."""
        read = self._read[index] if index < len(self._read) else None
        return self.inputs[index] if read is None and index < len(self.inputs) else read

    def __repr__(self) -> str:
        return f"Result({self.summary()})"

    def summary(self) -> str:
        """The result in a line."""
        stats, count = self.stats, sum(trace is not None for trace in self.traces)
        failed = f", {len(self.errors)} skipped" if self.errors else ""
        return (
            f"{len(self)} {'item' if len(self) == 1 else 'items'}{failed}, {self.embeddings.shape[1]} dimensions, "
            f"{count} with a trace, {stats.generated_tokens} tokens written, {stats.reused_tokens} of "
            f"{stats.prompt_tokens} prompt tokens reused, {stats.seconds:.2f} s"
        )

    def _repr_html_(self) -> str:
        return _html(self)


def _html(result: Result, limit: int = 20, neighbours: int = 3) -> str:
    """Table of a result: at most `limit` items, each with its trace and its nearest items."""
    near = result._neighbours(range(min(limit, len(result))), neighbours)
    failed = {error.index: error.message for error in result.errors}
    glances: dict[int, str] = {}
    rows = []
    for index in range(min(limit, len(result))):
        item = result._item(index)
        # What was refused once is not looked at again.
        shown = item_html(item) if index not in failed else f'<span class="bad">{escape(failed[index])}</span>'
        for j, _ in near[index]:
            if j not in glances:
                glances[j] = short_html(result._item(j))
        close = "".join(
            f'<div class="near">{score_html(score)}<span class="num">item {j}</span>{glances[j]}</div>'
            for j, score in near[index]
        )
        rows.append(
            f"<tr><td>{index}</td><td>{shown}</td><td>{trace_html(result.traces[index])}</td><td>{close}</td></tr>"
        )
    more = len(result) - limit
    tail = f"<p>… and {more} more</p>" if more > 0 else ""
    tail += "".join(f'<p class="bad">{escape(text)}</p>' for index, text in failed.items() if index >= limit)
    return (
        f"{STYLE}<p>{escape(result.summary())}</p><table class='tte'><tr><th></th><th>input</th><th>trace</th>"
        f"<th>neighbours</th></tr>{''.join(rows)}</table>{tail}"
    )


_BLOCK = 512


def vectors_of(given: Any, name: str) -> NDArray[np.float32]:
    """Vectors that a caller hands in, float32 [M, dim]: a `Result`'s, or what becomes an array of this kind."""
    if isinstance(given, Result):
        return given.embeddings
    vectors = np.empty(0, np.float32)
    try:
        if _fits(given):
            with np.errstate(over="ignore"):  # Which is looked for below.
                vectors = np.asarray(_real(given), dtype=np.float32)
    except MemoryError:
        raise
    except Exception:  # What objects of other libraries raise when they are made an array.
        pass
    vectors = vectors[None] if vectors.ndim == 1 and vectors.size else vectors
    if vectors.ndim != 2:
        raise _tte.InputError(
            f"{name} is {_text.shown(given)}: give a tte.Result, or vectors as float32 [M, dim]{_never(given)}."
        )
    if np.isinf(vectors).any():
        raise _tte.InputError(f"{name} has values that are not finite in float32: give vectors without them.")
    return vectors


def _never(given: Any) -> str:
    kind = "masked arrays" if isinstance(given, np.ma.MaskedArray) else ""
    kind = "complex numbers" if "complex" in str(_options.attribute(given, "dtype")) else kind
    return kind and f" ({kind} are not taken)"


def _real(given: Any) -> Any:
    """What holds numbers, each of them meant: a tensor without its graph, no masks, no complex numbers."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given if given.is_complex() else given.float()
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError("a mask")
    array = np.asarray(given)
    if array.dtype.kind == "c":
        raise TypeError("complex numbers")
    return array


_MOST_VALUES = 1 << 36
_MOST_REPEATED = 1 << 24


def _fits(given: Any) -> bool:
    """Whether it may be copied as vectors: ranges, and views of few values that are many, hold no memory themselves."""
    shape = getattr(given, "shape", None)
    if shape is None:
        return not isinstance(given, Sized) or len(given) <= _MOST_REPEATED
    strides = given.stride() if callable(getattr(given, "stride", None)) else getattr(given, "strides", None)
    most = _MOST_REPEATED if 0 in (strides or ()) else _MOST_VALUES
    return len(shape) in (1, 2) and math.prod(map(int, shape)) <= most

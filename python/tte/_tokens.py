"""One vector per token: ragged arrays, in memory or in files that are larger than it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from tte import _extras, _files, _options, _text, _tte
from tte._keywords import named

Origin = Literal["text", "visual", "trace", "special"]
ORIGINS: tuple[Origin, ...] = ("text", "visual", "trace", "special")
"""What a token is, by its number in `TokenEmbeddings.origins`."""

KEEP: tuple[Origin, ...] = ("text", "visual", "trace")
Vectors = NDArray[np.float16] | NDArray[np.float32]

_DTYPES = {"float16": False, "float32": True}
_POOLINGS = {"neighbours": _tte.TokenPooling.NEIGHBOURS, "hierarchical": _tte.TokenPooling.HIERARCHICAL}
_COPIED = 1 << 24
"""Values that are copied, or written, at a time."""
_REMEDY = "give a .npy or .parquet file that TokenEmbeddings.save or TokenWriter has written"


class TokenChoice(TypedDict, total=False):
    """Which tokens get a vector, for `tokens` of :func:`tte.think_then_embed`; as in `Embedder.embed_tokens`."""

    keep: Origin | Literal["all"] | Iterable[Origin] | None
    dtype: Literal["float16", "float32"]
    pool_factor: int
    pooling: Literal["neighbours", "hierarchical"]


def options(
    keep: Any = None, dtype: Any = "float16", pool_factor: Any = 1, pooling: Any = "hierarchical"
) -> _tte.TokenOptions:
    """Check which tokens get a vector."""
    chosen = KEEP if keep is None else _origins(keep)
    return _tte.TokenOptions(
        text="text" in chosen,
        visual="visual" in chosen,
        trace="trace" in chosen,
        special=None if keep is None else "special" in chosen,
        pooling=_options.choice(pooling, "pooling", _POOLINGS),
        factor=_options.whole(pool_factor, "pool_factor", 1, _options.INT32),
        float32=_options.choice(_options.dtype(dtype), "dtype", _DTYPES),
    )


def chosen(tokens: Any) -> _tte.TokenOptions | None:
    """Check the `tokens` argument of a call: False, True, or a dict as :class:`TokenChoice` has it."""
    if isinstance(tokens, (bool, np.bool_)):
        return options() if tokens else None
    known = TokenChoice.__annotations__
    if not isinstance(tokens, dict) or not all(isinstance(key, str) and key in known for key in tokens):
        raise _options.refuse("tokens", tokens, f"True, False, or a dict with any of {', '.join(known)}")
    return options(**tokens)


def _origins(keep: Any) -> tuple[Origin, ...]:
    if isinstance(keep, str) and (keep := str.__str__(keep)) == "all":  # Not a subclass with ways of its own.
        return ORIGINS
    what = "'all', or one or some of " + ", ".join(map(repr, ORIGINS))
    several = not isinstance(keep, str) and isinstance(keep, Set)
    listed = [keep] if isinstance(keep, str) else list(keep) if several else _options.listed(keep, "keep", what)
    names: list[Origin] = []
    for name in listed:
        if not isinstance(name, str) or str.__str__(name) not in ORIGINS:
            raise _options.refuse("keep", name, what)
        names.append(ORIGINS[ORIGINS.index(str.__str__(name))])
    return tuple(names)


@named
@dataclass(eq=False, repr=False)
class TokenEmbeddings:
    """Vectors of the tokens of each item: rows ``offsets[i]`` to ``offsets[i + 1]`` are item i's.

    ``tokens[i]`` is a view of them, ``tokens[a:b]`` of several items. An item of which no token is kept has one row,
    its pooled vector; one that was skipped has none.
    """

    vectors: Vectors
    """float16 or float32 [rows, dim]."""
    offsets: NDArray[np.int64]
    """int64 [items + 1], ascending from 0 to the number of rows."""
    pooled: NDArray[np.float32] | None = None
    """float32 [items, dim]: one vector per item, as `Embedder.embed` gives it; NaN where an item was skipped. Where
    the recipe pools nothing, the last token's."""
    positions: NDArray[np.int64] | None = None
    """int64 [rows]: index of the row's token in the prompt, the first one's where several were pooled; -1: none."""
    ids: NDArray[np.int64] | None = None
    """int64 [rows]: that token's id; -1: none."""
    origins: NDArray[np.uint8] | None = None
    """uint8 [rows]: what that token is, as an index of `tte.ORIGINS`: text, visual, trace, special."""

    def __post_init__(self) -> None:
        """Raise `InputError` for arrays that do not fit each other."""
        self.vectors = checked_array(
            self.vectors, "vectors", "float16 or float32 [rows, dim]", 2, ("float16", "float32")
        )
        self.offsets = checked_array(self.offsets, "offsets", "int64 [items + 1]", 1, ("int64",))
        rows, ends = len(self.vectors), self.offsets
        if len(ends) == 0 or ends[0] != 0 or ends[-1] != rows or bool((np.diff(ends) < 0).any()):
            raise _tte.InputError(
                f"TokenEmbeddings.offsets are {_text.shown(ends)} for {rows} rows: they must ascend from 0 to that."
            )
        for name, dtype in (("positions", "int64"), ("ids", "int64"), ("origins", "uint8")):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, checked_array(values, name, f"{dtype} [rows]", 1, (dtype,), len(self.vectors)))
        if self.pooled is not None:
            shape = "float32 [items, dim]"
            self.pooled = checked_array(self.pooled, "pooled", shape, 2, ("float32",), len(self))
            if self.pooled.shape[1] != self.dim:
                raise _options.refuse("TokenEmbeddings.pooled", self.pooled, f"{shape}, of {self.dim} dimensions")

    @classmethod
    def of(cls, sets: Sequence[Any]) -> TokenEmbeddings:
        """Join arrays [tokens, dim], float16 or float32, one per item; they are copied."""
        return joined(sets, "sets")

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        """The vectors of one item, [tokens, dim]; of a slice (without step), as `TokenEmbeddings`. No copies."""
        at = _options.position(index, len(self))
        if not isinstance(at, slice):
            return self.vectors[self.offsets[at] : self.offsets[at + 1]]
        begin, end, step = at.indices(len(self))
        if step != 1:
            raise _options.refuse("index", index, "a number or a slice without step")
        end = max(begin, end)
        rows = slice(int(self.offsets[begin]), int(self.offsets[end]))
        per_row: list[Any] = [None if each is None else each[rows] for each in (self.positions, self.ids, self.origins)]
        ends = self.offsets[begin : end + 1] - self.offsets[begin]
        return TokenEmbeddings(
            self.vectors[rows], ends, None if self.pooled is None else self.pooled[begin:end], *per_row
        )

    def __iter__(self) -> Iterator[Vectors]:
        return (self[i] for i in range(len(self)))

    def mask(self, *origins: Origin) -> NDArray[np.bool_]:
        """Which rows are of tokens of these origins: bool [rows]."""
        for each in origins:
            if not isinstance(each, str) or str.__str__(each) not in ORIGINS:
                raise _options.refuse("an origin", each, f"one of {', '.join(map(repr, ORIGINS))}, each by itself")
        if self.origins is None:
            raise _tte.InputError(
                "It is not known what tokens these vectors are of: they were made without origins, or read from a .npy "
                "file without its .origins.npy beside it."
            )
        numbers = np.array([ORIGINS.index(each) for each in _origins(list(origins))], dtype=np.uint8)
        return np.isin(self.origins, numbers)

    def only(self, *origins: Origin) -> TokenEmbeddings:
        """A copy with the tokens of these origins alone; an item that has none keeps its pooled vector."""
        if not origins:
            raise _tte.InputError(f"only() is given no origin: give one or some of {', '.join(map(repr, ORIGINS))}.")
        kept = self.mask(*origins)
        before = np.concatenate([[0], np.cumsum(kept)])
        counts = before[self.offsets[1:]] - before[self.offsets[:-1]]
        rows = np.flatnonzero(kept)
        lone = np.flatnonzero((counts == 0) & (np.diff(self.offsets) > 0))
        if lone.size and self.pooled is None:
            raise _tte.InputError(
                f"item {lone[0]} has no token of {', '.join(origins)}, and no pooled vector is known: they were made "
                "without pooled, or read from a .npy file without its .pooled.npy beside it."
            )
        at = np.searchsorted(rows, self.offsets[lone])
        values = np.insert(self.vectors[rows], at, 0, axis=0)
        counts[lone] = 1
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if lone.size and self.pooled is not None:
            values[ends[lone]] = self.pooled[lone]
        per_row: list[Any] = [
            None if each is None else np.insert(each[rows], at, none)
            for each, none in ((self.positions, -1), (self.ids, -1), (self.origins, ORIGINS.index("special")))
        ]
        return TokenEmbeddings(values, ends, self.pooled, *per_row)

    def padded(self) -> tuple[Vectors, NDArray[np.bool_]]:
        """All items in one array [items, most tokens, dim], filled up with zeros, and which of it is theirs."""
        counts = np.diff(self.offsets)
        mask = np.arange(counts.max(initial=0))[None] < counts[:, None]
        values = np.zeros((*mask.shape, self.dim), self.vectors.dtype)
        values[mask] = self.vectors
        return values, mask

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .parquet file with a row per item, or a .npy file of all vectors with a few small ones beside it.

        Raises:
            InputError: another suffix, or a folder that does not exist.

        """
        with TokenWriter(path) as writer:
            writer.append(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TokenEmbeddings:
        """Read what `save` or a `TokenWriter` has written; the vectors of a .npy file are mapped, not read.

        Raises:
            InputError: a file that is missing or damaged, or is none of these.

        """
        target = _target(path)
        with _files.reading(target, _REMEDY):
            found = _read_parquet(target) if target.suffix == ".parquet" else _read_npy(target)
        try:
            return cls(**found)
        except _tte.InputError as error:  # It names the array, not the file.
            why = str(error).removeprefix("TokenEmbeddings.").rstrip(".")
            name = why.partition(" ")[0]
            with _files.reading(
                _beside(target, name) if target.suffix == ".npy" and name in _SIDE else target, _REMEDY
            ):
                raise ValueError(why) from None

    def __repr__(self) -> str:
        rows, dim = self.vectors.shape
        return f"TokenEmbeddings({len(self)} items, {rows} vectors of {dim} dimensions, {self.vectors.dtype})"


def joined(sets: Any, name: str) -> TokenEmbeddings:
    """:meth:`TokenEmbeddings.of`, where `name` stands for what is joined in errors."""
    what = "float16 or float32 [tokens, dim]"
    several = f"a tte.TokenEmbeddings, or a list of arrays {what}"
    if isinstance(sets, (str, os.PathLike)):
        raise _options.refuse(name, sets, f"{several}: tte.TokenEmbeddings.load reads files")
    if isinstance(_options.attribute(sets, "ndim"), int) and sets.ndim == 2:
        raise _unfit(name, sets, f"{several}, with one array in brackets", ())
    arrays = [
        checked_array(each, f"{name}[{i}]", what, 2, ("float16", "float32"))
        for i, each in enumerate(_options.listed(sets, name, several))
    ]
    if not arrays:
        raise _tte.InputError(f"{name} is an empty list, whose number of dimensions is not known: give {several}.")
    if len({(each.shape[1], each.dtype) for each in arrays}) > 1:
        found = sorted({f"{each.dtype} of {each.shape[1]} dimensions" for each in arrays})
        raise _tte.InputError(f"{name} has arrays of {', '.join(found[:4])}: they must be of one kind.")
    for i, each in enumerate(arrays):
        if not np.isfinite(each).all():
            raise _tte.InputError(f"{name}[{i}] has values that are not finite: give vectors without them.")
    ends = np.cumsum([0, *(len(each) for each in arrays)], dtype=np.int64)
    return TokenEmbeddings(np.concatenate(arrays), ends)


def taken(native: _tte.TokenEmbeddings, pooled: NDArray[np.float32]) -> TokenEmbeddings:
    """The engine's result as arrays; its memory is moved."""
    return TokenEmbeddings(native.take_data(), native.offsets, pooled, native.positions, native.ids, native.origins)


def checked_array(
    value: Any, name: str, what: str, dims: int, dtypes: Sequence[str], rows: int | None = None
) -> NDArray[Any]:
    """Check an array; what can be made one without a copy of its values is."""
    array: Any = None
    with suppress(Exception):  # What objects of other libraries raise when they are made an array.
        array = value if isinstance(value, np.ndarray) else _from_tensor(value)
    fine = isinstance(array, np.ndarray) and array.ndim == dims and str(array.dtype) in dtypes
    fine = fine and not isinstance(array, np.ma.MaskedArray)
    if not fine or (rows is not None and len(array) != rows) or (dims == 2 and array.shape[1] == 0):
        raise _unfit(name, value, what + ("" if rows is None else f", {rows} of them"), dtypes)
    found: NDArray[Any] = array
    return found if found.flags.c_contiguous else _dense(found, name, what)


def _unfit(name: str, value: Any, what: str, dtypes: Sequence[str]) -> _tte.InputError:
    """The error of an array that is another one: its dtype and shape, and what makes it fit."""
    dtype, shape = _options.attribute(value, "dtype"), _options.attribute(value, "shape")
    if isinstance(value, (list, tuple)) and dtypes:
        what += f", as np.array(..., np.{dtypes[-1]}) makes it"
    if dtype is None or not isinstance(shape, tuple):
        return _options.refuse(name, value, what)
    if isinstance(value, np.ma.MaskedArray):
        what += ", without a mask"
    elif dtypes and str(dtype).removeprefix("torch.") not in dtypes and getattr(dtype, "kind", "f") in "fiu":
        cast = f".to(torch.{dtypes[-1]})" if hasattr(value, "detach") else f".astype(np.{dtypes[-1]})"
        what += f", as {cast} makes it"
    kind = _files.shown(f"{type(value).__name__} of {dtype} {list(shape)}", 120)
    return _tte.InputError(f"{name} is a {kind}: it must be {what}.")


def _from_tensor(value: Any) -> Any:
    return np.asarray(value.detach().cpu()) if hasattr(value, "detach") else None


def _dense(array: NDArray[Any], name: str, what: str) -> NDArray[Any]:
    if array.size > _COPIED and 0 in array.strides:
        raise _options.refuse(name, array, f"{what}, and not few values shown as many")
    return np.ascontiguousarray(array)


_SIDE = {"offsets": "int64", "pooled": "float32", "positions": "int64", "ids": "int64", "origins": "uint8"}
"""What stands beside the vectors, each in a .npy file of its own."""


def _target(path: Any) -> Path:
    target = _text.expanded(path, "path")
    if target.suffix not in (".npy", ".parquet"):
        raise _tte.InputError(f"{_text.shown_path(target)} ends in neither .npy nor .parquet: name the file so.")
    return target


@named
class TokenWriter:
    """Write token vectors to a file piece by piece, so that all of them are never in memory.

    Files get their names when the writer is closed without an error; until then, what was there stays. Of several
    writers of one file the last that is closed wins; one that is never closed leaves nothing.

        with tte.TokenWriter("corpus.npy") as out:
            for batch in batches:
                out.append(embedder.embed_tokens(batch))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = _target(path)
        name = _text.shown_path(self._path)
        with _files.reading(self._path, "write to another file"):
            if not self._path.parent.is_dir():
                raise _tte.InputError(f"{_text.shown_path(self._path.parent)} is not a folder: make it first.")
            if self._path.is_dir():
                raise _tte.InputError(f"{name} is a folder: give the file another name.")
        self._file: _Npy | _Parquet | None = None
        self._kind: tuple[Any, ...] = ()
        self._closed = False

    def __repr__(self) -> str:
        """One line: the file, and whether it is written to."""
        return f"TokenWriter({_text.shown_path(self._path)}{', closed' if self._closed else ''})"

    def append(self, tokens: TokenEmbeddings) -> None:
        """Write further items.

        Raises:
            InputError: vectors of another size or dtype than those before them, or what is no `TokenEmbeddings`.

        """
        if not isinstance(tokens, TokenEmbeddings):
            raise _options.refuse("tokens", tokens, "a tte.TokenEmbeddings")
        if self._closed:
            raise _tte.InputError(f"The writer of {_text.shown_path(self._path)} is closed: open another one.")
        there = tuple(name for name in _SIDE if getattr(tokens, name) is not None)
        kind = (str(tokens.vectors.dtype), tokens.dim, there)
        with _cannot_write(self._path):
            if self._file is None:
                self._kind = kind
                opened = _Parquet if self._path.suffix == ".parquet" else _Npy
                self._file = opened(self._path, *kind)
                self._abandoned = weakref.finalize(self, _abandon, os.getpid(), self._file)
            elif kind != self._kind:
                raise _tte.InputError(
                    f"{_text.shown_path(self._path)} has vectors of {self._kind[1]} dimensions in {self._kind[0]} with "
                    f"{', '.join(self._kind[2])}; these are of {kind[1]} in {kind[0]} with {', '.join(kind[2])}."
                )
            for some in _pieces(tokens):
                self._file.append(some)

    def close(self) -> None:
        """Finish the file. One to which nothing was written is not made."""
        self._end(keep=True)

    def _end(self, keep: bool) -> None:
        file, self._file, self._closed = self._file, None, True
        if file is not None:
            self._abandoned.detach()
            with _cannot_write(self._path):
                file.end(keep)

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end(keep=kind is None)


def _pieces(tokens: TokenEmbeddings) -> Iterator[TokenEmbeddings]:
    """Items in the order of their numbers, as many at a time as may be copied."""
    some, begin = max(_COPIED // tokens.dim, 1), 0
    while begin < len(tokens):
        end = int(np.searchsorted(tokens.offsets, tokens.offsets[begin] + some, "right")) - 1
        end = min(max(end, begin + 1), len(tokens))
        yield tokens[begin:end]
        begin = end


class _cannot_write:  # noqa: N801
    """Name the file in what the system says while it is written."""

    def __init__(self, path: Path) -> None:
        self._name = _text.shown_path(path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, where: Any) -> None:
        if isinstance(error, OSError):
            raise _tte.InputError(
                f"{self._name} cannot be written ({_files.reason(error)}): write to another disk or folder."
            ) from error


def _abandon(owner: int, file: _Npy | _Parquet) -> None:
    """Remove what a writer that nobody closed has written; a forked process leaves it to its maker."""
    if os.getpid() == owner:
        with suppress(OSError):
            file.end(keep=False)


class _Column:
    """A .npy file that grows."""

    def __init__(self, path: Path, dtype: str, width: int | None) -> None:
        self.path = path
        self._dtype, self._width, self._rows = np.dtype(dtype), width, 0
        self._part = _files.part(path)  # Once: whoever closes it may be another thread or a forked process.
        self._file = self._part.open("w+b")
        self._header()

    def _header(self) -> None:
        self._file.write(
            _files.npy_header(self._dtype, (self._rows,) if self._width is None else (self._rows, self._width))
        )

    def append(self, values: NDArray[Any]) -> None:
        step = max(_COPIED // max(self._width or 1, 1), 1)
        for begin in range(0, len(values), step):
            self._file.write(np.ascontiguousarray(values[begin : begin + step]).data)
        self._rows += len(values)

    def end(self, keep: bool) -> None:
        try:
            if keep:
                self._file.seek(0)
                self._header()
                self._file.close()
                self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)
            self._file.raw.close()  # Without what waits to be written, for which there may be no room.


class _Npy:
    """The vectors in one .npy file, and what stands beside them in others, named after it."""

    def __init__(self, path: Path, dtype: str, dim: int, there: Sequence[str]) -> None:
        self._path, self._rows = path, 0
        self._columns: dict[str, _Column] = {}
        try:
            self._columns["vectors"] = _Column(path, dtype, dim)
            for name in there:
                self._columns[name] = _Column(_beside(path, name), _SIDE[name], dim if name == "pooled" else None)
        except BaseException:
            self.end(keep=False)
            raise
        self._columns["offsets"].append(np.zeros(1, np.int64))

    def append(self, tokens: TokenEmbeddings) -> None:
        for name, column in self._columns.items():
            values = getattr(tokens, name)
            column.append(values[1:] + self._rows if name == "offsets" else values)
        self._rows += len(tokens.vectors)

    def end(self, keep: bool) -> None:
        with ExitStack() as rest:  # What is left of them goes, whichever cannot be finished.
            for column in self._columns.values():
                rest.callback(column.end, keep=False)
            if keep:
                rest.enter_context(_files.alone_in(self._path.parent))  # Files of two writers do not fit each other,
                for name in _SIDE.keys() - self._columns.keys():  # nor do those of an older set of vectors.
                    _beside(self._path, name).unlink(missing_ok=True)
            for name in reversed(self._columns):  # The vectors last: where they are, the rest is.
                self._columns[name].end(keep)


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}.{name}.npy")


def _read_npy(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"vectors": _files.read_npy(path, mapped=True)}
    for name in _SIDE:
        beside = _beside(path, name)
        if os.path.lexists(beside):
            with _files.reading(beside, _REMEDY):
                found[name] = _files.read_npy(beside)
        elif name == "offsets":
            raise ValueError(
                f"it has no {_files.shown(beside.name, 60)} beside it, which says what item a vector is of"
            )
    return found


class _Parquet:
    """A row per item: its vectors as bytes would be smaller, but nobody else could read them."""

    def __init__(self, path: Path, dtype: str, dim: int, there: Sequence[str]) -> None:
        pa, parquet = _extras.pyarrow()
        self._pa, self._path, self._there = pa, path, [name for name in there if name != "offsets"]
        value = pa.float16() if dtype == "float16" else pa.float32()
        kinds = {"vectors": pa.list_(pa.list_(value, dim)), "pooled": pa.list_(pa.float32(), dim)}
        kinds |= {name: pa.list_(pa.from_numpy_dtype(_SIDE[name])) for name in ("positions", "ids", "origins")}
        schema = pa.schema([(name, kinds[name]) for name in ("vectors", *self._there)])
        self._schema, self._dim = schema, dim
        self._part = _files.part(path)
        self._file = _files.for_arrow(self._part, "wb")
        try:
            self._writer = parquet.ParquetWriter(self._file, schema)
        except BaseException:
            self._part.unlink(missing_ok=True)
            raise

    def append(self, tokens: TokenEmbeddings) -> None:
        pa = self._pa
        ends = pa.array(tokens.offsets.astype(np.int32))

        def rows(values: NDArray[Any]) -> Any:
            flat = pa.array(values.reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, self._dim) if values.ndim == 2 else flat

        columns = [
            rows(tokens.pooled) if name == "pooled" and tokens.pooled is not None
            else pa.ListArray.from_arrays(ends, rows(getattr(tokens, name)))
            for name in ("vectors", *self._there)
        ]  # fmt: skip
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def end(self, keep: bool) -> None:
        try:
            with self._file:
                self._writer.close()
            if keep:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)


def _read_parquet(path: Path) -> dict[str, Any]:
    pa, parquet = _extras.pyarrow()
    with _files.for_arrow(path) as raw, parquet.ParquetFile(raw) as file:
        _require_schema(pa, file.schema_arrow)
        pieces: dict[str, list[Any]] = {}
        for batch in file.iter_batches(batch_size=256):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                pieces.setdefault(name, []).append(_flat(name, column))
                if name == "vectors":
                    lengths = np.diff(column.offsets.to_numpy()).astype(np.int64)
                    pieces.setdefault("offsets", []).append(lengths)
        width = file.schema_arrow.field("vectors").type.value_type.list_size
        kind = file.schema_arrow.field("vectors").type.value_type.value_type.to_pandas_dtype()
    empty: dict[str, Any] = {"vectors": np.empty((0, width), kind), "offsets": np.empty(0, np.int64)}
    joined = {name: np.concatenate(each) for name, each in {**{k: [v] for k, v in empty.items()}, **pieces}.items()}
    joined["offsets"] = np.concatenate([np.zeros(1, np.int64), np.cumsum(joined["offsets"], dtype=np.int64)])
    return joined


def _require_schema(pa: Any, schema: Any) -> None:
    """Raise `ValueError` for another parquet file; it says what it is not."""
    names = schema.names
    if "vectors" not in names:
        has = "one vector per item, as `tte embed` writes it" if "vector" in names else f"columns {_text.shown(names)}"
        raise ValueError(f"it has {has}, and no column 'vectors' of vectors per token")
    if len(set(names)) < len(names):
        raise ValueError(f"it has columns {_text.shown(names)}, one of them twice")
    widths = set()
    for name, kind in zip(names, schema.types, strict=True):
        per_item: Any = kind if name == "pooled" else getattr(kind, "value_type", None)
        fine = name == "pooled" or pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if name in ("vectors", "pooled"):
            what = "float32 [dim]" if name == "pooled" else "lists of float16 or float32 [dim]"
            fine = fine and pa.types.is_fixed_size_list(per_item)
            value = per_item.value_type if fine else None
            fine = value == pa.float32() or (name == "vectors" and value == pa.float16())
            widths.add(per_item.list_size if fine else 0)
        elif name in _SIDE and name != "offsets":
            what, fine = f"lists of {_SIDE[name]}", fine and per_item == pa.from_numpy_dtype(_SIDE[name])
        else:
            raise ValueError(f"it has a column {_text.shown(name, 40)}, which token vectors do not have")
        if not fine:
            raise ValueError(f"its column {name!r} is {_files.shown(str(kind), 60)}, not {what}")
    if len(widths) != 1:
        raise ValueError(f"its columns 'vectors' and 'pooled' have {' and '.join(map(str, widths))} dimensions")


def _flat(name: str, column: Any) -> NDArray[Any]:
    """The values of a column of lists, each list behind the other."""
    values = column.flatten()
    if name == "pooled":
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), -1)
    if name != "vectors":
        return np.asarray(values.to_numpy(zero_copy_only=False))
    size = values.type.list_size
    return np.asarray(values.flatten().to_numpy(zero_copy_only=False)).reshape(-1, size)

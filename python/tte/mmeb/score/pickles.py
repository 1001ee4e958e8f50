"""Reading the reference harness's pickles without running anything that is in them.

A pickle is a program. This reader lets it build lists of plain values, dicts, strings and arrays of numbers only; every
other name is refused, and arrays are stand-ins of our own until their bytes have been checked.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tte import _files
from tte._tte import InputError

_KINDS = {f"{kind}{size}" for kind, size in (("f", 2), ("f", 4), ("f", 8))}


class _DType:
    """Stands for `numpy.dtype("f4")`."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if code not in _KINDS:
            raise pickle.UnpicklingError(
                f"it has an array of {code!r}, which is not one of {', '.join(sorted(_KINDS))}"
            )
        self.code = str(code)
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]
            return
        raise pickle.UnpicklingError("it has an array of an unknown layout")


class _Array:
    """Stands for an array until its bytes are there."""

    def __init__(self) -> None:
        self.values: NDArray[np.float32] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("it has an array without content")
        _, shape, dtype, fortran, data = state
        self.values = _values(data, dtype, shape, "F" if fortran else "C")


def _values(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[np.float32]:
    valid = (
        isinstance(data, (bytes, bytearray, pickle.PickleBuffer))
        and isinstance(dtype, _DType)
        and isinstance(shape, tuple)
        and all(isinstance(size, int) and size >= 0 for size in shape)
        and order in ("C", "F")
    )
    if not valid:
        raise pickle.UnpicklingError("it has an array whose parts do not fit together")
    numbers = np.frombuffer(data, dtype=dtype.order + dtype.code)
    if numbers.size != math.prod(shape):
        raise pickle.UnpicklingError(f"it has an array of shape {shape} with {numbers.size} numbers")
    return numbers.reshape(shape, order=order).astype(np.float32)


class _ArrayType:
    """Stands for `numpy.ndarray` itself, which pickles name but need not call."""


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if not isinstance(kind, _ArrayType):
        raise pickle.UnpicklingError("it has a subclass of numpy.ndarray")
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.values = _values(data, dtype, shape, order)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """What protocol 2 writes for bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it has bytes in an unknown encoding")
    return text.encode("latin-1")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in ("numpy.core", "numpy._core")},
    **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in ("numpy.core", "numpy._core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Each answer is a new object, so that a pickle that writes to it changes nothing for the next.
        if (module, name) == ("numpy", "ndarray"):
            return _ArrayType()
        function = _NAMES.get((module, name))
        if function is None:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, but only numpy arrays, dicts and strings are read"
            )

        def build(*arguments: Any) -> Any:
            return function(*arguments)

        return build

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside")


def _load(path: Path) -> Any:
    again = "write it again with the reference's evaluation"
    with _files.reading(path, again), _files.open_regular(path, 1 << 62) as file:
        return _Unpickler(file).load()


def read_array(path: Path) -> NDArray[np.float32]:
    """Read `<DS>_qry`: one array, float32 [N, D].

    Raises `InputError` naming the file if it is anything else.
    """
    found = _load(path)
    if not isinstance(found, _Array) or found.values is None or found.values.ndim != 2:
        raise InputError(f"{path} is not a pickle of one array [N, D].")
    return found.values


def read_vectors(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Read `<DS>_tgt`: a dict of vectors, as the names in their order and float32 [M, D].

    Raises `InputError` naming the file if it is anything else.
    """
    found = _load(path)
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} is not a pickle of a dict of vectors.")
    rows = []
    for name, vector in found.items():
        values = vector.values if isinstance(vector, _Array) else None
        if not isinstance(name, (str, int)) or values is None or values.ndim != 1:
            raise InputError(f"{path}: the entry {str(name)[:80]!r} is not a name with a vector.")
        rows.append(values)
    if len({row.size for row in rows}) != 1:
        raise InputError(f"{path} has vectors of several sizes.")
    return [str(name) for name in found], np.stack(rows)

"""Calls with every value of the zoo, most of which an argument cannot use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tte


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class LongRepr:
    def __repr__(self) -> str:
        return "x" * 100_000


class Endless:
    """Says that it has three elements, and never ends."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[int]:
        return itertools.count()


class RaisingText(str):
    """A text all of whose ways are its own."""

    __slots__ = ()

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("not this text")

    __eq__ = __hash__ = __len__ = __str__ = __contains__ = encode = _refuse


class RaisingNumber(float):
    """A number all of whose ways are its own."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("not this number")

    __eq__ = __lt__ = __le__ = __ge__ = __gt__ = __float__ = _refuse


class Lengthless(list[int]):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class Falsy:
    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


def _recursive() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


ZOO: dict[str, Any] = {
    "None": None,
    "True": True,
    "zero": 0,
    "minus one": -1,
    "2^31": 2**31,
    "2^32 + 14": 2**32 + 14,
    "2^63": 2**63,
    "2^64 + 14": 2**64 + 14,
    "a number of 5,000 digits": 10**5000,
    "a whole float": 3.0,
    "a fraction": 1.5,
    "NaN": math.nan,
    "infinity": math.inf,
    "an empty text": "",
    "a text": "x",
    "a lone surrogate": "a\ud800b",
    "NUL": "a\0b",
    "a long text": "x" * 100_000,
    "bytes": b"abc",
    "an object": object(),
    "a bad repr": BadRepr(),
    "a long repr": LongRepr(),
    "neither true nor false": Falsy(),
    "an empty list": [],
    "a list of None": [None],
    "three numbers": [1, 2, 3],
    "three texts": ["a", "b", "c"],
    "a list in itself": _recursive(),
    "an empty dict": {},
    "a dict": {"a": 1},
    "a set": {1, 2},
    "an endless iterator": itertools.count(),
    "an endless sequence": Endless(),
    "a huge range": range(10**12),
    "an empty array": np.zeros(0),
    "a matrix": np.zeros((2, 3)),
    "numpy's NaN": np.float64(math.nan),
    "numpy's int": np.int64(-5),
    "numpy's bool": np.bool_(True),
    "a date": np.datetime64("2020-01-01"),
    "a path": Path("/nowhere"),
    "a Decimal": Decimal("0.5"),
    "a Fraction": Fraction(1, 3),
    "a complex": 1 + 2j,
    "a dtype": torch.float32,
    "a device": torch.device("cpu"),
    "a tensor": torch.tensor([1.0, 2.0]),
    "an exception": ValueError("x"),
    "an ellipsis": ...,
    "an array without dimensions": np.array(object()),
    "a sequence without a length": Lengthless(),
    "an array of many dimensions": np.zeros((1, 2, 3, 4)),
    "a slice of texts": slice("a", "b"),
    "a text that raises": RaisingText("x"),
    "a number that raises": RaisingNumber(0.5),
    "a slice without steps": slice(0, 1, 0),
}

ENDLESS = ("an endless iterator", "an endless sequence", "a huge range")
ITEMS = ("inputs", "item", "items", "documents")
"""Arguments that are items, which may come from anything that can be iterated over: what has no end is not tried."""


def misunderstood(
    call: Callable[..., Any], good: Mapping[str, Any], parameters: Iterable[str], endless: Collection[str] = ITEMS
) -> list[str]:
    """Which values of which parameter, beside the good ones, end in anything but a result or a short sentence.

    Parameters in `endless` are not given what has no end.
    """
    wrong = []
    for parameter in parameters:
        for kind, value in ZOO.items():
            if parameter in endless and kind in ENDLESS:
                continue
            try:
                call(**{**good, parameter: value})
            except tte.Error as error:
                message = str(error)
                if len(message) < 500 and "\n" not in message and "incompatible" not in message:
                    continue
                wrong.append(f"{parameter} = {kind}: {message[:120]!r} of {len(message)} characters")
            except Exception as error:
                wrong.append(f"{parameter} = {kind}: {type(error).__name__}: {str(error)[:120]}")
    return wrong

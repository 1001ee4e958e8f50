"""Keyword arguments of the public calls, turned into the engine's option structs: one value or one per item."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from tte import _text, _tte

Progress = bool | Callable[[int, int], None]
"""`True` shows a bar, `False` nothing, a callable gets (done, total)."""

_PER_ITEM = (
    "max_new_tokens",
    "min_new_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_think_tokens",
    "seed",
)


def per_item(value: Any, count: int, name: str) -> list[Any]:
    """Spread one value over `count` items, or check that a list has one per item."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise _tte.InputError(f"{name} has {len(values)} values for {count} items: give one value, or one per item.")
    return values


def generate_options(
    count: int,
    *,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] = (),
    ignore_eos: bool = False,
    **settings: Any,
) -> list[_tte.GenerateOptions]:
    """Build the decoding settings of each item and check them."""
    unknown = set(settings) - set(_PER_ITEM)
    if unknown:
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}; decoding options are {', '.join(_PER_ITEM)}")
    columns = {name: per_item(value, count, name) for name, value in settings.items() if value is not None}
    result = []
    for index in range(count):
        options = _tte.GenerateOptions()
        for name, values in columns.items():
            try:
                setattr(options, name, values[index])
            except TypeError:
                raise _tte.InputError(f"item {index}: {name} cannot be {values[index]!r}.") from None
        try:
            options.stop = [_text.utf8(s, "stop") for s in ([stop] if isinstance(stop, str) else list(stop or ()))]
            options.stop_token_ids = list(stop_token_ids)
        except TypeError:
            raise _tte.InputError(
                f"stop is {stop!r} and stop_token_ids {stop_token_ids!r}: give strings, and a list of token ids."
            ) from None
        options.ignore_eos = ignore_eos
        options.validate()
        result.append(options)
    return result


def tasks(
    task: str | Sequence[str | None] | None, side: Literal["query", "target"] | Sequence[str], count: int
) -> list[_tte.Task]:
    """Build the task family and side of each item."""
    sides = {"query": _tte.Side.QUERY, "target": _tte.Side.TARGET}
    result = []
    for family, name in zip(per_item(task, count, "task"), per_item(side, count, "side"), strict=True):
        if name not in sides:
            raise _tte.InputError(f"side is {name!r}: it must be 'query' or 'target'.")
        if family is not None and not isinstance(family, str):
            raise _tte.InputError(f"task is {family!r}: it must be the name of a task family, or None.")
        result.append(_tte.Task(_text.utf8(family or "", "task"), sides[name]))
    return result


def text(value: Any, name: str) -> str | None:
    """Check an argument that is a text or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _tte.InputError(f"{name} is {_text.shown(value)}: it must be a str, or None.")
    return _text.utf8(value, name)


def flag(value: Any, name: str) -> bool:
    """Check an argument that is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise _tte.InputError(f"{name} is {_text.shown(value)}: it must be True or False.")
    return bool(value)


def whole(value: int | None, name: str) -> int | None:
    """Check an argument that is a whole number or None; numpy's are turned into Python's."""
    try:
        return None if value is None else operator.index(value)
    except TypeError:
        raise _tte.InputError(f"{name} is {value!r}: it must be an int, or None.") from None


def count(value: Any, name: str) -> int:
    """Check an argument that is a whole number from 0."""
    found = None if isinstance(value, (bool, np.bool_)) else whole(value, name)
    if found is None or not 0 <= found < 1 << 31:
        raise _tte.InputError(f"{name} is {_text.shown(value)}: it must be a whole number from 0 to 2147483647.")
    return found


def positive(value: Any, name: str) -> float:
    """Check an argument that is a number above 0."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise _tte.InputError(f"{name} is {_text.shown(value)}: it must be a number.")
    if not 0 < value < float("inf"):
        raise _tte.InputError(f"{name} is {_text.shown(value)}: it must be a positive number.")
    return float(value)


@contextmanager
def progress_bar(progress: Progress, total: int, label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield the callback of a call: a tqdm bar for lists of more than one item, the caller's own, or none."""
    if callable(progress):
        yield progress
        return
    if not progress or total < 2:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, unit="item", dynamic_ncols=True) as bar:

        def report(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        yield report


def on_error(value: Literal["raise", "skip"]) -> _tte.OnError:
    """Translate the `on_error` argument."""
    known = {"raise": _tte.OnError.THROW, "skip": _tte.OnError.SKIP}
    if value not in known:
        raise _tte.InputError(f"on_error is {value!r}: it must be 'raise' or 'skip'.")
    return known[value]

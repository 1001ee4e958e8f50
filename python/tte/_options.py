"""Arguments of the public calls, checked: one sentence with name, value and remedy for each that cannot be used.

Every number, flag, text and name of every call goes through the functions here, so that nothing reaches the engine
that its types would cut or refuse in their own words.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from contextlib import contextmanager, suppress
from decimal import Decimal
from itertools import islice
from numbers import Integral, Real
from typing import Any, Literal, TypeVar

import numpy as np

from tte import _text, _tte

PathLike = str | os.PathLike[str]
Progress = bool | Callable[[int, int], None]
"""`True` shows a bar, `False` nothing, a callable gets (done, total)."""

INT32 = 2**31 - 1
_MOST = 1 << 24
INT64 = 2**63 - 1

_SIDES = {"query": _tte.Side.QUERY, "target": _tte.Side.TARGET}
_TEXTS = (str, bytes, bytearray, memoryview)

T = TypeVar("T")


def is_absent(value: object) -> bool:
    """Whether a value of a record says that there is none: None, NaN, NaT, pandas' NA; in an array or not."""
    value = _scalar(value)  # Of numpy's NaT it is None.
    if isinstance(value, float):
        return math.isnan(value)  # Of the number itself, whatever a subclass says of it.
    if isinstance(value, np.floating):
        return bool(np.isnan(value))
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def refuse(name: str, value: object, what: str) -> _tte.InputError:
    """Make the error of an argument that cannot be used; `what` it must be."""
    kind = "" if value is None or isinstance(value, (str, bool, int, float)) else f" (a {type(value).__name__})"
    return _tte.InputError(f"{name} is {_text.shown(value)}{kind}: it must be {what}.")


def attribute(value: object, name: str) -> Any:
    """What an object has under a name, or None; objects of other libraries may do anything when they are asked."""
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def _scalar(value: object) -> object:
    """Unwrap the scalar of an array or tensor without dimensions."""
    try:
        if getattr(value, "shape", None) == () and callable(item := getattr(value, "item", None)):
            return item()
    except Exception:  # Objects of other libraries may do anything when they are looked at.
        pass
    return value


def whole(value: object, name: str, least: int = 0, most: int = INT64) -> int:
    """Check a whole number; numpy's become Python's."""
    number = _scalar(value)
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise refuse(name, value, f"a whole number, {_between(least, most)}")
    try:
        plain = int(number)
    except Exception:
        raise refuse(name, value, f"a whole number, {_between(least, most)}") from None
    if not least <= plain <= most:
        raise refuse(name, value, f"a whole number, {_between(least, most)}")
    return plain


def real(value: object, name: str, least: float, most: float) -> float:
    """Check a number; numpy's become Python's."""
    number = _scalar(value)
    if isinstance(number, (bool, str)) or not isinstance(number, Real):
        raise refuse(name, value, f"a number, {_between(least, most)}")
    try:
        plain = float(number)
    except Exception:  # Too large for a float, or no number after all.
        plain = math.nan
    if not least <= plain <= most:
        raise refuse(name, value, f"a finite number, {_between(least, most)}")
    return plain


def _between(least: float, most: float) -> str:
    if isinstance(most, float) and most > 1e300:
        return "above 0" if least > 0 else "at least 0"
    return f"from {least} to {most}"


def count(value: object, name: str) -> int:
    """Check a number of things, from 0."""
    return whole(value, name, 0, INT32)


def position(index: Any, length: int) -> int | slice:
    """Check what stands in the brackets of a sequence: a number, from its end where it is below 0, or a slice.

    Raises:
        InputError: it is neither.
        IndexError: the sequence has no such entry.

    """
    if isinstance(index, slice):
        try:
            index.indices(length)
        except (TypeError, ValueError):  # Of a step of 0.
            raise refuse("index", index, "a number, or a slice of numbers") from None
        return index
    at = whole(index, "index", -(1 << 62), 1 << 62)
    if not -length <= at < length:
        raise IndexError(f"entry {at} of {length}")
    return at % length


def positive(value: object, name: str) -> float:
    """Check a number above 0."""
    return real(value, name, sys.float_info.min, sys.float_info.max)


def flag(value: object, name: str) -> bool:
    """Check an argument that is True or False; numpy's become Python's."""
    if isinstance(answer := _scalar(value), (bool, np.bool_)):
        return bool(answer)
    raise refuse(name, value, "True or False")


def string(value: object, name: str) -> str:
    """Check an argument that is a text."""
    if not isinstance(value, str):
        raise refuse(name, value, "a str")
    return _text.utf8(value, name)


def strings(value: object, name: str) -> list[str]:
    """Check an argument that is a list of texts."""
    return [string(each, name) for each in listed(value, name, "a list of texts")]


def text(value: object, name: str) -> str | None:
    """Check an argument that is a text or None."""
    if value is not None and not isinstance(value, str):
        raise refuse(name, value, "a str, or None")
    return None if value is None else _text.utf8(value, name)


def optional(check: Callable[..., T], value: object, name: str, *limits: Any) -> T | None:
    """Check an argument that may be None."""
    return None if value is None else check(value, name, *limits)


def recipe(value: object) -> str:
    """Check the `recipe` argument; "" where there is none."""
    if value is None:
        return ""
    given = _text.path(value, "recipe")
    return _text.utf8(str(_text.expanded(given, "recipe")) if given.startswith("~") else given, "recipe")


def choice(value: object, name: str, choices: Mapping[str, T]) -> T:
    """Translate an argument that is one of several names."""
    if isinstance(value, str) and (plain := str.__str__(value)) in choices:
        return choices[plain]
    raise refuse(name, value, " or ".join(map(repr, choices)))


def function(value: Any, name: str) -> Any:
    """Check a callback, which may be None; what an `async def` or a generator would do, nobody would wait for."""
    if value is None:
        return value
    if not callable(value):
        raise refuse(name, value, "a callable, or None")
    what = "a plain function, with neither async nor yield, that has done its work when it returns"
    if any(is_later(call) for is_later in _LATER for call in (value, type(value).__call__)):
        raise refuse(name, value, what)

    def call(*arguments: Any) -> Any:
        result = value(*arguments)
        if inspect.isawaitable(result):
            getattr(result, "close", lambda: None)()  # Of a coroutine; it need not warn that nobody waited.
            raise refuse(name, value, f"{what}, and not return a {type(result).__name__}")
        return result

    return call


_LATER = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def device(value: object) -> str:
    """Translate the `device` argument: a name, or a `torch.device`."""
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return str(value)
    return string(value, "device")


def dtype(value: object) -> str:
    """Translate the `dtype` argument: a name, a `torch.dtype`, or a dtype of numpy."""
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value)
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    return string(value, "dtype")


QUANTIZATIONS = ("int8", "int4")


def quantization(value: object) -> str:
    """Translate the `quantization` argument: "int8" or "int4", or None."""
    if value is None:
        return "none"
    name = _text.utf8(value, "quantization") if isinstance(value, str) else ""
    if name not in QUANTIZATIONS:
        raise refuse("quantization", value, '"int8" or "int4", or None')
    return name


def template_options(value: object) -> dict[str, bool | int | str]:
    """Check the `template_options` argument: names with flags, whole numbers or texts."""
    if value is None:
        return {}
    what = 'a dict, such as {"enable_thinking": False}, of at most 100 options, or None'
    if (
        not isinstance(value, Mapping)
        or len(given := list(islice(iterated(value, "template_options", what), 101))) > 100
    ):
        raise refuse("template_options", value, what)
    out: dict[str, bool | int | str] = {}
    for name in given:
        key = string(name, "the name of a template option")
        place = f"template_options[{_text.shown(key)}]"
        option = _scalar(value[name])
        if isinstance(option, bool):
            out[key] = option
        elif isinstance(option, Integral):
            out[key] = whole(option, place, -INT64 - 1)
        elif isinstance(option, str):
            out[key] = _text.utf8(option, place)
        else:
            raise refuse(place, value[name], "True, False, a whole number or a string")
    return out


def cancel_token(value: _tte.CancelToken | None) -> _tte.CancelToken:
    """Check the `cancel` argument."""
    if value is not None and not isinstance(value, _tte.CancelToken):
        raise refuse("cancel", value, "a tte.CancelToken, or None")
    return value or _tte.CancelToken()


def trace_store(value: T) -> T:
    """Check the `store` argument, which may be None."""
    if value is not None and (isinstance(value, type) or not callable(getattr(value, "get_many", None))):
        raise refuse("store", value, "a tte.TraceStore, or None")
    return value


def listed(value: object, name: str, what: str) -> Iterator[Any]:
    """Iterate over an argument that has several values; what has no end or no order is refused.

    A view of few rows can have millions: whoever checks each stops at the first that is wrong.
    """
    if not isinstance(value, Iterable) or not isinstance(value, Sized) or isinstance(value, (*_TEXTS, Mapping, Set)):
        raise refuse(name, value, what)
    try:
        size = len(value)
    except Exception:  # Arrays without dimensions, lazy frames, broken objects.
        raise refuse(name, value, what) from None
    if size > _MOST:
        raise refuse(name, value, f"{what}, of at most {_MOST} entries")
    return islice(iterated(value, name, what), size)


def iterated(value: Iterable[Any], name: str, what: str) -> Iterator[Any]:
    """Iterate over an argument; what raises meanwhile is refused."""
    try:
        yield from value
    except (_tte.Error, MemoryError):
        raise
    except Exception as error:
        raise refuse(name, value, what) from error


def one_each(value: Iterable[Any], count: int, name: str) -> list[Any]:
    """List what has one entry per item; its length is looked at first where it has one, for entries may be views."""
    try:
        size = len(value) if isinstance(value, Sized) else count
        found = list(islice(value, count + 1)) if size == count else None
    except MemoryError:
        raise
    except Exception as error:
        raise refuse(name, value, "one value, or a list with one per item") from error
    if found is not None and len(found) == count:
        return found
    some = size if found is None else f"more than {count}" if len(found) > count else len(found)
    raise _tte.InputError(f"{name} has {some} values for {count} items: give one value, or one per item.")


def per_item(value: Any, count: int, name: str, check: Callable[[Any, str], Any] = lambda each, _: each) -> list[Any]:
    """Check one value and spread it over `count` items, or each of a list that has one per item."""
    if isinstance(value, _TEXTS) or not isinstance(value, Iterable) or _scalar(value) is not value:
        return [check(value, name)] * count  # Where there are no items, too.
    if isinstance(value, (Mapping, Set)) or not isinstance(value, Sized):
        raise refuse(name, value, "one value, or a list with one per item")
    return [check(each, f"item {i}: {name}") for i, each in enumerate(one_each(value, count, name))]


def rules(recipe: str) -> dict[str, Any]:
    """Read a recipe, without the keys whose value is null."""

    def given(value: Any) -> Any:
        return {k: given(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    found: dict[str, Any] = given(json.loads(recipe))
    return found


def tasks(
    task: str | Sequence[str | None] | None, side: Literal["query", "target"] | Sequence[str], count: int
) -> list[_tte.Task]:
    """Build the task family and side of each item."""
    each = zip(per_item(task, count, "task", _family), per_item(side, count, "side", _side), strict=True)
    return [_tte.Task(*one) for one in each]


def one_task(family: Any, side: object) -> _tte.Task:
    """Build the task family and side of one item."""
    return _tte.Task(_family(family, "task"), _side(side, "side"))


def _family(family: Any, name: str) -> str:
    if not is_absent(family) and not isinstance(family, str):
        raise refuse(name, family, "the name of a task family, or None")
    return _text.utf8("" if is_absent(family) else family, name)


def _side(side: object, name: str) -> _tte.Side:
    return choice(side, name, _SIDES)


@contextmanager
def progress_bar(progress: Progress, total: int, label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield the callback of a call: a tqdm bar for lists of more than one item, the caller's own, or none."""
    if callable(progress):
        yield function(progress, "progress")
        return
    if progress is not None and not isinstance(progress, (bool, np.bool_)):
        raise refuse("progress", progress, "True, False, or a callable")
    if not progress or total < 2:
        yield None
        return
    from tqdm.auto import tqdm

    # A bar that cannot be shown, because the program's error output is closed or full, is no reason to stop.
    unseen = (OSError, ValueError, AttributeError)
    try:
        bar = tqdm(total=total, desc=label, unit="item", dynamic_ncols=True)
    except unseen:
        yield None
        return

    def report(done: int, _total: int) -> None:
        with suppress(*unseen):
            bar.update(done - bar.n)

    try:
        yield report
    finally:
        with suppress(*unseen):
            bar.close()


def on_error(value: Literal["raise", "skip"]) -> _tte.OnError:
    """Translate the `on_error` argument."""
    return choice(value, "on_error", {"raise": _tte.OnError.THROW, "skip": _tte.OnError.SKIP})

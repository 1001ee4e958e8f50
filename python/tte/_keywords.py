"""Keywords that a public call does not have are refused as Python does it, with the one that is probably meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

from tte import _decoding, _text

_T = TypeVar("_T")


def named(thing: _T) -> _T:
    """Have a function, or the constructor and the public methods of a class, name what was probably meant."""
    if isinstance(thing, FunctionType):
        checked: Any = _checked(thing)
        return checked  # type: ignore[no-any-return]
    assert isinstance(thing, type)
    for name, each in list(vars(thing).items()):
        function = each.__func__ if isinstance(each, (classmethod, staticmethod)) else each
        if isinstance(function, FunctionType) and (name in ("__init__", "__call__") or not name.startswith("_")):
            setattr(thing, name, _checked(each) if function is each else type(each)(_checked(function)))
    return thing


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters.values()
    gathering = [each.name for each in parameters if each.kind is each.VAR_KEYWORD]
    if gathering not in ([], ["decoding"]):
        return function
    known = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    if gathering:
        known += _decoding.DECODING

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        for keyword in keywords:
            if keyword not in known:
                constructs = function.__name__ == "__init__" and arguments
                name = type(arguments[0]).__name__ if constructs else function.__qualname__
                near = _text.meant(keyword, known) or ": its documentation says which it has."
                raise TypeError(f"{name}() has no argument {_text.shown(keyword)}{near}")
        return function(*arguments, **keywords)

    return call

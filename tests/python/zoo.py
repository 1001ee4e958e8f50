"""Calls with every value of the zoo, most of which an argument cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tte
from test_arguments import ZOO

ENDLESS = ("an endless iterator", "an endless sequence", "a huge range")
ITEMS = ("inputs", "item", "items", "documents")
"""Arguments that are items, which may come from anything that can be iterated over: what has no end is not tried."""


def misunderstood(call: Callable[..., Any], good: Mapping[str, Any], parameters: Iterable[str]) -> list[str]:
    """Which values of which parameter, beside the good ones, end in anything but a result or a short sentence."""
    wrong = []
    for parameter in parameters:
        for kind, value in ZOO.items():
            if parameter in ITEMS and kind in ENDLESS:
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

"""Traces that a caller hands in, and the callback that reads one while it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tte import _options, _text, _tte

TraceLike = _tte.Trace | str


def token_callback(
    on_token: Callable[[int, str, int], bool | None] | None,
) -> Callable[[int, str, int], _tte.OnToken] | None:
    """Wrap a callback that answers False to stop."""
    if on_token is None:
        return None
    callback = _options.function(on_token, "on_token")

    def answer(item: int, text: str, token: int) -> _tte.OnToken:
        said = callback(item, text, token)
        stop = isinstance(said, (bool, np.bool_)) and not said
        return _tte.OnToken.STOP if stop else _tte.OnToken.CONTINUE

    return answer


def to_traces(traces: Sequence[TraceLike | None] | TraceLike | None, count: int) -> list[_tte.Trace | None]:
    """Traces by hand: one per item, as Trace, text or None."""
    if traces is None:
        return []
    what = "a tte.Trace or its text, or a list with one (or None) per item"
    given: Iterator[Any]
    if isinstance(traces, (str, _tte.Trace)):
        given, size = iter([traces]), 1
    else:
        given, size = _options.listed(traces, "traces", what), len(traces)
    if size != count:
        raise _tte.InputError(f"{size} traces for {count} items: give one trace (or None) per item.")
    result: list[_tte.Trace | None] = []
    for index, trace in enumerate(given):
        if isinstance(trace, _tte.Trace):
            result.append(trace)
        elif isinstance(trace, str):
            result.append(_tte.Trace(_text.utf8(trace, f"trace {index}")))
        elif _options.is_absent(trace):
            result.append(None)
        else:
            raise _options.refuse(f"trace {index}", trace, "a tte.Trace, its text, or None")
    return result

"""Texts and values of callers: checked in one place, and shown in messages without their whole payload."""

from __future__ import annotations

import os
import reprlib
import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any

from tte import _tte

_PACKAGE = os.path.join(os.path.dirname(__file__), "")
_SHOWN = 80
_LONGEST_PATH = 4095
_LONGEST_NAME = 255


def warn(message: str) -> None:
    """Warn of the line that called tte: the innermost one outside of this package."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def utf8(value: Any, name: str) -> str:
    """Return the text if it can be written as UTF-8; `name` begins the sentence of the `InputError` if not."""
    return str.__str__(_tte.check_text(value, name))  # Not a subclass with ways of its own.


def meant(name: str, known: Iterable[str]) -> str:
    """What ends a sentence about a name that there is not: a question after the nearest one, or nothing."""
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else ""


def shown(value: object, limit: int = _SHOWN) -> str:
    """A value in a message: its repr, shortened in the middle, always writable as UTF-8."""
    short = reprlib.Repr()  # A few elements: a repr of a large list would take its time.
    short.maxlevel, short.maxstring, short.maxother = 2, 4 * limit, 4 * limit
    try:
        if isinstance(value, (str, bytes)) and len(value) > 4 * limit:  # And that of a long text.
            return shortened(f"{value[: 2 * limit]!r}{value[-2 * limit :]!r}", limit)
        text = short.repr(value)
    except Exception:  # A repr may do anything; a number of 5,000 digits has none.
        text = f"a {type(value).__name__}"
    return shortened(" ".join(text.split()), limit)


def shortened(text: str, limit: int = _SHOWN) -> str:
    """A text with its middle left out where it is long, and with "?" for what UTF-8 cannot write."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-(limit - limit // 2 - 3) :]}"
    return text.encode("utf-8", "replace").decode()


def shown_path(path: str | bytes | os.PathLike[Any]) -> str:
    """A path in a message: on one line, writable as UTF-8, not longer than 160 letters."""
    return shown(os.fsdecode(path), 160)[1:-1]


def expanded(value: Any, name: str) -> Path:
    """The :func:`path` that a caller gave, with the home folder in place of "~"."""
    given = Path(path(value, name))
    try:
        return given.expanduser()
    except RuntimeError:
        if os.path.lexists(given):  # Some programs call their temporary files so.
            return given
        raise _tte.InputError(
            f"{name} {shown_path(given)} begins with a home folder that does not exist: give the whole path."
        ) from None


def path(value: Any, name: str, error: type[_tte.Error] = _tte.InputError) -> str:
    """Return what names a file as a str, if any file could be named so.

    Raises `error` in one sentence that begins with `name` for what is no path, is empty, has letters that no file name
    can have, or is longer than any path.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise error(f"{name} is {shown(value)}: it must be a path.")
    try:
        text = str.__str__(os.fsdecode(value))  # Not a subclass with ways of its own.
        raw = os.fsencode(text)
    except Exception:  # An object's __fspath__ may do anything.
        raise error(f"{name} {shown(value)} has letters that no file name can have: check it.") from None
    if not raw:
        raise error(f"{name} is an empty string: give a path, or leave it out.")
    if b"\0" in raw:
        raise error(f"{name} {shown_path(text)} has a NUL character: no file can be named so.")
    if len(raw) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in raw.split(b"/")):
        raise error(f"{name} {shown_path(text)} ({len(raw)} bytes) is longer than a file system takes: check it.")
    return text

"""Texts and values of callers: checked in one place, and shown in messages without their whole payload."""

from __future__ import annotations

import os
from typing import Any

from tte import _tte

_SHOWN = 80


def utf8(value: Any, name: str) -> str:
    """Return the text if it can be written as UTF-8; `name` begins the sentence of the `InputError` if not."""
    return str.__str__(_tte.check_text(value, name))  # Not a subclass with ways of its own.


def shown(value: object, limit: int = _SHOWN) -> str:
    """A value in a message: its repr, shortened in the middle, always writable as UTF-8."""
    if isinstance(value, (str, bytes)) and len(value) > 4 * limit:  # A repr of it all would take its time.
        text = f"{value[: 2 * limit]!r}{value[-2 * limit :]!r}"
        return shortened(text, limit)
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return shortened(text.replace("\n", " "), limit)


def shortened(text: str, limit: int = _SHOWN) -> str:
    """A text with its middle left out where it is long, and with "?" for what UTF-8 cannot write."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-(limit - limit // 2 - 3) :]}"
    return text.encode("utf-8", "replace").decode()


def shown_path(path: str | bytes | os.PathLike[Any]) -> str:
    """A path in a message: on one line, writable as UTF-8, not longer than 160 letters."""
    return shown(os.fsdecode(path), 160)[1:-1]

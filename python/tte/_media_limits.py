"""What the media of one item may cost."""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields
from typing import Any

from tte import _text, _tte
from tte._keywords import named

_DEFAULTS = _tte.MediaLimits()


@named
@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """What the images and videos of one item may cost.

    A file says little about what it unfolds into. Whatever would go over a limit is refused, by an `InputError` that
    names the limit, before it is spent. Each limit is a whole number from 1 to 2**40.

    Args:
        max_pixels: width times height of an image, or of a video's frames.
        max_file_bytes: bytes of one file.
        max_item_bytes: bytes of memory that an item holds at a time: what decoders work in, pixels, and patches of all
            its images and videos.
        max_item_pixels: pixels that decoders pass over for an item, each scan of a progressive JPEG and each frame of
            a video counted. Every byte of the item's images allows 1,000 more, of its videos 10,000 more; a
            file that is there twice, once.

    Raises:
        InputError: a limit is no whole number, or out of range.

    """

    max_pixels: int = _DEFAULTS.max_pixels
    max_file_bytes: int = _DEFAULTS.max_file_bytes
    max_item_bytes: int = _DEFAULTS.max_item_bytes
    max_item_pixels: int = _DEFAULTS.max_item_pixels

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _limit(getattr(self, field.name), field.name))

    def _native(self) -> _tte.MediaLimits:
        return _tte.MediaLimits(self.max_pixels, self.max_file_bytes, self.max_item_bytes, self.max_item_pixels)


def _limit(value: Any, name: str) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except Exception:  # An object's __index__ may do anything.
        number = None
    if number is None or not 1 <= number <= 1 << 40:
        raise _tte.InputError(f"{name} is {_text.shown(value)}: it must be a whole number from 1 to {1 << 40}.")
    return number


DEFAULT_LIMITS = MediaLimits()


def native(limits: MediaLimits | None) -> _tte.MediaLimits | None:
    """The engine's limits; None: its defaults."""
    if limits is not None and not isinstance(limits, MediaLimits):
        raise _tte.InputError(f"media_limits is a {type(limits).__name__}: give a tte.MediaLimits.")
    return None if limits is None else limits._native()

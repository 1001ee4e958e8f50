"""Folders of frames: their natural order, and which frames are chosen."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
ALL_FRAMES = -1
"""As a number of frames: all that are saved."""


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that compares runs of digits as numbers and the rest without case; equal ones by the name itself."""
    parts: list[str | int] = [part.lower() for part in re.split(r"(\d+)", name)]
    parts[1::2] = [int(part) for part in parts[1::2]]
    return parts, name


def list_frames(folder: Path) -> list[Path]:
    """Frames of a folder in natural order; nothing if it is not a folder."""
    if not folder.is_dir():
        return []
    names = [name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
    return [folder / name for name in sorted(names, key=natural_key)]


def choose(frames: list[Path], count: int) -> tuple[Path, ...]:
    """Choose `count` frames, evenly from the first to the last.

    The i-th is number trunc(linspace(0, n - 1, count)[i]) of n. Fewer than `count` are all taken, once each (some
    versions of the reference repeated the last one). `ALL_FRAMES` takes all, 0 none.
    """
    if count == ALL_FRAMES or count > len(frames):
        return tuple(frames)
    return tuple(frames[index] for index in np.linspace(0, len(frames) - 1, count, dtype=int).tolist())

"""Images, frames and texts of queries and candidates for the page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tte import _tte

FRAMES = 4
_SIDE = 200
_SMALL = 128
_TEXT = 420


@dataclass(frozen=True)
class Shown:
    """A query or a candidate as the page shows it."""

    text: str
    images: tuple[str, ...] = ()
    """Data URLs."""
    small: bool = False
    """Few pixels: to be enlarged without smoothing."""
    frames: int = 0
    """Frames of the video; 0: it is none."""
    problem: str = ""
    trace: str = ""
    """What the reasoner wrote of a candidate."""


def thumbnail(path: Path) -> tuple[str, bool]:
    """A data URL of an image scaled down to 200 pixels, and whether it is small.

    The pixels are the engine's own. Raises `InputError` for what it refuses.
    """
    (pixels,) = _tte.thumbnails(_tte.Image.from_path(path), _SIDE, 1)
    image = Image.fromarray(pixels)
    small = max(image.size) <= _SMALL
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=small, quality=78, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", small


def shown(name: str, about: Mapping[str, Any], find: Callable[[str], Path]) -> Shown:
    """What a run recorded of a query or a candidate, with its images or a few frames of its video.

    Args:
        name: what it is called where there is nothing else to show.
        about: `text`, `images` and `video_frames`; each may be missing.
        find: where a recorded file is now.

    """
    frames = list(about.get("video_frames") or ())
    files = [*(about.get("images") or ()), *frames[:: max(1, -(-len(frames) // FRAMES))]]
    urls: list[str] = []
    small, problem = False, ""
    for file in files:
        try:
            url, small = thumbnail(find(file))
            urls.append(url)
        except _tte.InputError:
            there = os.path.lexists(find(file))
            why = "cannot be shown" if there else "does not exist: give `report --data` the folder of the data"
            problem = f"{Path(file).name} {why}"
    text = (about.get("text") or "").strip()
    text = text if len(text) <= _TEXT else text[:_TEXT] + " …"
    trace = (about.get("trace") or "").strip()
    return Shown(text if text or urls else name, tuple(urls), small, len(frames), problem, trace)

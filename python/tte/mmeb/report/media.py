"""Pictures, frames and texts of queries and candidates for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from tte.mmeb.items import Dataset, Entry

FRAMES = 4
_SIDE = 200
_SMALL = 128
_TEXT = 420


@dataclass(frozen=True)
class Shown:
    """A query or a candidate as the page shows it."""

    name: str
    text: str
    pictures: tuple[str, ...] = ()
    """Data URLs."""
    small: bool = False
    """Few pixels: to be enlarged without smoothing."""
    frames: int = 0
    """Frames of the video; 0: it is none."""
    problem: str = ""


def picture(path: Path) -> tuple[str, bool]:
    """A data URL of a picture scaled down to 200 pixels, and whether it is small; raises OSError."""
    with Image.open(path) as opened:
        image = (ImageOps.exif_transpose(opened) or opened).convert("RGB")
    small = max(image.size) <= _SMALL
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=small, quality=78, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", small


def shown(entry: Entry) -> Shown:
    """An entry's text, and its pictures or a few frames of its video."""
    frames = entry.video_frames[:: max(1, -(-len(entry.video_frames) // FRAMES))]
    urls: list[str] = []
    small, problem = False, ""
    for path in (*entry.images, *frames):
        try:
            url, small = picture(path)
            urls.append(url)
        except (OSError, ValueError) as error:
            problem = f"{path.name}: {error}"
    text = entry.text if len(entry.text) <= _TEXT else entry.text[:_TEXT] + " …"
    return Shown(entry.name, text.strip(), tuple(urls), small, len(entry.video_frames), problem)


def fetch_queries(data: Dataset, rows: Collection[int]) -> dict[int, Entry]:
    """Entries of the given rows; reads no further than the last of them."""
    wanted, last = set(rows), max(rows, default=-1)
    found: dict[int, Entry] = {}
    for row, query in enumerate(data.queries()):
        if row > last:
            break
        if row in wanted:
            found[row] = query.entry
    return found


def fetch_candidates(data: Dataset, names: Iterable[str]) -> dict[str, Entry]:
    """Entries of the given candidates; reads no further than needed."""
    missing = set(names)
    found: dict[str, Entry] = {}
    for entry in data.candidates() if missing else ():
        if entry.name in missing:
            found[entry.name] = entry
            missing.discard(entry.name)
            if not missing:
                break
    return found


def placeholder(name: str) -> Shown:
    """What is shown where the data are not at hand."""
    return Shown(name, name)


__all__ = ["FRAMES", "Shown", "fetch_candidates", "fetch_queries", "picture", "placeholder", "shown"]

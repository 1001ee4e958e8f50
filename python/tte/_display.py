"""HTML of results: pictures, traces, neighbours. Self-contained, so that it survives in a saved notebook."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from tte import _tte

if TYPE_CHECKING:
    from tte._pipeline import Result

_SIDE = 112
_FRAMES = 4
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}

STYLE = """
<style>
.tte{font:14px/1.45 system-ui,sans-serif;border-collapse:collapse;color:inherit}
.tte td,.tte th{border-bottom:1px solid #8884;padding:8px 10px;text-align:left;vertical-align:top;max-width:34em}
.tte th{font-weight:600}.tte img{height:84px;image-rendering:auto;border-radius:4px;margin:0 4px 4px 0}
.tte .think{opacity:.65;white-space:pre-wrap}.tte .answer{font-weight:600;white-space:pre-wrap}
.tte .bar{display:inline-block;height:.6em;background:#4a7bd0;border-radius:2px;margin-right:6px}
.tte .bad{color:#c0392b}.tte .good{color:#1e8449;font-weight:600}.tte .num{font-variant-numeric:tabular-nums}
</style>
"""


def escape(text: str) -> str:
    """Text as HTML shows it."""
    return html.escape(text, quote=True)


def thumbnail(picture: object) -> str:
    """An <img> of a picture of any kind that items may hold, or its name where it cannot be read."""
    try:
        image = _open(picture)
        image = ImageOps.exif_transpose(image) or image
        image = image.convert("RGB")
        image.thumbnail((_SIDE * 2, _SIDE * 2))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
    except (OSError, ValueError, TypeError) as error:
        return f'<span class="bad">{escape(str(error))}</span>'
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _open(picture: object) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return Image.open(io.BytesIO(bytes(picture)))
    if isinstance(picture, (str, os.PathLike)):
        return Image.open(Path(os.fspath(picture)))
    return Image.fromarray(np.asarray(picture, dtype=np.uint8).squeeze())


def parts(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield ("text" | "image", value) of an item, in order; a video gives a few of its frames."""
    if isinstance(item, str):
        yield "text", item
    elif isinstance(item, Mapping):
        yield from _dict_parts(item)
    elif isinstance(item, (list, tuple)):
        for part in item:
            yield from parts(part)
    elif isinstance(item, _tte.Image):
        yield "text", "(image)"
    else:
        yield "image", item


def _dict_parts(item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "role" in item:
        yield "text", f"{item['role']}: "
        yield from parts(item.get("content") or "")
        return
    if item.get("type") in ("image", "video"):
        value = next(
            (item[k] for k in ("image", "video", "path", "bytes", "array", "frames") if item.get(k) is not None),
            None,
        )
        yield from _frames(value) if item["type"] == "video" else iter([("image", value)])
        return
    for key, value in item.items():
        if key in ("text", "instruction") and value is not None:
            yield "text", value
        elif (key == "image" and value is not None) or key == "images":
            for image in value if isinstance(value, (list, tuple)) else [value]:
                yield "image", image
        elif key == "video" and value is not None:
            yield from _frames(value.get("video", value.get("path")) if isinstance(value, Mapping) else value)
        elif key == "videos":
            for video in value or []:
                yield from _frames(video)


def _frames(video: object) -> Iterator[tuple[str, Any]]:
    frames: list[Any] = []
    if isinstance(video, (str, os.PathLike)):
        path = Path(os.fspath(video))
        if not path.is_dir():
            yield "text", f"▶ {path.name}"
            return
        frames = sorted(p for p in path.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
    elif isinstance(video, (list, tuple, np.ndarray)):
        frames = list(video)
    step = max(1, -(-len(frames) // _FRAMES))
    for frame in frames[::step]:
        yield "image", frame


def item_html(item: Any) -> str:
    """Pictures and text of an item."""
    pieces = [thumbnail(value) if kind == "image" else escape(str(value)) for kind, value in parts(item)]
    return "".join(pieces)


def trace_html(trace: _tte.Trace | None) -> str:
    """Thinking, then the conclusion."""
    if trace is None:
        return '<span class="think">(not thought about)</span>'
    thinking, conclusion = trace.thinking, trace.conclusion or trace.text
    think = f'<div class="think">{escape(thinking)}</div>' if thinking else ""
    return f'{think}<div class="answer">{escape(conclusion)}</div>'


def score_html(score: float) -> str:
    """A cosine as a bar and a number."""
    width = max(0.0, min(1.0, score)) * 4
    return f'<span class="bar" style="width:{width:.2f}em"></span><span class="num">{score:.3f}</span>'


def result_html(result: Result, limit: int = 20, neighbours: int = 3) -> str:
    """Table of a result: at most `limit` items, each with its trace and its nearest items."""
    near = result.neighbours(neighbours)
    rows = []
    for index, item in enumerate(result.inputs[:limit]):
        close = "<br>".join(f"{score_html(s)} item {j}" for j, s in near[index]) if len(result) > 1 else ""
        rows.append(
            f"<tr><td>{index}</td><td>{item_html(item)}</td><td>{trace_html(result.traces[index])}</td><td>{close}</td></tr>"
        )
    more = len(result) - limit
    tail = f"<p>… and {more} more</p>" if more > 0 else ""
    failed = "".join(f'<p class="bad">item {e.index}: {escape(e.message)}</p>' for e in result.errors)
    stats = result.stats
    head = (
        f"<p>{len(result)} items, {result.embeddings.shape[1]} dimensions, {stats.seconds:.2f} s; "
        f"{stats.generated_tokens} tokens written, {stats.reused_tokens} of {stats.prompt_tokens} prompt tokens "
        "reused</p>"
    )
    return (
        f"{STYLE}{head}<table class='tte'><tr><th></th><th>input</th><th>trace</th><th>neighbours</th></tr>"
        f"{''.join(rows)}</table>{tail}{failed}"
    )

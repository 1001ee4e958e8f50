"""HTML of results: images, traces, neighbours. Self-contained, so that it survives in a saved notebook.

Images are shown from pixels that the engine decoded (:func:`tte._tte.thumbnails`), under its limits; nothing else ever
opens a file that an item names.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

from tte import _items, _text, _tte
from tte._inputs import native_part

_SIDE = 168
_FRAMES = 4
_MOST_PARTS = 12
_THUMBNAIL_BYTES = 7000
"""Base64 makes them a third larger: under 10 kB in the page."""
_LONGEST_TEXT = 2000
_SHORT_TEXT = 80

STYLE = """
<style>
table.tte{font:14px/1.45 system-ui,sans-serif;border-collapse:collapse;color:inherit;margin:0}
table.tte td,table.tte th{border-bottom:1px solid #8884;padding:8px 10px;text-align:left!important;vertical-align:top;
max-width:34em}
table.tte th{font-weight:600}.tte img{max-height:84px;max-width:168px;border-radius:4px;margin:2px 4px 2px 0;
display:inline-block}
.tte .text,.tte .think,.tte .answer,.tte .bad{white-space:pre-wrap;overflow-wrap:anywhere}
.tte .frames{display:flex}.tte .frames img{max-height:64px}
.tte .think{opacity:.65}.tte .answer{font-weight:600}
.tte .score,.tte .num{white-space:nowrap}.tte .track{display:inline-block;width:4em;margin-right:6px}
.tte .bar{display:inline-block;height:.6em;background:#4a7bd0;border-radius:2px}
.tte .near{display:flex;gap:8px;align-items:center;margin-bottom:4px}.tte .near img{max-height:42px;max-width:84px}
.tte .bad{color:#c0392b}.tte .good{color:#1e8449;font-weight:600}.tte .num{font-variant-numeric:tabular-nums}
</style>
"""


def escape(text: str) -> str:
    """Text as HTML shows it."""
    return html.escape(_text.shortened(text, _LONGEST_TEXT), quote=True)


def media_html(part: _items.Image | _items.Video, frames: int = _FRAMES) -> str:
    """Small images of an image or of a video's frames, or in words why there are none."""
    try:
        small = _tte.thumbnails(native_part(part, "image"), _SIDE, frames)
    except _tte.Error as error:
        return f'<span class="bad">{escape(str(error).removeprefix("thumbnail: "))}</span>'
    images = "".join(f'<img alt="" src="data:image/jpeg;base64,{_jpeg(pixels)}">' for pixels in small)
    if isinstance(part, _items.Image) or frames == 1:
        return images
    name = f'<div class="text">▶ {escape(part.source.name)}</div>' if isinstance(part.source, Path) else ""
    return f'{name}<div class="frames">{images}</div>'


def _jpeg(pixels: Any) -> str:
    from PIL import Image as PILImage

    image = PILImage.fromarray(pixels)
    for quality in (85, 75, 60, 45, 30, 15):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _THUMBNAIL_BYTES:
            break
    return base64.b64encode(buffer.getvalue()).decode()


def item_html(item: Any) -> str:
    """Texts and images of an item, in their order; every text on lines of its own."""
    try:
        read = _items.read(item, "the item")
    except _tte.Error as error:
        return f'<span class="bad">{escape(str(error))}</span>'
    pieces = [] if read.name is None else [f'<div class="think">{escape(read.name)}</div>']
    pieces.append(_parts_html(read.parts))
    pieces += [f'<div class="think">{escape(turn.role)}</div>{_parts_html(turn.parts)}' for turn in read.turns]
    if read.instruction:
        pieces.append(f'<div class="text think">{escape(read.instruction)}</div>')
    return "".join(pieces)


def _parts_html(parts: tuple[_items.Part, ...]) -> str:
    pieces = [
        f'<div class="text">{escape(part)}</div>' if isinstance(part, str) else media_html(part)
        for part in parts[:_MOST_PARTS]
    ]
    more = len(parts) - _MOST_PARTS
    return "".join(pieces) + (f'<div class="think">… and {more} more</div>' if more > 0 else "")


def short_html(item: Any) -> str:
    """An item at a glance: its first image, and the beginning of its text."""
    try:
        item = _items.read(item, "the item")
    except _tte.Error as error:
        return f'<span class="bad">{escape(str(error))}</span>'
    parts = [*item.parts, *(part for turn in item.turns for part in turn.parts)]
    media = next((media_html(part, 1) for part in parts if not isinstance(part, str)), "")
    text = " ".join(part for part in parts if isinstance(part, str)).strip()
    return f"{media}<span>{html.escape(_text.shortened(text, _SHORT_TEXT))}</span>"


def trace_html(trace: _tte.Trace | None) -> str:
    """Thinking, then the conclusion."""
    if trace is None:
        return '<span class="think">(not reasoned about)</span>'
    thinking, conclusion = trace.thinking, trace.conclusion or trace.text
    think = f'<div class="think">{escape(thinking)}</div>' if thinking else ""
    return f'{think}<div class="answer">{escape(conclusion)}</div>'


def score_html(score: float) -> str:
    """A cosine as a bar, with its number beside it."""
    width = max(0.0, min(1.0, score)) * 4
    return (
        f'<span class="score"><span class="track"><span class="bar" style="width:{width:.2f}em"></span></span>'
        f'<span class="num">{score:.3f}</span></span>'
    )

"""Windows and OS/2 bitmaps of every kind that Pillow reads, most of which it does not write; run lengths are refused.

Run as a program, this writes tests/data/media/bitmaps.json: one small file of each kind and Pillow's pixels, for the
C++ tests.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

RAW, RLE8, RLE4, BIT_FIELDS = range(4)
NO_ALPHA_MASKS = [
    (0xFF0000, 0xFF00, 0xFF, 0),
    (0xFF000000, 0xFF0000, 0xFF00, 0),
    (0xFF000000, 0xFF00, 0xFF, 0),
]
ALPHA_MASKS = [
    (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
    (0, 0, 0, 0),
]
MASKS_555 = (0x7C00, 0x3E0, 0x1F, 0)
MASKS_565 = (0xF800, 0x7E0, 0x1F, 0)


@dataclass
class Kind:
    """What distinguishes one bitmap from another."""

    bits: int
    header: int = 40
    compression: int = RAW
    masks: tuple[int, int, int, int] | None = None
    colors: int | None = None  # In the palette; None: all, which the header then need not say.
    palette: bytes | None = None  # None: random.
    top_down: bool = False
    offset: str = "right"  # Or "gap" (bytes before the pixels), "no palette" (forgotten in it), "zero".
    runs: bytes | None = None  # What is stored of run lengths.

    @property
    def name(self) -> str:
        """What it is, for messages."""
        parts = [f"{self.bits} bits", f"header {self.header}"]
        parts += [["raw", "rle8", "rle4", "fields"][self.compression]]
        if self.masks is not None:
            parts.append("masks " + " ".join(f"{m:x}" for m in self.masks))
        if self.colors is not None:
            parts.append(f"{self.colors} colours")
        if self.top_down:
            parts.append("top down")
        if self.offset != "right":
            parts.append(f"offset: {self.offset}")
        return ", ".join(parts)


def encode(kind: Kind, width: int, height: int, rng: np.random.Generator) -> bytes:
    """A file of this kind with random pixels."""
    colors = kind.colors if kind.colors is not None else (1 << kind.bits if kind.bits <= 8 else 0)
    signed = -height if kind.top_down else height
    if kind.header == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, kind.bits)
    else:
        header = struct.pack(
            "<IiiHHIIiiII", 40, width, signed, 1, kind.bits, kind.compression, 0, 2835, 2835, kind.colors or 0, 0
        )
        masks = struct.pack("<4I", *kind.masks) if kind.masks is not None else bytes(16)
        if kind.header >= 52:
            header += masks[: min(16, kind.header - 40)]
            header += bytes(kind.header - len(header))
        elif kind.masks is not None:
            header += masks[:12]
        header = struct.pack("<I", kind.header) + header[4:]
    entry = 3 if kind.header == 12 else 4
    palette = kind.palette if kind.palette is not None else rng.bytes(entry * colors)
    before = 14 + len(header) + len(palette)
    gap = rng.bytes(13) if kind.offset == "gap" else b""
    offset = {"no palette": 14 + kind.header, "zero": 0}.get(kind.offset, before + len(gap))
    if kind.runs is not None:
        pixels = kind.runs
    else:
        stride = (width * kind.bits + 31) // 32 * 4
        # What is not in the palette has no colour.
        rows = rng.integers(0, min(256, kind.colors or 256), (height, stride), dtype=np.uint8)
        pixels = rows.tobytes()
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, offset) + header + palette + gap + pixels


def kinds(width: int, height: int, rng: np.random.Generator) -> Iterator[Kind]:
    """Every kind once."""
    for bits in (1, 4, 8, 24):
        yield Kind(bits, header=12)
        for header in (40, 52, 56, 64, 108, 124):
            yield Kind(bits, header)
        yield Kind(bits, top_down=True)
        yield Kind(bits, offset="gap")
        yield Kind(bits, offset="zero")
    for bits in (1, 4, 8):
        yield Kind(bits, offset="no palette")
        yield Kind(bits, header=12, offset="no palette")
    yield Kind(8, colors=5)
    yield Kind(8, header=124, colors=200, offset="no palette")
    yield Kind(8, colors=300)  # Pillow refuses it.
    yield Kind(8, palette=bytes(v for i in range(256) for v in (i, i, i, 0)))  # Grey.
    yield Kind(1, palette=bytes([0, 0, 0, 0, 255, 255, 255, 0]))
    yield Kind(1, palette=bytes([255, 255, 255, 0, 0, 0, 0, 0]))
    for bits in (16, 32):
        yield Kind(bits)
        yield Kind(bits, top_down=True)
        yield Kind(bits, header=124, offset="gap")
    for header in (40, 52, 56, 64, 108, 124):
        for masks in (MASKS_555, MASKS_565):
            yield Kind(16, header, BIT_FIELDS, masks)
        for masks in NO_ALPHA_MASKS + (ALPHA_MASKS if header >= 56 else []):
            yield Kind(32, header, BIT_FIELDS, masks)
        yield Kind(24, header, BIT_FIELDS, NO_ALPHA_MASKS[0])
    yield Kind(16, 40, BIT_FIELDS, MASKS_565, top_down=True)
    yield Kind(32, 108, BIT_FIELDS, ALPHA_MASKS[0], top_down=True)
    # What tte refuses: rows of one run each.
    run_lengths = bytes([width, 1, 0, 0]) * height + b"\0\1"
    yield Kind(8, compression=RLE8, runs=run_lengths)
    yield Kind(8, compression=RLE8, runs=run_lengths, top_down=True, colors=256, offset="no palette")
    yield Kind(4, compression=RLE4, runs=run_lengths)


def pillows_pixels(data: bytes, background: int | None = None) -> np.ndarray | None:
    """RGB uint8 [height, width, 3]: alpha dropped, or over a grey `background`. None: Pillow refuses the file."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError):
        return None
    if background is not None and "A" in image.getbands():
        below = Image.new("RGBA", image.size, (background,) * 3 + (255,))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def bitmaps(width: int, height: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Name and content of one file of every kind."""
    for kind in kinds(width, height, rng):
        yield kind.name, encode(kind, width, height, rng)


def main() -> None:
    """Write the goldens of the C++ tests."""
    rng = np.random.default_rng(0)
    goldens = []
    for name, data in bitmaps(7, 5, rng):
        entry = {"name": name, "bytes": data.hex(), "width": 7, "height": 5}
        for key, background in (("drop", None), ("white", 255)):
            pixels = None if "rle" in name else pillows_pixels(data, background)
            entry[key] = "" if pixels is None else pixels.tobytes().hex()
        goldens.append(entry)
    path = Path(__file__).parent.parent / "data" / "media" / "bitmaps.json"
    path.write_text(json.dumps(goldens, indent=0).replace("\n", "").replace("}, {", "},\n{") + "\n")


if __name__ == "__main__":
    main()

"""Bitmaps of every kind and TIFF with JPEG inside: the pixels that the models' processor makes of them.

tte's decoder against Pillow, which transformers uses.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tte
from bitmaps import bitmaps, pillows_pixels
from checkpoints import SHAPES, Shape
from conversations import image, user
from PIL import Image
from references import Reference

NANO = Path(__file__).parents[2] / "models" / "nano" / "embedder"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pixels_equal_pillows(seed: int, reference: Callable[[Shape], Reference], tmp_path: Path) -> None:
    theirs = reference(SHAPES[0])
    processor = tte.Processor(theirs.folder)
    rng = np.random.default_rng(seed)
    width, height = (int(n) for n in rng.integers(60, 90, 2))
    for name, data in bitmaps(width, height, rng):
        path = tmp_path / "image.bmp"
        path.write_bytes(data)
        messages = [user(image(path), "what is this")]
        pixels = pillows_pixels(data)
        if pixels is None or "rle" in name:
            with pytest.raises(tte.InputError, match="run-length compression" if "rle" in name else "BMP"):
                processor(messages)
            continue
        # Given a path, transformers asks torchvision, which reads no bitmaps.
        decoded = [user({"type": "image", "image": Image.fromarray(pixels)}, "what is this")]
        ours, expected = processor(messages), theirs.inputs(decoded)
        np.testing.assert_array_equal(ours["pixel_values"], expected["pixel_values"].numpy(), err_msg=name)


def patches(processor: tte.Processor, source: object) -> np.ndarray:
    return np.asarray(processor([user({"type": "image", "image": source}, "what is this")])["pixel_values"])


@pytest.mark.parametrize("mode", ["RGB", "YCbCr", "L", "CMYK"])
def test_jpeg_in_tiff_equals_pillows(mode: str, reference: Callable[[Shape], Reference], tmp_path: Path) -> None:
    """Strips of one and of several blocks; Pillow stores RGB as YCbCr with halved colour."""
    processor = tte.Processor(reference(SHAPES[0]).folder)
    rng = np.random.default_rng(0)
    for width, height in [(61, 83), (200, 130)]:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
        for quality in (50, 95):
            path = tmp_path / f"{width} {quality}.tif"
            image.save(path, compression="jpeg", quality=quality)
            with Image.open(path) as opened:
                expected = patches(processor, opened.convert("RGB"))
            np.testing.assert_array_equal(patches(processor, str(path)), expected)


def test_ycbcr_in_tiff_without_jpeg_is_refused(reference: Callable[[Shape], Reference], tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.new("YCbCr", (60, 60)).save(path, compression="tiff_lzw")
    with pytest.raises(tte.InputError, match="YCbCr colours without JPEG compression"):
        patches(tte.Processor(reference(SHAPES[0]).folder), str(path))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("size", [(61, 40), (64, 33), (7, 3)])
def test_fax_in_tiff_equals_pillows_and_damage_is_refused_or_the_same_each_time(
    compression: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """What libtiff does not decode of a damaged fax is memory that nobody wrote, unless it is noticed."""
    processor = tte.Processor(NANO)
    pixels = np.indices(size[::-1]).sum(0) % 7 < 3
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", compression=compression)
    whole = file.getvalue()
    expected = patches(processor, Image.fromarray(pixels).convert("RGB"))
    np.testing.assert_array_equal(patches(processor, whole), expected)
    path = tmp_path / "fax.tif"
    for at in range(8, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        seen = []
        for value in (0, 200):
            junk = [np.full(pixels.size * n, value, np.uint8) for n in (1, 1, 1, 3)]
            del junk
            try:
                seen.append(patches(processor, bytes(damaged) if value else path))
            except tte.InputError:
                seen.append(np.empty(0))
        np.testing.assert_array_equal(*seen, err_msg=f"byte {at}")

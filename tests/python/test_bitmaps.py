"""Bitmaps of every kind as pixels of the models' processor: tte's decoder against Pillow, which transformers uses."""

from __future__ import annotations

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

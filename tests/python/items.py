"""An image to make items of, in the forms that a caller may have it in."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image
from references import noise

PIXELS = noise(84, 112, 1)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


BASE64 = base64.b64encode(png()).decode()


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)

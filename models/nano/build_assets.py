"""Build python/tte/nano/assets.npz: the handwritten digits, drawn shapes and printed words of the nano world.

Run once (needs scikit-learn and Pillow); the result is stored in the repository so that every image reproduces
bit for bit from a seed, whatever versions of scikit-learn, Pillow or its fonts are installed later.

* digits: all 1797 images of scikit-learn's ``load_digits`` (8x8, 17 grey levels; UCI "Optical Recognition of
  Handwritten Digits", CC BY 4.0), shuffled once: 1297 train, 100 val, 400 test.
* shapes: 6 kinds x 60 variants (size, rotation, stretch, corner offset), 28x28 alpha masks: 40 train, 6 val, 14 test.
* words: 12 words x 16 variants (size, slant, offset) of Pillow's default font, 28x56 masks: 10 train, 2 val, 4 test.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
WORDS = ("tea", "rent", "fish", "milk", "bread", "soap", "bus", "book", "lamp", "rice", "salt", "ink")
OUT = Path(__file__).resolve().parents[2] / "python" / "tte" / "nano" / "assets.npz"
CELL, SCALE = 28, 8


def polygon(kind: str, rng: random.Random) -> list[tuple[float, float]]:
    """Corner points of a shape in the unit disc."""
    if kind == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if kind == "diamond":
        return [(0, -1), (0.68, 0), (0, 1), (-0.68, 0)]
    if kind == "triangle":
        return [(0, -0.95), (0.95, 0.75), (-0.95, 0.75)]
    if kind == "star":
        inner = rng.uniform(0.36, 0.46)
        return [
            (
                (1 if i % 2 == 0 else inner) * math.sin(i * math.pi / 5),
                -(1 if i % 2 == 0 else inner) * math.cos(i * math.pi / 5),
            )
            for i in range(10)
        ]
    w = rng.uniform(0.24, 0.36)  # cross
    return [(-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w), (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w)]


def shape_mask(kind: str, rng: random.Random) -> np.ndarray:
    """One 28x28 uint8 alpha mask."""
    radius = rng.uniform(8.2, 11.2)
    stretch = rng.uniform(0.88, 1.12)
    angle = math.radians(rng.uniform(-9, 9))
    cx, cy = CELL / 2 + rng.uniform(-1.5, 1.5), CELL / 2 + rng.uniform(-1.5, 1.5)
    image = Image.new("L", (CELL * SCALE, CELL * SCALE), 0)
    draw = ImageDraw.Draw(image)
    if kind == "circle":
        rx, ry = radius * stretch * 0.95, radius / stretch * 0.95
        draw.ellipse([(cx - rx) * SCALE, (cy - ry) * SCALE, (cx + rx) * SCALE, (cy + ry) * SCALE], fill=255)
    else:
        points = []
        for px, py in polygon(kind, rng):
            x, y = px * radius * stretch, py * radius / stretch
            points.append(
                (
                    (cx + x * math.cos(angle) - y * math.sin(angle)) * SCALE,
                    (cy + x * math.sin(angle) + y * math.cos(angle)) * SCALE,
                )
            )
        draw.polygon(points, fill=255)
    return np.asarray(image.resize((CELL, CELL), Image.Resampling.BOX))


def word_mask(word: str, rng: random.Random) -> np.ndarray:
    """One 28x56 uint8 alpha mask of a printed word."""
    font = ImageFont.load_default(size=rng.uniform(16, 20) * SCALE / 2)
    slant = rng.uniform(-0.2, 0.2)
    big = Image.new("L", (56 * SCALE // 2, 28 * SCALE // 2), 0)
    draw = ImageDraw.Draw(big)
    left, top, right, bottom = draw.textbbox((0, 0), word, font=font)
    x = (big.width - (right - left)) / 2 - left + rng.uniform(-2, 2) * SCALE / 2
    y = (big.height - (bottom - top)) / 2 - top + rng.uniform(-2, 2) * SCALE / 2
    draw.text((x, y), word, font=font, fill=255)
    big = big.transform(
        big.size, Image.Transform.AFFINE, (1, slant, -slant * big.height / 2, 0, 1, 0), Image.Resampling.BILINEAR
    )
    return np.asarray(big.resize((56, 28), Image.Resampling.BOX))


def main() -> None:
    rng = random.Random("tte nano assets")
    data = load_digits()
    order = list(range(len(data.target)))
    rng.shuffle(order)
    np.savez_compressed(
        OUT,
        digit_pixels=(data.images[order]).astype(np.uint8),
        digit_labels=data.target[order].astype(np.uint8),
        shapes=np.stack([np.stack([shape_mask(k, rng) for _ in range(60)]) for k in SHAPES]),
        words=np.stack([np.stack([word_mask(w, rng) for _ in range(16)]) for w in WORDS]),
    )
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    main()

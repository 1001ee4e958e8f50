"""The nano world: things, cells, splits, and how a scene becomes pixels.

Everything here is integer arithmetic on stored masks plus ``random.Random.random()``, the one stream that Python
documents as reproducible, so an image is the same bytes for the same seed on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
Image = NDArray[np.uint8]
T = TypeVar("T")

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
RGB = {
    "red": (225, 40, 40),
    "green": (40, 180, 60),
    "blue": (60, 80, 240),
    "yellow": (235, 225, 50),
    "purple": (165, 50, 190),
    "cyan": (60, 215, 225),
    "orange": (240, 135, 30),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = SHAPES + DIGITS
NUMBERS = (
    *DIGITS, "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
)  # fmt: skip
WORDS = ("tea", "rent", "fish", "milk", "bread", "soap", "bus", "book", "lamp", "rice", "salt", "ink")
CELL = 28
"""Pixels of a cell's side: exactly one visual token of the model (2x2 patches of 14)."""
SIDE = 3
"""Cells per side of an image."""
CELLS = tuple(f"{'ABC'[i % SIDE]}{i // SIDE + 1}" for i in range(SIDE * SIDE))
"""Cell names in reading order: column letter, row number."""
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "stay": (0, 0)}
"""What one step does to (column, row)."""
RELATIONS = {"left": "left of", "right": "right of", "up": "above", "down": "below"}


class Rng:
    """A seeded source of choices built on ``random.Random.random`` alone."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        return int(self._random() * n)

    def pick(self, items: Sequence[T]) -> T:
        """One element."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """K different elements in random order."""
        pool = list(items)
        for i in range(k):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]


@dataclass(frozen=True)
class Thing:
    """A coloured kind of object: what a name like "red circle" means."""

    colour: str
    kind: str

    @property
    def name(self) -> str:
        """Colour and kind, as texts write them."""
        return f"{self.colour} {self.kind}"


ALL_THINGS = tuple(Thing(c, k) for c in COLOURS for k in KINDS)


def _pair_split(thing: Thing) -> Split:
    c, k = COLOURS.index(thing.colour), KINDS.index(thing.kind)
    if c == k % 8 or (k < 8 and c == (k + 3) % 8):
        return "test"
    return "val" if k >= 8 and c == (k + 5) % 8 else "train"


PAIRS: dict[Split, tuple[Thing, ...]] = {
    s: tuple(t for t in ALL_THINGS if _pair_split(t) == s) for s in ("train", "val", "test")
}
"""The colour-kind pairs of each split: 96 train, 8 val, 24 test; disjoint, and every test thing is a test pair."""
SHAPE_VARIANTS: dict[Split, range] = {"train": range(40), "val": range(40, 46), "test": range(46, 60)}
DIGIT_INSTANCES: dict[Split, range] = {
    "train": range(1297),
    "val": range(1297, 1397),
    "test": range(1397, 1797),
}
WORD_VARIANTS: dict[Split, range] = {"train": range(10), "val": range(10, 12), "test": range(12, 16)}
DIGIT_SIZES = (20, 22, 24)


@dataclass(frozen=True)
class Look:
    """Which stored mask a thing is drawn with, and where in its cell.

    ``shade`` is what a bill adds to the colour of its digits; things in scenes have the plain colours of ``RGB``.
    """

    variant: int
    size: int
    dx: int
    dy: int
    shade: tuple[int, int, int] = (0, 0, 0)


@lru_cache(maxsize=1)
def _assets() -> dict[str, NDArray[np.uint8]]:
    with np.load(Path(__file__).with_name("assets.npz")) as stored:
        return {name: stored[name] for name in stored.files}


@lru_cache(maxsize=1)
def _digits_of() -> dict[tuple[Split, str], tuple[int, ...]]:
    labels = _assets()["digit_labels"]
    return {
        (s, DIGITS[d]): tuple(i for i in DIGIT_INSTANCES[s] if labels[i] == d)
        for s in DIGIT_INSTANCES
        for d in range(10)
    }


@cache
def _digit_mask(instance: int, size: int) -> NDArray[np.int32]:
    """An 8x8 digit scaled to size x size by bilinear interpolation in integers, values 0..255."""
    pixels = np.pad(_assets()["digit_pixels"][instance].astype(np.int64), 1)
    at = (2 * np.arange(size, dtype=np.int64) + 1) * 8 * 16 // (
        2 * size
    ) + 8  # source position * 16, half-pixel centres
    low, part = at // 16, at % 16
    rows = pixels[low] * (16 - part)[:, None] + pixels[np.minimum(low + 1, 9)] * part[:, None]
    both = rows[:, low] * (16 - part) + rows[:, np.minimum(low + 1, 9)] * part
    return np.minimum(both * 255 // (16 * 256), 255).astype(np.int32)


def look_at(thing: Thing, split: Split, rng: Rng) -> Look:
    """A random appearance of the thing from the split's own instances."""
    dark = rng.below(41)
    shade = (rng.below(31) - 15 - dark, rng.below(31) - 15 - dark, rng.below(31) - 15 - dark)
    if thing.kind in DIGITS:
        size = rng.pick(DIGIT_SIZES)
        room = CELL - size
        return Look(rng.pick(_digits_of()[split, thing.kind]), size, rng.below(room + 1), rng.below(room + 1), shade)
    return Look(rng.pick(SHAPE_VARIANTS[split]), CELL, rng.below(3) - 1, rng.below(3) - 1, shade)


def colour_of(placed: Placed) -> tuple[int, int, int]:
    """The red, green and blue a thing is painted with."""
    r, g, b = (min(255, max(0, c + d)) for c, d in zip(RGB[placed.thing.colour], placed.look.shade, strict=True))
    return r, g, b


def mask_of(kind: str, look: Look) -> NDArray[np.int32]:
    """The 28x28 alpha mask (0..255) of a kind drawn with a look."""
    mask = np.zeros((CELL, CELL), np.int32)
    if kind in DIGITS:
        mask[look.dy : look.dy + look.size, look.dx : look.dx + look.size] = _digit_mask(look.variant, look.size)
        return mask
    stored = _assets()["shapes"][SHAPES.index(kind), look.variant].astype(np.int32)
    return np.roll(stored, (look.dy, look.dx), (0, 1))


@dataclass(frozen=True)
class Placed:
    """A thing with its look, in a cell (index in reading order)."""

    thing: Thing
    look: Look
    cell: int


def blend(canvas: Image, mask: NDArray[np.int32], colour: tuple[int, int, int], x: int, y: int) -> None:
    """Paint colour through the mask onto canvas with its top left corner at (x, y)."""
    height, width = mask.shape
    under = canvas[y : y + height, x : x + width].astype(np.int32)
    alpha = mask[:, :, None]
    canvas[y : y + height, x : x + width] = (under * (255 - alpha) + np.asarray(colour, np.int32) * alpha + 127) // 255


def draw_scene(things: Sequence[Placed], background: int, side: int = SIDE) -> Image:
    """An image of side x side cells."""
    canvas = np.full((side * CELL, side * CELL, 3), background, np.uint8)
    for p in things:
        blend(
            canvas,
            mask_of(p.thing.kind, p.look),
            RGB[p.thing.colour],
            p.cell % side * CELL,
            p.cell // side * CELL,
        )
    return canvas


def draw_page(rows: Sequence[tuple[str, int, Placed]], background: int) -> Image:
    """A page: one row of 3 cells for each (word, word variant, digit); the word is printed in 2 cells."""
    canvas = np.full((len(rows) * CELL, 3 * CELL, 3), background, np.uint8)
    for y, (word, variant, digit) in enumerate(rows):
        printed = _assets()["words"][WORDS.index(word), variant].astype(np.int32)
        blend(canvas, printed, (235, 235, 235), 0, y * CELL)
        blend(canvas, mask_of(digit.thing.kind, digit.look), colour_of(digit), 2 * CELL, y * CELL)
    return canvas


def moved(cell: int, step: str) -> int | None:
    """The cell one step away, or None outside the image."""
    dx, dy = STEPS[step]
    x, y = cell % SIDE + dx, cell // SIDE + dy
    return y * SIDE + x if 0 <= x < SIDE and 0 <= y < SIDE else None

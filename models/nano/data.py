"""From samples of the nano world to ragged batches: prompt layout, positions, pixels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
from model import Batch, rotary

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python" / "tte"))  # the generator is used without the rest of the package

from nano import Item  # noqa: E402

FOLDER = Path(__file__).resolve().parent
SP = spm.SentencePieceProcessor(model_file=str(FOLDER / "reasoner" / "tokenizer.model"))
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
SPECIAL = {
    name: SP.piece_to_id(name)
    for name in (
        "<pad>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )
}
STOP = SPECIAL["<|im_end|>"]
_HEAD = SP.encode("<|im_start|>user\n")
_TAIL = SP.encode("<|im_end|>\n<|im_start|>assistant\n")
_CACHE: dict[str, list[int]] = {}


def encode(text: str) -> list[int]:
    """Token ids of a text, remembered for the short texts that come again and again."""
    if text not in _CACHE:
        if len(_CACHE) > 200000:
            _CACHE.clear()
        _CACHE[text] = SP.encode(text)
    return _CACHE[text]


@dataclass
class Prompt:
    """Token ids and their three-part positions, the pictures in it, and where the assistant's turn begins."""

    ids: list[int]
    positions: np.ndarray  # [3, n]
    frames: list[np.ndarray] = field(default_factory=list)
    start: int = 0
    prefix: int = 0  # tokens up to the end of the pictures
    picture: int = 0  # identity of the pictures


def patches(frame: np.ndarray) -> np.ndarray:
    """[patches, 3*14*14] of one frame in merge order, normalised as Qwen2VLImageProcessor does."""
    h, w = frame.shape[0] // 28, frame.shape[1] // 28
    x = (frame.astype(np.float32) / 255 - MEAN) / STD
    return x.reshape(h, 2, 14, w, 2, 14, 3).transpose(0, 3, 1, 4, 6, 2, 5).reshape(h * w * 4, 588)


def sequence(item: Item, trace: str | None, end: bool = True) -> Prompt:
    """The prompt of an item, then its trace (if any), then <|im_end|> (unless end is False: a prompt to continue)."""
    frames: list[np.ndarray] = []
    ids = list(_HEAD)
    before = len(ids) + 1
    grid = (0, 0, 0)
    if item.image is not None or item.video is not None:
        frames = [item.image] if item.image is not None else list(item.video[::2])  # type: ignore[index]
        grid = (len(frames), frames[0].shape[0] // 28, frames[0].shape[1] // 28)
        pad = SPECIAL["<|image_pad|>" if item.image is not None else "<|video_pad|>"]
        ids += [SPECIAL["<|vision_start|>"], *[pad] * (grid[0] * grid[1] * grid[2]), SPECIAL["<|vision_end|>"]]
    ids += encode(item.prompt) + _TAIL
    start = len(ids)
    if trace is not None:
        ids = ids + encode(trace)
    if end:
        ids = [*ids, STOP]
    count = grid[0] * grid[1] * grid[2]
    positions = np.empty((3, len(ids)), np.int64)
    if count:
        positions[:, :before] = np.arange(before)
        positions[:, before : before + count] = np.indices(grid).reshape(3, -1) + before
        rest = before + max(grid)
        positions[:, before + count :] = np.arange(rest, rest + len(ids) - before - count)
    else:
        positions[:] = np.arange(len(ids))
    picture = id(item.image) if item.image is not None else id(item.video)
    return Prompt(ids, positions, frames, start, before + count + 1 if count else 0, picture)


def collate(sequences: Sequence[Prompt], chunk: int = 40, share: bool = False) -> Batch:
    """Pack sequences, longest last; attention pads within chunks of similar length.

    With share, sequences about the same picture (the same array object) share its tokens: they are computed once.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].ids))
    packed = [sequences[i] for i in order]
    lengths = [len(s.ids) for s in packed]
    begins: list[int] = []  # packed row of a sequence's own first token
    own: list[int] = []  # its index in the sequence
    first: dict[int, int] = {}
    total = 0
    for i, s in enumerate(packed):
        begins.append(total)
        own.append(s.prefix if share and s.prefix and s.picture in first else 0)
        if s.prefix:
            first.setdefault(s.picture, i)
        total += lengths[i] - own[i]
    ids = torch.tensor([t for s, k in zip(packed, own, strict=True) for t in s.ids[k:]])
    cos, sin = rotary(
        torch.from_numpy(np.concatenate([s.positions[:, k:] for s, k in zip(packed, own, strict=True)], 1))
    )
    counts = [n - k for n, k in zip(lengths, own, strict=True)]
    row = np.repeat(np.arange(len(packed)), counts)
    column = np.arange(total) - np.repeat(np.asarray(begins) - np.asarray(own), counts)
    chunks = []
    for a in range(0, len(packed), chunk):
        b = min(a + chunk, len(packed))
        t = lengths[b - 1]
        pad = np.full((b - a, t), total)
        mine = np.zeros((b - a, t), bool)
        for i in range(a, b):
            k = own[i]
            if k:
                source = begins[first[packed[i].picture]]
                pad[i - a, :k] = np.arange(source, source + k)
            pad[i - a, k : lengths[i]] = np.arange(begins[i], begins[i] + counts[i])
            mine[i - a, k : lengths[i]] = True
        chunks.append((torch.from_numpy(pad.reshape(-1)), torch.from_numpy(np.flatnonzero(mine)), b - a, t))
    by_size: dict[tuple[int, int], tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for s, begin, k in zip(packed, begins, own, strict=True):
        if s.frames and not k:
            height, width = s.frames[0].shape[:2]
            pixels, slots = by_size.setdefault((height // 14, width // 14), ([], []))
            pixels.extend(s.frames)
            at = begin + len(_HEAD) + 1
            slots.append(np.arange(at, at + len(s.frames) * (height // 28) * (width // 28)))
    pixels_ = []
    slots_ = []
    for (rows, cols), (frames, slots) in by_size.items():
        n = len(frames)
        x = np.stack(frames).reshape(n, rows // 2, 2, 14, cols // 2, 2, 14, 3).transpose(0, 1, 4, 2, 5, 7, 3, 6)
        y = np.ascontiguousarray(x).reshape(-1, 3, 196).astype(np.float32)
        y = (y * np.float32(1 / 255) - MEAN[:, None]) / STD[:, None]
        pixels_.append((torch.from_numpy(y.reshape(-1, 588)), rows, cols))
        slots_.append(np.concatenate(slots))
    where = torch.from_numpy(np.concatenate(slots_)) if slots_ else torch.zeros(0, dtype=torch.long)
    return Batch(ids, cos, sin, lengths, chunks, pixels_, where, order, torch.from_numpy(row), torch.from_numpy(column))

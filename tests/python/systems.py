"""What tests of published systems share: their checkpoints, and transformers on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from references import Reference
from torchvision.transforms.v2 import functional

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
HELPFUL = "You are a helpful assistant."
TEXT = "the cat and dog look at a red circle"


def chat(user: str, system: str = HELPFUL) -> str:
    """A conversation up to the opened turn of the assistant."""
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def unit(state: np.ndarray, dim: int | None = None) -> np.ndarray:
    return state[:dim] / np.linalg.norm(state[:dim])


def fit(size: tuple[int, int], factor: int, least: int, most: int) -> tuple[int, int]:
    """Width and height as qwen-vl-utils chooses them: multiples of a factor, an area between two limits."""
    width, height = size
    w, h = (max(factor, round(side / factor) * factor) for side in (width, height))
    if w * h > most:
        scale = (width * height / most) ** 0.5
        w, h = (int(side / scale // factor) * factor for side in (width, height))
    elif w * h < least:
        scale = (least / (width * height)) ** 0.5
        w, h = (int(np.ceil(side * scale / factor)) * factor for side in (width, height))
    return w, h


def resized(image: Image.Image, width: int, height: int) -> Image.Image:
    """As the processors resize: within one level of Pillow's resize(), which the systems' own code calls."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    cubic = functional.InterpolationMode.BICUBIC
    out = functional.resize(pixels, [height, width], interpolation=cubic, antialias=True).permute(1, 2, 0).numpy()
    assert np.abs(out.astype(int) - np.asarray(image.resize((width, height))).astype(int)).max() <= 1
    return Image.fromarray(out)


def first_resized(image: Image.Image, factor: int, least: int, most: int) -> Image.Image:
    return resized(image, *fit(image.size, factor, least * factor**2, most * factor**2))


class System(Reference):
    """transformers on a system's checkpoint, given the text of a prompt."""

    @torch.inference_mode()
    def states(
        self, text: str, images: list[Image.Image] | None = None, *, sequential: bool = False, **options: Any
    ) -> np.ndarray:
        """Hidden states after the final norm [tokens, hidden]."""
        inputs = dict(self.processor(text=[text], images=images or None, return_tensors="pt", **options))
        if sequential:
            inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1]).expand(3, 1, -1)
        self.model.model.rope_deltas = None
        return self.model.model(**inputs).last_hidden_state[0].numpy()

    def ids(self, text: str) -> list[int]:
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def check(rows: np.ndarray, expected: list[np.ndarray]) -> None:
    np.testing.assert_allclose(rows, np.stack(expected), atol=1e-5, rtol=0)


def extended(folder: Path, name: str, **changes: Any) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"extends": name, **changes}))
    return path

"""Conversations that tte and transformers are compared on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from references import noise

Messages = list[dict[str, Any]]
CLIP = Path(__file__).parent.parent / "data" / "media" / "clip.mp4"  # 15 frames in 1.5 seconds.


def user(*content: Any) -> dict[str, Any]:
    """A user turn of parts: text, or what is already a part."""
    return {
        "role": "user",
        "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content],
    }


def image(path: Path) -> dict[str, Any]:
    """An image part."""
    return {"type": "image", "image": str(path)}


def video(frames: list[np.ndarray]) -> dict[str, Any]:
    """A video part made of frames."""
    return {"type": "video", "video": np.stack(frames)}


def conversations(folder: Path) -> dict[str, Messages]:
    """One conversation of every kind; images are written to `folder`."""
    paths = {}
    for name, (height, width) in {
        "wide": (70, 150),
        "tall": (200, 84),
        "small": (30, 40),
        "exact": (112, 140),
    }.items():
        paths[name] = folder / f"{name}.png"
        Image.fromarray(noise(height, width, len(name))).save(paths[name])
    Image.fromarray(noise(90, 120, 7)).save(folder / "photo.jpg", quality=88)
    Image.fromarray(noise(64, 64, 9)[..., 0]).save(folder / "grey.png")
    frames = [noise(84, 112, i) for i in range(6)]
    return {
        "text": [user("the cat and dog look at a red circle")],
        "unicode": [user("Grüße 東京 привет 😀 e\u0301 \u1e9b\u0323 1234\r\n\n  x")],
        "system": [{"role": "system", "content": "answer with one word"}, user("what is this")],
        "turns": [user("a"), {"role": "assistant", "content": "b c"}, user("the end")],
        "image": [user(image(paths["wide"]), "what is in this picture")],
        "image last": [user("look at", image(paths["tall"]))],
        "two images": [user(image(paths["small"]), "and", image(paths["exact"]), "left of")],
        "images in two turns": [
            user(image(paths["wide"]), "one"),
            {"role": "assistant", "content": "yes"},
            user(image(paths["small"]), "two"),
        ],
        "jpeg": [user(image(folder / "photo.jpg"), "photo")],
        "grey": [user(image(folder / "grey.png"), "grey")],
        "video": [user(video(frames), "what moves")],
        "odd video": [user(video(frames[:3]), "what moves")],
        "video file": [user({"type": "video", "video": str(CLIP)}, "when")],
        "image and video": [user(image(paths["small"]), video(frames[:4]), "both")],
    }  # fmt: skip

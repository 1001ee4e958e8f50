"""The recipe of the nano pair: prompts, trace format and pooling, written beside each checkpoint as recipe.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PICTURE = "list the things in the picture"
CLIP = "list the things in the clip"
CROP = "what is in the picture ?"
VIDEO = "follow the things in the video"
BILL = "add up the bill"


def recipe(role: str) -> dict[str, Any]:
    """role: reasoner, embedder or embedder-no-think. The schema is models/recipes/README.md."""

    def side(instruction: str = "", think: bool = True) -> str | dict[str, Any]:
        return instruction if think else {"both": instruction, "think": False}

    return {
        "name": f"tte-nano-{role}",
        "description": "The tiny pair bundled with tte: pictures, clips and bills of coloured shapes and digits.",
        # In the chat template: <|im_start|>user\n, the picture's tokens, the text, <|im_end|>\n<|im_start|>assistant\n.
        "prompt": {
            "user": ["{media}", "{instruction}", "{text}"],
            "no_text": {"image": PICTURE, "video": VIDEO},
        },
        # Without an instruction the item has its own text. Single words as targets need no trace.
        "tasks": {
            "image_cls": {"query": side(CROP), "target": side(think=False)},
            "image_qa": {"query": side(), "target": side(think=False)},
            "image_ret": {"query": side(), "target": side(PICTURE)},
            "image_vg": {"query": side(), "target": side(CROP)},
            "video_cls": {"query": side(), "target": side(think=False)},
            "video_qa": {"query": side(), "target": side(think=False)},
            "video_ret": {"query": side(), "target": side(VIDEO)},
            "video_mret": {"query": side(), "target": side(CLIP)},
            "visdoc": {"query": side(), "target": side(BILL)},
        },
        # The end token follows the trace, or the prompt where there is no trace, and is pooled.
        "trace": {"open": "<think>", "close": "</think>", "suffix": "<|im_end|>"},
        "pooling": "last",
        "normalize": True,
        "image": {"min_pixels": 784, "max_pixels": 50176},
        "video": {"min_pixels": 784, "max_pixels": 50176},
        "decoding": {"max_new_tokens": 64, "temperature": 0},
    }


if __name__ == "__main__":
    for name in ("reasoner", "embedder", "embedder-no-think"):
        folder = Path(__file__).resolve().parent / name
        if folder.exists():
            (folder / "recipe.json").write_text(json.dumps(recipe(name), indent=2) + "\n")

"""The recipe of the nano pair: prompts, trace format and pooling, written beside each checkpoint as recipe.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = (
    "<|im_start|>user\n{media}{text}<|im_end|>\n<|im_start|>assistant\n"  # media: <|vision_start|>pads<|vision_end|> or nothing
)
PICTURE = "list the things in the picture"
CLIP = "list the things in the clip"
CROP = "what is in the picture ?"
VIDEO = "follow the things in the video"
BILL = "add up the bill"


def recipe(role: str) -> dict[str, Any]:
    """role: reasoner, embedder or embedder-no-think."""
    return {
        "name": f"tte-nano-{role}",
        "role": "reasoner" if role == "reasoner" else "embedder",
        "template": TEMPLATE,
        "trace": {"open": "<think>", "close": "</think>", "with_trace": "{trace}<|im_end|>", "without_trace": "<|im_end|>"},
        "pooling": "last",
        "normalize": True,
        "max_new_tokens": 64,
        "do_sample": False,
        "uses_traces": role != "embedder-no-think",
        "prompts": {
            "image_cls": {"query": CROP, "target": "{text}"},
            "image_qa": {"query": "{text}", "target": "{text}"},
            "image_ret": {"query": "{text}", "target": PICTURE},
            "image_vg": {"query": "{text}", "target": CROP},
            "video_cls": {"query": "{text}", "target": "{text}"},
            "video_qa": {"query": "{text}", "target": "{text}"},
            "video_ret": {"query": "{text}", "target": VIDEO},
            "video_mret": {"query": "{text}", "target": CLIP},
            "visdoc": {"query": "{text}", "target": BILL},
        },
        "traces_on": {
            "query": ["image_cls", "image_qa", "image_ret", "image_vg", "video_cls", "video_qa", "video_ret", "video_mret", "visdoc"],
            "target": ["image_ret", "image_vg", "video_ret", "video_mret", "visdoc"],
        },
        "image_limits": {"min_pixels": 784, "max_pixels": 50176},
    }


if __name__ == "__main__":
    for name in ("reasoner", "embedder", "embedder-no-think"):
        folder = Path(__file__).resolve().parent / name
        if folder.exists():
            (folder / "recipe.json").write_text(json.dumps(recipe(name), indent=2) + "\n")

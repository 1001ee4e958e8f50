"""Writes tests/data/models/qwen2_vl: tiny random checkpoints, inputs, and what transformers computes for them.

Whole numbers are stored as float32, which holds them exactly and which tte reads.

Run from anywhere with torch and transformers installed: python tests/models/make_goldens.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from qwen2_vl_reference import Shape, load, make_item, reference, save, write_items
from safetensors.torch import save_file

FOLDER = Path(__file__).parent.parent / "data" / "models" / "qwen2_vl"
SHAPES = [
    # Tame enough for bfloat16 to be judged by itself: wilder weights magnify its rounding, in transformers too.
    Shape("gqa_tied_new", generation="new", scale=3.0),
    Shape("mha_untied_flat", generation="flat", heads=2, kv_heads=2, tied=False, mrope=(2, 3, 3), eps=1e-5,
          theta=1e6, vision_heads=1, seed=1),
    Shape("mqa_tied_nested", generation="nested", hidden=48, heads=6, kv_heads=1, layers=3, vision_embed=24,
          mrope=(2, 1, 1), vision_act="gelu", seed=2),
]  # fmt: skip
ITEMS = {
    "text": make_item([13], 4, 10),
    "image": make_item([5, (4, 6), 6], 4, 11),
    "two_images": make_item([3, (4, 4), 2, (2, 6), 4], 4, 12),
    "video": make_item([4, (3, 4, 4), 5], 4, 13),
    "image_and_video": make_item([2, (4, 2), 3, (2, 2, 4), 4], 4, 14),
    # Time goes further than height and width: text resumes below the highest position.
    "long_video_last": make_item([3, (6, 2, 2)], 4, 15),
}
NEW_TOKENS = 32


def main() -> None:
    """Write everything, and print how far the greedy choices are from a tie."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_items(ITEMS, FOLDER / "items.safetensors")
    for shape in SHAPES:
        folder = FOLDER / shape.name
        save(shape, folder)
        model, rounded = load(folder, torch.float32), load(folder, torch.bfloat16)
        golden = {}
        for name, item in ITEMS.items():
            for key, value in reference(model, item, NEW_TOKENS).items():
                golden[f"{name}.{key}"] = value.float()
            golden[f"{name}.hidden_bfloat16"] = reference(rounded, item, 1)["hidden"].bfloat16()
            margin = golden.pop(f"{name}.margin").item()
            print(f"{shape.name} {name}: margin {margin:.2e}, {golden[f'{name}.tokens'].unique().numel()} tokens")
        save_file(golden, folder / "golden.safetensors")


if __name__ == "__main__":
    main()

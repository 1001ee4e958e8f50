"""Compares random shapes and prompts with transformers through model_runner, for development.

    python tests/models/compare_transformers.py build/<preset>/tests/models/model_runner [--shapes 24] [--seed 0]

Prints the largest difference of hidden states (float32, whole and in steps), the smallest cosine in bfloat16, and
every greedy token that differs. `noise` is how far transformers' own two attentions (sdpa and eager) are apart in
float32: large weights magnify rounding. Exits with 1 when float32 differs by more than 1e-5 and more than twice that
noise, or a token by more than a tie.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from qwen2_vl_reference import Item, Shape, load, make_item, reference, save, write_items

NEW_TOKENS = 32


def random_shape(rng: random.Random, index: int) -> Shape:
    """Any sizes that the architecture allows, of any naming generation."""
    heads, kv_heads = rng.choice([(2, 2), (4, 2), (6, 1), (6, 3), (8, 2), (3, 3)])
    half = rng.choice([4, 8, 10, 16])
    first = rng.randrange(1, half - 1)
    second = rng.randrange(1, half - first)
    vision_heads = rng.choice([1, 2, 3])
    return Shape(
        name=f"shape{index}", generation=rng.choice(["new", "flat", "nested"]), hidden=heads * half * 2,
        layers=rng.choice([1, 2, 3]), heads=heads, kv_heads=kv_heads, ffn=rng.choice([40, 96, 130]),
        tied=True, mrope=(first, second, half - first - second), theta=rng.choice([1e4, 1e6]),
        eps=rng.choice([1e-6, 1e-5]), vision_embed=vision_heads * rng.choice([4, 12, 20, 32]),
        vision_depth=rng.choice([1, 2, 3]), vision_heads=vision_heads,
        vision_act=rng.choice(["quick_gelu", "quick_gelu", "gelu", "gelu_pytorch_tanh", "silu"]),
        mlp_ratio=rng.choice([2, 4]), patch=rng.choice([2, 4, 14]), scale=rng.choice([1.0, 3.0, 6.0, 10.0]),
        seed=rng.randrange(1 << 30),
    )  # fmt: skip


def random_item(rng: random.Random, patch: int) -> Item:
    """Text, images and videos in any order; text between visuals, as chat templates leave it."""
    parts: list = [rng.randrange(1, 30)]
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        h, w = 2 * rng.randrange(1, 7), 2 * rng.randrange(1, 7)
        parts.append((h, w) if rng.random() < 0.6 else (rng.randrange(1, 6), h, w))
        if rng.random() < 0.8:
            parts.append(rng.randrange(1, 12))
    return make_item(parts, patch, rng.randrange(1 << 30))


def run(runner: Path, folder: Path, items: Path, out: Path, dtype: str, step: int) -> None:
    """Run all items of a checkpoint."""
    out.mkdir()
    subprocess.run([runner, folder, items, out, dtype, str(step), str(NEW_TOKENS)], check=True)


def read(file: Path, dtype: type, columns: int = 1) -> torch.Tensor:
    """Read a raw array that model_runner wrote."""
    return torch.from_numpy(np.fromfile(file, dtype=dtype)).reshape(-1, columns)


def compare(shape: Shape, rng: random.Random, runner: Path, work: Path) -> dict[str, float]:
    """Largest differences over six items of one checkpoint."""
    folder = work / "checkpoint"
    save(shape, folder)
    items = {f"item{i}": random_item(rng, shape.patch) for i in range(6)}
    write_items(items, work / "items.safetensors")
    step = rng.randrange(1, 20)
    for out, dtype, size in (("whole", "float32", 1 << 20), ("steps", "float32", step), ("bf16", "bfloat16", 1 << 20)):
        run(runner, folder, work / "items.safetensors", work / out, dtype, size)
    model, rounded = load(folder, torch.float32), load(folder, torch.bfloat16)
    eager = load(folder, torch.float32, "eager")
    worst = {"whole": 0.0, "steps": 0.0, "noise": 0.0, "cosine": 1.0, "tokens": 0.0}
    for name, item in items.items():
        expected = reference(model, item, NEW_TOKENS)
        positions = read(work / "whole" / f"{name}.positions", np.int64, 3).T
        assert torch.equal(positions, expected["positions"]), (shape, name, "positions")
        other = reference(eager, item, 1)["hidden"]
        worst["noise"] = max(worst["noise"], (other - expected["hidden"]).abs().max().item())
        for out in ("whole", "steps"):
            hidden = read(work / out / f"{name}.hidden", np.float32, shape.hidden)
            worst[out] = max(worst[out], (hidden - expected["hidden"]).abs().max().item())
        tokens = read(work / "whole" / f"{name}.tokens", np.int64)[:, 0]
        if not torch.equal(tokens, expected["tokens"]):
            print(f"  {name}: other tokens; the closest choice was {expected['margin'].item():.1e} from a tie")
            worst["tokens"] = max(worst["tokens"], expected["margin"].item())
        hidden = read(work / "bf16" / f"{name}.hidden", np.float32, shape.hidden)
        bfloat16 = reference(rounded, item, 1)["hidden"].float()
        worst["cosine"] = min(worst["cosine"], torch.cosine_similarity(hidden, bfloat16).min().item())
        worst["last"] = min(worst.get("last", 1.0), torch.cosine_similarity(hidden[-1], bfloat16[-1], dim=0).item())
    return worst


def main() -> None:
    """Compare, print, and judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runner", type=Path)
    parser.add_argument("--shapes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(arguments.seed)
    overall: list[dict[str, float]] = []
    for index in range(arguments.shapes):
        shape = random_shape(rng, index)
        if shape.generation != "nested" and rng.random() < 0.5:
            shape = Shape(**{**shape.__dict__, "tied": False})
        with tempfile.TemporaryDirectory() as work:
            overall.append(compare(shape, rng, arguments.runner.resolve(), Path(work)))
        numbers = ", ".join(f"{key} {value:.3g}" if key != "cosine" and key != "last" else f"{key} {value:.6f}"
                            for key, value in overall[-1].items())  # fmt: skip
        print(f"{index} {shape.generation} scale {shape.scale} hidden {shape.hidden}: {numbers}", flush=True)
    whole, steps = (max(o[key] for o in overall) for key in ("whole", "steps"))
    tokens = max(o["tokens"] for o in overall)
    print(f"float32: whole {whole:.2e}, in steps {steps:.2e}; bfloat16: least cosine of any row "
          f"{min(o['cosine'] for o in overall):.6f}, of the last row {min(o['last'] for o in overall):.6f}")  # fmt: skip
    wrong = any(max(o["whole"], o["steps"]) > max(1e-5, 2 * o["noise"]) for o in overall)
    raise SystemExit(int(wrong or tokens > 1e-4))


if __name__ == "__main__":
    main()

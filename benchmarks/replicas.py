"""What replicas gain: the same items through backends of one and of several replicas, in turn.

    python benchmarks/replicas.py --device cpu --threads 8 --replicas 1 2 4
    python benchmarks/replicas.py --checkpoint /big/disk/qwen2-vl-2b --device cuda:0 cuda:0,cuda:1

Items a second of think_then_embed (texts and images, no two alike), the best of three rounds; one checkpoint reasons
and embeds (default: the nano pair). Every backend gives the vectors of the first, or its line says how far they are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import tte

ROOT = Path(__file__).resolve().parent.parent


def items(count: int, seed: int) -> list[Any]:
    """Questions, every second one about an image."""
    random = np.random.default_rng(seed)
    texts = [f"what is left of the red circle {random.integers(1 << 30)} ?" for _ in range(count)]
    images = random.integers(0, 256, (count, 84, 84, 3), dtype=np.uint8)
    return [[image, text] if i % 2 else text for i, (text, image) in enumerate(zip(texts, images, strict=True))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a model that reasons and embeds")
    parser.add_argument("--device", nargs="+", default=["cpu"])
    parser.add_argument("--replicas", nargs="+", type=int, help="on a CPU; default: 1 2")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each trace")
    arguments = parser.parse_args()
    nano = ROOT / "models" / "nano"
    pairs = []
    for device in arguments.device:
        for replicas in (arguments.replicas or [1, 2]) if device == "cpu" else [None]:
            backend = tte.Backend(device, replicas=replicas, threads=arguments.threads)
            reasoner = tte.Reasoner(arguments.checkpoint or nano / "reasoner", backend=backend)
            pairs.append((reasoner, tte.Embedder(arguments.checkpoint or nano / "embedder", backend=backend)))
    rates: list[list[float]] = [[] for _ in pairs]
    for seed in range(4):
        expected = None
        for (reasoner, embedder), seen in zip(pairs, rates, strict=True):
            begin = time.perf_counter()
            vectors = tte.think_then_embed(
                items(arguments.items, seed), reasoner=reasoner, embedder=embedder, max_new_tokens=arguments.tokens,
                ignore_eos=True, progress=False,
            ).embeddings  # fmt: skip
            if seed > 0:  # The first round warms up.
                seen.append(arguments.items / (time.perf_counter() - begin))
            expected = vectors if expected is None else expected
            if (apart := float(np.abs(vectors - expected).max())) > 0:
                print(f"{embedder.backend}: vectors differ by {apart:.2g}")
    for (_, embedder), seen in zip(pairs, rates, strict=True):
        print(f"{embedder.backend!r:60} {max(seen):8.2f} items/s, {max(seen) / max(rates[0]):.2f} times the first")


if __name__ == "__main__":
    main()

"""What 8 and 4 bits cost the nano pair.

    python benchmarks/quantization.py

For each task of the nano world (test split): hit@1 of the pair with the traces that it writes itself, and the cosine of
its vectors with those of bfloat16 for the same (gold) traces; means over the nine tasks, and the least of all cosines.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import tte
from tte.nano import generate, tasks

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models" / "nano"))
from evaluate_tte import Pool, measure_think  # noqa: E402

FORMATS = (None, "int8", "int4")


def main() -> None:
    """Measure task by task, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="queries a task")
    parser.add_argument("--seed", type=int, default=0, help="of the test data")
    arguments = parser.parse_args()
    folder = ROOT / "models" / "nano"
    pairs = {
        bits: (tte.Reasoner(folder / "reasoner", device="cpu", quantization=bits),
               tte.Embedder(folder / "embedder", device="cpu", quantization=bits))
        for bits in FORMATS
    }  # fmt: skip
    hits: dict[str | None, list[float]] = {bits: [] for bits in FORMATS}
    cosines: dict[str | None, list[np.ndarray]] = {bits: [] for bits in FORMATS}
    for task in tasks():
        pool = Pool(generate(task, arguments.seed, arguments.n))
        gold = [item.trace for item in pool.items]
        vectors = {}
        for bits, (reasoner, embedder) in pairs.items():
            hits[bits].append(measure_think(pool, reasoner, embedder)["think"])
            vectors[bits] = embedder.embed(pool.inputs, gold, task=pool.task, side=pool.sides, progress=False)
            cosines[bits].append((vectors[bits] * vectors[None]).sum(axis=1))
        print(task, {bits or "bfloat16": found[-1] for bits, found in hits.items()}, file=sys.stderr, flush=True)
    print(f"{'':10}{'hit@1':>8}{'cosine: mean':>14}{'least':>8}   hit@1 by task")
    for bits in FORMATS:
        every = np.concatenate(cosines[bits])
        by_task = " ".join(f"{found:.1f}" for found in hits[bits])
        print(f"{bits or 'bfloat16':10}{np.mean(hits[bits]):8.1f}{every.mean():14.4f}{every.min():8.4f}   {by_task}")


if __name__ == "__main__":
    main()

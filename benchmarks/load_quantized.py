"""What `tte quantize` saves: seconds of loading, rounded at load and read as it was rounded, in turn.

    python benchmarks/load_quantized.py /big/disk/qwen2-vl-2b

Both give the same vector, which is checked. Pages are warm and digests known from the first round, which is not
counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tte


def load(path: Path, bits: str | None, number: int) -> tuple[float, np.ndarray]:
    """Seconds to load an embedder on a backend of its own, and a vector."""
    backend = tte.Backend("cpu", max_running=number)
    started = time.perf_counter()
    embedder = tte.Embedder(path, backend=backend, quantization=bits, recipe="raw")
    taken = time.perf_counter() - started
    return taken, embedder.embed(["a red circle"], progress=False)


def main() -> None:
    """Measure a checkpoint in both formats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'':6} {'at load':>24} {'by tte quantize':>24} {'quantize':>9} {'GB':>6}")
    for bits in ("int8", "int4"):
        with tempfile.TemporaryDirectory(dir=arguments.checkpoint.resolve().parent) as scratch:
            started = time.perf_counter()
            folder = tte.quantize(arguments.checkpoint, Path(scratch) / bits, quantization=bits)
            made = time.perf_counter() - started
            seconds: dict[str, list[float]] = {"at load": [], "as it is": []}
            for turn in range(arguments.rounds + 1):
                first, right = load(arguments.checkpoint, bits, 100 + turn)
                second, got = load(folder, None, 100 + turn)
                if not np.array_equal(right, got):
                    sys.exit(f"{bits}: another vector")
                if turn > 0:
                    seconds["at load"].append(first)
                    seconds["as it is"].append(second)
            told = [
                f"{statistics.median(taken):.2f} s ({min(taken):.2f} to {max(taken):.2f})"
                for taken in seconds.values()
            ]  # fmt: skip
            size = (folder / "model.safetensors").stat().st_size / 1e9
            print(f"{bits:6} {told[0]:>24} {told[1]:>24} {made:7.1f} s {size:6.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Images decoded and patchified with 1, 2 and 4 threads: tte and transformers in turn.

    python benchmarks/media.py --dir /big/disk/qwen2-vl-2b-random

Pages of 1275x1650 as JPEG, from a file's bytes to the pixels that Qwen2-VL's vision tower reads.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tte
from PIL import Image
from qwen2_vl_2b import make_checkpoint
from transformers import AutoProcessor


def page() -> bytes:
    """A page with lines of what looks like text."""
    y, x = np.mgrid[0:1650, 0:1275]
    ink = (y % 33 < 18) & ((x * 7919 + y // 33 * 104729) % 97 < 40)
    file = io.BytesIO()
    Image.fromarray(np.where(ink, 40, 250).astype(np.uint8)).convert("RGB").save(file, "jpeg", quality=90)
    return file.getvalue()


def rate(read: Callable[[bytes], object], data: bytes, threads: int, pages: int) -> float:
    """Pages a second."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, [data] * threads))
        started = time.perf_counter()
        list(pool.map(read, [data] * pages))
        return pages / (time.perf_counter() - started)


def main() -> None:
    """Measure both sides in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path.home() / ".cache" / "tte" / "qwen2-vl-2b-random")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=48)
    arguments = parser.parse_args()
    make_checkpoint(arguments.dir)
    ours = tte.Processor(arguments.dir)
    theirs = AutoProcessor.from_pretrained(arguments.dir).image_processor
    data = page()
    sides: dict[str, Callable[[bytes], object]] = {
        "tte": ours,
        "transformers": lambda data: theirs(Image.open(io.BytesIO(data)).convert("RGB"), return_tensors="np"),
    }
    print(f"{'pages a second':16}" + "".join(f"{name:>24}" for name in sides))
    rates: dict[tuple[str, int], float] = {}
    for threads in (1, 2, 4):
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, read in sides.items():
                found[name].append(rate(read, data, threads, arguments.pages))
        cells = ""
        for name in sides:
            rates[name, threads] = statistics.median(found[name])
            cells += f"{rates[name, threads]:17.1f} ({rates[name, threads] / rates[name, 1]:.2f}x)"
        print(f"{f'{threads} threads':16}{cells}", flush=True)


if __name__ == "__main__":
    main()

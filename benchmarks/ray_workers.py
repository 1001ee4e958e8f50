"""What two workers of Ray gain: the same rows through one process, two processes, and two of Ray's workers, in turn.

    python benchmarks/ray_workers.py
    python benchmarks/ray_workers.py --checkpoint /big/disk/qwen2-vl-2b --rows 64 --workers 4

Rows a second of tte.integrations.ray's BatchEmbedder with one thread each (texts and images, no two alike), from the
moment when all have their models until the last batch is done, the median of three rounds; one checkpoint reasons and
embeds (default: the nano pair).
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import statistics
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import tte
from tte.integrations.ray import BatchEmbedder

ROOT = Path(__file__).resolve().parent.parent


def rows(begin: int, count: int) -> dict[str, Any]:
    """Questions about images."""
    return {
        "text": np.array([f"what is left of the red circle {i} ?" for i in range(begin, begin + count)]),
        "image": np.random.default_rng(begin).integers(0, 256, (count, 84, 84, 3), dtype=np.uint8),
    }


class TimedEmbedder:
    """A BatchEmbedder with one thread, that says when it was ready and when a batch was done."""

    def __init__(self, reasoner: Path, embedder: Path, tokens: int) -> None:
        backend = tte.Backend("cpu", threads=1)
        self.embed = BatchEmbedder(
            tte.Embedder(embedder, backend=backend), reasoner=tte.Reasoner(reasoner, backend=backend),
            max_new_tokens=tokens, ignore_eos=True,
        )  # fmt: skip
        self.embed(rows(1 << 20, 8))
        self.ready = time.time()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        begin = int(batch["begin"][0])
        self.embed(rows(begin, len(batch["begin"])))
        return {"ready": np.full(1, self.ready), "done": np.full(1, time.time())}


def process(arguments: tuple[Any, ...], begins: list[int], batch: int, barrier: Barrier, times: Any) -> None:
    """A worker without Ray."""
    embedder = TimedEmbedder(*arguments)
    barrier.wait()
    embedder.ready = time.time()
    for begin in begins:
        made = embedder({"begin": np.arange(begin, begin + batch)})
        times.put((float(made["ready"][0]), float(made["done"][0])))


def by_processes(workers: int, arguments: tuple[Any, ...], total: int, batch: int) -> float:
    """Rows a second of processes that each have an equal part."""
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(workers), context.Queue()
    begins = list(range(0, total, batch))
    children = [
        context.Process(target=process, args=(arguments, begins[i::workers], batch, barrier, times))
        for i in range(workers)
    ]
    for child in children:
        child.start()
    seen = [times.get() for _ in begins]
    for child in children:
        child.join()
    return total / (max(done for _, done in seen) - min(ready for ready, _ in seen))


def by_ray(workers: int, arguments: tuple[Any, ...], total: int, batch: int) -> float:
    """Rows a second of Ray's workers."""
    import ray

    data = ray.data.from_numpy(np.arange(total)).repartition(total // batch)
    made = data.map_batches(lambda given: {"begin": given["data"]}, batch_size=batch).map_batches(
        TimedEmbedder, fn_constructor_args=arguments, batch_size=batch, num_cpus=1, concurrency=workers
    )
    seen = made.take_all()
    return total / (max(row["done"] for row in seen) - max(row["ready"] for row in seen))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a model that reasons and embeds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each trace")
    arguments = parser.parse_args()
    import ray

    ray.init(num_cpus=arguments.workers + 1, logging_level=logging.ERROR, include_dashboard=False)
    nano = ROOT / "models" / "nano"
    models = (arguments.checkpoint or nano / "reasoner", arguments.checkpoint or nano / "embedder", arguments.tokens)
    workers, work = arguments.workers, (models, arguments.rows, arguments.batch)
    sides = {
        "one process": lambda: by_processes(1, *work),
        f"{workers} processes": lambda: by_processes(workers, *work),
        f"{workers} workers of Ray": lambda: by_ray(workers, *work),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(3):
        for name, measure in sides.items():
            rates[name].append(measure())
    first = statistics.median(rates["one process"])
    for name, seen in rates.items():
        rate = statistics.median(seen)
        print(f"{name:20} {rate:8.1f} rows/s ({min(seen):.1f} to {max(seen):.1f})  {rate / first:.2f}x")


if __name__ == "__main__":
    main()

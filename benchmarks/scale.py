"""How throughput and memory go with the size of the work, as plots.

    python benchmarks/scale.py --out scale.svg
    python benchmarks/scale.py --checkpoint /big/disk/qwen2-vl-2b --most 100 --out scale-2b.svg

One checkpoint reasons and embeds (default: the nano reasoner and embedder). Six panels: items embedded a second against
how many are given together; tokens written a second against how many traces are written together, and against their
length; images embedded a second against the side of the image, and against threads; time an item and memory of the
process over 1 to 10,000 items of lengths from 1 to 60 words (`--most`). Every point is the best of three, the last
panel apart. The numbers go to standard output too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import tte

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["red", "green", "blue", "circle", "square", "triangle", "left", "right", "above", "below", "what", "is", "the"]


class Lab:
    """The models, and inputs that no earlier call has seen."""

    def __init__(self, checkpoint: Path | None) -> None:
        nano = ROOT / "models" / "nano"
        self.paths = (checkpoint or nano / "reasoner", checkpoint or nano / "embedder")
        self.random = np.random.default_rng(0)

    def reasoner(self) -> tte.Reasoner:
        """One without guesses: what repeats itself would be written sooner."""
        return tte.Reasoner(self.paths[0], backend=tte.Backend("cpu", prompt_lookup_tokens=0))

    def embedder(self, threads: int = 0) -> tte.Embedder:
        """The embedder, on a backend of so many threads."""
        return tte.Embedder(self.paths[1], backend=tte.Backend("cpu", threads=threads))

    def text(self, words: int) -> str:
        """Some words of the nano world."""
        return " ".join(self.random.choice(WORDS, words))

    def image(self, side: int) -> np.ndarray[Any, Any]:
        """Noise, uint8 [side, side, 3]."""
        return self.random.integers(0, 256, (side, side, 3), dtype=np.uint8)


def best(work: Callable[[], float]) -> float:
    """The best of three throughputs."""
    return max(work() for _ in range(3))


def rate(count: float, work: Callable[[], object]) -> float:
    """How many of `count` a second."""
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


def resident() -> float:
    """GiB of memory that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 30)


def curve(name: str, sizes: Iterable[int], point: Callable[[int], float]) -> tuple[list[int], list[float]]:
    """Measure each size, and print it."""
    xs = list(sizes)
    ys = []
    for size in xs:
        ys.append(best(lambda size=size: point(size)))  # type: ignore[misc]
        print(f"{name:40} {size:6} {ys[-1]:10.2f}", flush=True)
    return xs, ys


def embedded(lab: Lab, items: list[Any], embedder: tte.Embedder) -> float:
    """Items a second."""
    return rate(len(items), lambda: embedder.embed(items, progress=False))


def written(lab: Lab, reasoner: tte.Reasoner, together: int, tokens: int) -> float:
    """Tokens a second, of the decoding alone."""
    items = [lab.text(12) for _ in range(together)]
    traces = reasoner.think(items, max_new_tokens=tokens, ignore_eos=True, progress=False)
    return sum(len(t.token_ids) - 1 for t in traces) / max(t.timings.decode for t in traces)


def scaling(lab: Lab, most: int) -> tuple[list[int], list[float], list[float]]:
    """Milliseconds an item, and memory, for more and more items."""
    embedder = lab.embedder()
    embedded(lab, [lab.text(5)], embedder)  # Warms up.
    counts = [n for n in (1, 10, 100, 1_000, 10_000) if n <= most]
    costs, memory = [], []
    for count in counts:
        items = [lab.text(int(n)) for n in lab.random.integers(1, 61, count)]
        costs.append(1000 / embedded(lab, items, embedder))
        memory.append(resident())
        print(f"{'ms an item; GiB':40} {count:6} {costs[-1]:10.2f} {memory[-1]:6.2f}", flush=True)
    return counts, costs, memory


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a model that reasons and embeds")
    parser.add_argument("--most", type=int, default=10_000, help="items of the last panel")
    parser.add_argument("--longest", type=int, default=128, help="most tokens of a trace")
    parser.add_argument("--out", type=Path, default=Path("scale.svg"))
    arguments = parser.parse_args()
    lab = Lab(arguments.checkpoint)
    counts, costs, memory = scaling(lab, arguments.most)  # First: later work would count as its memory.
    embedder, reasoner = lab.embedder(), lab.reasoner()
    threads = sorted({1, 2, 4, os.cpu_count() or 1} & set(range(1, (os.cpu_count() or 1) + 1)))
    panels = {
        ("texts together", "items/s"): curve(
            "items/s by texts together", (1, 2, 4, 8, 16, 32, 64),
            lambda n: embedded(lab, [lab.text(20) for _ in range(n)], embedder)),
        ("traces together", "token/s"): curve(
            "token/s by traces together", (1, 2, 4, 8, 16, 32), lambda n: written(lab, reasoner, n, 32)),
        ("tokens of a trace", "token/s"): curve(
            "token/s by length", [n for n in (8, 16, 32, 64, 128, 256) if n <= arguments.longest],
            lambda n: written(lab, reasoner, 4, n)),
        ("side of an image", "images/s"): curve(
            "images/s by side", (56, 112, 224, 448),
            lambda n: embedded(lab, [{"image": lab.image(n)} for _ in range(4)], embedder)),
        ("threads", "images/s"): curve(
            "images/s by threads", threads,
            lambda n: embedded(lab, [{"image": lab.image(224)} for _ in range(4)], lab.embedder(n))),
    }  # fmt: skip
    figure = matplotlib.figure.Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    for axis, ((x, y), (xs, ys)) in zip(axes, panels.items(), strict=False):
        axis.plot(xs, ys, marker="o")
        axis.set(xlabel=x, ylabel=y, xscale="log", ylim=(0, 1.1 * max(ys)), xticks=xs, xticklabels=xs)
        axis.minorticks_off()
    last = axes[-1]
    last.plot(counts, costs, marker="o", label="ms an item")
    last.plot(counts, memory, marker="s", label="GiB of the process")
    last.set(xlabel="items in a call", xscale="log", ylim=(0, None))
    last.legend()
    figure.savefig(arguments.out)
    print(f"{arguments.out} has the plots.")


if __name__ == "__main__":
    main()

"""What it is worth that the embedder reads an item's prompt while the reasoner writes its trace.

    python benchmarks/read_ahead.py --dir /big/disk/read-ahead --items 1 4 16

Two sets of random weights of a moderate shape (--nano: the bundled pair), an image and a text per item. "With" is what
`tte.think_then_embed` does; "without" is the same call with a recipe that puts the trace into the user's turn, so that
there is nothing to read before the trace is there: the same tokens, but for their order. The two take turns. Times are
CPU seconds of the process (other work on the machine changes them little), as medians of the rounds:

    wait    from an item's trace to its vector, mean over the items
    stall   the longest time between two tokens of a trace, mean over the items
    total   of the call
    reused  tokens that the embedder had read when the trace came
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import tte

ROOT = Path(__file__).resolve().parent.parent


def make_checkpoints(folder: Path) -> tuple[Path, Path]:
    """Write the two random checkpoints once."""
    paths = (folder / "reasoner", folder / "embedder")
    sys.path.insert(0, str(ROOT / "tests" / "python"))
    from checkpoints import Shape, make_checkpoint

    for seed, path in enumerate(paths):
        if not (path / "config.json").exists():
            shape = Shape(
                path.name, hidden=1024, layers=12, heads=8, kv_heads=2, ffn=4096, mrope=(16, 24, 24), scale=1.0,
                vision_embed=640, vision_depth=6, vision_heads=8, dtype="bfloat16",
            )  # fmt: skip
            make_checkpoint(path, shape, seed)
    return paths


def items_of(count: int, turn: int, nano: bool) -> list[Any]:
    """Images and texts that no earlier call has seen, so that only this call's own work is reused."""
    size = 112 if nano else 336
    rng = np.random.default_rng([turn, count])
    text = "what is left of the red circle ?" if nano else "look at a red circle left of blue square " * 12
    return [
        {"image": rng.integers(0, 256, (size, size, 3), dtype=np.uint8), "text": f"{turn} {i} {text}"}
        for i in range(count)
    ]


def measure(
    reasoner: tte.Reasoner, embedder: tte.Embedder, items: list[Any], tokens: int
) -> tuple[dict[str, float], float]:
    """Times of one call, and the tokens that were reused."""
    traced: dict[int, float] = {}
    wait: dict[int, float] = {}
    last: dict[int, float] = {}
    stall: dict[int, float] = defaultdict(float)

    def on_token(item: int, text: str, token: int) -> None:
        now = time.process_time()
        if item in last:
            stall[item] = max(stall[item], now - last[item])
        last[item] = now

    def on_trace(item: int, trace: tte.Trace) -> None:
        traced[item] = time.process_time()

    def on_vector(item: int, vector: np.ndarray) -> None:
        wait[item] = time.process_time() - traced[item]

    begin = time.process_time()
    result = tte.think_then_embed(
        items, reasoner=reasoner, embedder=embedder, max_new_tokens=tokens, ignore_eos=True, progress=False,
        on_token=on_token, on_trace=on_trace, on_vector=on_vector,
    )  # fmt: skip
    total = time.process_time() - begin
    times = {"wait": statistics.mean(wait.values()), "stall": statistics.mean(stall.values()), "total": total}
    return times, float(result.stats.reused_tokens)


def main() -> None:
    """Measure both ways in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path.home() / ".cache" / "tte" / "read-ahead")
    parser.add_argument("--nano", action="store_true", help="the bundled pair instead of the random one")
    parser.add_argument("--items", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, default=48, help="of each trace")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    backend = tte.Backend("cpu", threads=arguments.threads)
    if arguments.nano:
        paths = (ROOT / "models" / "nano" / "reasoner", ROOT / "models" / "nano" / "embedder")
    else:
        paths = make_checkpoints(arguments.dir)
    recipe = arguments.dir / "without.json"
    arguments.dir.mkdir(parents=True, exist_ok=True)
    recipe.write_text(json.dumps({"prompt": {"user": ["{media}", "{instruction}", "{text}", "{trace}"]}}))
    plain = arguments.dir / "with.json"
    plain.write_text(json.dumps({"prompt": {"user": ["{media}", "{instruction}", "{text}"]}}))
    reasoner = tte.Reasoner(paths[0], backend=backend)
    embedders = {
        "with": tte.Embedder(paths[1], backend=backend, recipe=plain),
        "without": tte.Embedder(paths[1], backend=backend, recipe=recipe),
    }
    print(f"{'items':>5} {'':8} {'wait, s':>9} {'stall, s':>9} {'total, s':>9} {'reused':>7}")
    turn = 0
    for count in arguments.items:
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in embedders}
        reused: dict[str, float] = {}
        for measured in range(arguments.rounds + 1):
            for name, embedder in embedders.items():
                turn += 1
                items = items_of(count, turn, arguments.nano)
                times, reused[name] = measure(reasoner, embedder, items, arguments.tokens)
                if measured:  # The first round warms both up.
                    seen[name].append(times)
        for name, rows in seen.items():
            wait, stall, total = (statistics.median(row[key] for row in rows) for key in ("wait", "stall", "total"))
            print(f"{count:5} {name:8} {wait:9.3f} {stall:9.3f} {total:9.2f} {reused[name]:7.0f}", flush=True)


if __name__ == "__main__":
    main()

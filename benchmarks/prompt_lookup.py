"""What prompt lookup is worth: the same traces, written with and without guesses, in turn.

    python benchmarks/prompt_lookup.py
    python benchmarks/prompt_lookup.py --checkpoint /big/disk/qwen2-vl-2b --quantization none int8 int4

The nano reasoner thinks about queries of its nine tasks: terse traces, which hardly ever say three tokens again. With
--checkpoint (any folder; random weights of a large shape serve) its traces as they come, and traces that are made to
repeat themselves, by a repetition penalty far below 1: the two ends. The same tokens come either way, which is checked.

    speed-up   decode seconds without guesses / with, median of the rounds (least to most)
    right      part of the guesses that were right
    a step     tokens written for each time that the weights were read
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import tte
from tte.nano import generate, tasks

REPEATING = 0.01
"""A repetition penalty that makes any model take words that it has taken."""
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models" / "nano"))
from evaluate_tte import Pool  # noqa: E402


def traces_of(
    reasoner: tte.Reasoner, items: list[Any], together: int, **options: Any
) -> tuple[list[tuple[int, ...]], float]:
    """Write the traces, `together` at a time; their tokens, and the seconds that decoding took."""
    ids, seconds = [], 0.0
    for first in range(0, len(items), together):
        traces = reasoner.think(items[first : first + together], progress=False, **options)
        ids += [tuple(trace.token_ids) for trace in traces]
        seconds += max(trace.timings.decode for trace in traces)
    return ids, seconds


def compare(
    name: str, sides: tuple[tte.Reasoner, tte.Reasoner], items: list[Any], together: int, rounds: int, **options: Any
) -> None:
    """Print one row of the table: of a reasoner without guesses, and the same with them."""
    ratios, expected = [], None
    for turn in range(rounds + 1):  # The first warms up.
        seconds = []
        for side in sides:
            ids, taken = traces_of(side, items, together, **options)
            expected = expected or ids
            if ids != expected:
                sys.exit(f"{name}: other tokens with guesses than without")
            seconds.append(taken)
        if turn > 0:
            ratios.append(seconds[0] / seconds[1])
    stats = sides[1].backend.stats
    written = stats.decode_tokens
    right = stats.right_guesses / max(stats.guessed_tokens, 1)
    print(
        f"{name:34} {together:3} {statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        f" {right:7.0%} {written / max(written - stats.right_guesses, 1):7.2f}",
        flush=True,
    )


def sides_of(path: Path, **load: Any) -> tuple[tte.Reasoner, tte.Reasoner]:
    """A reasoner without prompt lookup, and one with it."""
    plain, guessing = (
        tte.Reasoner(path, backend=tte.Backend("cpu", prompt_lookup_tokens=tokens), **load) for tokens in (0, 8)
    )
    return plain, guessing


def main() -> None:
    """Measure the nano reasoner, and the checkpoint that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a reasoner; default: the nano reasoner alone")
    parser.add_argument("--quantization", nargs="+", default=["none"], choices=["none", "int8", "int4"])
    parser.add_argument("--tokens", type=int, default=96, help="length of the checkpoint's traces")
    parser.add_argument("--queries", type=int, default=8, help="of each nano task")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'traces':34} {'seq':>3} {'speed-up':>21} {'right':>7} {'a step':>7}")
    for task in tasks():
        pool = Pool(generate(task, 5, arguments.queries))
        compare(
            f"nano, {task}", sides_of(ROOT / "models" / "nano" / "reasoner"), pool.inputs[: pool.count], 1,
            arguments.rounds, task=pool.task,
        )  # fmt: skip
    if arguments.checkpoint is None:
        return
    question = "what is left of the red circle, and what is above the blue square ?"
    for quantization in arguments.quantization:
        bits = None if quantization == "none" else quantization
        for kind, penalty in (("as they come", 1.0), ("repeating themselves", REPEATING)):
            for together in (1, 4):
                items = [f"{i} {question}" for i in range(together)]
                sides = sides_of(arguments.checkpoint, quantization=bits, recipe="raw")
                compare(
                    f"{quantization}, {kind}", sides, items, together, arguments.rounds,
                    max_new_tokens=arguments.tokens, ignore_eos=True, repetition_penalty=penalty,
                )  # fmt: skip


if __name__ == "__main__":
    main()

"""Measure the nano pair with tte itself: ``python models/nano/evaluate_tte.py`` (the weights and the dtype that ship).

Test split, every task and seed: hit@1 of the no-think embedder, of the pair with the traces that its reasoner writes
(`tte.think_then_embed`), and of the embedder with gold traces. A candidate is reasoned about and embedded once, however
many queries share it. The result is logs/<out>.json with one character per query ("1": hit), so that gains can be
judged query by query; the model card's tables are made from it by report.py. Resumable: what was measured with these
very weights, dtype and number of queries is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tte
from numpy.typing import NDArray
from tte.nano import Item, Sample, generate, tasks

FOLDER = Path(__file__).resolve().parent
PARTS = {"no_think": ("embedder-no-think",), "think": ("reasoner", "embedder")}
"""What a measurement needs; "think" gives the numbers with own and with gold traces."""
Vectors = NDArray[np.float32]


def as_input(item: Item) -> dict[str, Any]:
    """What a user of tte hands in; the instruction of an item without text is the recipe's preset for its task."""
    media = {"image": item.image} if item.image is not None else {"video": item.video} if item.video else {}
    return {**media, **({"text": item.text} if item.text else {})}


class Pool:
    """The queries of a task and their candidates, each candidate once."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        unique: dict[int, Item] = {id(c): c for s in samples for c in s.candidates}
        self.task = samples[0].task
        self.count = len(samples)
        self.items = [s.query for s in samples] + list(unique.values())
        self.inputs = [as_input(i) for i in self.items]
        self.sides = ["query"] * self.count + ["target"] * len(unique)
        at = {key: self.count + i for i, key in enumerate(unique)}
        self.rows = [[at[id(c)] for c in s.candidates] for s in samples]
        self.labels = [s.label for s in samples]

    def hits(self, vectors: Vectors) -> list[bool]:
        """Whether the nearest candidate of each query is the right one."""
        best = [int(np.argmax(vectors[rows] @ vectors[i])) for i, rows in enumerate(self.rows)]
        return [a == b for a, b in zip(best, self.labels, strict=True)]


def conclusion(trace: str | None) -> str:
    """What stands behind the thinking."""
    return (trace or "").rsplit("</think>", maxsplit=1)[-1].strip()


def marks(values: Sequence[bool]) -> str:
    """One character per query."""
    return "".join("1" if v else "0" for v in values)


def share(values: Sequence[bool]) -> float:
    """Percent, to two digits behind the point."""
    return round(100 * float(np.mean(values)), 2)


def measure_no_think(pool: Pool, embedder: tte.Embedder) -> dict[str, Any]:
    """hit@1 of the baseline: it reads the same prompts, no traces."""
    found = pool.hits(embedder.embed(pool.inputs, task=pool.task, side=pool.sides, progress=False))
    return {"no_think": share(found), "no_think_hits": marks(found)}


def measure_think(pool: Pool, reasoner: tte.Reasoner, embedder: tte.Embedder) -> dict[str, Any]:
    """hit@1 with own traces, where the recipe thinks, and with gold traces; how often own conclusions are right."""
    result = tte.think_then_embed(
        pool.inputs, reasoner=reasoner, embedder=embedder, think="recipe", task=pool.task, side=pool.sides,
        progress=False,
    )  # fmt: skip
    wrote = [None if t is None else t.text for t in result.traces]
    thinks = [i for i, item in enumerate(pool.items) if item.trace is not None]
    assert [i for i, t in enumerate(wrote) if t is not None] == thinks, "the recipe thinks about other items than gold"
    right = {i: conclusion(wrote[i]) == conclusion(pool.items[i].trace) for i in thinks}
    targets = [r for i, r in right.items() if i >= pool.count]
    own = pool.hits(result.embeddings)
    golden = embedder.embed(pool.inputs, [i.trace for i in pool.items], task=pool.task, side=pool.sides, progress=False)
    gold = pool.hits(golden)
    queries = range(pool.count)
    return {
        "think": share(own), "think_hits": marks(own), "gold": share(gold), "gold_hits": marks(gold),
        "query_conclusion": share([right[i] for i in queries]), "query_right": marks([right[i] for i in queries]),
        "query_trace": share([wrote[i] == pool.items[i].trace for i in queries]),
        "target_conclusion": share(targets) if targets else None,
        "unfinished": sum(result.traces[i].finish == tte.FinishReason.LENGTH for i in thinks),
        "failures": [
            {"query": pool.items[i].prompt, "wrote": wrote[i], "gold": pool.items[i].trace, "hit": own[i]}
            for i in queries if not right[i]
        ][:6],
        "misses": [
            {"query": pool.items[i].prompt, "wrote": wrote[i], "target": pool.items[pool.rows[i][pool.labels[i]]].trace,
             "target_wrote": wrote[pool.rows[i][pool.labels[i]]]}
            for i in queries if right[i] and not own[i]
        ][:4],
    }  # fmt: skip


def digest(folder: Path) -> str:
    """The first digits of the weights' SHA-256."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]


class Results:
    """logs/<name>.json: one record for each task and seed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def find(self, task: str, seed: int, n: int) -> dict[str, Any]:
        """The record of these queries, new if there is none."""
        for record in self.records:
            if (record["task"], record["seed"], record["n"]) == (task, seed, n):
                return record
        self.records.append({"task": task, "seed": seed, "n": n, "measured": {}})
        return self.records[-1]

    def write(self) -> None:
        """Keep what there is, in the order of seeds and tasks."""
        order = {task: i for i, task in enumerate(tasks())}
        self.records.sort(key=lambda r: (r["seed"], r["n"], order[r["task"]]))
        self.path.parent.mkdir(exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.records, indent=1) + "\n")
        temporary.replace(self.path)


def run(args: argparse.Namespace) -> None:
    """Measure what is missing."""
    backend = tte.Backend(args.device, threads=args.threads)
    results = Results(FOLDER / "logs" / f"{args.out}.json")
    loaded: dict[str, Any] = {}

    def model(name: str) -> Any:
        if name not in loaded:
            kind = tte.Reasoner if name == "reasoner" else tte.Embedder
            loaded[name] = kind(FOLDER / name, dtype=args.dtype, backend=backend)
        return loaded[name]

    weights = {name: digest(FOLDER / name) for names in PARTS.values() for name in names}
    for seed in args.seeds:
        for task in args.tasks:
            record = results.find(task, seed, args.n)
            pool: Pool | None = None
            for part in args.parts:
                key = {"weights": [weights[n] for n in PARTS[part]], "asked": args.dtype}
                if {k: record["measured"].get(part, {}).get(k) for k in key} == key:
                    continue
                pool = pool or Pool(generate(task, seed, args.n))
                sizes = [len(rows) for rows in pool.rows]
                record |= {"pool": round(float(np.mean(sizes)), 1), "unique": len(pool.items) - pool.count}
                record["chance"] = round(100 * float(np.mean([1 / s for s in sizes])), 2)
                models = [model(name) for name in PARTS[part]]
                started = time.perf_counter()
                record |= (measure_no_think if part == "no_think" else measure_think)(pool, *models)
                record["measured"][part] = key | {
                    "dtype": models[0].model.dtype, "device": backend.device, "tte": tte.__version__,
                    "seconds": round(time.perf_counter() - started, 1),
                }  # fmt: skip
                results.write()
                shown = {k: record[k] for k in ("no_think", "think", "gold", "query_conclusion") if k in record}
                print(task, "seed", seed, part, record["measured"][part]["seconds"], "s", json.dumps(shown), flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="queries a task and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(tasks()), choices=tasks())
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--dtype", default="auto", help="auto: the weights' own, what users get")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--out", default="eval_tte", help="name of the result in logs/")
    run(parser.parse_args())


if __name__ == "__main__":
    main()

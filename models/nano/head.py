"""The embedding head against the pair: ``python models/nano/head.py``. Writes logs/head_tte.json and the card's tables.

Test queries as in evaluate_tte.py, whose numbers of the pair stand beside: hit@1 with the traces that the reasoner
writes, from whose pass the head goes on, and with gold traces, which the base reads. Then what both cost: tokens that
are read, how many decoder layers these go through, visuals that are encoded, and bytes. Resumable.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from typing import Any

import card
import numpy as np
import tte
from evaluate_tte import FOLDER, Pool, Results, digest, share
from tte.nano import generate, tasks

Record = dict[str, Any]
HEAD = FOLDER / "head"
COST_QUERIES = 100


def measure(pool: Pool, reasoner: tte.Reasoner, head: tte.Embedder) -> Record:
    """hit@1 with own traces and with gold ones."""
    common: dict[str, Any] = {"task": pool.task, "side": pool.sides, "progress": False}
    own = tte.think_then_embed(pool.inputs, reasoner=reasoner, embedder=head, think="recipe", **common)
    gold = head.embed(pool.inputs, [i.trace for i in pool.items], **common)
    return {"think": share(pool.hits(own.embeddings)), "gold": share(pool.hits(gold))}


def layers_of(name: str) -> tuple[int, int]:
    """Decoder layers that each token which is read goes through, and those of the head behind them."""
    whole = json.loads((FOLDER / "reasoner" / "config.json").read_text())["text_config"]["num_hidden_layers"]
    return whole, json.loads((HEAD / "tte_head.json").read_text())["layers"] if name == "head" else 0


def cost(name: str) -> Record:
    """What thinking and embedding takes, over the queries of all tasks that have traces."""
    backend = tte.Backend(max_running=200 if name == "head" else 201)  # One of its own.
    reasoner = tte.Reasoner(FOLDER / "reasoner", backend=backend)
    embedder = tte.Embedder(FOLDER / name, backend=backend)
    for task in tasks():
        pool = Pool(generate(task, 0, COST_QUERIES))
        tte.think_then_embed(pool.inputs[: pool.count], reasoner=reasoner, embedder=embedder, task=task, progress=False)
    stats, (whole, behind) = backend.stats, layers_of(name)
    read = stats.prefill_tokens + stats.decode_tokens
    weights = [FOLDER / "reasoner" / "model.safetensors", next((FOLDER / name).glob("*.safetensors"))]
    return {
        "read": read, "layers": whole * read + behind * stats.head_tokens, "vision": stats.vision_encoded,
        "reused": stats.reused_tokens, "bytes": sum(file.stat().st_size for file in weights),
    }  # fmt: skip


def hit_table(records: list[Record]) -> str:
    """Means over seeds beside those of the pair."""
    pair = {(r["task"], r["seed"], r["n"]): r for r in card.results("eval_tte") if "think" in r}
    lines = [
        "| task | pair, own traces | head, own traces | pair, gold traces | head, gold traces |",
        "|---|---|---|---|---|",
    ]
    columns: list[list[float]] = [[], [], [], []]
    for task in tasks():
        rows = [r for r in records if r["task"] == task and "head" in r]
        theirs = [pair[r["task"], r["seed"], r["n"]] for r in rows]
        values = [
            float(np.mean(found))
            for key in ("think", "gold")
            for found in ([r[key] for r in theirs], [r["head"][key] for r in rows])
        ]
        for column, value in zip(columns, values, strict=True):
            column.append(value)
        lines.append(f"| `{task}` | {' | '.join(f'{v:.1f}' for v in values)} |")
    return "\n".join([*lines, f"| **mean of 9** | {' | '.join(f'**{np.mean(c):.1f}**' for c in columns)} |"])


def cost_table(pair: Record, head: Record) -> str:
    """Both, and the head's share."""
    rows = {
        "tokens that a decoder reads or writes": "read", "the same, times the layers that they go through": "layers",
        "visuals that are encoded": "vision", "bytes of weights": "bytes",
    }  # fmt: skip
    lines = [f"| {COST_QUERIES} queries a task, own traces | pair | head | share |", "|---|---|---|---|"]
    for what, key in rows.items():
        lines.append(f"| {what} | {pair[key]:,} | {head[key]:,} | {100 * head[key] / pair[key]:.0f} % |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="queries a task and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", default="head_tte", help="name of the result in logs/; the card shows `head_tte`")
    args = parser.parse_args()
    backend = tte.Backend()
    results = Results(FOLDER / "logs" / f"{args.out}.json")
    reasoner = tte.Reasoner(FOLDER / "reasoner", backend=backend)
    head = tte.Embedder(HEAD, backend=backend)
    weights = [digest(FOLDER / "reasoner"), hashlib.sha256((HEAD / "head.safetensors").read_bytes()).hexdigest()[:16]]
    for seed in args.seeds:
        for task in tasks():
            record = results.find(task, seed, args.n)
            if record["measured"].get("weights") == weights:
                continue
            record["head"] = measure(Pool(generate(task, seed, args.n)), reasoner, head)
            record["measured"] = {"weights": weights, "dtype": head.model.dtype, "tte": tte.__version__}
            results.write()
            print(task, "seed", seed, record["head"], flush=True)
    tables = {"head": hit_table(results.records), "head-cost": cost_table(cost("embedder"), cost("head"))}
    print("\n\n".join(tables.values()))
    if args.out == "head_tte":
        card.write_card(tables)


if __name__ == "__main__":
    main()

"""Measure the nano pair on the test split: ``python models/nano/eval.py`` (the shipped bf16 weights, fp32 arithmetic).

For every task and seed: hit@1 without thinking (the no-think embedder), with the traces that the reasoner writes, and
with gold traces; how often the reasoner's conclusions are right; and chance. Writes logs/eval.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import model as nano_model
import numpy as np
import torch
from data import FOLDER
from nano import Item, generate, tasks  # found through data.py
from use import conclusion, load, vectors, write_traces


@torch.no_grad()
def embed(model: Any, items: list[Item], traces: list[str | None]) -> torch.Tensor:
    """Vectors of any number of items, in batches of similar length."""
    order = sorted(range(len(items)), key=lambda i: len(items[i].prompt) + len(traces[i] or ""))
    out = torch.empty(len(items), nano_model.HIDDEN)
    for a in range(0, len(order), 256):
        part = order[a : a + 256]
        out[part] = vectors(model, [items[i] for i in part], [traces[i] for i in part], 64)
    return out


def hits(vecs: torch.Tensor, pools: list[list[int]], labels: list[int]) -> list[bool]:
    return [
        int((vecs[i] @ vecs[p].T).argmax()) == label for i, (p, label) in enumerate(zip(pools, labels, strict=True))
    ]


def evaluate(models: dict[str, Any], task: str, seed: int, n: int, split: Any) -> dict[str, Any]:
    """All measurements of one task and seed that the given models allow."""
    started = time.time()
    samples = generate(task, seed, n, split)
    pool: dict[int, Item] = {id(c): c for s in samples for c in s.candidates}
    items = [s.query for s in samples] + list(pool.values())
    at = {key: n + i for i, key in enumerate(pool)}
    pools = [[at[id(c)] for c in s.candidates] for s in samples]
    labels = [s.label for s in samples]
    result: dict[str, Any] = {
        "task": task, "seed": seed, "n": n, "candidates": float(np.mean([len(p) for p in pools])),
        "chance": 100 * float(np.mean([1 / len(p) for p in pools])),
    }  # fmt: skip
    if "embedder-no-think" in models:
        blank: list[str | None] = [None] * len(items)
        result["no_think"] = 100 * float(np.mean(hits(embed(models["embedder-no-think"], items, blank), pools, labels)))
    if "embedder" in models and "reasoner" in models:
        thinks = [i for i, item in enumerate(items) if item.trace is not None]
        written: list[str | None] = [None] * len(items)
        for i, trace in zip(thinks, write_traces(models["reasoner"], [items[i] for i in thinks], 256), strict=True):
            written[i] = trace
        right = {i: conclusion(written[i] or "") == conclusion(items[i].trace or "") for i in thinks}
        targets = [r for i, r in right.items() if i >= n]
        generated = hits(embed(models["embedder"], items, written), pools, labels)
        gold = hits(embed(models["embedder"], items, [i.trace for i in items]), pools, labels)
        result |= {
            "think": 100 * float(np.mean(generated)),
            "gold": 100 * float(np.mean(gold)),
            "query_conclusion": 100 * float(np.mean([right[i] for i in range(n)])),
            "query_trace": 100 * float(np.mean([written[i] == items[i].trace for i in range(n)])),
            "target_conclusion": 100 * float(np.mean(targets)) if targets else None,
            "failures": [
                {"query": items[i].prompt, "wrote": written[i], "gold": items[i].trace, "hit": generated[i]}
                for i in range(n) if not right[i]
            ][:6],
        }  # fmt: skip
    result["seconds"] = round(time.time() - started)
    return result


def table(results: list[dict[str, Any]]) -> str:
    """Mean over seeds (and standard deviation over seeds), as markdown."""

    def cell(rows: list[dict[str, Any]], key: str) -> str:
        values = [r[key] for r in rows if r.get(key) is not None]
        if not values:
            return "-"
        return f"{np.mean(values):.1f}" + (
            f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 and key in ("think", "no_think") else ""
        )

    columns = ("candidates", "chance", "no_think", "think", "gold", "query_conclusion", "target_conclusion")
    lines = [
        "| task | pool | chance | no-think | think (own traces) | think (gold traces) | gain "
        "| reasoner right: query | target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups = [(t, [r for r in results if r["task"] == t]) for t in tasks()]
    for name, rows in groups:
        if rows:
            gain = np.mean([r.get("think", np.nan) - r.get("no_think", np.nan) for r in rows])
            cells = [cell(rows, c) for c in columns]
            lines.append(f"| {name} | {' | '.join(cells[:5])} | {gain:+.1f} | {' | '.join(cells[5:])} |")
    seeds = sorted({r["seed"] for r in results})
    means: list[dict[str, Any]] = []
    for s in seeds:
        rows = [r for r in results if r["seed"] == s]
        keys = ("chance", "no_think", "think", "gold", "query_conclusion")
        means.append({k: float(np.mean([r[k] for r in rows])) for k in keys if all(k in r for r in rows)})
    cells = [cell(means, c) for c in columns]
    gain = np.mean([m.get("think", np.nan) - m.get("no_think", np.nan) for m in means])
    lines.append(
        f"| **mean of {sum(1 for _, r in groups if r)}** |  | {' | '.join(cells[1:5])} | {gain:+.1f} | {cells[5]} |  |"
    )
    return "\n".join(lines)


def run(
    n: int = 500,
    seeds: Sequence[int] = (0, 1, 2),
    split: Any = "test",
    names: Sequence[str] = tasks(),
    out: str = "eval",
    parts: Sequence[str] = ("reasoner", "embedder", "embedder-no-think"),
) -> None:
    """Evaluate, print the table, and write logs/<out>.json; parts measured before are kept."""
    torch.set_num_threads(1)
    models = {f: load(FOLDER / f).eval() for f in parts}
    path = FOLDER / "logs" / f"{out}.json"
    for seed in seeds:
        for task in names:
            found = evaluate(models, task, seed, n, split)
            old = json.loads(path.read_text()) if path.exists() else []
            known = {(r["task"], r["seed"], r["n"]): r for r in old}
            known[task, seed, n] = known.get((task, seed, n), {}) | found
            results = list(known.values())
            print(json.dumps({k: v for k, v in found.items() if k != "failures"}), flush=True)
            path.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test")
    parser.add_argument("--tasks", nargs="+", default=list(tasks()))
    parser.add_argument("--out", default="eval", help="name of the result in logs/")
    parser.add_argument("--parts", nargs="+", default=["reasoner", "embedder", "embedder-no-think"])
    args = parser.parse_args()
    run(args.n, args.seeds, args.split, args.tasks, args.out, args.parts)


if __name__ == "__main__":
    main()

"""The tables of the model card, from logs/eval_tte.json (tte), logs/eval.json (torch) and the training logs.

README.md has regions ``<!-- name -->`` ... ``<!-- /name -->``; `write_card` replaces what stands between.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from data import FOLDER
from nano import tasks  # found through data.py

Record = dict[str, Any]


def results(name: str) -> list[Record]:
    """The records of logs/<name>.json."""
    path = FOLDER / "logs" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def complete(records: list[Record]) -> list[Record]:
    """The records of seeds for which every task has been measured with and without thinking."""
    done: dict[int, set[str]] = {}
    for r in records:
        if "think" in r and "no_think" in r:
            done.setdefault(r["seed"], set()).add(r["task"])
    return [r for r in records if done.get(r["seed"]) == set(tasks())]


def spread(values: list[float | None], deviation: bool = False) -> str:
    """Mean over seeds, with the standard deviation over seeds."""
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    more = f" ± {np.std(known, ddof=1):.1f}" if deviation and len(known) > 1 else ""
    return f"{np.mean(known):.1f}{more}"


def gain(rows: list[Record]) -> tuple[float, float]:
    """Mean gain in points and half of its 95 % interval, from the differences of single queries."""
    pairs = [(a, b) for r in rows for a, b in zip(r["think_hits"], r["no_think_hits"], strict=True)]
    difference = np.array([int(a) - int(b) for a, b in pairs])
    return 100 * float(difference.mean()), 196 * float(difference.std(ddof=1)) / len(difference) ** 0.5


def hit_table(records: list[Record]) -> str:
    """The main table: one row a task, means over seeds."""
    lines = [
        "| task | pool | chance | no-think | think (own traces) | gain | think (gold traces) "
        "| reasoner right: query | target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task in tasks():
        rows = [r for r in records if r["task"] == task]
        more, half = gain(rows)
        cells = [
            f"`{task}`", spread([r["pool"] for r in rows]), spread([r["chance"] for r in rows]),
            spread([r["no_think"] for r in rows], True), spread([r["think"] for r in rows], True),
            f"{more:+.1f} ± {half:.1f}", spread([r["gold"] for r in rows], True),
            spread([r["query_conclusion"] for r in rows]), spread([r["target_conclusion"] for r in rows]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    seeds = sorted({r["seed"] for r in records})

    def by_seed(key: str) -> list[float | None]:
        return [float(np.mean([r[key] for r in records if r["seed"] == s])) for s in seeds]

    more, half = gain(records)
    cells = [
        "**mean of 9**", "", spread(by_seed("chance")), f"**{spread(by_seed('no_think'), True)}**",
        f"**{spread(by_seed('think'), True)}**", f"**{more:+.1f} ± {half:.1f}**", spread(by_seed("gold"), True),
        spread(by_seed("query_conclusion")), "",
    ]  # fmt: skip
    return "\n".join([*lines, f"| {' | '.join(cells)} |"])


def seed_line(records: list[Record]) -> str:
    """Means of nine tasks by seed."""
    parts = []
    for s in sorted({r["seed"] for r in records}):
        own, gold, plain = (np.mean([r[k] for r in records if r["seed"] == s]) for k in ("think", "gold", "no_think"))
        parts.append(f"seed {s}: own traces {own:.1f}, gold {gold:.1f}, no-think {plain:.1f}")
    return "Means of nine by seed: " + "; ".join(parts) + "."


def agreement(records: list[Record], torch_records: list[Record]) -> str:
    """Task by task where both exist: tte in the shipped dtype / torch in fp32."""
    keys = ("no_think", "think", "gold", "query_conclusion", "target_conclusion")
    lines = [
        "| tte / torch | no-think | think (own traces) | think (gold traces) | reasoner right: query | target |",
        "|---|---|---|---|---|---|",
    ]
    worst = {k: 0.0 for k in keys}
    for r in records:
        for other in (t for t in torch_records if all(t[k] == r[k] for k in ("task", "seed", "n"))):
            cells = []
            for k in keys:
                if other.get(k) is None or r.get(k) is None:
                    cells.append("-")
                    continue
                cells.append(f"{r[k]:.1f} / {other[k]:.1f}")
                worst[k] = max(worst[k], abs(r[k] - other[k]))
            lines.append(f"| `{r['task']}`, seed {r['seed']} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"| largest difference | {' | '.join(f'{v:.1f}' for v in worst.values())} |"])


def failures(records: list[Record], each: int = 2) -> str:
    """Wrong conclusions as they came, then right conclusions that missed all the same."""
    first = [r for r in records if r["seed"] == min(q["seed"] for q in records)]
    wrong = ["| task | query | the reasoner wrote | gold | hit |", "|---|---|---|---|---|"]
    missed = ["| task | query | query's trace | what the reasoner wrote about the target |", "|---|---|---|---|"]
    for r in first:
        for f in r["failures"][:each]:
            hit = "yes" if f["hit"] else "no"
            wrong.append(f"| `{r['task']}` | {f['query']} | `{f['wrote']}` | `{f['gold']}` | {hit} |")
        for f in r["misses"][:1]:
            about = f"`{f['target_wrote']}`" if f["target_wrote"] else "a text, no trace"
            missed.append(f"| `{r['task']}` | {f['query']} | `{f['wrote']}` | {about} |")
    between = "The query's conclusion is right, and another candidate was nearer all the same:"
    return "\n".join([*wrong, "", between, "", *missed])


def baseline_table(log: list[Record], steps: list[int]) -> str:
    """The no-think embedder's validation hits by step."""
    lines = [
        f"| step | learning rate | queries a task | {' | '.join(tasks())} | mean |",
        "|---" * (4 + len(tasks())) + "|",
    ]
    for r in log:
        if "val" in r and r["step"] in steps:
            cells = [f"{100 * r['val'][t]:.0f}" for t in tasks()]
            rate = f"{r['lr']:.1e}" if "lr" in r else ""
            lines.append(
                f"| {r['step']} | {rate} | {r.get('queries', 40)} | {' | '.join(cells)} | {100 * r['mean']:.1f} |"
            )
    return "\n".join(lines)


def write_card(regions: dict[str, str]) -> None:
    """Put the regions into README.md; every region must be there once."""
    path = FOLDER / "README.md"
    text = path.read_text()
    for name, body in regions.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text)
        if count != 1:
            raise SystemExit(f"README.md has {count} regions <!-- {name} -->: it must have one.")
    path.write_text(text)

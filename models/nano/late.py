"""Late interaction on the nano pair: ``python models/nano/late.py``. Writes logs/late.json and the card's table.

SMART (cosine of the pooled vectors plus the mean over the query's tokens of their best cosine) on test queries, for the
no-think embedder and for the pair with its own traces: hit@1 of the single vector, of SMART with the tokens of prompt
and trace, with those of the prompt alone, with those of the trace alone, and of the tokens without the single vector.
And likelihood: the reasoner's log-probability of each text candidate as the conclusion of the query's own trace.
Resumable.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import card
import numpy as np
import tte
from evaluate_tte import FOLDER, Pool, Results, conclusion, digest, share
from numpy.typing import NDArray
from tte.nano import generate, tasks

KINDS: dict[str, str] = {
    "plain": "no-think embedder, single vector",
    "plain_smart": "no-think embedder, SMART",
    "single": "own traces, single vector",
    "smart": "own traces, SMART, prompt and trace",
    "smart_0.2": "the same, cosine + 0.2 mean MaxSim",
    "smart_prompt": "own traces, SMART, prompt alone",
    "smart_trace": "own traces, SMART, trace alone",
    "tokens": "own traces, mean MaxSim, prompt and trace",
    "tokens_trace": "own traces, mean MaxSim, trace alone",
    "likelihood": "the reasoner's log-probability of the candidate behind its own trace",
}
Scores = NDArray[np.float32]


def groups(pool: Pool) -> list[tuple[list[int], list[int]]]:
    """Queries with the same candidates, and these."""
    found: dict[tuple[int, ...], list[int]] = {}
    for query, rows in enumerate(pool.rows):
        found.setdefault(tuple(rows), []).append(query)
    return [(queries, list(rows)) for rows, queries in found.items()]


def picked(tokens: tte.TokenEmbeddings, items: Sequence[int]) -> tte.TokenEmbeddings:
    """Some of the items."""
    chosen = tte.TokenEmbeddings.of([tokens[i] for i in items])
    assert tokens.pooled is not None
    return tte.TokenEmbeddings(chosen.vectors, chosen.offsets, tokens.pooled[list(items)])


def hits(pool: Pool, tokens: tte.TokenEmbeddings, cosine: float, late: float) -> float:
    """hit@1 in percent."""
    found = []
    for queries, rows in groups(pool):
        scores = tte.hybrid(picked(tokens, queries), picked(tokens, rows), pooled_weight=cosine, token_weight=late)
        assert isinstance(scores, np.ndarray)
        found += [int(np.argmax(row)) == pool.labels[q] for q, row in zip(queries, scores, strict=True)]
    return share(found)


def likelihood(pool: Pool, reasoner: tte.Reasoner, traces: Sequence[tte.Trace | None]) -> float | None:
    """hit@1 of the reasoner's own log-probabilities, where all candidates are texts."""
    if any(pool.items[i].text is None or pool.items[i].trace is not None for rows in pool.rows for i in rows):
        return None
    found = []
    for queries, rows in groups(pool):
        before = [str(traces[q].text).removesuffix(conclusion(traces[q].text)).rstrip() for q in queries]  # type: ignore[union-attr]
        scores = reasoner.score(
            [pool.inputs[q] for q in queries], [" " + str(pool.items[i].text) for i in rows], before, task=pool.task,
            progress=False,
        )  # fmt: skip
        found += [int(np.argmax(row)) == pool.labels[q] for q, row in zip(queries, scores, strict=True)]
    return share(found)


def measure(pool: Pool, models: dict[str, Any]) -> dict[str, float | None]:
    """hit@1 of every kind."""
    options: dict[str, Any] = {"task": pool.task, "side": pool.sides, "progress": False}
    plain = models["embedder-no-think"].embed_tokens(pool.inputs, **options)
    result = tte.think_then_embed(
        pool.inputs, reasoner=models["reasoner"], embedder=models["embedder"], think="recipe", tokens=True, **options
    )
    tokens = result.tokens
    assert tokens is not None
    # Targets that are texts have no trace: their words stay.
    prompt = tokens.only("text", "visual")
    trace = tokens.only("trace")
    return {
        "plain": hits(pool, plain, 1, 0),
        "plain_smart": hits(pool, plain, 1, 1),
        "single": hits(pool, tokens, 1, 0),
        "smart": hits(pool, tokens, 1, 1),
        "smart_0.2": hits(pool, tokens, 1, 0.2),
        "smart_prompt": hits(pool, prompt, 1, 1),
        "smart_trace": hits(pool, trace, 1, 1),
        "tokens": hits(pool, tokens, 0, 1),
        "tokens_trace": hits(pool, trace, 0, 1),
        "likelihood": likelihood(pool, models["reasoner"], result.traces),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Means over seeds, a row a kind."""
    names = list(tasks())
    lines = [f"| hit@1 in % | {' | '.join(f'`{n}`' for n in names)} | mean |", "|---" * (len(names) + 2) + "|"]
    for kind, what in KINDS.items():
        values = [[r["late"].get(kind) for r in records if r["task"] == name] for name in names]
        means = [float(np.mean(each)) if each and None not in each else None for each in values]
        cells = ["-" if mean is None else f"{mean:.1f}" for mean in means]
        whole = "-" if None in means else f"{np.mean([m for m in means if m is not None]):.1f}"
        lines.append(f"| {what} | {' | '.join(cells)} | {whole} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="queries a task and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(tasks()), choices=tasks())
    parser.add_argument("--out", default="late", help="name of the result in logs/; the card shows that of `late`")
    args = parser.parse_args()
    backend = tte.Backend()
    results = Results(FOLDER / "logs" / f"{args.out}.json")
    names = ("reasoner", "embedder", "embedder-no-think")
    models = {n: (tte.Reasoner if n == "reasoner" else tte.Embedder)(FOLDER / n, backend=backend) for n in names}
    weights = [digest(FOLDER / n) for n in names]
    for seed in args.seeds:
        for task in args.tasks:
            record = results.find(task, seed, args.n)
            if record["measured"].get("weights") == weights and record["late"].keys() == KINDS.keys():
                continue
            record["late"] = measure(Pool(generate(task, seed, args.n)), models)
            record["measured"] = {"weights": weights, "dtype": models["embedder"].model.dtype, "tte": tte.__version__}
            results.write()
            print(task, "seed", seed, record["late"], flush=True)
    print(table(results.records))
    if args.out == "late":
        card.write_card({"late": table(results.records)})


if __name__ == "__main__":
    main()

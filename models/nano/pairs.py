"""Does the reasoner favour pairs that training never showed? Names of single things, seen and unseen pairs apart."""

from __future__ import annotations

import json

import torch
from data import FOLDER
from nano import PAIRS, Item, Rng, draft  # found through data.py
from nano.world import DIGITS, Split
from use import conclusion, load, write_traces

SHOWN = {t.name for t in PAIRS["train"]}


def main(n: int = 300) -> None:
    torch.set_num_threads(1)
    model = load(FOLDER / "reasoner").eval()
    result = {}
    splits: tuple[Split, ...] = ("train", "val", "test")
    for split in splits:
        rng = Rng(f"tte-nano/pairs/{split}")
        items: list[Item] = [draft("image_cls", split, rng, 0).query for _ in range(n)]
        answers = [conclusion(t) for t in write_traces(model, items, 300)]
        golds = [conclusion(i.trace or "") for i in items]
        for seen in (True, False):
            rows = [(g, a) for g, a in zip(golds, answers, strict=True) if (g in SHOWN) == seen]
            if not rows:
                continue
            digits = [(g, a) for g, a in rows if g.split()[1] in DIGITS]
            result[f"{split}, {'seen' if seen else 'unseen'} pairs"] = {
                "things": len(rows),
                "right": round(100 * sum(g == a for g, a in rows) / len(rows), 1),
                "digits": len(digits),
                "digits right": round(100 * sum(g == a for g, a in digits) / max(1, len(digits)), 1),
                "wrong answers": sum(g != a for g, a in rows),
                "of them naming an unseen pair": sum(g != a and a not in SHOWN for g, a in rows),
            }
    text = json.dumps(result, indent=1)
    (FOLDER / "logs" / "pairs.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

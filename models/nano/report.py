"""The card's tables, curves (SVG) from the training logs, example pictures, and the data in examples/data/nano."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import card
import numpy as np
from data import FOLDER, ROOT
from nano import Item, generate, tasks  # found through data.py
from PIL import Image

COLOURS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477", "#66aa00", "#b82e2e", "#316395")


def curves(path: Path, title: str, series: dict[str, list[tuple[float, float]]], top: float) -> None:
    """A plain line chart."""
    width, height, left, bottom = 640, 320, 46, 34
    right = max(x for points in series.values() for x, _ in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 150}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="14" font-size="13">{title}</text>',
    ]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / right * (width - left - 10), height - bottom - y / top * (height - bottom - 24)

    for i in range(6):
        _, y = place(0, top * i / 5)
        parts.append(f'<line x1="{left}" x2="{width - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{top * i / 5:g}</text>')
        x, _ = place(right * i / 5, 0)
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{right * i / 5:.0f}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">step</text>')
    for k, (name, points) in enumerate(series.items()):
        colour = COLOURS[k % len(COLOURS)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(a, min(b, top)) for a, b in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(f'<text x="{width}" y="{30 + 15 * k}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def read(name: str) -> list[dict[str, Any]]:
    """The log of a run; where a resumed run repeats steps, the later record counts."""
    path = FOLDER / "logs" / f"{name}.jsonl"
    if not path.exists():
        return []
    records: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        r = json.loads(line)
        records[r["step"], "val" in r] = r
    return [records[k] for k in sorted(records)]


def draw_curves() -> None:
    log = read("reasoner")
    curves(
        FOLDER / "logs" / "reasoner-loss.svg", "reasoner: training loss (cross entropy of gold traces)",
        {"loss": [(r["step"], r["loss"]) for r in log if "loss" in r]}, 1.0,
    )  # fmt: skip
    names = [k for r in log if "val" in r for k in r["val"]]
    series = {
        n: [(r["step"], 100 * r["val"][n]) for r in log if "val" in r] for n in dict.fromkeys(names) if "/" not in n
    }
    curves(
        FOLDER / "logs" / "reasoner-val.svg",
        "reasoner: right conclusions of its own traces, validation split, %",
        series,
        100,
    )
    both = {
        name: [(r["step"], 100 * r["mean"]) for r in read(run) if "val" in r]
        for run, name in (("embedder", "think (gold traces)"), ("embedder-no-think", "no-think"))
    }
    if all(both.values()):
        curves(
            FOLDER / "logs" / "embedders-val.svg", "embedders: mean hit@1 of nine tasks, validation split, %", both, 100
        )
        plain = [r for r in read("embedder-no-think") if "val" in r]
        curves(
            FOLDER / "logs" / "no-think-val.svg", "no-think embedder: hit@1 by task, validation split, %",
            {t: [(r["step"], 100 * r["val"][t]) for r in plain] for t in tasks()}, 100,
        )  # fmt: skip


def sheet(item: Item) -> Image.Image:
    """One picture of an input: the image, or the steps of the video side by side, three times as large."""
    frames = [item.image] if item.image is not None else list(item.video[::2])  # type: ignore[index]
    gap = np.full((frames[0].shape[0], 4, 3), 255, np.uint8)
    parts: list[np.ndarray] = []
    for f in frames:
        parts += [f, gap]
    image = Image.fromarray(np.concatenate(parts[:-1], 1))
    return image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST)


def draw_examples() -> None:
    folder = FOLDER / "figures"
    folder.mkdir(exist_ok=True)
    for task in tasks():
        s = generate(task, 0, 4)[1]
        shown = s.query if s.query.image is not None or s.query.video is not None else s.candidates[s.label]
        sheet(shown).save(folder / f"{task}.png")
        right = s.candidates[s.label]
        print(task, "|", s.query.prompt, "|", s.query.trace, "|", right.trace or right.text)


def save(item: Item, folder: Path, name: str) -> dict[str, Any]:
    """Write the picture (or the frames, in a folder) of an input; how the JSON names it."""
    out: dict[str, Any] = {"text": item.text} if item.text else {}
    if item.image is not None:
        Image.fromarray(item.image).save(folder / f"{name}.png")
        out["image"] = f"{name}.png"
    if item.video is not None:
        (folder / name).mkdir(exist_ok=True)
        for i, frame in enumerate(item.video):
            Image.fromarray(frame).save(folder / name / f"{i + 1:03d}.png")
        out["video"] = name
    return out


def export_demo(seed: int = 100) -> None:
    """Ten queries of the test split with small pools, as plain files: examples/data/nano/demo.json and pictures."""
    folder = ROOT / "examples" / "data" / "nano"
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for task, count in (("image_cls", 2), ("image_qa", 2), ("image_ret", 1), ("image_vg", 1), ("video_cls", 1),
                        ("video_qa", 1), ("video_mret", 1), ("visdoc", 1)):  # fmt: skip
        for i, s in enumerate(generate(task, seed, 10)[:count]):
            name = f"{task}_{i}"
            query = save(s.query, folder, name)
            right = s.candidates[s.label]
            if right.image is None and right.video is None:
                pool = [c.text for c in s.candidates]
                entries.append(
                    {"task": task, "query": query, "candidates": pool, "label": s.label, "gold_trace": s.query.trace}
                )
                continue
            near = [c for c in s.candidates if c is not right][:5]
            shown = [right, *near]
            at = i % len(shown) if task == "image_cls" else (2 if len(shown) > 2 else 0)
            shown = [*near[:at], right, *near[at:]]
            candidates = [save(c, folder, f"{name}_candidate{k}") for k, c in enumerate(shown)]
            entries.append(
                {"task": task, "query": query, "candidates": candidates, "label": at, "gold_trace": s.query.trace}
            )
    text = {"split": "test", "seed": seed, "generator": "tte.nano.generate", "queries": entries}
    (folder / "demo.json").write_text(json.dumps(text, indent=1) + "\n")


def write_tables() -> None:
    """The regions of README.md that hold measurements."""
    records = card.complete(card.results("eval_tte"))
    log = read("embedder-no-think")
    last = max(r["step"] for r in log)
    card.write_card({
        "results": f"{card.hit_table(records)}\n\n{card.seed_line(records)}",
        "baseline": card.baseline_table(log, [*range(100, last, 100), last]),
        "torch": card.agreement(records, card.results("eval")),
        "failures": card.failures(records),
    })  # fmt: skip


if __name__ == "__main__":
    write_tables()
    draw_curves()
    draw_examples()
    export_demo()

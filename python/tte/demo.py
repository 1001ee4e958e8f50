"""Run the bundled nano pair on images, clips and bills: traces and rankings, with and without thinking.

    python -m tte.demo                     traces and rankings in the terminal
    python -m tte.demo --html page.html    also a page with the images
    python -m tte.demo --task image_qa --count 5 --seed 3    fresh scenes of one task

Every scene is from the held-out split: its digits, shapes and colour-object pairs were never seen in training.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import tte
from tte import _command, _display, _files, _hub, _options

EXAMPLES = Path("examples/data/nano")
SHOWN = 3


@dataclass
class Query:
    """A query, its candidates, and which of them is right."""

    task: str
    item: dict[str, Any]
    candidates: list[dict[str, Any]]
    label: int


@dataclass
class Answer:
    """What one way of doing it made of a query: candidates best first, with their cosines, and the query's trace."""

    order: list[int]
    scores: list[float]
    trace: tte.Trace | None

    def rank(self, label: int) -> int:
        """Rank of the right candidate, from 1."""
        return self.order.index(label) + 1


def load_examples(folder: Path) -> list[Query]:
    """Read the queries of `demo.json`; images and frame folders are relative to it."""
    index = json.loads((folder / "demo.json").read_text(encoding="utf-8"))

    def item(entry: str | dict[str, str]) -> dict[str, Any]:
        if isinstance(entry, str):
            return {"text": entry}
        return {key: value if key == "text" else folder / value for key, value in entry.items()}

    return [
        Query(q["task"], item(q["query"]), [item(c) for c in q["candidates"]], q["label"]) for q in index["queries"]
    ]


def make_examples(tasks: Sequence[str], count: int, seed: int) -> list[Query]:
    """Draw fresh held-out scenes."""
    from tte import nano

    def item(entry: nano.Item) -> dict[str, Any]:
        media: dict[str, Any] = {}
        if entry.image is not None:
            media["image"] = entry.image
        if entry.video is not None:
            media["video"] = list(entry.video)
        return {**media, "text": entry.text} if entry.text else media

    return [
        Query(task, item(s.query), [item(c) for c in s.candidates], s.label)
        for task in tasks
        for s in nano.generate(task, seed, count, split="test")
    ]


def text_first(item: dict[str, Any]) -> dict[str, Any]:
    """The item with its text before its media, as people read it."""
    return {"text": item["text"], **item} if "text" in item else item


def answer_all(queries: list[Query], reasoner: tte.Reasoner, embedder: tte.Embedder, think: bool) -> list[Answer]:
    """Embed queries and candidates in one call, and rank; the recipe says which candidates are reasoned about."""
    items = [i for q in queries for i in (q.item, *q.candidates)]
    sides = [s for q in queries for s in ("query", *["target"] * len(q.candidates))]
    tasks = [q.task for q in queries for _ in range(1 + len(q.candidates))]
    mode: Literal["recipe", False] = "recipe" if think else False
    result = tte.think_then_embed(items, reasoner=reasoner, embedder=embedder, think=mode, task=tasks, side=sides)
    answers, start = [], 0
    for query in queries:
        stop = start + 1 + len(query.candidates)
        scores = result.embeddings[start + 1 : stop] @ result.embeddings[start]
        order = [int(i) for i in np.argsort(-scores, kind="stable")]
        answers.append(Answer(order, [float(scores[i]) for i in order], result.traces[start]))
        start = stop
    return answers


def name_of(query: Query, index: int) -> str:
    """A candidate in words."""
    candidate = query.candidates[index]
    kind = "image" if "image" in candidate else "clip" if "video" in candidate else ""
    return f"{kind} {index + 1}" if kind else str(candidate.get("text", ""))


def print_query(number: int, query: Query, thought: Answer, plain: Answer) -> None:
    """Show one query in the terminal."""

    def ranking(answer: Answer) -> str:
        cells = [
            f"{'✓' if c == query.label else '✗'} {name_of(query, c)} {s:.2f}"
            for c, s in zip(answer.order[:SHOWN], answer.scores, strict=False)
        ]
        rank = answer.rank(query.label)
        return "   ".join(cells) + (
            "" if rank <= SHOWN else f"   (the right one is number {rank} of {len(query.candidates)})"
        )

    kind = "image" if "image" in query.item else "video" if "video" in query.item else "text"
    print(f"\n{number}. {query.task} ({kind}, {len(query.candidates)} candidates): {query.item.get('text', '')}")
    if thought.trace is not None:
        if thought.trace.thinking:
            print(f"   think     {thought.trace.thinking.strip()}")
        print(f"   conclude  {(thought.trace.conclusion or thought.trace.text).strip()}")
    print(f"   thinking  {ranking(thought)}")
    print(f"   without   {ranking(plain)}")


def page(queries: list[Query], thought: list[Answer], plain: list[Answer], summary: str) -> str:
    """One self-contained HTML page."""

    def ranking(query: Query, answer: Answer) -> str:
        rows = []
        for index, score in zip(answer.order[:SHOWN], answer.scores, strict=False):
            right = index == query.label
            candidate = query.candidates[index]
            media = {key: value for key, value in candidate.items() if key != "text"}
            shown = _display.item_html(media or candidate)
            mark, style = ("✓", "good") if right else ("✗", "")
            rows.append(f"<div class='near {style}'>{mark} {_display.score_html(score)} <div>{shown}</div></div>")
        rank = answer.rank(query.label)
        if rank > SHOWN:
            rows.append(f"<div class='bad'>the right one is number {rank} of {len(query.candidates)}</div>")
        return "".join(rows)

    body = "".join(
        f"<tr><td>{_display.escape(q.task)}</td><td>{_display.item_html(text_first(q.item))}</td>"
        f"<td>{_display.trace_html(t.trace)}</td><td>{ranking(q, t)}</td><td>{ranking(q, p)}</td></tr>"
        for q, t, p in zip(queries, thought, plain, strict=True)
    )
    return (
        "<!doctype html><meta charset='utf-8'><title>think, then embed</title>"
        "<style>body{max-width:80em;margin:2em auto;padding:0 1em;font:15px/1.5 system-ui,sans-serif}</style>"
        f"{_display.STYLE}<h1>Think, then embed</h1><p>{_display.escape(summary)}</p>"
        "<table class='tte'><tr><th>task</th><th>query</th><th>what the reasoner wrote</th>"
        "<th>ranking with thinking</th><th>ranking without</th></tr>"
        f"{body}</table>"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = _command.Parser(
        prog="python -m tte.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--html", type=_command.path, metavar="FILE", help="write a page with images, traces and scores"
    )
    parser.add_argument(
        "--data",
        type=_command.path,
        metavar="DIR",
        help=f"folder of examples, with demo.json (default: {EXAMPLES} where it is, else fresh scenes of every task)",
    )
    parser.add_argument("--task", action="append", help="draw fresh scenes of this task (may be repeated)")
    parser.add_argument(
        "--count", type=_command.whole(1, 10_000), default=3, help="fresh scenes per task (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=_command.whole(0, _options.INT64), default=0, help="seed of fresh scenes (default: %(default)s)"
    )
    _command.add_backend(parser)
    options = parser.parse_args(arguments)
    if options.data and not (options.data / "demo.json").is_file():
        parser.error(f"--data {options.data} has no demo.json: give a folder of examples, or leave it out")
    if options.html and not options.html.parent.is_dir():
        parser.error(f"--html {options.html}: {options.html.parent} is not a folder: make it, or give another file")
    if options.html and options.html.is_dir():
        parser.error(f"--html {options.html} is a folder: give a file")
    examples = options.data or EXAMPLES
    start = time.perf_counter()
    if options.task or not (examples / "demo.json").exists():
        from tte import nano

        unknown = set(options.task or ()) - set(nano.tasks())
        if unknown:
            parser.error(f"unknown task {sorted(unknown)[0]!r}: the tasks are {', '.join(nano.tasks())}")
        queries = make_examples(options.task or nano.tasks(), options.count, options.seed)
    else:
        queries = load_examples(examples)
    backend = _command.backend(options)
    reasoner = tte.Reasoner(_hub.bundled("reasoner"), backend=backend)
    embedder = tte.Embedder(_hub.bundled("embedder"), backend=backend)
    plain_embedder = tte.Embedder(_hub.bundled("embedder-no-think"), backend=backend)
    print(
        f"nano pair on {backend.device}: {len(queries)} queries, {sum(len(q.candidates) for q in queries)} candidates",
        flush=True,
    )
    thought = answer_all(queries, reasoner, embedder, think=True)
    plain = answer_all(queries, reasoner, plain_embedder, think=False)
    for number, (query, with_trace, without) in enumerate(zip(queries, thought, plain, strict=True), 1):
        print_query(number, query, with_trace, without)
    right = sum(a.rank(q.label) == 1 for q, a in zip(queries, thought, strict=True))
    right_plain = sum(a.rank(q.label) == 1 for q, a in zip(queries, plain, strict=True))
    summary = (
        f"The right candidate came first for {right} of {len(queries)} queries with thinking, and for {right_plain} "
        f"with an embedder of the same training that does not think; {time.perf_counter() - start:.1f} s in all."
    )
    print(f"\n{summary}")
    if options.html:
        with _files.writing(options.html):
            options.html.write_text(page(queries, thought, plain, summary), encoding="utf-8")
        print(f"The images, traces and scores: {options.html.resolve().as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(_command.run(main))

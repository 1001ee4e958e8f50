"""The report as one self-contained HTML page: everything that the template shows, gathered from result folders."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from tte import _extras
from tte.mmeb.data.frames import ALL_FRAMES
from tte.mmeb.data.tasks import CATEGORIES as GROUPS
from tte.mmeb.data.tasks import Task
from tte.mmeb.report import media, plots
from tte.mmeb.report.compare import Comparison, by_length, compare, length_bins, spread
from tte.mmeb.report.results import Outcome, Run, TaskRun
from tte.mmeb.score.average import Mean, averages

_HERE = Path(__file__).parent
_PUBLISHED = _HERE / "published.json"
TITLES = {
    "I-CLS": "classification", "I-QA": "question answering", "I-RET": "retrieval", "I-VG": "grounding",
    "V-CLS": "classification", "V-QA": "question answering", "V-RET": "retrieval", "V-MRET": "moment retrieval",
    "VDR-v1": "ViDoRe v1", "VDR-v2": "ViDoRe v2", "VisRAG": "VisRAG", "VDR-OOD": "out of domain",
    "image": "images", "video": "videos", "visdoc": "documents", "all": "all",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the page shows."""

    title: str
    model: str = ""
    """Name of what was evaluated, put before the names of the runs among published systems."""
    examples: int = 2
    """Queries of each kind (fixed, broken, missed) shown for each data set."""
    find: Callable[[str], Path] = Path
    """Where a file that a run recorded is now."""
    others: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]] = ()
    """Further systems to compare task by task: name, scores of each data set."""
    now: datetime = field(default_factory=datetime.now)


@lru_cache(maxsize=1)
def published() -> dict[str, Any]:
    """The published results: rows by category, and task by task."""
    found: dict[str, Any] = json.loads(_PUBLISHED.read_text(encoding="utf-8"))
    return found


def suite_of(runs: Sequence[Run], known: Sequence[Task]) -> list[Task]:
    """The tasks that a complete run has: the benchmark's scored ones, or all of another suite that were defined."""
    ran = {name for run in runs for name in run.tasks}
    scored = [t for t in known if t.scored]
    if any(t.name in ran for t in scored):
        return scored
    return [t for t in known if t.name in ran]


def render(runs: Sequence[Run], known: Sequence[Task], options: Options) -> str:
    """Write the page for one or more runs of the same benchmark; the first is the one that it is about.

    Raises:
        InputError: jinja2 or matplotlib is missing.

    """
    jinja2 = _extras.jinja2()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "duration": _duration}
    html: str = environment.get_template("page.html.j2").render(_context(runs, known, options))
    return html


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}".replace(",", " ")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _context(runs: Sequence[Run], known: Sequence[Task], options: Options) -> dict[str, Any]:
    suite = suite_of(runs, known)
    main = runs[0]
    base = next((r for r in runs[1:] if r.name == "no-think"), runs[1] if len(runs) > 1 else None)
    found = [(run, _means(run, suite)) for run in runs]
    compared = {
        name: pair
        for name, task in main.tasks.items()
        if base is not None and name in base.tasks and (pair := compare(task, base.tasks[name])) is not None
    }
    return {
        "title": options.title,
        "generated": options.now.strftime("%d %B %Y, %H:%M"),
        "main": main,
        "base": base,
        "runs": runs,
        "colours": {r.name: plots.colour(r.name, i) for i, r in enumerate(runs)},
        "tiles": _tiles(found),
        "notes": [(run.name, name, note) for run in runs for name, note in _notes(run)],
        "table": _category_table(found, suite, options.model),
        "is_benchmark": any(t.scored for t in suite),
        "tasks": _task_table(runs, base, compared, suite, options),
        "plots": _plots(runs, suite),
        "gallery": _gallery(main, base, compared, options),
        "cost": _cost(runs),
        "errors": _errors(runs),
        "settings": _settings(runs),
        "missing": _missing(runs, suite),
        "ties": _ties(runs),
        "changed": {
            "fixed": sum(len(c.fixed) for c in compared.values()),
            "broken": sum(len(c.broken) for c in compared.values()),
            "missed": sum(len(c.missed) for c in compared.values()),
            "total": sum(c.total for c in compared.values()),
        },
    }


def _present(suite: Sequence[Task]) -> list[str]:
    """Columns that the suite has: all, then each modality before its categories."""
    columns = ["all"]
    for modality, categories in GROUPS.items():
        columns += [modality] if any(t.modality == modality for t in suite) else []
        columns += [c for c in categories if any(t.category == c for t in suite)]
    return columns


def _means(run: Run, suite: Sequence[Task]) -> dict[str, Mean]:
    """Means by category, modality, and "all"."""
    found = averages(run.scores(), suite)
    return {**found.categories, **found.modalities, "all": found.overall}


def _tiles(found: Sequence[tuple[Run, dict[str, Mean]]]) -> list[dict[str, Any]]:
    """The large numbers on top: overall and each modality, one value per run."""
    return [
        {
            "name": TITLES[column],
            "sets": _of(first.count, first.count + len(first.missing)),
            "values": [(run.name, _in_percent(mean[column]), mean[column].complete) for run, mean in found],
        }
        for column in ("all", *GROUPS)
        if (first := found[0][1].get(column)) is not None
    ]


def _of(count: int, total: int) -> str:
    """Say "7 of 78 data sets", or "78 data sets" where it is all of them."""
    noun = "data set" if total == 1 else "data sets"
    return f"{total} {noun}" if count == total else f"{count} of {total} {noun}"


def _notes(run: Run) -> Iterator[tuple[str, str]]:
    """What is not whole: data sets and sentences."""
    yield from run.damaged.items()
    for name, task in run.tasks.items():
        yield from ((name, note) for note in task.notes)


def _frames(run: Run) -> str:
    """Frames of a video that a run used, in words."""
    found = sorted({words for t in run.tasks.values() if (words := _frames_of(t.manifest)) is not None})
    return ", ".join(found) or "–"


def _frames_of(manifest: Mapping[str, Any]) -> str | None:
    frames = manifest.get("frames")
    return None if frames is None else {ALL_FRAMES: "all", 0: "none"}.get(frames, str(frames))


def _in_percent(mean: Mean) -> float | None:
    return None if mean.value is None else 100 * mean.value


def _category_table(found: Sequence[tuple[Run, dict[str, Mean]]], suite: Sequence[Task], model: str) -> dict[str, Any]:
    """Our rows, then published ones, best first, where the benchmark itself was run; cells know their rank's shade."""
    columns = _present(suite)
    rows: list[dict[str, Any]] = [
        {
            "name": run.name, "label": f"{model} · {run.name}" if model else run.name, "ours": True,
            "thinks": run.name != "no-think", "note": "", "ood": "after", "frames": _frames(run),
            "instructions": "benchmark's",
            "cells": [_in_percent(mean[c]) for c in columns], "partial": [not mean[c].complete for c in columns],
        }
        for run, mean in found
    ]  # fmt: skip
    if any(t.scored for t in suite):
        for system in published()["systems"]:
            rows.append({
                "name": system["name"], "label": system["name"], "ours": False, "thinks": system.get("thinks", False),
                "note": system.get("note", ""), "ood": system["ood_pages"],
                "frames": system.get("frames", "?"), "instructions": system.get("instructions", "?"),
                "cells": [system["scores"].get(c) for c in columns], "partial": [False] * len(columns),
            })  # fmt: skip
        rows.sort(key=lambda r: (not r["ours"], 0 if r["ours"] else -r["cells"][0]))
    for index in range(len(columns)):
        values = [r["cells"][index] for r in rows if r["cells"][index] is not None]
        low, high = min(values, default=0), max(values, default=0)
        for row in rows:
            value = row["cells"][index]
            shade = 0.0 if value is None or high == low else (value - low) / (high - low)
            row.setdefault("shades", []).append(round(shade, 3))
    return {"columns": [(c, TITLES[c], c in (*GROUPS, "all")) for c in columns], "rows": rows}


def _task_table(
    runs: Sequence[Run],
    base: Run | None,
    compared: Mapping[str, Comparison],
    suite: Sequence[Task],
    options: Options,
) -> dict[str, Any]:
    """Every data set with the score of each run, other systems' scores, and what changed against the baseline."""
    others = [(name, scores) for name, scores in options.others]
    if any(t.scored for t in suite):
        others += [
            (name, {t: {"hit@1": v, "ndcg_linear@5": v} for t, v in entry["scores"].items()})
            for name, entry in published()["tasks"].items()
            if name not in dict(others)
        ]
    extra = [t for run in runs for t in (x.task for x in run.tasks.values()) if t not in suite]
    rows = []
    for task in dict.fromkeys([*suite, *extra]):
        found = compared.get(task.name)
        values = [run.tasks[task.name].score if task.name in run.tasks else None for run in runs]
        if all(v is None for v in values) and not task.scored:
            continue
        against = [scores.get(task.name, {}).get(task.metric) for _, scores in others]
        queries = next((run.tasks[task.name].scores or {} for run in runs if task.name in run.tasks), {})
        rows.append({
            "task": task,
            "metric": "nDCG@5" if task.metric.startswith("ndcg") else task.metric,
            "values": values,
            "gain": values[0] - v if base and values[0] is not None
            and (v := values[list(runs).index(base)]) is not None else None,
            "comparison": found,
            "others": [None if v is None else 100 * v for v in against],
            "queries": queries.get("num_data"),
            "best": max((v for v in values if v is not None), default=None),
        })  # fmt: skip
    return {"rows": rows, "others": [name for name, _ in others]}


def _plots(runs: Sequence[Run], suite: Sequence[Task]) -> dict[str, Any]:
    found: dict[str, Any] = {"dumbbells": []}
    if len(runs) > 1:
        for modality in GROUPS:
            tasks = [t for t in suite if t.modality == modality and any(t.name in r.tasks for r in runs)]
            if tasks:
                series = {r.name: [r.tasks[t.name].score if t.name in r.tasks else None for t in tasks] for r in runs}
                svg = plots.dumbbells([t.name for t in tasks], series)
                found["dumbbells"].append((TITLES[modality], svg))
    thinking = [r for r in runs if any(any(t.queries.known_tokens()) for t in r.tasks.values())]
    if thinking:
        first = thinking[0]
        tasks = [t for t in suite if t.name in first.tasks]
        groups = {
            "queries": [first.tasks[t.name].queries.known_tokens() for t in tasks],
            "candidates": [first.tasks[t.name].candidates.known_tokens() for t in tasks],
        }
        groups = {name: columns for name, columns in groups.items() if any(columns)}
        found["tokens"] = plots.boxes([t.name for t in tasks], groups, "tokens of a trace")
        pairs = [pair for t in tasks for pair in by_length(first.tasks[t.name])]
        if len(pairs) >= 20:
            found["lengths"] = plots.steps({first.name: length_bins(pairs)}, "right first, %")
    names = [t.name for t in suite if any(t.name in r.tasks for r in runs)]
    seconds = {r.name: [r.tasks[n].queries.known_seconds() if n in r.tasks else [] for n in names] for r in runs}
    if any(any(columns) for columns in seconds.values()):
        times = {name: [[1000 * s for s in column] for column in columns] for name, columns in seconds.items()}
        found["seconds"] = plots.boxes(names, times, "milliseconds for a query", log=True)
    return found


def _gallery(main: Run, base: Run | None, compared: Mapping[str, Comparison], options: Options) -> list[dict[str, Any]]:
    """For each data set a few queries that changed and a few that stayed wrong, with all there is to see."""
    result = []
    for name, task in main.tasks.items():
        found = compared.get(name)
        outcomes = task.outcomes
        if found is None:
            wrong = [i for i, o in enumerate(outcomes) if round(o.value, 9) < 1]
            kinds = {"fixed": [], "broken": [], "missed": spread(wrong, options.examples)}
        else:
            kinds = {
                kind: spread(rows, options.examples)
                for kind, rows in (("fixed", found.fixed), ("broken", found.broken), ("missed", found.missed))
            }
        if not any(kinds.values()):
            continue
        other = base.tasks[name] if base is not None and found is not None else None
        result.append({
            "task": task.task,
            "comparison": found,
            "kinds": _cards(task, other, kinds, options),
        })  # fmt: skip
    return result


def _cards(
    task: TaskRun, other: TaskRun | None, kinds: Mapping[str, Sequence[int]], options: Options
) -> list[tuple[str, list[dict[str, Any]]]]:
    rows = sorted({row for chosen in kinds.values() for row in chosen})
    names = {
        name
        for row in rows
        for run in (task, other)
        if run is not None
        for name in (*run.outcomes[row].top, *run.outcomes[row].labels[:1])
    }
    known = [n for n in names if n in task.candidate_rows]
    rows_of = [task.candidate_rows[n] for n in known]
    queries = {
        row: media.shown(f"query {row}", about, options.find)
        for row, about in zip(rows, task.about("queries", rows), strict=True)
    }
    candidates = {n: media.shown(n, {}, options.find) for n in names} | {
        n: media.shown(n, about, options.find)
        for n, about in zip(known, task.about("candidates", rows_of), strict=True)
    }

    def ranking(run: TaskRun, row: int) -> dict[str, Any]:
        outcome: Outcome = run.outcomes[row]
        cosines = outcome.cosines or (None,) * len(outcome.top)
        return {
            "rank": outcome.rank,
            "places": [
                (candidates[n], cosine, n in outcome.labels) for n, cosine in zip(outcome.top, cosines, strict=True)
            ],
        }

    def card(row: int) -> dict[str, Any]:
        column = task.queries
        trace = column.traces[row] if row < len(column.traces) else None
        thinking, conclusion = _split(trace)
        label = task.outcomes[row].labels[:1]
        return {
            "row": row,
            "query": queries[row],
            "thinking": thinking,
            "conclusion": conclusion,
            "tokens": column.tokens[row] if row < len(column.tokens) else None,
            "error": column.errors[row] if row < len(column.errors) else None,
            "label": candidates[label[0]] if label else None,
            "main": ranking(task, row),
            "base": ranking(other, row) if other is not None else None,
        }

    return [(kind, [card(row) for row in chosen]) for kind, chosen in kinds.items() if chosen]


def _split(trace: str | None, opening: str = "<think>", closing: str = "</think>") -> tuple[str, str]:
    """Thinking and conclusion of a trace."""
    if trace is None:
        return "", ""
    before, found, after = trace.partition(closing)
    if not found:
        return "", trace.strip()
    return before.removeprefix(opening).strip(), after.strip()


def _cost(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Sums and medians of what each run recorded."""
    rows = []
    for run in runs:
        columns = [c for t in run.tasks.values() for c in (t.queries, t.candidates)]
        query_columns = [t.queries for t in run.tasks.values()]
        tokens = [n for c in columns for n in c.known_tokens()]
        per_query = [s for c in query_columns for s in c.known_seconds()]
        rows.append({
            "run": run.name,
            "queries": sum(len(c.names) for c in query_columns),
            "items": sum(len(c.names) for c in columns),
            "traces": sum(t is not None for c in columns for t in c.traces),
            "tokens": sum(tokens),
            "median_tokens": statistics.median(tokens) if tokens else None,
            "median_seconds": statistics.median(per_query) if per_query else None,
            "p95_seconds": _quantile(per_query, 0.95),
        })  # fmt: skip
    return rows


def _quantile(values: Sequence[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None


def _errors(runs: Sequence[Run], most: int = 50) -> dict[str, Any]:
    """Single items that failed: they count as misses."""
    rows = [
        (run.name, name, side, column.names[i], error)
        for run in runs
        for name, task in run.tasks.items()
        for side, column in (("query", task.queries), ("candidate", task.candidates))
        for i, error in enumerate(column.errors)
        if error
    ]
    return {"rows": rows[:most], "count": len(rows)}


def _missing(runs: Sequence[Run], suite: Sequence[Task]) -> list[tuple[str, list[str]]]:
    """Data sets without scores, by run."""
    lacking = [(run.name, [t.name for t in suite if t.name not in run.scores()]) for run in runs]
    return [(run, names) for run, names in lacking if names]


def _ties(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Data sets where equal scores could have decided otherwise."""
    rows = []
    for run in runs:
        for name, task in run.tasks.items():
            ties = (task.scores or {}).get("ties") or task.manifest.get("ties") or {}
            low, high = ties.get("pessimistic"), ties.get("optimistic")
            if low is not None and high is not None and high > low:
                rows.append({"run": run.name, "task": name, "low": 100 * low, "high": 100 * high, "score": task.score})
    return rows


_RECIPE = "as the recipe says"
_GRADES = {"correct": "as the data have them", "reference": "as the reference harness pairs them"}
_WHO_THINKS = {
    "always": "every query and candidate",
    "queries": "queries only",
    "recipe": "who the reasoner's recipe says, by task and side",
    "never": "nobody",
}


def _model(manifest: Mapping[str, Any], role: str) -> str | None:
    about = manifest["models"].get(role)
    if not about:
        return None
    details = [about.get("family"), about.get("dtype"), f"recipe {about['recipe']}" if about.get("recipe") else None]
    words = ", ".join(str(d) for d in details if d)
    return Path(str(about.get("path"))).name + (f" ({words})" if words else "")


def _decoding(manifest: Mapping[str, Any]) -> str | None:
    if manifest.get("think") == "never":
        return None
    settings = manifest["identity"].get("decoding") or {}
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
    return words or f"greedy, {_RECIPE}"


def _digest(manifest: Mapping[str, Any], role: str) -> str | None:
    found = (manifest["identity"].get(role) or {}).get("fingerprint")
    return f"digest {found}" if found else None


def _limit(limit: int | None) -> str:
    return "all" if limit is None else f"the first {limit}"


def _yes_no(value: bool | None, yes: str, no: str) -> str | None:
    return None if value is None else yes if value else no


_SETTINGS: tuple[tuple[str, Callable[[dict[str, Any]], Any]], ...] = (
    ("who is reasoned about", lambda m: _WHO_THINKS.get(m.get("think", ""), m.get("think"))),
    ("embedder", lambda m: _model(m, "embedder")),
    ("reasoner", lambda m: _model(m, "reasoner")),
    ("decoding", _decoding),
    ("prompt style", lambda m: m["identity"]["data"].get("style")),
    ("frames of a video", _frames_of),
    ("stray image tokens of WebQA and EDIS", lambda m: _yes_no(m.get("stray_tokens"), "kept", "left out")),
    ("queries of each data set", lambda m: _limit(m["identity"]["data"].get("limit"))),
    ("size of the vectors", lambda m: m.get("dim")),
    ("vectors divided by their norm", lambda m: _yes_no(m["identity"].get("normalize"), "yes", "no") or _RECIPE),
    ("grades of right candidates", lambda m: _GRADES.get(m.get("relevance", ""))),
    ("device", lambda m: m["models"].get("embedder", {}).get("device")),
    ("versions", lambda m: ", ".join(f"{name} {version}" for name, version in m.get("versions", {}).items())),
    ("begun", lambda m: m.get("created")),
    ("weights of the embedder", lambda m: _digest(m, "embedder")),
    ("weights of the reasoner", lambda m: _digest(m, "reasoner")),
)  # fmt: skip


def _settings(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """How each run was made, in words; what differs from task to task is listed."""

    def cell(run: Run, read: Callable[[dict[str, Any]], Any]) -> str:
        found = dict.fromkeys(str(value) for t in run.tasks.values() if (value := read(t.manifest)) is not None)
        return " · ".join(list(found)[:4]) + (" …" if len(found) > 4 else "") or "–"

    rows = [(label, [cell(run, read) for run in runs]) for label, read in _SETTINGS]
    return [(label, cells) for label, cells in rows if any(value != "–" for value in cells)]


__all__ = ["Options", "published", "render", "suite_of"]

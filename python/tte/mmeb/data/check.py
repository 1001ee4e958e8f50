"""Commands `tasks` and `check`: what the benchmark is made of, and what of it is missing in a local copy."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tte import _command
from tte._tte import InputError
from tte.mmeb.data import layout, options
from tte.mmeb.data.base import Settings, TableDataset
from tte.mmeb.data.loaders import open_dataset
from tte.mmeb.data.tasks import Task, shortfall, unscored

_EXAMPLES = 3


@dataclass
class Report:
    """What is there of one task."""

    name: str
    category: str
    status: str
    """"complete", "incomplete" (rows, files of a table, images or frames are missing), "different" (more rows than the
    benchmark has), "missing" (no tables) or "broken"."""
    queries: int | None = None
    expected_queries: int | None = None
    repository: str = ""
    tables: list[str] = field(default_factory=list)
    media: int | None = None
    """Images, pages or frame folders that are needed; None: not looked at."""
    media_missing: int = 0
    examples: list[str] = field(default_factory=list)
    """Some of what is missing."""
    notes: list[str] = field(default_factory=list)


def check_task(task: Task, data_dir: Path, *, quick: bool = False) -> Report:
    """Look for the tables of a task and, unless `quick`, for every image, page and frame folder that they name."""
    report = Report(task.name, task.category, "complete", expected_queries=task.queries)
    report.repository = task.repos[0] if task.repos else ""
    try:
        dataset = open_dataset(task, data_dir, Settings())
        report.tables = [str(file) for table in dataset.tables for file in table.files]
        report.queries = dataset.num_queries
        if not quick:
            _check_media(dataset, report)
        # Clips are counted by their folders, which are media.
        if short := shortfall(task, report.queries, None) if quick else dataset.shortfall():
            report.status = "incomplete" if " of " in short or report.media_missing else "different"
            report.notes.append(f"it has {short}: fetch it again, in the version that the benchmark uses")
    except layout.ShardsError as error:
        report.status = "incomplete"
        report.notes.append(str(error))
    except (InputError, OSError) as error:
        report.status = "missing" if isinstance(error, layout.MissingError) and not report.tables else "broken"
        report.notes.append(_command.told(error))
    return report


def _check_media(dataset: TableDataset, report: Report) -> None:
    report.media = 0
    for path, files in dataset.media():
        report.media += 1
        if files is not None and not files:
            report.media_missing += 1
            if len(report.examples) < _EXAMPLES:
                report.examples.append(str(path))
    if report.media_missing:
        report.status = "incomplete"
        archive = layout.archive_of(dataset.task)
        report.notes.append(
            f"{report.media_missing} of {report.media} {_kind(dataset.task)} are missing: see {archive}"
        )


def _kind(task: Task) -> str:
    return {"image": "images", "visdoc": "pages"}.get(task.modality, "frame folders")


def add_tasks(subparsers: Any) -> None:
    """Add the command `tasks`."""
    parser = subparsers.add_parser(
        "tasks",
        help="list the tasks",
        description="List the 78 scored tasks (and, with --all, the data sets that exist but are not scored).",
        epilog="example: python -m tte.mmeb tasks --tasks V-RET VisRAG",
    )
    options.add_tasks(parser)
    parser.add_argument("--all", action="store_true", help="also the data sets that are not scored")
    parser.add_argument("--json", action="store_true", help="everything that is known of them, as JSON")
    parser.set_defaults(command=_tasks)


def _tasks(arguments: argparse.Namespace) -> int:
    found = options.tasks_of(arguments)
    if arguments.all and not arguments.tasks:
        found += [task for task in unscored() if task not in found]
    if arguments.json:
        print(json.dumps([asdict(task) for task in found], ensure_ascii=False, indent=1))
        return 0
    rows = [
        (
            t.category,
            t.name,
            str(t.queries or "?"),
            "own" if t.local else "all",
            t.metric,
            t.repos[0] if t.repos else "",
        )
        for t in found
    ]
    print(_columns([("category", "task", "queries", "pool", "metric", "tables"), *rows]))
    scored = sum(task.scored for task in found)
    print(f"\n{len(found)} tasks, {scored} of them scored; pool: a query's own candidates, or all of the data set")
    return 0


def add_check(subparsers: Any) -> None:
    """Add the command `check`."""
    parser = subparsers.add_parser(
        "check",
        help="say which data are missing",
        description="Look for tables, images, pages and frames of each task in a local copy, in every layout in use. "
        "The exit code is 1 if anything is missing.",
        epilog="example: python -m tte.mmeb check --data MMEB-V2 --tasks video",
    )
    options.add_data(parser)
    options.add_tasks(parser)
    parser.add_argument("--quick", action="store_true", help="tables only, not every image and frame folder")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=_check)


def _check(arguments: argparse.Namespace) -> int:
    found = options.tasks_of(arguments)
    reports = [check_task(task, arguments.data, quick=arguments.quick) for task in _progress(found)]
    if arguments.json:
        print(json.dumps([asdict(report) for report in reports], ensure_ascii=False, indent=1))
    else:
        _print_reports(reports)
    return 0 if all(report.status == "complete" for report in reports) else 1


def _print_reports(reports: list[Report]) -> None:
    rows = []
    for report in reports:
        media = "" if report.media is None else f"{report.media - report.media_missing}/{report.media}"
        expected = "" if report.expected_queries in (None, report.queries) else f" of {report.expected_queries}"
        queries = "" if report.queries is None else f"{report.queries}{expected}"
        rows.append((report.status, report.category, report.name, queries, media))
    print(_columns([("state", "category", "task", "queries", "media"), *rows]))
    noted = [report for report in reports if report.notes]
    if noted:
        print()
    # One line for a repository from which nothing is there: the image tasks have one in common.
    absent: dict[str, list[Report]] = {}
    for report in noted:
        if report.status == "missing" and report.repository:
            absent.setdefault(report.repository, []).append(report)
    for repository, group in absent.items():
        if len(group) > 1:
            names = ", ".join(report.name for report in group[1:])
            print(f"{group[0].notes[0]} The same for {len(group) - 1} more tasks of {repository}: {names}.")
    for report in noted:
        if len(absent.get(report.repository, [])) > 1 and report.status == "missing":
            continue
        for note in report.notes:
            print(note if note.startswith(f"{report.name}:") else f"{report.name}: {note}")
        for example in report.examples:
            print(f"    {example}")
    counts = {
        state: sum(r.status == state for r in reports)
        for state in ("complete", "incomplete", "different", "broken", "missing")
    }
    print(f"\n{len(reports)} tasks: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}")


def _columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _progress(found: list[Task]) -> Iterable[Task]:
    from tqdm.auto import tqdm

    return tqdm(found, desc="check", unit="task", disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)

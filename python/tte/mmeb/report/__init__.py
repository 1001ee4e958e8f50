"""`python -m tte.mmeb report`: the leaderboard's JSON and a page that one wants to look at, from result folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tte import _command, _files

if TYPE_CHECKING:
    from tte.mmeb.data.tasks import Task
    from tte.mmeb.report.results import Run

_EXAMPLE = """example:
  python -m tte.mmeb report out/think out/no-think --data MMEB-V2 --out report --model-name My-Embedder-2B \\
      --backbone Qwen2-VL --size 2.2 --url https://example.org/my-embedder

The first folder is the run that the page is about; further ones are set beside it. --out gets
  index.html              one file with everything in it: scores beside published systems, task by task, the queries
                          that thinking fixed and broke, time and tokens, failures, settings
  My-Embedder-2B.json     what the public leaderboard takes (a pull request that adds it to `scores/` of its space)
"""


def add_report(subparsers: Any) -> None:
    """Add the command `report`."""
    from tte.mmeb.data import options

    parser = subparsers.add_parser(
        "report",
        help="the leaderboard's JSON and a page",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", nargs="+", type=_command.path, metavar="DIR", help="result folders, the main one first"
    )
    parser.add_argument("--out", type=_command.path, metavar="DIR", help="where the report goes (default: DIR/report)")
    parser.add_argument(
        "--data", type=_command.path, metavar="DIR", help="data folder, for images (default: where the run had it)"
    )
    parser.add_argument("--name", action="append", default=[], help="name of a run on the page; once per DIR")
    parser.add_argument("--compare", action="append", type=_command.path, default=[], metavar="JSON",
                        help="leaderboard file of another system, set beside ours (may be repeated)")  # fmt: skip
    parser.add_argument("--examples", type=_command.whole(0, 1000), default=2,
                        help="queries of each kind shown a data set (default: 2)")  # fmt: skip
    parser.add_argument("--title", help="title of the page")
    options.add_extra_tasks(parser)
    board = parser.add_argument_group("what the leaderboard says about the model")
    board.add_argument("--model-name", help="also the name of the file (default: that of the embedder's folder)")
    board.add_argument("--backbone", help="such as Qwen2-VL")
    board.add_argument("--size", type=_command.real(0, 1e6), help="billions of parameters")
    board.add_argument("--max-length", type=_command.count, help="longest input in tokens")
    board.add_argument("--release-date", help="YYYY-MM-DD")
    board.add_argument("--url", help="of the model, its paper or its code")
    parser.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    metadata = {
        "model_name": arguments.model_name,
        "model_backbone": arguments.backbone,
        "model_size": arguments.size,
        "max_length_tokens": arguments.max_length,
        "model_release_date": arguments.release_date,
        "url": arguments.url,
    }
    known = known_tasks(arguments.extra_tasks)
    runs = _read(arguments.results, arguments.name, known)
    written = _write(
        runs,
        known,
        arguments.out or arguments.results[0] / "report",
        data_dir=arguments.data,
        compare=arguments.compare,
        examples=arguments.examples,
        title=arguments.title,
        metadata=metadata,
    )
    for path in written:
        print(path.resolve().as_uri() if path.suffix == ".html" else path)
    for run in runs:
        if cut := sum(task.limit is not None for task in run.tasks.values()):
            print(f"note: {run.name}: {cut} of {len(run.tasks)} data sets hold the first queries only (--limit), and "
                  "its leaderboard file leaves them out: run them without it")  # fmt: skip
        for name, task in run.tasks.items():
            for note in task.notes:
                print(f"note: {run.name}, {name}: {note}")
        for name, reason in run.damaged.items():
            print(f"left out: {run.name}, {name}: {reason}", file=sys.stderr)
    return 3 if any(run.damaged for run in runs) else 0


def make(  # noqa: PLR0913
    results: Sequence[Path],
    out: Path,
    *,
    data_dir: Path | None = None,
    names: Sequence[str] = (),
    compare: Sequence[Path] = (),
    examples: int = 2,
    title: str | None = None,
    extra_tasks: Iterable[Path] = (),
    metadata: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the page and one leaderboard file per result folder; returns their paths, the page first.

    Args:
        results: result folders of one benchmark; the first is the one the page is about.
        out: folder of the report; made if need be.
        data_dir: the data, for images, where they are no longer where the run had them.
        names: what to call the runs; default: their ways of thinking.
        compare: leaderboard files of other systems.
        examples: queries of each kind (fixed, broken, missed) shown for each data set.
        title: of the page.
        extra_tasks: files of further tasks; the miniature's are known.
        metadata: fields of the leaderboard's `metadata`.

    Raises:
        InputError: a folder holds no results, or two runs have one name.

    """
    known = known_tasks(extra_tasks)
    return _write(
        _read(results, names, known), known, out,
        data_dir=data_dir, compare=compare, examples=examples, title=title, metadata=metadata,
    )  # fmt: skip


def _read(results: Sequence[Path], names: Sequence[str], known: Sequence[Task]) -> list[Run]:
    from tte._tte import InputError
    from tte.mmeb.report.results import read

    if len(names) > len(results):
        raise InputError(f"{len(names)} names were given for {len(results)} result folders: give one for each.")
    runs = [read(f, known, names[i] if i < len(names) else None) for i, f in enumerate(results)]
    for i, run in enumerate(runs):
        if run.name in [r.name for r in runs[:i]]:
            raise InputError(f"Two runs are called {run.name!r}: tell them apart with --name, once per folder.")
    return runs


def _write(
    runs: Sequence[Run],
    known: Sequence[Task],
    out: Path,
    *,
    data_dir: Path | None,
    compare: Sequence[Path],
    examples: int,
    title: str | None,
    metadata: Mapping[str, Any] | None,
) -> list[Path]:
    from tte.mmeb.report import leaderboard, page

    out.mkdir(parents=True, exist_ok=True)
    benchmark = any(t.task.scored for run in runs for t in run.tasks.values())
    default = "MMEB-V2" if benchmark else "MMEB-V2 in miniature"
    options = page.Options(
        title=title or f"{default}: {_model_name(runs[0], metadata)}",
        model=_model_name(runs[0], metadata) if benchmark else "",
        examples=max(0, examples),
        find=_finder(data_dir),
        others=[leaderboard.read(path) for path in compare],
    )
    html = out / "index.html"
    with _files.replacing(html) as file:
        file.write(page.render(runs, known, options).encode(errors="replace"))
    return [html, *(_leaderboard(run, i, runs, known, out, metadata or {}) for i, run in enumerate(runs))]


def known_tasks(extra_tasks: Iterable[Path] = ()) -> list[Task]:
    """All tasks that a result folder may hold: the benchmark's and its extras, the miniature's, and `extra_tasks`."""
    from tte.mmeb.data.tasks import MINI_TASKS, benchmark, read_tasks

    files = [MINI_TASKS, *(Path(f) for f in extra_tasks if Path(f).resolve() != MINI_TASKS)]
    # Once each: a data folder's own task file repeats definitions of the miniature's.
    return list(dict.fromkeys([*benchmark(), *(task for file in files for task in read_tasks(file))]))


def _model_name(run: Run, metadata: Mapping[str, Any] | None) -> str:
    """Name of the model: as given, else the folder of the embedder."""
    if metadata and metadata.get("model_name"):
        return str(metadata["model_name"])
    from tte.mmeb.report.results import embedder_of

    return embedder_of(next(iter(run.tasks.values())).manifest) or run.folder.resolve().name


def _leaderboard(
    run: Run, index: int, runs: Sequence[Run], known: Sequence[Task], out: Path, metadata: Mapping[str, Any]
) -> Path:
    from tte.mmeb.report import leaderboard

    name = _model_name(run, metadata)
    if index and name == _model_name(runs[0], metadata):
        name = f"{name}-{run.name}"
    benchmark = any(t.task.scored for t in run.tasks.values())
    others = [t.task for t in run.tasks.values() if t.task not in known]
    listed = {
        m: [
            t.name
            for t in (*known, *others)
            if t.modality == m and (t.name in run.tasks or t.name in run.damaged or (benchmark and _on_board(t)))
        ]
        for m in leaderboard.MODALITIES
    }
    given = {**metadata, "model_name": name, "embedding_dimension": run.dimension}
    path = out / f"{name.replace('/', '__')}.json"
    leaderboard.write(leaderboard.build(run.folder, listed, given, told=_told(run)), path)
    return path


def _told(run: Run) -> dict[str, str | dict[str, int]]:
    """What the leaderboard's file says of data sets that are not whole."""
    told: dict[str, str | dict[str, int]] = dict.fromkeys(run.damaged, "READ_ERROR")
    for name, task in run.tasks.items():
        failed = task.manifest.get("failed", {})
        count = {f"failed_{side}": failed[side] for side in ("queries", "candidates") if failed.get(side)}
        if task.unfinished:
            told[name] = f"UNFINISHED: {task.unfinished}"
        elif task.shortfall:
            told[name] = f"INCOMPLETE: {task.shortfall}"
        elif task.limit is not None:
            told[name] = f"INCOMPLETE: the first {task.limit} queries"
        elif count:
            told[name] = count
    return told


def _on_board(task: Task) -> bool:
    """Whether the leaderboard's files list the task: the scored ones, and ViDoRe v2 in English only."""
    return task.scored or (task.modality == "visdoc" and task.name.endswith("_v2"))


def _finder(data_dir: Path | None) -> Callable[[str], Path]:
    """Where the files that a run recorded are now: where they were, or at the same place below `data_dir`."""

    def find(file: str) -> Path:
        path = Path(file)
        if data_dir is None:
            return path
        # The folder was another one then: what follows it in the path is the same.
        below = (data_dir.joinpath(*path.parts[i:]) for i in range(1, len(path.parts)))
        return next((place for place in below if place.is_file()), path)

    return find

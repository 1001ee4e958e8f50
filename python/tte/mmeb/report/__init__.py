"""`python -m tte.mmeb report`: the leaderboard's JSON and a page that one wants to look at, from result folders."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tte.mmeb.report.results import Run
    from tte.mmeb.tasks import Task

_TASKS = Path(__file__).resolve().parent.parent / "tasks.json"
MINI_TASKS = _TASKS.with_name("mini_tasks.json")
"""The tasks of the miniature."""
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
    parser = subparsers.add_parser(
        "report",
        help="the leaderboard's JSON and a page",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="DIR", help="result folders, the main one first")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: DIR/report)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder, for pictures (default: where the run had it)"
    )
    parser.add_argument("--name", action="append", default=[], help="name of a run on the page; once per DIR")
    parser.add_argument("--compare", action="append", type=Path, default=[], metavar="JSON",
                        help="leaderboard file of another system, set beside ours (may be repeated)")  # fmt: skip
    parser.add_argument("--examples", type=int, default=2, help="queries of each kind shown a data set (default: 2)")
    parser.add_argument("--title", help="title of the page")
    parser.add_argument("--extra-tasks", action="append", type=Path, default=[], metavar="JSON", help="further tasks")
    board = parser.add_argument_group("what the leaderboard says about the model")
    board.add_argument("--model-name", help="also the name of the file (default: that of the embedder's folder)")
    board.add_argument("--backbone", help="such as Qwen2-VL")
    board.add_argument("--size", type=float, help="billions of parameters")
    board.add_argument("--max-length", type=int, help="longest input in tokens")
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
    written = make(
        arguments.results,
        arguments.out or arguments.results[0] / "report",
        data_dir=arguments.data,
        names=arguments.name,
        compare=arguments.compare,
        examples=arguments.examples,
        title=arguments.title,
        extra_tasks=arguments.extra_tasks,
        metadata=metadata,
    )
    for folder in limited(arguments.results, arguments.extra_tasks):
        print(f"note: {folder} holds the first queries only (--limit): its leaderboard file is not one to hand in")
    for path in written:
        print(path.resolve().as_uri() if path.suffix == ".html" else path)
    return 0


def make(
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
        data_dir: the data, for pictures, where they are no longer where the run had them.
        names: what to call the runs; default: their ways of thinking.
        compare: leaderboard files of other systems.
        examples: queries of each kind (fixed, broken, missed) shown for each data set.
        title: of the page.
        extra_tasks: files of further tasks; the miniature's are known.
        metadata: fields of the leaderboard's `metadata`.

    Raises:
        InputError: a folder holds no results, or two runs have one name.

    """
    from tte._tte import InputError
    from tte.mmeb.report import leaderboard, page
    from tte.mmeb.report.results import read

    known = known_tasks(extra_tasks)
    if len(names) > len(results):
        raise InputError(f"{len(names)} names were given for {len(results)} result folders: give one for each.")
    runs = [read(f, known, names[i] if i < len(names) else None) for i, f in enumerate(results)]
    for i, run in enumerate(runs):
        if run.name in [r.name for r in runs[:i]]:
            raise InputError(f"Two runs are called {run.name!r}: tell them apart with --name, once per folder.")
    out.mkdir(parents=True, exist_ok=True)
    benchmark = any(t.task.scored for run in runs for t in run.tasks.values())
    default = "MMEB-V2" if benchmark else "MMEB-V2 in miniature"
    options = page.Options(
        title=title or f"{default}: {_model_name(runs[0], metadata)}",
        model=_model_name(runs[0], metadata) if benchmark else "",
        examples=max(0, examples),
        find=_finder(runs, data_dir),
        others=[leaderboard.read(path) for path in compare],
    )
    html = out / "index.html"
    temporary = html.with_name("index.html.part")
    temporary.write_text(page.render(runs, known, options), encoding="utf-8")
    os.replace(temporary, html)
    return [html, *(_leaderboard(run, i, runs, known, out, metadata or {}) for i, run in enumerate(runs))]


def limited(results: Iterable[Path], extra_tasks: Iterable[Path] = ()) -> list[Path]:
    """Result folders of runs that took the first queries only."""
    from tte.mmeb.report.results import read

    known = known_tasks(extra_tasks)
    return [folder for folder in results if read(folder, known).limits]


def known_tasks(extra_tasks: Iterable[Path] = ()) -> list[Task]:
    """All tasks that a result folder may hold: the benchmark's and its extras, the miniature's, and `extra_tasks`."""
    from tte.mmeb.tasks import read_tasks

    files = [_TASKS, MINI_TASKS, *(Path(f) for f in extra_tasks if Path(f).resolve() != MINI_TASKS)]
    # Once each: a data folder's own task file repeats definitions of the miniature's.
    return list(dict.fromkeys(task for file in files for task in read_tasks(file)))


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
    listed = {
        m: [t.name for t in known if t.modality == m and (t.name in run.tasks or (benchmark and _on_board(t)))]
        for m in leaderboard.MODALITIES
    }
    given = {**metadata, "model_name": name, "embedding_dimension": run.dimension}
    path = out / f"{name.replace('/', '__')}.json"
    leaderboard.write(leaderboard.build(run.folder, listed, given), path)
    return path


def _on_board(task: Task) -> bool:
    """Whether the leaderboard's files list the task: the scored ones, and ViDoRe v2 in English only."""
    return task.scored or (task.modality == "visdoc" and task.name.endswith("_v2"))


def _finder(runs: Sequence[Run], data_dir: Path | None) -> Callable[[str], Path]:
    """Where the files that a run recorded are now: where they were, or at the same place below `data_dir`."""
    if data_dir is None:
        return Path
    folders = {run_data for run in runs for t in run.tasks.values() if (run_data := t.manifest.get("data_dir"))}

    def find(file: str) -> Path:
        for folder in folders:
            if Path(file).is_relative_to(folder):
                return data_dir / Path(file).relative_to(folder)
        return Path(file)

    return find

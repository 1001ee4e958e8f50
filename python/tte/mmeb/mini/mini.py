"""`python -m tte.mmeb mini`: the whole benchmark in miniature, with the bundled nano pair, in minutes.

Fresh test tasks of the nano world are written in the benchmark's own file layout, and go through the very same
loaders, runner, scorer and report as the real data.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tte import _command, _options
from tte._tte import InputError

if TYPE_CHECKING:
    from tte._backend import Backend
    from tte.mmeb.run.embed import ThinkMode
    from tte.mmeb.run.run import Report

MODES: dict[str, ThinkMode] = {"think": "recipe", "no-think": "never", "queries-only": "queries"}
"""Ways of running: name, and who gets a trace. Without thinking it is the embedder that was trained without."""
_HIT = "hit@1"
_EXAMPLE = """examples:
  python -m tte.mmeb mini                                    50 queries a task, three ways, and a page to look at
  python -m tte.mmeb mini --seed 0 1 --count 500 --out mini  the numbers of the model card, twice
  python -m tte.mmeb mini --tasks image_qa visdoc --modes think no-think

DIR/seed-N/ gets data/ (image-tasks, video-tasks, visdoc-tasks: look at it to see how real data lie; its tasks.json
says what the tasks are, so `check`, `prompts`, `traces` and `run` take it as --data as it is), results/<mode>/ and
report/index.html. Stop it whenever you like: the same command goes on where it was.
"""


@dataclass
class Outcome:
    """What one seed gave."""

    seed: int
    page: Path
    hits: dict[str, dict[str, float]] = field(default_factory=dict)
    """hit@1 in percent by mode and data set."""
    documents: dict[str, float] = field(default_factory=dict)
    """nDCG@5 of the document task in percent, by mode."""
    seconds: float = 0

    def mean(self, mode: str) -> float:
        """Mean hit@1 of the data sets."""
        return statistics.fmean(self.hits[mode].values())


def add_mini(subparsers: Any) -> None:
    """Add the command `mini`."""
    parser = subparsers.add_parser(
        "mini",
        help="the whole benchmark in miniature, nano pair, minutes",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=_command.path, default=Path("mmeb-mini"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--seed", type=_command.whole(0, _options.INT64), nargs="+", default=[0], metavar="N",
        help="seeds of the test data (0)",
    )  # fmt: skip
    parser.add_argument(
        "--count", type=_command.whole(1, 10_000), default=50, metavar="N", help="queries a task (default: %(default)s)"
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="NAME",
        help="families (image_cls, ...) or data sets (Mini-ImageCls, ...); default: all nine",
    )
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES), help="default: all three")
    parser.add_argument("--data-only", action="store_true", help="write the data and stop")
    _command.add_backend(parser)
    parser.set_defaults(command=_mini, resumes=True)


def _mini(arguments: argparse.Namespace) -> int:
    from tte import _extras, _text
    from tte.mmeb.mini import layout as mini_layout
    from tte.mmeb.run import setup

    setup.logging_on()
    _extras.pyarrow()
    if not arguments.data_only:
        _extras.jinja2()  # Told now, not when all is done.
        _extras.matplotlib()
    by_set = {data_set: name for name, data_set in mini_layout.NAMES.items()}
    chosen = [by_set.get(name, name) for name in arguments.tasks or mini_layout.NAMES]
    for name in chosen:
        if name not in mini_layout.NAMES:
            raise InputError(
                f"There is no task {_text.shown(name)} in miniature: they are {', '.join(mini_layout.NAMES)}, or "
                "by their data sets, as `tasks` names them."
            )
    if arguments.data_only:
        for seed in arguments.seed:
            folder = _folder(arguments.out, seed) / "data"
            mini_layout.write(folder, seed=seed, count=arguments.count, tasks=chosen)
            print(f"python -m tte.mmeb check --data {folder}")
        return 0
    backend = _command.backend(arguments)
    outcomes = [
        run(arguments.out, seed, arguments.count, tasks=chosen, modes=arguments.modes, backend=backend)
        for seed in dict.fromkeys(arguments.seed)
    ]
    print(table(outcomes))
    print(f"\n{arguments.count} queries a task, on {backend.device}; {_clock(outcomes)}")
    for outcome in outcomes:
        print(f"seed {outcome.seed}: {outcome.page.resolve().as_uri()}")
    return 0


def _folder(out: Path, seed: int) -> Path:
    return out.resolve() / f"seed-{seed}"


def _clock(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(f"seed {o.seed}: {o.seconds:.0f} s" for o in outcomes)


def run(
    out: Path,
    seed: int,
    count: int,
    *,
    tasks: Iterable[str] | None = None,
    modes: Sequence[str] = tuple(MODES),
    backend: Backend | None = None,
    progress: bool = True,
) -> Outcome:
    """Run one seed from wherever it was: data, the modes one after the other, report.

    Args:
        out: folder; everything of a seed is below `seed-<seed>`.
        seed: of the test data.
        count: queries a task.
        tasks: names of the generator's tasks; default: all nine.
        modes: keys of `MODES`; the report is about the first.
        backend: where to run.
        progress: show bars.

    Raises:
        InputError: the folder holds the data of another count, or results of other weights.

    """
    from tte.mmeb import report
    from tte.mmeb.data.loaders import Source
    from tte.mmeb.data.tasks import MINI_TASKS, find
    from tte.mmeb.mini import layout as mini_layout
    from tte.mmeb.run.embed import log
    from tte.mmeb.run.run import run_tasks

    begin = time.monotonic()
    folder = _folder(out, seed)
    chosen = list(tasks or mini_layout.NAMES)
    mini_layout.write(
        folder / "data",
        seed=seed,
        count=count,
        tasks=chosen,
        progress=lambda name: log.info("seed %d: writing %s", seed, name),
    )
    source = Source(folder / "data", extra_tasks=(MINI_TASKS,))
    wanted = [find(mini_layout.NAMES[name], source.extra_tasks) for name in chosen]
    outcome = Outcome(seed, folder / "report" / "index.html")
    for mode, system in _systems(modes, folder, backend):
        log.info("seed %d, %s", seed, mode)
        with system as running:
            found = run_tasks(wanted, source, folder / "results" / mode, running, strict=True, progress=progress)
        _note(outcome, mode, found)
    report.make(
        [folder / "results" / mode for mode in modes],
        folder / "report",
        title=f"MMEB-V2 in miniature: the nano pair, seed {seed}",
        metadata={"model_name": "tte-nano", "model_backbone": "Qwen2-VL (nano)", "model_size": 0.002},
        extra_tasks=source.extra_tasks,
    )
    outcome.seconds = time.monotonic() - begin
    return outcome


def _systems(modes: Sequence[str], folder: Path, backend: Backend | None) -> Any:
    """The modes with what runs them, loaded when they are come to."""
    from contextlib import contextmanager

    from tte import _hub
    from tte._models import Embedder, Reasoner
    from tte.mmeb.run.embed import System
    from tte.trace_store import TraceStore

    @contextmanager
    def opened(mode: str) -> Any:
        if MODES[mode] == "never":
            yield System(Embedder(_hub.bundled("embedder-no-think"), backend=backend))
            return
        reasoner = Reasoner(_hub.bundled("reasoner"), backend=backend)
        embedder = Embedder(_hub.bundled("embedder"), backend=backend)
        with TraceStore(folder / "traces.sqlite") as store:
            yield System(embedder, reasoner, store, MODES[mode])

    for mode in modes:
        yield mode, opened(mode)


def _note(outcome: Outcome, mode: str, found: Report) -> None:
    outcome.hits[mode] = {task.name: 100 * float(values[_HIT]) for task, values in found.found}
    for task, values in found.found:
        if task.metric != _HIT:
            outcome.documents[mode] = 100 * float(values[task.metric])


def table(outcomes: Sequence[Outcome]) -> str:
    """hit@1 of every data set and mode as a markdown table; several seeds one after the other, then their mean."""
    modes = list(outcomes[0].hits)
    names = list(outcomes[0].hits[modes[0]])
    lines = [
        f"| hit@1, % | {' | '.join(names)} | mean | nDCG@5 of documents |",
        f"|---|{'---|' * (len(names) + 2)}",
    ]
    for mode in modes:
        cells = [" / ".join(f"{o.hits[mode][name]:.1f}" for o in outcomes) for name in names]
        mean = " / ".join(f"**{o.mean(mode):.1f}**" for o in outcomes)
        documents = " / ".join(f"{o.documents[mode]:.1f}" for o in outcomes if mode in o.documents) or "–"
        lines.append(f"| {mode} | {' | '.join(cells)} | {mean} | {documents} |")
    return "\n".join(lines)

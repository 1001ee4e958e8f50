"""Reasoning traces of data sets ahead of their embedding; the command `traces`."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from tte import _command, _files, _tte
from tte._trace_files import check_export
from tte.mmeb.data import options
from tte.mmeb.data.loaders import Source
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Dataset, Entry
from tte.mmeb.run import setup
from tte.mmeb.run.blocks import Shard
from tte.mmeb.run.embed import System, log
from tte.mmeb.run.run import BLOCK, EVERYTHING
from tte.trace_store import TraceStore

_SIDES: tuple[Literal["query", "target"], ...] = ("query", "target")


def write_traces(
    dataset: Dataset,
    system: System,
    *,
    block: int = BLOCK,
    shard: Shard = EVERYTHING,
    progress: bool = True,
) -> tuple[int, int]:
    """Write the traces of a data set that are not in the system's store yet.

    Args:
        dataset: what to think about.
        system: a reasoner with a store; who is reasoned about is its `think`.
        block: items that are handed to the reasoner together.
        shard: which of the blocks.
        progress: show a bar.

    Returns:
        How many items were reasoned about, now or earlier, and how many failed.

    """
    thought = failed = 0
    for side in _SIDES:
        if not system.thinks(dataset.task.family, side):
            continue
        name = f"{dataset.task.name}/{side}"
        count = dataset.num_queries if side == "query" else dataset.num_candidates
        entries: Iterator[Entry] = (q.entry for q in dataset.queries()) if side == "query" else dataset.candidates()
        mine = [number for number in range(math.ceil(count / block)) if shard.has(name, number)]
        total = sum(min(block, count - number * block) for number in mine)
        with _bar(name, total, show=progress) as advance:
            for number in range(max(mine, default=-1) + 1):
                chunk = list(itertools.islice(entries, block))
                if number not in mine:
                    continue
                outcomes = system.run(
                    chunk,
                    [f"{name} {entry.name[:80]!r}" for entry in chunk],
                    family=dataset.task.family,
                    side=side,
                    progress=advance(),
                )
                errors = [outcome.error for outcome in outcomes if outcome.error is not None]
                for error in errors[:3]:
                    log.warning("%s", error)
                failed += len(errors)
                thought += len(outcomes) - len(errors)
    return thought, failed


@contextmanager
def _bar(name: str, total: int, *, show: bool) -> Iterator[Callable[[], Callable[[int, int], None] | None]]:
    """A bar; every call of what it gives is the callback of one block."""
    if not show or total == 0:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=name, unit="item", dynamic_ncols=True) as bar:

        def block() -> Callable[[int, int], None]:
            before = bar.n

            def report(done: int, _total: int) -> None:
                bar.update(before + done - bar.n)

            return report

        yield block


def write_all(
    wanted: Iterable[Task], source: Source, system: System, *, block: int = BLOCK, shard: Shard = EVERYTHING
) -> int:
    """Write the traces of several data sets; returns how many data sets or items failed."""
    missing = 0
    noted: set[str] = set()
    for task in wanted:
        for note in system.notes(task.family):
            if note not in noted:
                log.warning("%s", note)
                noted.add(note)
        try:
            thought, failed = write_traces(source.load(task), system, block=block, shard=shard)
        except (_tte.Error, OSError) as error:
            if not _files.is_of_one(error):
                raise
            log.error("%s is left out: %s", task.name, error)
            missing += 1
            continue
        log.info("%s: %d traces%s", task.name, thought, f", {failed} failed" if failed else "")
        missing += failed
    return missing


def add_traces(subparsers: Any) -> None:
    """Add the command `traces`."""
    parser = subparsers.add_parser(
        "traces",
        help="write reasoning traces into a store, for `run` to embed",
        description="Write the reasoning traces of data sets into a store, where `run --traces FILE` finds them; or "
        "export and import a store. Stop it whenever you like: what is written is kept.",
        epilog=(
            "examples:\n"
            "  python -m tte.mmeb traces --traces traces.sqlite --data MMEB-V2 --reasoner ./reasoner --tasks I-QA\n"
            "  python -m tte.mmeb traces --traces traces.sqlite --data MMEB-V2 --reasoner http://localhost:8000/v1 "
            "--reasoner-model Qwen/Qwen3-VL-8B-Thinking --reasoner-recipe tte\n"
            "  python -m tte.mmeb traces --traces traces.sqlite --export traces.parquet\n"
            "  python -m tte.mmeb traces --traces traces.sqlite --import machine1.jsonl machine2.sqlite"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--export", type=_command.path, metavar="FILE", help="write all traces as .jsonl or .parquet")
    parser.add_argument(
        "--import", dest="imports", type=_command.path, nargs="+", default=[], metavar="FILE",
        help="take over traces from exports or other stores",
    )  # fmt: skip
    parser.add_argument("--drop-damaged", action="store_true", help="remove traces whose bytes changed on the disk")
    setup.add_source(parser, required=False)
    setup.add_reasoner(parser, store_required=True)
    setup.add_work(parser, in_flight=False)
    parser.add_argument("--block", type=int, default=BLOCK, metavar="N", help=f"items in one call ({BLOCK})")
    parser.set_defaults(command=_run_traces)


def _run_traces(arguments: argparse.Namespace) -> int:
    setup.logging_on()
    if arguments.reasoner is None and not (arguments.imports or arguments.export or arguments.drop_damaged):
        raise _tte.InputError(
            "There is nothing to do: give --reasoner and --data, --import, --export, or --drop-damaged."
        )
    if arguments.export is not None:
        check_export(arguments.export)
    if arguments.drop_damaged:
        with TraceStore(arguments.traces) as store:
            log.info("%s: %d damaged traces removed", arguments.traces, store.drop_damaged())
    missing = 0
    only_imports = arguments.reasoner is None and arguments.export is None
    for file in arguments.imports:
        try:
            with TraceStore(arguments.traces) as store:
                log.info("%s: %d new traces", file, store.merge(file))
        except _tte.InputError as error:
            missing += 1
            if only_imports and missing == len(arguments.imports):
                raise
            log.error("%s is left out: %s", file, error)
    if arguments.reasoner is not None:
        if arguments.data is None:
            raise _tte.InputError("--reasoner needs --data: the local copy of the benchmark.")
        wanted = options.tasks_of(arguments)
        with setup.system(arguments, arguments.traces) as system:
            missing = write_all(
                wanted,
                setup.source(arguments, system),
                system,
                block=options.positive(arguments.block, "--block"),
                shard=Shard.parse(arguments.shard),
            )
    if arguments.export is not None:
        with TraceStore(arguments.traces, read_only=True) as store:
            log.info("%s: %d traces", arguments.export, store.export(arguments.export))
    return 3 if missing else 0

"""Reasoning traces of data sets ahead of their embedding; the command `traces`."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tte import _command, _files, _text, _tte
from tte._trace_files import READERS, check_export, read_traces
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
                for error in errors[: max(0, _command.MOST_TOLD - failed)]:
                    log.warning("%s", error)
                failed += len(errors)
                thought += len(outcomes) - len(errors)
    return thought, failed


@dataclass(frozen=True, slots=True)
class Given:
    """Files of traces that were made elsewhere, about what the command `prompts` writes.

    Named as its files are: ``<task>_queries`` and ``<task>_candidates``, .jsonl or .parquet; their fields are those of
    :func:`tte.read_traces`.
    """

    folder: Path
    key: str = "id"
    text: str = "trace"
    thinking: str | None = None

    def of(self, task: Task, side: str) -> dict[str, _tte.Trace] | None:
        """Traces by the names of entries; None where the folder has no file of them."""
        stem = f"{task.name}_{'queries' if side == 'query' else 'candidates'}"
        found = [file for suffix in READERS if (file := self.folder / f"{stem}{suffix}").exists()]
        if len(found) > 1:
            raise _tte.InputError(f"{_text.shown_path(self.folder)} has {stem} twice: keep one of the files.")
        return read_traces(found[0], key=self.key, text=self.text, thinking=self.thinking) if found else None


def take_given(
    dataset: Dataset, system: System, given: Given, *, block: int = BLOCK, shard: Shard = EVERYTHING
) -> tuple[int, int]:
    """Put the given traces of a data set into the system's store; nothing is reasoned about.

    Returns how many entries have a trace now, and how many have none or cannot be read.
    """
    kept = failed = 0
    for side in _SIDES:
        if not system.thinks(dataset.task.family, side):
            continue
        name = f"{dataset.task.name}/{side}"
        traces = given.of(dataset.task, side)
        if traces is None:
            log.warning("%s: %s has no file of its traces", name, given.folder)
        without = 0
        known: set[str] = set()
        entries: Iterator[Entry] = (q.entry for q in dataset.queries()) if side == "query" else dataset.candidates()
        for number in itertools.count():
            chunk = list(itertools.islice(entries, block))
            if not chunk:
                break
            if not shard.has(name, number):
                continue
            theirs = [(traces or {}).get(entry.name) for entry in chunk]
            errors = system.keep_given(chunk, theirs, family=dataset.task.family, side=side)
            for error in errors[: max(0, _command.MOST_TOLD - failed)]:
                log.warning("%s: %s", name, error)
            known.update(entry.name for entry in chunk)
            without += sum(trace is None for trace in theirs)
            kept += sum(trace is not None for trace in theirs) - len(errors)
            failed += len(errors)
        if without:
            log.warning("%s: %d of %d entries have no trace in %s", name, without, len(known), given.folder)
        strangers = set(traces or {}) - known
        if strangers and shard == EVERYTHING:
            log.warning("%s: %d traces have keys of no entry, such as %r", name, len(strangers), min(strangers)[:80])
        failed += without
    return kept, failed


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
    wanted: Iterable[Task],
    source: Source,
    system: System,
    *,
    block: int = BLOCK,
    shard: Shard = EVERYTHING,
    given: Given | None = None,
) -> int:
    """Write or take the traces of several data sets; returns how many data sets or items failed."""
    missing = 0
    noted: set[str] = set()
    for task in wanted:
        for note in system.notes(task.family):
            if note not in noted:
                log.warning("%s", note)
                noted.add(note)
        try:
            dataset = source.load(task)
            if given is None:
                thought, failed = write_traces(dataset, system, block=block, shard=shard)
            else:
                thought, failed = take_given(dataset, system, given, block=block, shard=shard)
        except (_tte.Error, OSError) as error:
            if not _files.is_of_one(error):
                raise
            log.error("%s is left out: %s", task.name, _command.told(error, of=task.name))
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
        description="Write the reasoning traces of data sets into a store, where `run --traces FILE` finds them; take "
        "over those that were made elsewhere; or export and import a store. Stop it whenever you like: what is written "
        "is kept.",
        epilog=(
            "examples:\n"
            "  python -m tte.mmeb traces --traces traces.sqlite --data MMEB-V2 --reasoner ./reasoner --tasks I-QA\n"
            "  python -m tte.mmeb traces --traces traces.sqlite --data MMEB-V2 --reasoner http://localhost:8000/v1 "
            "--reasoner-model Qwen/Qwen3-VL-8B-Thinking --reasoner-recipe tte\n"
            "  python -m tte.mmeb traces --traces traces.sqlite --data MMEB-V2 --reasoner http://localhost:8000/v1 "
            "--reasoner-model Qwen/Qwen3-VL-8B-Thinking --given batch --given-key custom_id "
            "--given-text response.body.choices.0.message.content\n"
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
    group = parser.add_argument_group("traces that were made elsewhere")
    group.add_argument(
        "--given", type=_command.path, metavar="DIR",
        help="folder of <task>_queries and <task>_candidates, .jsonl or .parquet, about what `prompts` writes: kept as "
        "if --reasoner had written them, which writes none itself",
    )  # fmt: skip
    group.add_argument("--given-key", type=_command.name, metavar="FIELD", help="that has the id of `prompts` (id)")
    group.add_argument(
        "--given-text", type=_command.name, metavar="FIELD",
        help="of the trace (trace); dots and numbers reach into objects and lists",
    )  # fmt: skip
    group.add_argument("--given-thinking", type=_command.name, metavar="FIELD", help="of thinking that was split off")
    setup.add_source(parser, required=False)
    setup.add_reasoner(parser, store_required=True)
    setup.add_work(parser, in_flight=False)
    parser.add_argument("--block", type=_command.count, default=BLOCK, metavar="N", help=f"items in one call ({BLOCK})")
    parser.set_defaults(command=_run_traces, resumes=True)


def _given(arguments: argparse.Namespace) -> Given | None:
    fields = {name: value for name in ("key", "text", "thinking") if (value := getattr(arguments, f"given_{name}"))}
    if arguments.given is None:
        if fields:
            raise _tte.InputError(f"--given-{next(iter(fields))} needs --given: the folder of the traces.")
        return None
    if arguments.reasoner is None:
        raise _tte.InputError("--given needs --reasoner and --data: whose traces they are, and what they are about.")
    if not arguments.given.is_dir():
        raise _tte.InputError(f"--given {_text.shown_path(arguments.given)} is not a folder: name that of the traces.")
    return Given(arguments.given, **fields)


def _run_traces(arguments: argparse.Namespace) -> int:
    setup.logging_on()
    if arguments.reasoner is None and not (arguments.imports or arguments.export or arguments.drop_damaged):
        raise _tte.InputError(
            "There is nothing to do: give --reasoner and --data, --import, --export, or --drop-damaged."
        )
    if arguments.export is not None:
        check_export(arguments.export)
    if arguments.drop_damaged:
        TraceStore(arguments.traces, read_only=True).close()  # Which makes none.
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
    given = _given(arguments)
    if arguments.reasoner is not None:
        if arguments.data is None:
            raise _tte.InputError("--reasoner needs --data: the local copy of the benchmark.")
        wanted = options.tasks_of(arguments)
        with setup.system(arguments, arguments.traces) as system:
            missing = write_all(
                wanted,
                setup.source(arguments, system),
                system,
                block=arguments.block,
                shard=Shard.parse(arguments.shard),
                given=given,
            )
    if arguments.export is not None:
        with TraceStore(arguments.traces, read_only=True) as store:
            log.info("%s: %d traces", arguments.export, store.export(arguments.export))
    return 3 if missing else 0

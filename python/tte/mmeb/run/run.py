"""Running data sets: traces, embeddings, scores; the commands `run` and `merge`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tte import _command, _content, _files, _tte
from tte.mmeb.data import options as cli_options
from tte.mmeb.data.loaders import Source
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Dataset
from tte.mmeb.run import scores, setup
from tte.mmeb.run.blocks import ROLES, Shard, assemble, embed_blocks, missing_blocks, recorded_keys
from tte.mmeb.run.embed import System, log, read
from tte.mmeb.run.manifest import (
    SCORED,
    SIDES,
    ResultFolder,
    Side,
    check_bytes,
    check_files,
    check_identity,
    embedded,
    read_json,
    write_json,
)
from tte.mmeb.run.rerank import Judge, rerank
from tte.mmeb.score.average import averages
from tte.mmeb.score.late import Scoring
from tte.mmeb.score.scoring import TOP, Relevance
from tte.trace_store import TraceStore

EVERYTHING = Shard()
BLOCK = 128
"""Items that are embedded and written together by default."""
TRACES = "traces.sqlite"
"""Name of the trace store of a folder of results."""


@dataclass(frozen=True, slots=True)
class Options:
    """How data sets are run."""

    block: int = BLOCK
    """Items that are embedded and written together: what a killed run loses at most, traces apart."""
    in_flight: int = 2
    """Blocks at the same time."""
    shard: Shard = EVERYTHING
    """Which of the blocks; scores follow after `merge`."""
    retry_errors: bool = False
    """Run the blocks again that have items which failed."""
    verify: bool = False
    """Compare the content of the media, byte by byte, with what was embedded so far."""
    relevance: Relevance = "correct"
    top: int = TOP
    judge: Judge | None = None
    """What reranks the best candidates of each query once a data set is scored."""
    scoring: Scoring | None = None
    """What candidates are compared by; None: single vectors, or what a folder was run with."""


@dataclass
class Report:
    """What became of a run."""

    found: list[tuple[Task, dict[str, Any]]] = field(default_factory=list)
    """Data sets with their scores."""
    reranked: list[tuple[Task, float]] = field(default_factory=list)
    """Data sets with their main metric after reranking."""
    embedded: list[Task] = field(default_factory=list)
    """Data sets of which this shard is done."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Names of data sets that could not be run, with the reason."""
    notes: list[str] = field(default_factory=list)
    """What is not whole in the data sets that were run."""

    @property
    def exit_code(self) -> int:
        """0: everything is whole; 3: some data sets or items are not; 1: nothing could be run."""
        if self.failed and not self.found and not self.embedded:
            return 1
        return 3 if self.failed or self.notes else 0

    def leave_out(self, name: str, error: Exception) -> None:
        """Note a data set that could not be run."""
        reason = _command.told(error, of=name)
        log.error("%s is left out: %s", name, reason)
        self.failed.append((name, reason))

    def main_scores(self) -> list[tuple[Task, float]]:
        """The main metric of each data set."""
        return [(task, float(values[task.metric])) for task, values in self.found]


def result_folder(out: Path, task: Task) -> ResultFolder:
    """The folder of one data set below `out`."""
    return ResultFolder(out / task.modality / task.name)


def run_dataset(
    dataset: Dataset,
    out: Path,
    system: System,
    *,
    options: Options = Options(),
    settings: dict[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Run one data set to its scores, from wherever it was.

    Args:
        dataset: what to run.
        out: folder of results; the data set's own is made below it.
        system: with what.
        options: how.
        settings: what else the folder must be of: frames, limit.
        progress: show a bar.

    Returns:
        The content of `score.json`, with that of `reranked.json` under "reranked"; None for one shard of several.

    Raises:
        InputError: the folder holds results of another model, recipe, setting or data revision, or of other media.

    """
    folder = result_folder(out, dataset.task)
    sharded = options.shard.count > 1
    with folder.locked(shared=sharded):
        if not sharded:
            folder.clean()
        made = _manifest(dataset, system, options, settings or {})
        manifest = _check_media(dataset, folder, folder.claim(made), made, options)
        if options.retry_errors:
            manifest = _reopen(folder, manifest)
        if manifest["status"] == "embedding":
            with _bar(dataset, folder, manifest, options, progress) as advance:
                embed_blocks(
                    dataset, folder, manifest, system, shard=options.shard, in_flight=options.in_flight, advance=advance
                )
            if dataset.media_state() != manifest["media"]:
                raise _tte.InputError(
                    f"Media of {dataset.task.name} changed while it was run: run it again with --verify, which finds "
                    "out whether what was embedded is still what is there."
                )
        if sharded:
            return None
        values = finish(folder, options)
        return values if options.judge is None else {**values, "reranked": rerank(dataset, folder, options.judge)}


def _check_media(
    dataset: Dataset, folder: ResultFolder, manifest: dict[str, Any], made: dict[str, Any], options: Options
) -> dict[str, Any]:
    """Check that images and frames, of which `made` tells, are those that the folder's run began with.

    Names, sizes and times are compared; where they differ, or are not trusted, `verify` compares the content with that
    of the items that are done. So does `retry_errors`, since what was missing may be there now.

    Raises `InputError` saying what differs.
    """
    now, counts = made["media"], made["counts"]
    if counts != manifest["counts"]:
        raise _tte.InputError(
            f"{folder.path} was begun with {_sizes(manifest['counts'])}, now there are {_sizes(counts)}: put the media "
            "back as they were, give another --out folder, or remove this one."
        )
    same = now == manifest["media"]
    if same and not options.verify:
        return manifest
    if not options.verify and not options.retry_errors:
        raise _tte.InputError(
            f"Media of {dataset.task.name} are not those that {folder.path} was begun with (other files, sizes or "
            "times): put them back, give --verify to compare what is done by content, or give another --out folder."
        )
    _check_contents(dataset, folder, manifest)
    return manifest if same else folder.update(media=now)


def _sizes(counts: dict[str, Any]) -> str:
    return f"{counts['queries']} queries and {counts['candidates']} candidates"


def _check_contents(dataset: Dataset, folder: ResultFolder, manifest: dict[str, Any]) -> None:
    """Compare every item that is done with what it would be read as now."""
    _content.forget_files()
    for side in SIDES:
        entries = dataset.candidates() if side == "candidates" else (query.entry for query in dataset.queries())
        kept = recorded_keys(folder, manifest, side)
        for number, entry in enumerate(entries):
            if not (key := kept.get(number)):
                continue
            try:
                now = read(entry, dataset.task.family, ROLES[side])[2]
            except _tte.InputError:
                now = ""
            if now != key:
                raise _tte.InputError(
                    f"{folder.path} holds what another content of {entry.name[:80]!r} gave ({side}, number {number}): "
                    "put its media back, give another --out folder, or remove this one."
                )


def finish(folder: ResultFolder, options: Options) -> dict[str, Any]:
    """Put a folder's blocks together and score it; what is done already, and whole, is not done again."""
    manifest = folder.manifest()
    if manifest["status"] != "embedding" and any(map(folder.part_numbers, SIDES)):
        try:
            check_bytes(folder.path, manifest, embedded(manifest))
        except _tte.InputError:
            manifest = folder.update(status="embedding")
    if manifest["status"] == "embedding":
        manifest = assemble(folder, manifest)
    if not any(total["errors"] for total in manifest["totals"].values()):
        folder.remove_parts()  # Kept where items failed, for --retry-errors.
    path = folder.path / "score.json"
    same = options.scoring in (None, manifest.get("scoring", "single"))
    if manifest["status"] == "scored" and manifest.get("relevance") == options.relevance and same and path.is_file():
        check_files(folder.path, manifest)
        check_bytes(folder.path, manifest, embedded(manifest))
        with suppress(_tte.InputError):  # What scoring wrote follows from the rest.
            check_bytes(folder.path, manifest, SCORED)
            return read_json(path)
    found = scores.score_folder(folder.path, relevance=options.relevance, top=options.top, scoring=options.scoring)
    return found.scores


def run_tasks(
    wanted: Iterable[Task],
    source: Source,
    out: Path,
    system: System,
    *,
    options: Options = Options(),
    strict: bool = False,
    progress: bool = True,
) -> Report:
    """Run data sets one after the other.

    Args:
        wanted: which.
        source: where their data are.
        out: folder of results.
        system: with what.
        options: how.
        strict: raise at the first data set that cannot be run; by default it is noted, and the others go on.
        progress: show bars.

    """
    todo, report, noted = list(wanted), Report(), set[str]()
    settings = {"num_frames": source.num_frames, "limit": source.limit, "stray_tokens": source.stray_tokens}
    for number, task in enumerate(todo, start=1):
        begin = time.monotonic()
        log.info("[%d/%d] %s", number, len(todo), task.name)
        for note in system.notes(task.family):
            if note not in noted:
                log.warning("%s", note)
                noted.add(note)
        try:
            values = run_dataset(source.load(task), out, system, options=options, settings=settings, progress=progress)
        except (_tte.Error, OSError) as error:
            if strict or not _files.is_of_one(error):
                raise
            report.leave_out(task.name, error)
            continue
        if values is None:
            report.embedded.append(task)
            continue
        report.found.append((task, values))
        if "reranked" in values:
            report.reranked.append((task, float(values.pop("reranked")[task.metric])))
        log.info("%s %s %.2f, %.0f s", task.name, task.metric, 100 * values[task.metric], time.monotonic() - begin)
        _note(report, task, result_folder(out, task))
    _write_averages(out, report.main_scores())
    return report


def _note(report: Report, task: Task, folder: ResultFolder) -> None:
    """Note what is not whole in a data set."""
    for note in scores.notes(folder.manifest()):
        log.warning("%s: %s", task.name, note)
        report.notes.append(f"{task.name}: {note}")


def _write_averages(out: Path, found: Sequence[tuple[Task, float]]) -> None:
    if found:
        everything = [(task, _score_of(path)) for task, path in scores.result_folders(out, damaged=[])]
        values = {task.name: value for task, value in everything if value is not None}
        write_json(out / "averages.json", {"scores": values, **averages(values).to_json()})


def _score_of(path: Path) -> float | None:
    value = ResultFolder(path).manifest().get("score")
    return None if value is None else float(value)


def _place(model: _tte.ModelDescription) -> str:
    return f"{model.server}/{model.path}" if model.server else os.path.abspath(model.path)


def _manifest(dataset: Dataset, system: System, options: Options, settings: dict[str, Any]) -> dict[str, Any]:
    models = {"embedder": system.embedder, "reasoner": system.reasoner}
    return {
        "task": scores.task_json(dataset.task),
        "status": "embedding",
        "think": system.think,
        "identity": {
            "data": {
                "fingerprint": dataset.fingerprint,
                "style": dataset.style,
                **{key: value for key, value in settings.items() if key != "stray_tokens"},
            },
            **system.identity(),
        },
        "models": {
            role: {
                "path": _place(model.model),
                "family": model.model.family,
                "dtype": model.model.dtype,
                "quantization": getattr(model.model, "quantization", "none"),
                "device": model.model.device,
                "recipe": json.loads(model.model.recipe).get("name"),
            }
            for role, model in models.items()
            if model is not None
        },
        "counts": {"queries": dataset.num_queries, "candidates": dataset.num_candidates},
        "media": dataset.media_state(),
        "shortfall": dataset.shortfall(),
        "frames": dataset.num_frames,
        "stray_tokens": settings.get("stray_tokens"),
        "dim": system.dim,
        "scoring": options.scoring or "single",
        "block": options.block,
        "versions": {"tte": _tte.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _reopen(folder: ResultFolder, manifest: dict[str, Any]) -> dict[str, Any]:
    """Remove the blocks that have items which failed, so that they are run again."""
    again = False
    for side in SIDES:
        for block in sorted(folder.part_numbers(side)):
            if any(row["error"] is not None for row in folder.read_part(side, block).rows):
                folder.part_path(side, block).unlink()
                again = True
    return folder.update(status="embedding") if again else manifest


@contextmanager
def _bar(
    dataset: Dataset, folder: ResultFolder, manifest: dict[str, Any], options: Options, progress: bool
) -> Iterator[Any]:
    """A bar over the items that this run still has to do, with the time left."""
    if not progress:
        yield None
        return
    from tqdm.auto import tqdm

    size, name = int(manifest["block"]), dataset.task.name
    total = sum(
        min(size, int(manifest["counts"][side]) - block * size)
        for side, blocks in missing_blocks(folder, manifest).items()
        for block in blocks
        if options.shard.has(f"{name}/{side}", block)
    )
    with tqdm(total=total, desc=name, unit="item", dynamic_ncols=True, disable=total == 0) as bar:

        def advance(side: Side, count: int) -> None:
            bar.set_postfix_str(side, refresh=False)
            bar.update(count)

        yield advance


def merge(out: Path, sources: Sequence[Path], options: Options = Options()) -> Report:
    """Join the shards of a run, and score what is complete.

    Args:
        out: folder of results that the shards wrote to, or that `sources` are joined into.
        sources: further folders of shards, from machines without a common disk.
        options: how to score.

    Raises:
        InputError: a folder is of another run.

    """
    report = Report()
    for source in sources:
        _take_over(source, out, report)
    damaged: list[tuple[Path, str]] = []
    folders = scores.result_folders(out, damaged=damaged)
    for path, reason in damaged:
        report.leave_out(path.name, _tte.InputError(reason))
    for task, path in folders:
        folder = ResultFolder(path)
        try:
            with folder.locked(shared=False):
                folder.clean()
                report.found.append((task, finish(folder, options)))
            _note(report, task, folder)
        except (_tte.Error, OSError) as error:
            if not _files.is_of_one(error):
                raise
            report.leave_out(task.name, error)
    _write_averages(out, report.main_scores())
    return report


def _take_over(source: Path, out: Path, report: Report) -> None:
    """Copy the blocks and traces of another folder; data sets that do not fit are noted."""
    if not source.is_dir():
        raise _tte.InputError(f"{source} does not exist: give the --out folder of a shard.")
    if source.resolve() == out.resolve():
        return
    damaged: list[tuple[Path, str]] = []
    for task, path in scores.result_folders(source, damaged=damaged):
        try:
            _take_over_one(path, result_folder(out, task))
        except (_tte.Error, OSError) as error:
            if not _files.is_of_one(error):
                raise
            report.leave_out(task.name, error)
    for path, reason in damaged:
        report.leave_out(path.name, _tte.InputError(reason))
    if (source / TRACES).is_file():
        with TraceStore(out / TRACES) as store:
            store.merge(source / TRACES)


def _take_over_one(path: Path, ours: ResultFolder) -> None:
    theirs = ResultFolder(path)
    manifest = theirs.manifest()
    mine = ours.claim({**manifest, "status": "embedding"})
    for key in ("block", "counts", "dim"):
        check_identity({key: mine[key]}, {key: manifest[key]}, ours.path)
    # Times are each machine's own.
    media = [{"media": {**found["media"], "times": ""}} for found in (mine, manifest)]
    check_identity(media[0], media[1], ours.path)
    if manifest["status"] != "embedding" and mine["status"] == "embedding":
        check_bytes(path, manifest, embedded(manifest))
        for name in embedded(manifest):
            shutil.copyfile(path / name, ours.path / f".{name}.tmp")
            (ours.path / f".{name}.tmp").replace(ours.path / name)
        ours.update(status="embedded", totals=manifest["totals"], checksums=manifest["checksums"])
    for side in SIDES:
        for block in theirs.part_numbers(side) - ours.part_numbers(side):
            ours.write_part(side, block, theirs.read_part(side, block))


def add_run(subparsers: Any) -> None:
    """Add the command `run`."""
    parser = subparsers.add_parser(
        "run",
        help="traces, embeddings and scores of an embedder; goes on where it was",
        description="Run an embedder, with or without thinking, to the benchmark's scores. Stop it whenever you like: "
        "the same command goes on where it was.",
        epilog=(
            "examples:\n"
            "  python -m tte.mmeb run --data MMEB-V2 --embedder ./embedder --out results/plain\n"
            "  python -m tte.mmeb run --data MMEB-V2 --embedder ./embedder --reasoner ./reasoner --out results/tte\n"
            "  python -m tte.mmeb run ... --tasks I-QA ViDoRe_docvqa --limit 100 --out results/quick\n"
            "  python -m tte.mmeb run ... --shard 1/4 --out results/tte     (one of four processes; then: merge)"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--embedder",
        type=_command.name,
        required=True,
        metavar="PATH",
        help='folder or hub id; "nano": the bundled one',
    )
    _command.add_loading(parser, also="embedder")
    setup.add_source(parser)
    setup.add_reasoner(parser)
    parser.add_argument(
        "--out", type=_command.path, required=True, metavar="DIR", help="folder of results, made if needed"
    )
    parser.add_argument("--truncate-dim", type=_command.count, metavar="N",
                        help="keep the first dimensions (Matryoshka)")  # fmt: skip
    setup.add_work(parser)
    parser.add_argument(
        "--block", type=_command.count, default=BLOCK, metavar="N", help=f"items written together ({BLOCK})"
    )
    parser.add_argument("--retry-errors", action="store_true", help="run items that failed again")
    parser.add_argument(
        "--verify", action="store_true",
        help="compare images and frames by content with what is embedded already, not by name, size and time",
    )  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="stop at the first data set that cannot be run")
    scores.add_scoring(parser)
    setup.add_judge(parser)
    parser.set_defaults(command=_run_command, resumes=True)


def _run_command(arguments: argparse.Namespace) -> int:
    setup.logging_on()
    todo = cli_options.tasks_of(arguments)
    how = Options(
        block=arguments.block,
        in_flight=arguments.in_flight,
        shard=Shard.parse(arguments.shard),
        retry_errors=arguments.retry_errors,
        verify=arguments.verify,
        relevance=arguments.relevance,
        top=scores.top_of(arguments),
        scoring=arguments.scoring,
        judge=setup.judge(arguments),
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with setup.system(arguments, arguments.traces or arguments.out / TRACES) as system:
        source = setup.source(arguments, system)
        report = run_tasks(todo, source, arguments.out, system, options=how, strict=arguments.strict)
    return _print(report, arguments.out)


def add_merge(subparsers: Any) -> None:
    """Add the command `merge`."""
    parser = subparsers.add_parser(
        "merge",
        help="join the shards of a run, and score it",
        description="Join the shards of a run (`run --shard i/n`) and score what is complete.",
        epilog=(
            "examples:\n"
            "  python -m tte.mmeb merge results/tte                         shards that wrote to one folder\n"
            "  python -m tte.mmeb merge results/tte machine1/tte machine2/tte   shards from several disks"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=_command.path, metavar="DIR", help="folder of results")
    parser.add_argument("sources", type=_command.path, nargs="*", metavar="FROM", help="folders to join into it")
    scores.add_scoring(parser)
    parser.set_defaults(command=_merge_command, resumes=True)


def _merge_command(arguments: argparse.Namespace) -> int:
    setup.logging_on()
    options = Options(relevance=arguments.relevance, top=scores.top_of(arguments), scoring=arguments.scoring)
    report = merge(arguments.out, arguments.sources, options)
    if not report.found and not report.failed:
        raise _tte.InputError(f"{arguments.out} holds no shards: give the --out folder of `run --shard i/n`.")
    return _print(report, arguments.out)


def _print(report: Report, out: Path) -> int:
    """Print the outcome; returns the exit code."""
    if report.found:
        scores.print_scores(report.main_scores())
    if report.reranked:
        print("\nreranked:")
        scores.print_scores(report.reranked)
    if report.embedded:
        print(f"This shard is done with {len(report.embedded)} data sets. When all are: python -m tte.mmeb merge {out}")
    for note in report.notes:
        print(f"not whole: {note}", file=sys.stderr)
    for name, reason in report.failed:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    return report.exit_code

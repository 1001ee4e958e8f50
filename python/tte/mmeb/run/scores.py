"""Scores of result folders; the command `score`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tte import _command, _extras, _files, _options
from tte._tte import InputError
from tte.mmeb.data.tasks import Task, tasks
from tte.mmeb.run.manifest import (
    SCORED,
    SIDES,
    TASK_KEYS,
    ResultFolder,
    again,
    check_bytes,
    check_files,
    embedded,
    file_checksums,
    has_tokens,
    open_tokens,
    write_json,
)
from tte.mmeb.score import pickles
from tte.mmeb.score.average import table
from tte.mmeb.score.late import SCORINGS, Late, Scoring
from tte.mmeb.score.scoring import RELEVANCE, TOP, Relevance, Row, Scored, score

RERANKED = 20
"""How many candidates of each query are reranked by default."""


def score_folder(
    path: Path, *, relevance: Relevance = "correct", top: int = TOP, scoring: Scoring | None = None
) -> Scored:
    """Score a result folder and write `predictions.jsonl`, `details.json` and, last, `score.json`.

    Args:
        path: of the folder.
        relevance: "correct" or "reference".
        top: how much of each ranking is written; 0: all of it.
        scoring: what candidates are compared by; None: what the folder was run or scored with.

    Raises:
        InputError: the folder's embeddings are not complete, or it has no token vectors.

    """
    folder = ResultFolder(path)
    manifest = folder.manifest()
    if manifest["status"] == "embedding":
        raise InputError(f"{path} is not complete: run the rest of it, or merge its shards, before scoring.")
    queries, candidates = check_files(path, manifest)
    check_bytes(path, manifest, embedded(manifest))
    scoring = scoring or manifest.get("scoring", "single")
    late = _late(path, manifest, scoring)
    names = _column(path / "candidates.parquet", "name")
    with _files.replacing(path / "predictions.jsonl") as predictions:
        found = score(
            queries, list(_rows(path / "queries.parquet")), candidates, names,
            relevance=relevance, top=top, predictions=predictions, late=late,
        )  # fmt: skip
    _write(path, found)
    metric = manifest["task"]["metric"]
    ties = found.details["ties"]
    folder.update(
        status="scored",
        checksums={**manifest["checksums"], **{name: file_checksums(path / name) for name in SCORED}},
        score=found.scores[metric],
        relevance=relevance,
        scoring=scoring,
        ties={
            "queries": ties["queries"],
            "optimistic": ties["optimistic"][metric],
            "pessimistic": ties["pessimistic"][metric],
        },
        failed={
            "queries": found.details["failed_queries"],
            "candidates": found.details["failed_candidates"],
            "queries_with_failed_candidates": found.details["queries_with_failed_candidates"],
            "score_with_these_first": found.details["failed_candidates_first"][metric],
        },
    )
    return found


def _late(path: Path, manifest: Mapping[str, Any], scoring: Scoring) -> Late | None:
    if scoring == "single":
        return None
    if not has_tokens(manifest):
        raise InputError(f"{path} has no vectors of tokens, which --score {scoring} compares: run it with this option.")
    return Late(open_tokens(path, manifest, "queries"), open_tokens(path, manifest, "candidates"), scoring)


def failures(manifest: Mapping[str, Any]) -> str:
    """One sentence about items that failed and what that does to the score; "" if none did."""
    totals, counts = manifest.get("totals", {}), manifest["counts"]
    failed = {side: int(totals.get(side, {}).get("errors", 0)) for side in SIDES}
    if not any(failed.values()):
        return ""
    parts = [f"{failed[side]} of {counts[side]} {side}" for side in reversed(SIDES) if failed[side]]
    about = manifest.get("failed", {})
    effect = "a query that failed is a miss, and so is a right candidate"
    if touched := int(about.get("queries_with_failed_candidates", 0)):
        effect += (
            f"; wrong candidates that failed rank last, which helps {touched} queries: had they come first, the score "
            f"would be {100 * float(about['score_with_these_first']):.2f}"
        )
    return f"{' and '.join(parts)} failed ({effect}); `report` lists them, `run --retry-errors` tries again"


def notes(manifest: Mapping[str, Any]) -> list[str]:
    """What is not whole in a data set's results, a sentence each; nothing if it can stand beside others'."""
    short = manifest.get("shortfall")
    told = [f"it has {short}: its score is not the benchmark's; `check` says what is missing"] if short else []
    return [*told, *filter(None, [failures(manifest)])]


def _write(path: Path, found: Scored) -> None:
    write_json(path / "details.json", found.details)
    write_json(path / "score.json", found.scores)


def _column(path: Path, name: str) -> list[str]:
    _, parquet = _extras.pyarrow()
    with _files.reading(path, again(path)), _files.for_arrow(path) as raw, parquet.ParquetFile(raw) as file:
        return [value for batch in file.iter_batches(columns=[name]) for value in batch.column(0).to_pylist()]


def _rows(path: Path) -> Iterator[Row]:
    _, parquet = _extras.pyarrow()
    columns = ["id", "candidates", "labels", "relevance", "error"]
    interned: dict[str, str] = {}
    with _files.reading(path, again(path)), _files.for_arrow(path) as raw, parquet.ParquetFile(raw) as file:
        for batch in file.iter_batches(batch_size=256, columns=columns):
            for row in batch.to_pylist():
                pool = row["candidates"]
                # Pools repeat the same names from row to row: kept once, not a million times.
                kept = None if pool is None else [interned.setdefault(name, name) for name in pool]
                yield Row(row["id"], kept, row["labels"], row["relevance"], row["error"])


def score_reference(folder: Path, task: Task, *, relevance: Relevance = "correct", top: int = TOP) -> Scored:
    """Score what the reference harness wrote for one data set: `<DS>_qry`, `<DS>_tgt`, `<DS>_info.jsonl`.

    Its pickles are read without running anything that is in them. Writes `<DS>/score.json` and the rest beside them.

    Raises:
        InputError: names the file that is missing or broken.

    """
    names, candidates = pickles.read_vectors(folder / f"{task.name}_tgt")
    queries = pickles.read_array(folder / f"{task.name}_qry")
    rows = list(_reference_rows(folder / f"{task.name}_info.jsonl", local=task.local))
    path = folder / task.name
    path.mkdir(exist_ok=True)
    with _files.replacing(path / "predictions.jsonl") as predictions:
        found = score(queries, rows, candidates, names, relevance=relevance, top=top, predictions=predictions)
    _write(path, found)
    return found


def _reference_rows(path: Path, *, local: bool) -> Iterator[Row]:
    remedy = "write it again with the reference's evaluation"
    for number, found in enumerate(_files.json_lines(path, str(path), remedy)):
        with _files.reading(path, remedy):
            label = found["label_name"]
            labels = [str(name) for name in (label if isinstance(label, list) else [label])]
            pool = [str(name) for name in found["cand_names"]] if local else None
            grades = found.get("rel_scores")
            yield Row(str(number), pool, labels, None if grades is None else [float(grade) for grade in grades])


def result_folders(
    out: Path, names: Sequence[str] | None = None, damaged: list[tuple[Path, str]] | None = None
) -> list[tuple[Task, Path]]:
    """The result folders below `out` with the tasks that they are of, in the benchmark's order.

    Args:
        out: the --out folder of runs.
        names: names, categories or modalities; None: all.
        damaged: takes the folders whose manifest is damaged, with the error; None: it is raised.

    """
    order = {task.name: i for i, task in enumerate(tasks(["image", "video", "visdoc"]))}
    wanted = None if names is None else set(names)
    found = []
    for path in out.glob("*/*/manifest.json"):
        try:
            task = task_of(ResultFolder(path.parent).manifest())
        except InputError as error:
            if damaged is None:
                raise
            damaged.append((path.parent, str(error)))
            continue
        if wanted is None or wanted & {task.name, task.category, task.modality}:
            found.append((task, path.parent))
    return sorted(found, key=lambda pair: (order.get(pair[0].name, len(order)), pair[0].name))


def task_json(task: Task) -> dict[str, Any]:
    """What a manifest keeps of its task."""
    return {key: getattr(task, key) for key in TASK_KEYS}


def task_of(manifest: dict[str, Any]) -> Task:
    """The task of a manifest."""
    return Task(**{key: manifest["task"][key] for key in TASK_KEYS})


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the options of scoring to a command."""
    parser.add_argument(
        "--relevance",
        choices=RELEVANCE,
        default="correct",
        help="grades as the data have them, or as the reference harness mixes them up (details.json has both)",
    )
    parser.add_argument(
        "--score",
        dest="scoring",
        choices=SCORINGS,
        help="what is compared: single vectors; all tokens (maxsim, mean_maxsim); both (hybrid: cosine + mean_maxsim). "
        "Default: single, or what the folder was run with",
    )
    parser.add_argument(
        "--top", type=_command.whole(0, _options.INT32), metavar="N",
        help=f"how much of each ranking is written; 0: all of it ({TOP})",
    )  # fmt: skip


def top_of(arguments: argparse.Namespace) -> int:
    """How much of each ranking is written, and with --rerank judged."""
    if arguments.top is not None:
        return int(arguments.top)
    return RERANKED if getattr(arguments, "rerank", None) else TOP


def add_score(subparsers: Any) -> None:
    """Add the command `score`."""
    parser = subparsers.add_parser(
        "score",
        help="score embeddings again, without a model",
        description="Score the embeddings of a result folder again: no model is needed.",
        epilog="example: python -m tte.mmeb score results/tte --relevance reference",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=_command.path, metavar="DIR", help="the --out folder of `run`")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="names, categories or modalities; default: all")
    parser.add_argument(
        "--pickles",
        action="store_true",
        help="DIR/<modality>/ holds <DS>_qry, <DS>_tgt, <DS>_info.jsonl of the reference; nothing in them is run",
    )
    add_scoring(parser)
    parser.set_defaults(command=_score)


def _score(arguments: argparse.Namespace) -> int:
    options = {"relevance": arguments.relevance, "top": top_of(arguments)}
    if arguments.pickles and arguments.scoring not in (None, "single"):
        raise InputError(f"--score {arguments.scoring} needs vectors of tokens, which pickles do not have.")
    damaged: list[tuple[Path, str]] = []
    if arguments.pickles:
        known = tasks(arguments.tasks or ["image", "video", "visdoc"])
        places = [(t, arguments.out / t.modality) for t in known]
        places = [(t, folder) for t, folder in places if (folder / f"{t.name}_qry").exists()]
    else:
        places = result_folders(arguments.out, arguments.tasks, damaged)
    found: list[tuple[Task, float]] = []
    told: list[str] = []
    for task, path in places:
        try:
            if arguments.pickles:
                scored = score_reference(path, task, **options)
            else:
                folder = ResultFolder(path)
                with folder.locked(shared=False):
                    folder.clean()
                    scored = score_folder(path, **options, scoring=arguments.scoring)
                told += [f"{task.name}: {note}" for note in notes(folder.manifest())]
            found.append((task, float(scored.scores[task.metric])))
        except (InputError, OSError) as error:
            damaged.append((path, _command.told(error)))
    if not found and not damaged:
        raise InputError(f"{arguments.out} holds nothing to score: give the --out folder of a run.")
    if found:
        print_scores(found)
    for note in told:
        print(f"not whole: {note}", file=sys.stderr)
    for path, reason in damaged:
        print(f"left out: {path.name}: {reason}", file=sys.stderr)
    return 1 if not found else 3 if told or damaged else 0


def print_scores(found: Sequence[tuple[Task, float]]) -> None:
    """Print main metrics and averages, in percent."""
    width = max(len(task.name) for task, _ in found)
    for task, value in found:
        print(f"{task.name:<{width}}  {task.metric:<14} {100 * value:6.2f}")
    published = {task.name for task in tasks()}
    scores = {task.name: value for task, value in found}
    # The averages of the benchmark where any of it was run, else of what was run.
    over = None if published & scores.keys() else [task for task, _ in found]
    print(f"\n{table(scores, over)}")

"""Command `prompts`: the queries and candidates of each task as JSON lines, exactly as a model would be given them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tte import _command, _files
from tte._tte import InputError
from tte.mmeb.data import layout, options
from tte.mmeb.data.types import Dataset, Entry, Query


def write_prompts(
    dataset: Dataset, folder: Path, data_dir: Path, *, keep_going: bool = False
) -> tuple[Path, Path, int]:
    """Write ``<name>_queries.jsonl`` and ``<name>_candidates.jsonl`` in evaluation order.

    Paths below the data folder are written relative to it. Returns the two files and the number of entries that
    cannot be embedded; each of those has a key `error`.

    Raises:
        InputError: the data are broken, or, unless `keep_going`, the frames or page of an entry are missing.

    """
    folder.mkdir(parents=True, exist_ok=True)
    name = dataset.task.name
    files = folder / f"{name}_queries.jsonl", folder / f"{name}_candidates.jsonl"
    errors = _write(files[0], (_query(query, data_dir) for query in dataset.queries()), keep_going)
    errors += _write(files[1], (_entry(entry, data_dir) for entry in dataset.candidates()), keep_going)
    return *files, errors


def _query(query: Query, data_dir: Path) -> dict[str, Any]:
    row = _entry(query.entry, data_dir)
    error = {"error": row.pop("error")} if "error" in row else {}
    return {
        **row,
        "candidates": None if query.candidates is None else list(query.candidates),
        "label": list(query.labels),
        "rel_scores": None if query.relevance is None else list(query.relevance),
        **error,
    }


def _entry(entry: Entry, data_dir: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": entry.name,
        "text": entry.prompt,
        "images": [_path(path, data_dir) for path in entry.images],
        "video_frames": [_path(path, data_dir) for path in entry.video_frames],
    }
    return {**row, "error": entry.error} if entry.error else row


def _path(path: Path, data_dir: Path) -> str:
    return path.relative_to(data_dir).as_posix() if path.is_relative_to(data_dir) else str(path)


def _write(file: Path, rows: Iterator[dict[str, Any]], keep_going: bool) -> int:
    """Write rows whole or not at all; returns how many have an error."""
    errors = 0
    temporary = _files.part(file)
    try:
        with _files.writing(file), temporary.open("w", encoding="utf-8") as stream:
            for row in rows:
                if "error" in row:
                    errors += 1
                    if not keep_going:
                        raise InputError(f"{row['error']} Give --keep-going to write the others.")
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return errors


def add_prompts(subparsers: Any) -> None:
    """Add the command `prompts`."""
    parser = subparsers.add_parser(
        "prompts",
        help="write every prompt as JSON lines, without a model",
        description="Write <task>_queries.jsonl and <task>_candidates.jsonl for each task, in evaluation order, with "
        "the keys id, text (the whole prompt), images, video_frames, and for queries candidates (null: all), label and "
        "rel_scores. No model is needed. Tasks without tables are passed over, unless they are named by --tasks.",
        epilog="example: python -m tte.mmeb prompts --data MMEB-V2 --out prompts --prompt-style vlm2vec --tasks image",
    )
    options.add_data(parser)
    parser.add_argument("--out", type=_command.path, required=True, metavar="DIR", help="folder of the files")
    options.add_tasks(parser)
    options.add_loading(parser, "plain")
    parser.add_argument(
        "--keep-going", action="store_true", help="write entries whose frames are missing, too, with a key `error`"
    )
    parser.set_defaults(command=_prompts)


def _prompts(arguments: argparse.Namespace) -> int:
    data_dir = arguments.data
    wanted = options.tasks_of(arguments)
    source = options.source(arguments, "plain")
    arguments.out.mkdir(parents=True, exist_ok=True)
    written, absent, errors = 0, [], 0
    failed: list[str] = []
    for task in _progress(wanted):
        try:
            dataset = source.load(task)
            errors += write_prompts(dataset, arguments.out, data_dir, keep_going=arguments.keep_going)[2]
            written += 1
        except layout.MissingError as error:
            if arguments.tasks:
                failed.append(str(error))
            else:
                absent.append(task.name)
        except (InputError, OSError) as error:
            failed.append(_command.told(error))
    print(f"{written} tasks written to {arguments.out}")
    for reason in failed:
        print(f"error: {reason}", file=sys.stderr)
    if errors:
        print(f"{errors} entries have an error: their frames or pages are missing")
    if absent:
        print(f"{len(absent)} tasks have no tables in {data_dir}: {', '.join(absent)}")
    return 1 if not written else 3 if errors or failed else 0


def _progress(tasks: list[Any]) -> Iterable[Any]:
    from tqdm.auto import tqdm

    return tqdm(tasks, desc="prompts", unit="task", disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)

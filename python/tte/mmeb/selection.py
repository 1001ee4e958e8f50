"""Options of the command line that say which data are meant and how they are loaded; shared by the commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from tte.mmeb.items import STYLES, Dataset, load
from tte.mmeb.tasks import Task, tasks_of_data


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose tasks."""
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="NAME",
        help="tasks, categories (I-QA) or modalities (image, video, visdoc); default: the 78 scored ones",
    )
    parser.add_argument(
        "--extra-tasks",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a file of further tasks, in the form of tte/mmeb/tasks.json (may be repeated); a data folder's own "
        "tasks.json is one of them",
    )


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add `--data`."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the local copy, with image-tasks, video-tasks and visdoc-tasks; if it has a tasks.json of its "
        "own, as the miniature has, its tasks are the default",
    )


def add_loading_options(parser: argparse.ArgumentParser, style: str | None = "plain") -> None:
    """Add the options of :func:`tte.mmeb.load`; `style` is the default of `--prompt-style`."""
    parser.add_argument(
        "--prompt-style",
        choices=STYLES,
        default=style,
        help=f"how prompts are worded (default: {style or 'as the recipe of the embedder says'})",
    )
    parser.add_argument(
        "--num-frames",
        type=int,
        metavar="N",
        help="frames per video (default: 8, clips 8; for qwen3_vl_embedding 64, clips 8); 0: none, -1: all saved ones",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N queries of each task")
    parser.add_argument(
        "--strip-stray-tokens",
        action="store_true",
        help="leave out the image token that VLM2Vec's prompts of WebQA and EDIS have without a picture",
    )


def chosen_tasks(arguments: argparse.Namespace) -> list[Task]:
    """Tasks that the options choose.

    Raises `InputError` for a name that is unknown.
    """
    return tasks_of_data(getattr(arguments, "data", None), arguments.tasks, arguments.extra_tasks)


def open_dataset(task: Task, arguments: argparse.Namespace, style: str | None = None) -> Dataset:
    """Load a task as the options say; `style` replaces `--prompt-style` where that is not given."""
    return load(
        task,
        arguments.data,
        style=arguments.prompt_style or style or "plain",
        num_frames=arguments.num_frames,
        limit=arguments.limit,
        stray_tokens=not arguments.strip_stray_tokens,
    )

"""Options of the command line that several commands have, spelled and explained once."""

from __future__ import annotations

import argparse

from tte import _command
from tte.mmeb.data.layout import require_data_dir
from tte.mmeb.data.loaders import Source
from tte.mmeb.data.tasks import Task, task_files, tasks_of_data
from tte.mmeb.data.types import STYLES


def add_tasks(parser: argparse._ActionsContainer) -> None:
    """Add the options that choose tasks."""
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="NAME",
        help="names, categories (I-QA) or modalities (image, video, visdoc); default: the 78 scored ones",
    )
    add_extra_tasks(parser)


def add_extra_tasks(parser: argparse._ActionsContainer) -> None:
    """Add `--extra-tasks`."""
    parser.add_argument(
        "--extra-tasks",
        action="extend",
        nargs="+",
        type=_command.path,
        default=[],
        metavar="FILE",
        help="files of further tasks, in the form of tte/mmeb/data/tasks.json; a data folder's own tasks.json is one",
    )


def add_data(parser: argparse._ActionsContainer, *, required: bool = True) -> None:
    """Add `--data`."""
    parser.add_argument(
        "--data",
        type=_command.path,
        required=required,
        metavar="DIR",
        help="local copy of the benchmark, with image-tasks, video-tasks and visdoc-tasks; if it has a tasks.json of "
        "its own, as the miniature has, its tasks are the default",
    )


def add_loading(parser: argparse._ActionsContainer, style: str | None = None) -> None:
    """Add the options of :func:`tte.mmeb.load`; `style` is the default of `--prompt-style`."""
    parser.add_argument(
        "--prompt-style",
        choices=STYLES,
        default=style,
        help=f"how prompts are worded (default: {style or 'as the recipe of the embedder says, else plain'})",
    )
    parser.add_argument(
        "--num-frames",
        type=_command.count_or_all,
        metavar="N",
        help="frames per video (default: 8, clips 8; for qwen3_vl_embedding 64, clips 8); -1: all saved ones",
    )
    parser.add_argument(
        "--limit", type=_command.count, metavar="N", help="the first N queries of each task only: a quick look"
    )
    parser.add_argument(
        "--strip-stray-tokens",
        action="store_true",
        help="leave out the image token that VLM2Vec's prompts of WebQA and EDIS have without an image",
    )


def tasks_of(arguments: argparse.Namespace) -> list[Task]:
    """The tasks that are asked for.

    Raises `InputError` for a data folder that does not exist and for a name that is unknown.
    """
    data = getattr(arguments, "data", None)
    return tasks_of_data(None if data is None else require_data_dir(data), arguments.tasks, arguments.extra_tasks)


def source(arguments: argparse.Namespace, style: str) -> Source:
    """Where the data are and how they are loaded, in the style that is asked for, else in `style`."""
    data = require_data_dir(arguments.data)
    return Source(
        data,
        arguments.prompt_style or style,
        arguments.num_frames,
        arguments.limit,
        tuple(task_files(data, arguments.extra_tasks)),
        stray_tokens=not arguments.strip_stray_tokens,
    )

"""The tasks of the benchmark: what each is, where its data lie and how it is scored; read from `tasks.json`.

A file of further tasks has the same form: ``{"tasks": [{...}, ...]}`` with the keys of :class:`Task`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from tte import _files, _options, _text
from tte._keywords import named
from tte._tte import InputError

_FILE = Path(__file__).with_name("tasks.json")
MINI_TASKS = _FILE.with_name("mini_tasks.json")
"""The tasks of the miniature."""
_LABELS = Path(__file__).with_name("labels.json")
CATEGORIES = {
    "image": ("I-CLS", "I-QA", "I-RET", "I-VG"),
    "video": ("V-CLS", "V-QA", "V-RET", "V-MRET"),
    "visdoc": ("VDR-v1", "VDR-v2", "VisRAG", "VDR-OOD"),
}
"""Categories of each modality, in the order of the leaderboard."""
METRICS = ("hit@1", "ndcg_linear@5")
DATA_TASKS = "tasks.json"
"""Name of the task file that a data folder may have of its own."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task. What is not said here is in the data."""

    name: str
    """Key of the benchmark's configuration, and of score files."""
    category: str
    """One of `CATEGORIES`."""
    modality: str
    """"image", "video" or "visdoc"."""
    metric: str
    """"hit@1" or "ndcg_linear@5"."""
    scored: bool
    """Whether it is one of the 78."""
    family: str
    """Preset family of recipes: image_cls, image_qa, image_ret, image_vg, video_cls, ..., visdoc."""
    parser: str
    """How its rows are read: a key of :data:`tte.mmeb.data.loaders.LOADERS`."""
    local: bool = True
    """Whether a query is ranked against its own row's candidates, or against all of the data set."""
    repos: tuple[str, ...] = ()
    """Repositories of the tables on the hub, best first; their folders are looked for under several names."""
    config: str = ""
    """Configuration (folder) within the repository."""
    split: str = "test"
    """Split of the tables."""
    files: tuple[str, ...] = ()
    """Further names of its table where that is a file of its own (without `.jsonl`)."""
    folders: tuple[str, ...] = ()
    """Further names of its folder of frames or pages."""
    subsets: tuple[str, ...] = ()
    """Configurations whose rows are put one after the other."""
    language: str = ""
    """Only queries in this language."""
    limit: int | None = None
    """Only so many rows, from the first."""
    queries: int | None = None
    """Number of queries that is known."""
    candidates: int | None = None
    """Number of candidates that is known."""
    pool: int | None = None
    """Number of candidates of each query that is known."""
    query_instruction: str = ""
    """What the benchmark (not the tables) puts before a query."""
    target_instruction: str = ""
    """What the benchmark (not the tables) puts before a candidate."""
    image_instruction: str = ""
    """The same for queries with an image, where they differ."""
    video_instruction: str = ""
    """The same for queries with a video, where they differ."""
    query_suffix: str = ""
    """What ends the prompts of its queries (VisDial: one more line break)."""
    options_in_prompt: bool = True
    """Whether a question about a video lists its options."""
    labels: tuple[str, ...] = ()
    """All labels, where the tables have only those that occur."""
    aliases: tuple[str, ...] = ()
    """Other names under which it is known in score files."""


@named
def tasks(names: Iterable[str] | None = None, extra: Iterable[Path] = ()) -> list[Task]:
    """Tasks in the benchmark's order, then those of the files `extra`.

    Args:
        names: names, categories ("I-QA") or modalities ("image"); default: the 78 scored ones and all of `extra`.
        extra: further files of tasks.

    Raises:
        InputError: a name is unknown, or a file is not one of tasks.

    """
    known = list(benchmark())
    added = _of_files(extra)
    for task in added:
        if task in known:
            continue  # The same file twice, or a data folder's own copy of it.
        if task.name in {t.name for t in known}:
            raise InputError(f"The task {task.name!r} is defined twice: give the added one another name.")
        known.append(task)
    if names is None:
        return [task for task in known if task.scored or task in added]
    wanted = [_options.string(names, "names")] if isinstance(names, str) else _options.strings(names, "names")
    for name in wanted:
        if not any(_matches(task, name) for task in known):
            raise InputError(f"There is no task {_text.shown(name)}: {_suggest(name, known)}")
    return [task for task in known if any(_matches(task, name) for name in wanted)]


def task_files(data_dir: Path | None, extra: Iterable[Path] = ()) -> list[Path]:
    """Further task files for a data folder: `extra`, and the folder's own if it has one."""
    own = [] if data_dir is None else [data_dir / DATA_TASKS]
    return [*extra, *(file for file in own if file.is_file())]


def tasks_of_data(data_dir: Path | None, names: Iterable[str] | None = None, extra: Iterable[Path] = ()) -> list[Task]:
    """Tasks as in `tasks`, for a data folder.

    A folder with a task file of its own (the miniature's) holds those tasks, so without `names` they and those of
    `extra` are taken instead of the benchmark's.
    """
    given = list(extra)
    files = task_files(data_dir, given)
    if names is None and len(files) > len(given):
        names = [task.name for file in files for task in read_tasks(file)]
    return tasks(names, files)


def find(name: str, extra: Iterable[Path] = ()) -> Task:
    """Return the task of this name.

    Raises `InputError` if there is none.
    """
    for task in [*benchmark(), *_of_files(extra)]:
        if name in (task.name, *task.aliases):
            return task
    raise InputError(f"There is no task {_text.shown(name)}: {_suggest(name, list(benchmark()))}")


def shortfall(task: Task, queries: int, candidates: int | None, limit: int | None = None) -> str:
    """Say where a data set has another size than the benchmark's: "4 of 1000 queries"; empty where the sizes agree.

    Args:
        task: what the benchmark knows of it.
        queries: how many there are.
        candidates: how many there are; None: not counted.
        limit: how many queries were asked for; None: all.

    """
    known = task.queries if limit is None or task.queries is None else min(limit, task.queries)
    sizes = (("queries", queries, known), ("candidates", candidates, task.candidates))
    return " and ".join(
        f"{found} of {wanted} {what}" if found < wanted else f"{found} {what} instead of {wanted}"
        for what, found, wanted in sizes
        if found is not None and wanted is not None and found != wanted
    )


def unscored() -> list[Task]:
    """Data sets of the benchmark that exist but do not count."""
    return [task for task in benchmark() if not task.scored]


def read_tasks(file: Path) -> list[Task]:
    """Read a file of tasks.

    Raises `InputError` that names the file and what is wrong with it.
    """
    path = _text.expanded(file, "the file of tasks")
    content = _files.read_json(path, "give a file of tasks")
    entries = content.get("tasks") if isinstance(content, dict) else None
    name = _text.shown_path(path)
    if not isinstance(entries, list):
        raise InputError(f'{name} is not a file of tasks: it must be {{"tasks": [...]}}.')
    return [_task(entry, name) for entry in entries]


def _of_files(files: Iterable[Path]) -> list[Task]:
    if isinstance(files, (str, bytes)) or not isinstance(files, Iterable):
        raise _options.refuse("the files of tasks", files, "a list of paths")
    given = _options.iterated(files, "the files of tasks", "a list of paths")
    return [task for file in given for task in read_tasks(file)]


@lru_cache(maxsize=1)
def benchmark() -> tuple[Task, ...]:
    """All tasks of the benchmark, those that do not count among them, in its order."""
    return tuple(read_tasks(_FILE))


@lru_cache(maxsize=1)
def _label_lists() -> dict[str, list[str]]:
    lists: dict[str, list[str]] = json.loads(_LABELS.read_text(encoding="utf-8"))
    return lists


def _task(entry: Any, file: str) -> Task:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f"{file}: a task is an object with a name, not {_text.shown(entry)}.")
    where = f"{file}: task {_files.shown(entry['name'])!r}"
    if not re.fullmatch(r"[\w.+-]+", entry["name"]) or not entry["name"].strip("."):
        raise InputError(f"{where}: a name is of letters, digits and . _ + -, since a folder is called so.")
    by_name = {field.name: field for field in fields(Task)}
    for key in entry:
        if key not in by_name:
            raise InputError(f"{where} has the unknown key {_files.shown(key)!r}: the keys are those of tte.mmeb.Task.")
    for name, field in by_name.items():
        if name not in entry and field.default is MISSING:
            raise InputError(f"{where} has no {name!r}.")
    values = dict(entry)
    if isinstance(values.get("labels"), str):
        if values["labels"] not in _label_lists():
            raise InputError(
                f"{where} asks for the labels of {_files.shown(values['labels'])!r}; known are "
                f"{', '.join(_label_lists())}."
            )
        values["labels"] = _label_lists()[values["labels"]]
    for key, value in values.items():
        kind = str(by_name[key].type)
        if kind.startswith("tuple"):
            if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
                raise InputError(f"{where}: {key} must be a list of strings, not {_text.shown(value)}.")
            values[key] = tuple(value)
        elif not _fits(value, kind):
            raise InputError(f"{where}: {key} cannot be {_text.shown(value)}.")
    task = Task(**values)
    for repo in task.repos:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or ".." in repo:
            raise InputError(f"{where}: {_files.shown(repo)!r} is not the name of a repository, such as owner/name.")
    if task.category not in CATEGORIES.get(task.modality, ()):
        raise InputError(
            f"{where}: there is no category {_files.shown(task.category)!r} of modality "
            f"{_files.shown(task.modality)!r}."
        )
    if task.metric not in METRICS:
        raise InputError(f"{where}: metric is {_files.shown(task.metric)!r}; it must be one of {', '.join(METRICS)}.")
    return task


def _fits(value: Any, kind: str) -> bool:
    """Whether a value may stand in a field that is annotated so: a text, a bool, or a positive number or nothing."""
    if kind in ("str", "bool"):
        return isinstance(value, {"str": str, "bool": bool}[kind])
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _matches(task: Task, name: str) -> bool:
    if name in (task.name, *task.aliases):
        return True
    return task.scored and name in (task.category, task.modality)


def _suggest(name: str, known: list[Task]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [task.name for task in known], n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}`python -m tte.mmeb tasks` lists them."

"""Where the files of a data set are: tables, image roots, frame roots, page folders, in every layout in use.

Folder names are compared without case, hyphens and underscores (Charades-STA, Charades_STA; EgoSchema, egoschema).
Nothing here reads more than folder listings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from tte import _command, _text
from tte._files import shown
from tte._tte import InputError
from tte.mmeb.data.tasks import Task


class MissingError(InputError):
    """Tables, images or frames are missing."""


class ShardsError(InputError):
    """Some shards of a table are there and others are not."""


TABLE_SUFFIXES = (".parquet", ".arrow", ".jsonl")
"""In order of preference."""
_SPLITS = ("test", "train", "validation", "val", "dev")
_TABLE_BASES = ("{m}-tasks/data", "{m}-tasks", "{m}-tasks/annotation", "{m}-tasks/annotations", ".", "data")
_MORE_TABLE_BASES = ("annotation", "annotations", "datasets", "hub")
_FRAME_PARENTS = (
    "video-tasks/frames/{g}",
    "video-tasks/frames/{g}/{g}",
    "video-tasks/frames/{g}/data/ziyan/video_retrieval",
    "video-tasks/{g}",
    "frames/{g}",
    "{g}",
    "video-tasks/frames",
)
_PAGE_PARENTS = ("visdoc-tasks", "visdoc-tasks/images", "visdoc-tasks/visdoc-tasks/images", "images", ".")
_IMAGE_ROOTS = ("image-tasks", "image-tasks/MMEB", "image-tasks/MMEB-eval", "MMEB", "MMEB-eval", ".")
_ARCHIVES = {
    "image": "image-tasks/mmeb_v1.tar.gz",
    "V-CLS": "video-tasks/frames/video_cls.tar.gz",
    "V-QA": "video-tasks/frames/video_qa.tar.gz-00 to -04 (joined)",
    "V-RET": "video-tasks/frames/video_ret.tar.gz",
    "V-MRET": "video-tasks/frames/video_mret.tar.gz",
    "visdoc": "visdoc-tasks/visdoc-tasks.images.tar.gz",
}


def archive_of(task: Task) -> str:
    """Archive of TIGER-Lab/MMEB-V2 that holds the images or frames of a task."""
    return _ARCHIVES.get(task.category) or _ARCHIVES[task.modality]


def normal(name: str) -> str:
    """Letters and digits of a name in lower case, by which folders are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def inside(root: Path, relative: str, where: str) -> Path:
    """Join a path of the data to its root.

    Raises `InputError` that begins with `where` if the path is absolute, empty, or leaves the root.
    """
    pure = PurePosixPath(relative)
    if not relative or "\0" in relative or pure.is_absolute():
        raise InputError(f"{where}: {shown(relative)!r} is not a relative path inside {root}.")
    joined = os.path.normpath(relative)
    if max(len(os.fsencode(part)) for part in pure.parts) > 255:
        raise InputError(f"{where}: {shown(relative)!r} has a name of over 255 bytes, which no file system takes.")
    if joined.startswith("..") or joined == ".":
        raise InputError(
            f"{where}: the path {shown(relative)!r} leaves {root}: it must stay inside of the data folder."
        )
    return root / joined


def require_data_dir(data_dir: Path) -> Path:
    """Check the data folder.

    Raises `InputError` if it is not a folder.
    """
    if not data_dir.is_dir():
        raise InputError(
            f"{_text.shown_path(data_dir)} is not a folder: give the folder with image-tasks, video-tasks and "
            "visdoc-tasks as --data."
        )
    return data_dir


# Roots of images, frames and pages.


def media_roots(task: Task, data_dir: Path) -> list[Path]:
    """Existing folders that may hold the images, frames or pages of a task, best first."""
    if task.modality == "image":
        return [data_dir / root for root in _IMAGE_ROOTS if (data_dir / root).is_dir()]
    names = [*task.folders, task.name, *task.aliases]
    if task.modality == "visdoc":
        return _named_folders([data_dir / parent for parent in _PAGE_PARENTS], names)
    group = task.category.lower().replace("v-", "video_")
    roots = _named_folders([data_dir / parent.format(g=group) for parent in _FRAME_PARENTS], names)
    return [root / "frames" if (root / "frames").is_dir() else root for root in roots]


def media_root(task: Task, data_dir: Path, probe: str) -> Path:
    """Pick the root below which `probe` (a file or folder of the first row) exists, else the first root.

    Raises `MissingError` that names the data set and the folder where its frames or pages should be.
    """
    roots = media_roots(task, data_dir)
    for root in roots:
        if probe and (root / probe).exists():
            return root
    if roots:
        return roots[0]
    raise MissingError(f"{task.name}: {expected_root(task, data_dir)} is missing: unpack {archive_of(task)}.")


def expected_root(task: Task, data_dir: Path) -> Path:
    """Where the images, frames or pages of a task would be."""
    name = (*task.folders, task.name)[0]
    if task.modality == "image":
        return data_dir / _IMAGE_ROOTS[0]
    if task.modality == "visdoc":
        return data_dir / _PAGE_PARENTS[0] / name
    return data_dir / _FRAME_PARENTS[0].format(g=task.category.lower().replace("v-", "video_")) / name


def _named_folders(parents: Iterable[Path], names: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for parent in parents:
        if not parent.is_dir():
            continue
        exact = [parent / name for name in names if (parent / name).is_dir()]
        wanted = {normal(name) for name in names}
        alike = sorted(p for p in parent.iterdir() if normal(p.name) in wanted and p.is_dir())
        found += [p for p in [*exact, *alike] if p not in found]
    return found


# Tables.


def find_tables(task: Task, data_dir: Path, config: str | None = None) -> list[Path]:
    """Shards of a table of a task in order; `config` replaces the task's own ("queries", a subset of MVBench).

    Raises `MissingError` that names the data set, the table and where it was looked for, and `ShardsError` where some
    of its files are missing.
    """
    try:
        return _find_tables(task, data_dir, config)
    except ShardsError as error:
        raise ShardsError(f"{task.name}: {error}") from None
    except OSError as error:
        raise InputError(f"{task.name}: {_command.sentence(error)}") from error


def _find_tables(task: Task, data_dir: Path, config: str | None) -> list[Path]:
    wanted = task.config if config is None else config
    splits = (task.split, *(("test", "train") if task.modality == "visdoc" else ()))
    for folder in repository_folders(task, data_dir):
        if shards := shards_of(folder, wanted, splits):
            return shards
    for base in _bases(task, data_dir):
        names = [*task.files, task.name, *task.aliases] if config is None else []
        if shards := _single_files(base, names):
            return shards
        for folder in _named_folders([base], [*task.files, task.name, *task.folders]):
            # The folder may hold the images as well: look no deeper than a table would lie.
            if shards := shards_of(folder, "" if config is None else config, splits, deep=False):
                return shards
    raise MissingError(_not_found(task, data_dir, wanted))


def repository_folders(task: Task, data_dir: Path) -> list[Path]:
    """Folders that hold the tables of one of the task's repositories: clones, hub caches, caches of `datasets`."""
    found: list[Path] = []
    for repo in task.repos:
        owner, name = repo.split("/")
        for base in _bases(task, data_dir):
            plain = [p for p in (base / owner / name, base / name) if p.is_dir()]
            for folder in [*plain, *_cache_folders(base, owner, name)]:
                if folder not in found:
                    found.append(folder)
    return found


def _cache_folders(base: Path, owner: str, name: str) -> Iterator[Path]:
    hub = base / f"datasets--{owner}--{name}" / "snapshots"
    if hub.is_dir():
        ref = hub.parent / "refs" / "main"
        revision = ref.read_text(encoding="utf-8", errors="replace").strip()[:100] if ref.is_file() else ""
        if re.fullmatch(r"\w+", revision) and (hub / revision).is_dir():
            yield hub / revision
        else:
            yield from sorted(hub.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
    wanted = normal(owner) + normal(name)
    if base.is_dir():
        yield from sorted(p for p in base.iterdir() if "___" in p.name and normal(p.name) == wanted and p.is_dir())


def _bases(task: Task, data_dir: Path) -> list[Path]:
    bases = [*_TABLE_BASES, *_MORE_TABLE_BASES]
    return [p for p in (data_dir / base.format(m=task.modality) for base in bases) if p.is_dir()]


def _single_files(base: Path, names: Sequence[str]) -> list[Path]:
    """Find the file whose name, without suffix, is one of `names`, those that come first in `names` first."""
    files = [p for p in sorted(base.iterdir()) if p.suffix in TABLE_SUFFIXES and p.is_file()]
    for name in names:
        alike = [p for p in files if normal(p.stem) == normal(name)]
        if alike:
            return [min(alike, key=lambda p: (p.stem != name, TABLE_SUFFIXES.index(p.suffix)))]
    return []


def shards_of(folder: Path, config: str, splits: Sequence[str], *, deep: bool = True) -> list[Path]:
    """Shards of one configuration and the first of `splits` that is there, within the folder of a repository."""
    groups: list[list[Path]] = []
    for base in (folder, folder / "data"):
        if config:
            groups.append(_table_files(base / config, 4))
            groups.append([p for p in _table_files(base, 0) if _belongs(p, config)])
            if (base / "state.json").is_file():  # What `save_to_disk` wrote of that one configuration.
                groups.append(_table_files(base, 0))
        else:
            groups.append(_table_files(base, 0))
            if deep:
                groups += [_table_files(p, 4) for p in sorted(base.glob("default*")) if p.is_dir()]
            groups += [_table_files(base / split, 1) for split in splits]
    for files in groups:
        for suffix in TABLE_SUFFIXES:
            if chosen := _of_split([p for p in files if p.suffix == suffix], folder, splits):
                _check_shards(chosen)
                return sorted(chosen, key=_natural)
    return []


def _check_shards(files: Sequence[Path]) -> None:
    """Check that files whose names count them ("-00000-of-00002") are all there, once each.

    Raises `ShardsError` that names the first one that is missing, or two that are of different versions.
    """
    found: dict[tuple[Path, str], dict[int, Path]] = {}
    totals: dict[tuple[Path, str], int] = {}
    for file in files:
        match = re.match(r"(.*?)[-_.]?(\d+)[-_.]of[-_.](\d+)", file.name)
        if match is None:
            continue
        table, number, total = (file.parent, match[1]), int(match[2]), int(match[3])
        numbers = found.setdefault(table, {})
        if number in numbers or totals.setdefault(table, total) != total or number >= total:
            other = next(iter(numbers.values()), file)
            raise ShardsError(
                f"{file} does not belong beside {other.name}: they are of different versions of a table, so keep the "
                "files of one."
            )
        numbers[number] = file
    for table, numbers in found.items():
        missing = sorted(set(range(totals[table])) - set(numbers))
        if missing:
            some = ", ".join(str(number) for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise ShardsError(
                f"{table[0]} has {len(numbers)} of the {totals[table]} files of its table, without number {some}: "
                "fetch them again."
            )


def _belongs(file: Path, config: str) -> bool:
    """Whether a file beside others is the table of this configuration: `queries.jsonl`, `queries-test-0.parquet`."""
    stem = normal(file.stem)
    rest = stem.removeprefix(normal(config))
    return rest != stem and re.fullmatch(rf"(({'|'.join(_SPLITS)})?(\d+(of\d+)?)?)", rest) is not None


def _of_split(files: list[Path], folder: Path, splits: Sequence[str]) -> list[Path]:
    for split in splits:
        if chosen := [p for p in files if split in _splits_named(p, folder)]:
            return chosen
    return [p for p in files if not _splits_named(p, folder)]


def _splits_named(file: Path, folder: Path) -> set[str]:
    """Split that the name of a file ends with, before the number of the shard, and those of the folders above it."""
    stem = re.sub(r"([-_.]?\d+([-_.]of[-_.]\d+.*)?)$", "", file.stem.lower())
    words = {re.split(r"[-_.]", stem)[-1], *(part.lower() for part in file.relative_to(folder).parts[:-1])}
    return words & set(_SPLITS)


def _table_files(folder: Path, depth: int) -> list[Path]:
    """Tables in a folder and down to `depth` folders below; not the temporary files of `datasets`."""
    if not folder.is_dir():
        return []
    files, below = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith((".", "cache-", "tmp")):
                continue
            if path.suffix in TABLE_SUFFIXES and entry.is_file():
                files.append(path)
            elif depth > 0 and entry.is_dir():
                below.append(path)
    return sorted(files) + [file for path in sorted(below) for file in _table_files(path, depth - 1)]


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", str(path))]


def _not_found(task: Task, data_dir: Path, config: str) -> str:
    table = (
        f"the table {config!r} of {task.repos[0]}" if config and task.repos else f"its table ({', '.join(task.repos)})"
    )
    base = data_dir / f"{task.modality}-tasks" / "data"
    repo = task.repos[0] if task.repos else task.name
    example = base / repo / config / f"{task.split}-00000-of-00001.parquet"
    single = f" or {base / task.files[0]}.jsonl" if task.files else ""
    note = ""
    for old in (repo.removesuffix("-page-fixed") + "-page" for repo in task.repos if repo.endswith("-page-fixed")):
        if any((p / old.split("/")[1]).is_dir() or (p / old).is_dir() for p in _bases(task, data_dir)):
            note = f" ({old} is there, but its pages are off by one: it is not used)"
    return f"{task.name}: {table} is missing: put it at {example}{single}{note}."

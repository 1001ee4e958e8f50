"""Moments of videos: clips that are folders of frames.

QVHighlight and Charades-STA: ``<root>/<video>/query/*`` is the video, every other folder beside ``query`` a clip, and
the one whose name begins with "positive" is right. Where the clips have no folders of their own, the frames of
``positive_000.jpg, positive_001.jpg, ..., negative_0_000.jpg, ...`` belong together by what precedes the last number.

MomentSeeker: ``<root>/video_frames/<path with "/" replaced by "_", up to ".mp4">/``; images of queries are
``<root>/query_images/...``. All saved frames are taken, whatever number is asked for.

A candidate's name is the folder of the clip, relative to the data folder, in the natural order of names (the
benchmark's own order is that of the file system).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tte._tte import InputError
from tte.mmeb.data import frames, prompts, tables
from tte.mmeb.data.base import Settings
from tte.mmeb.data.tables import Row
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Entry, Query
from tte.mmeb.data.videos import DEFAULT_FRAMES, VideoDataset

PARSERS = ("moment_retrieval", "momentseeker")
_QUERY = "query"
_POSITIVE = "positive"

Clips = dict[str, list[Path]]
"""Frames of each clip of a video by the clip's name; ``query`` is the video itself."""


class MomentRetrieval(VideoDataset):
    """QVHighlight, Charades-STA."""

    columns = ("query", "video_path")

    def __init__(self, task: Task, data_dir: Path, settings: Settings) -> None:
        super().__init__(task, data_dir, settings)
        self.clip_frames = DEFAULT_FRAMES if settings.num_frames is None else settings.num_frames

    def probe(self, row: Row, where: str) -> str:
        """Folder of the video and its clips."""
        return PurePosixPath(PurePosixPath(tables.text(row, "video_path", where)).name).stem

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""
        for number, row in self.rows():
            where = self.table.where(number)
            folder = self.folder(self.probe(row, where), where)
            clips = _clips(folder)
            words = prompts.query(self.style, self.task.query_instruction, tables.text(row, "query", where), "video")
            chosen = frames.choose(clips.pop(_QUERY, []), self.num_frames) if self.num_frames else ()
            names = {name: self.relative(folder / name) for name in clips}
            labels = tuple(path for name, path in names.items() if name.startswith(_POSITIVE))
            error = "" if chosen or not self.num_frames else self.missing(folder / _QUERY)
            if not labels:
                error = f"{self.task.name}: {folder} has no clip whose name begins with {_POSITIVE!r}."
            entry = self.entry(str(number), words, frames=chosen, error=error)
            yield Query(entry, tuple(names.values()) if self.task.local else None, labels, None, {"video": folder.name})

    def candidates(self) -> Iterator[Entry]:
        """Iterate over the clips."""
        words = prompts.target(self.style, self.task.target_instruction, "video")
        for folder in self._distinct_folders():
            for name, files in _clips(folder).items():
                if name == _QUERY:
                    continue
                chosen = frames.choose(files, self.clip_frames) if self.clip_frames else ()
                error = "" if chosen or not self.clip_frames else self.missing(folder / name)
                yield self.entry(self.relative(folder / name), words, frames=chosen, error=error)

    @cached_property
    def num_candidates(self) -> int:
        """Number of clips."""
        return sum(len(set(_clips(folder)) - {_QUERY}) for folder in self._distinct_folders())

    def media(self) -> Iterator[tuple[Path, Sequence[Path] | None]]:
        """Every video and clip with its frames; a video needs itself and a right clip at least."""
        for folder in self._distinct_folders():
            clips = _clips(folder)
            yield folder / _QUERY, clips.pop(_QUERY, [])
            if not any(name.startswith(_POSITIVE) for name in clips):
                yield folder / _POSITIVE, []
            for name, files in clips.items():
                yield folder / name, files

    def shortfall(self) -> str:
        """Where its size is not the benchmark's; clips are counted as well, for what has no folder is no candidate."""
        wanted = self.task.pool
        folders = self._distinct_folders()
        other = sum(len(set(_clips(folder)) - {_QUERY}) != wanted for folder in folders) if wanted is not None else 0
        clips = f"{other} of {len(folders)} videos with another number of clips than {wanted}" if other else ""
        return " and ".join(filter(None, [super().shortfall(), clips]))

    def _distinct_folders(self) -> list[Path]:
        return list(dict.fromkeys(self.folders()))


class MomentSeeker(VideoDataset):
    """MomentSeeker: queries are texts, images or videos with text; clips are named by the table."""

    columns = ("query", "input_frames", "positive_frames", "negative_frames")

    def probe(self, row: Row, where: str) -> str:
        """Folder of the first clip."""
        return f"video_frames/{self._clips(row, 'positive_frames', where)[0]}"

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""
        for number, row in self.rows():
            where = self.table.where(number)
            positive = self._names(row, "positive_frames", where)
            pool = (*positive, *self._names(row, "negative_frames", where))
            yield Query(self._query(number, row, where), pool if self.task.local else None, positive)

    def candidates(self) -> Iterator[Entry]:
        """Iterate over the clips."""
        words = prompts.target(self.style, self.task.target_instruction, "video")
        for name in self._pool():
            chosen = self.frames(self.data_dir / name, frames.ALL_FRAMES)
            yield self.entry(name, words, frames=chosen.files, error=chosen.error)

    @cached_property
    def num_candidates(self) -> int:
        """Number of clips."""
        return len(self._pool())

    def media(self) -> Iterator[tuple[Path, Sequence[Path] | None]]:
        """Every folder of frames and every image that the rows need, once, with its files."""
        for path in dict.fromkeys(self.folders()):
            image = path.suffix == ".jpg"
            yield path, ([path] if path.is_file() else []) if image else frames.list_frames(path)

    def folders(self) -> Iterator[Path]:
        """Every folder of frames, and every image, that the rows need."""
        for number, row in self.rows():
            where = self.table.where(number)
            for column in ("positive_frames", "negative_frames"):
                yield from (self.data_dir / name for name in self._names(row, column, where))
            source = tables.optional_text(row, "input_frames", where)
            if source.endswith(".jpg"):
                yield self.folder(f"query_{source}", where)
            elif source.endswith(".mp4"):
                yield self._frame_folder(source, where)

    def _pool(self) -> dict[str, None]:
        names: dict[str, None] = {}
        for number, row in self.rows(["positive_frames", "negative_frames"]):
            where = self.table.where(number)
            for column in ("positive_frames", "negative_frames"):
                names.update(dict.fromkeys(self._names(row, column, where)))
        return names

    def _query(self, number: int, row: Row, where: str) -> Entry:
        text = tables.text(row, "query", where)
        source = tables.optional_text(row, "input_frames", where)
        if source.endswith(".mp4"):
            words = prompts.query(self.style, self.task.video_instruction, text, "video")
            chosen = self.frames(self._frame_folder(source, where), frames.ALL_FRAMES)
            return self.entry(str(number), words, frames=chosen.files, error=chosen.error)
        if source.endswith(".jpg"):
            words = prompts.query(self.style, self.task.image_instruction, text, "image")
            return self.entry(str(number), words, images=(self.folder(f"query_{source}", where),))
        return self.entry(str(number), prompts.query(self.style, self.task.query_instruction, text, ""))

    def _frame_folder(self, source: str, where: str) -> Path:
        return self.folder(f"video_frames/{_flat_name(source)}", where)

    def _names(self, row: Row, column: str, where: str) -> tuple[str, ...]:
        return tuple(
            self.relative(self.folder(f"video_frames/{name}", where)) for name in self._clips(row, column, where)
        )

    def _clips(self, row: Row, column: str, where: str) -> list[str]:
        """Names of the clips of a column: a list of {"output_path": ...}, or one such object of lists."""
        value: Any = row.get(column)
        paths = value.get("output_path") if isinstance(value, dict) else value
        if not isinstance(paths, list) or (column == "positive_frames" and not paths):
            raise InputError(
                f"{where}: column {column!r} is {value!r:.60}; it must be a list of clips with output_path."
            )
        names: list[Any] = [path.get("output_path") if isinstance(path, dict) else path for path in paths]
        if not all(isinstance(name, str) and name for name in names):
            raise InputError(f"{where}: a clip of {column!r} has no output_path.")
        return [_flat_name(name) for name in names]


def _flat_name(path: str) -> str:
    """Name of the frame folder of a video file: "/" becomes "_", and everything from ".mp4" on is dropped."""
    return path.replace("/", "_").split(".mp4")[0]


def _clips(folder: Path) -> Clips:
    """Clips of a video in the natural order of their names."""
    if not folder.is_dir():
        return {}
    below = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: frames.natural_key(p.name))
    clips = {path.name: frames.list_frames(path) for path in below}
    if set(clips) <= {_QUERY}:
        for file in frames.list_frames(folder):
            clips.setdefault(_clip_of(file), []).append(file)
        clips = dict(sorted(clips.items(), key=lambda item: frames.natural_key(item[0])))
    return clips


def _clip_of(file: Path) -> str:
    """Clip that a frame of a flat folder belongs to: its name up to the last number."""
    return re.sub(r"[-_]?\d+$", "", file.stem)

"""What the video tasks share, and those without questions or moments: classification and retrieval.

A video is a folder of saved frames. Names of candidates: a label is its own name; a video to be found has the name
that the table gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tte.mmeb.data import frames, layout, prompts, tables
from tte.mmeb.data.base import Settings, TableDataset
from tte.mmeb.data.tables import Row, Table
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Entry, Query

VIDEO_FRAMES = {"qwen3_vl_embedding": 64}
"""Frames per video that a style's own evaluation takes."""
DEFAULT_FRAMES = 8


class Frames(NamedTuple):
    """The chosen frames of a video, or why there are none."""

    files: tuple[Path, ...]
    error: str


class VideoDataset(TableDataset):
    """One video task: rows that name folders of frames."""

    columns: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    num_frames: int

    def __init__(self, task: Task, data_dir: Path, settings: Settings) -> None:
        super().__init__(task, data_dir, settings)
        self.table = _open_table(task, data_dir, self.columns, self.optional)
        given = settings.num_frames
        self.num_frames = VIDEO_FRAMES.get(self.style, DEFAULT_FRAMES) if given is None else given

    def probe(self, row: Row, where: str) -> str:
        """Folder of the row's frames below the root, or any other folder that must be there."""
        raise NotImplementedError

    @cached_property
    def root(self) -> Path:
        """Folder of the frame folders."""
        for number, row in self.rows():
            probe = self.probe(row, self.table.where(number))
            layout.inside(self.data_dir, probe, self.table.where(number))
            return layout.media_root(self.task, self.data_dir, probe)
        return layout.media_root(self.task, self.data_dir, "")

    def folder(self, name: str, where: str) -> Path:
        """Folder below the root."""
        return layout.inside(self.root, name, where)

    def frames(self, folder: Path, count: int) -> Frames:
        """Choose `count` frames of a folder."""
        if count == 0:
            return Frames((), "")
        chosen = frames.choose(frames.list_frames(folder), count)
        return Frames(chosen, "" if chosen else self.missing(folder))

    def missing(self, folder: Path) -> str:
        """Say that a folder has no frames."""
        state = "has no frames" if folder.is_dir() else "is missing"
        return f"{self.task.name}: the frame folder {folder} {state}: unpack {layout.archive_of(self.task)} again."

    def folders(self) -> Iterator[Path]:
        """Folder of every row, some of them several times."""
        for number, row in self.rows():
            where = self.table.where(number)
            yield self.folder(self.probe(row, where), where)

    def media(self) -> Iterator[tuple[Path, Sequence[Path] | None]]:
        """Every folder of frames that the rows need, once, with its frames."""
        for folder in dict.fromkeys(self.folders()):
            yield folder, frames.list_frames(folder)


class Classification(VideoDataset):
    """Videos and their labels: the pool is the labels that occur, then the rest of the known ones.

    The benchmark asks the same of every video. The table of a task without such an instruction may have a column
    `question` with what it asks of each.
    """

    columns: tuple[str, ...] = ("video_id", "pos_text")
    optional: tuple[str, ...] = ("question",)

    def probe(self, row: Row, where: str) -> str:
        """Folder of the video."""
        return tables.text(row, "video_id", where)

    def pool(self, row: Row, where: str) -> tuple[str, ...] | None:
        """The row's own candidates; None if there are none but the label."""
        return None

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""
        for number, row in self.rows():
            where = self.table.where(number)
            asked = not self.task.query_instruction
            text = tables.optional_text(row, "question", where) if asked else ""
            words = prompts.query(self.style, self.task.query_instruction, text, "video")
            video = self.probe(row, where)
            chosen = self.frames(self.folder(video, where), self.num_frames)
            entry = self.entry(str(number), words, frames=chosen.files, error=chosen.error)
            label = tables.text(row, "pos_text", where)
            yield Query(entry, self.pool(row, where), (label,), None, {"video_id": video})

    def candidates(self) -> Iterator[Entry]:
        """Iterate over the labels."""
        for label in _distinct(self._labels()):
            yield self.entry(label, prompts.answer(self.style, label))

    @cached_property
    def num_candidates(self) -> int:
        """Number of labels."""
        return len(set(self._labels()))

    def _labels(self) -> Iterator[str]:
        for number, row in self.rows():
            yield tables.text(row, "pos_text", self.table.where(number))
        yield from self.task.labels


class MultipleChoice(Classification):
    """SmthSmthV2: every row has its own list of labels, the right one among them."""

    columns = ("video_id", "pos_text", "neg_text")

    def pool(self, row: Row, where: str) -> tuple[str, ...] | None:
        """The row's labels."""
        return tuple(tables.texts(row, "neg_text", where)) if self.task.local else None

    def _labels(self) -> Iterator[str]:
        for number, row in self.rows():
            yield from tables.texts(row, "neg_text", self.table.where(number))


class Retrieval(VideoDataset):
    """Captions and the videos that they are of; every video of the table is a candidate."""

    def __init__(
        self, task: Task, data_dir: Path, settings: Settings, video: Callable[[Row, str], str], caption: str
    ) -> None:
        self._video = video
        self._caption = caption
        self.columns = (caption, *_VIDEO_COLUMNS[task.parser])
        super().__init__(task, data_dir, settings)

    def probe(self, row: Row, where: str) -> str:
        """Folder of the video."""
        return self._video(row, where)

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""
        for number, row in self.rows():
            where = self.table.where(number)
            words = prompts.query(self.style, self.task.query_instruction, self._text(row, where), "")
            video = self._video(row, where)
            yield Query(self.entry(str(number), words), (video,) if self.task.local else None, (video,))

    def candidates(self) -> Iterator[Entry]:
        """Iterate over the videos."""
        words = prompts.target(self.style, self.task.target_instruction, "video")
        for name, where in self._videos().items():
            chosen = self.frames(self.folder(name, where), self.num_frames)
            yield self.entry(name, words, frames=chosen.files, error=chosen.error)

    @cached_property
    def num_candidates(self) -> int:
        """Number of videos."""
        return len(self._videos())

    def _videos(self) -> dict[str, str]:
        """Names of the videos, with the row that names them first."""
        found: dict[str, str] = {}
        for number, row in self.rows(_VIDEO_COLUMNS[self.task.parser]):
            where = self.table.where(number)
            found.setdefault(self._video(row, where), where)
        return found

    def _text(self, row: Row, where: str) -> str:
        """Caption of a row, the first one of a list."""
        if isinstance(row.get(self._caption), list):
            return tables.texts(row, self._caption, where)[0]
        return tables.text(row, self._caption, where)


def open_retrieval(task: Task, data_dir: Path, settings: Settings) -> Retrieval:
    """Open a retrieval task."""
    column = _VIDEO_COLUMNS[task.parser][0]

    def video(row: Row, where: str) -> str:
        name = tables.text(row, column, where)
        return PurePosixPath(PurePosixPath(name).name).stem if task.parser == "didemo" else name

    return Retrieval(task, data_dir, settings, video, _CAPTION_COLUMNS[task.parser])


_VIDEO_COLUMNS = {
    "msrvtt": ("video_id",),
    "msvd": ("video_id",),
    "vatex": ("videoID",),
    "youcook2": ("id",),
    "didemo": ("video",),
}
_CAPTION_COLUMNS = {
    "msrvtt": "caption",
    "msvd": "caption",
    "vatex": "enCap",
    "youcook2": "sentence",
    "didemo": "caption",
}
RETRIEVAL_PARSERS = tuple(_VIDEO_COLUMNS)


def _open_table(task: Task, data_dir: Path, columns: Sequence[str], optional: Sequence[str]) -> Table:
    """Open the task's table; its subsets one after the other, unless one table has them all in a column."""
    if not task.subsets:
        return Table(layout.find_tables(task, data_dir), task.name, columns, optional)
    files: list[Path] = []
    constants: dict[Path, Row] = {}
    for subset in task.subsets:
        try:
            shards = layout.find_tables(task, data_dir, subset)
        except layout.MissingError:
            if files:
                raise
            return Table(layout.find_tables(task, data_dir), task.name, columns, optional)
        files += shards
        constants |= {shard: {"subset": subset} for shard in shards}
    return Table(files, task.name, columns, optional, constants)


def _distinct(names: Iterable[str]) -> Iterator[str]:
    return iter(dict.fromkeys(names))

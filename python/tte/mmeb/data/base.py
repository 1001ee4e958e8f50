"""The settings of a data set, and the class that the loaders derive from: a data set read from tables.

What a kind of task makes of its rows is each loader's own; who opens which loader stands in `loaders`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tte.mmeb.data.prompts import Words
from tte.mmeb.data.tables import Row, Table
from tte.mmeb.data.tasks import Task, shortfall
from tte.mmeb.data.types import Dataset, Entry

_FORMAT = 1  # Version of names and prompts: another number makes results of older versions another data revision.


@dataclass(frozen=True, slots=True)
class Settings:
    """How a data set is loaded."""

    style: str = "plain"
    num_frames: int | None = None
    """Frames per video; None: as task and style have it; 0: none; -1: all that are saved."""
    limit: int | None = None
    """The first queries only."""
    stray_tokens: bool = True
    """Keep the image token that prompts of WebQA and EDIS have without an image (style "vlm2vec")."""


class TableDataset(Dataset):
    """A data set whose queries are the rows of one table."""

    table: Table

    def __init__(self, task: Task, data_dir: Path, settings: Settings) -> None:
        self.task = task
        self.style = settings.style
        self.data_dir = data_dir
        self.settings = settings
        limits = [limit for limit in (task.limit, settings.limit) if limit is not None]
        self.limit: int | None = min(limits) if limits else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task.name!r}, {str(self.data_dir)!r}, style={self.style!r})"

    @property
    def tables(self) -> Sequence[Table]:
        """All tables that the data set is read from."""
        return [self.table]

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the bytes of the tables, of task, style and settings."""
        content = {
            "format": _FORMAT,
            "task": asdict(self.task),
            "settings": asdict(self.settings),
            "tables": [table.digest() for table in self.tables],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def num_queries(self) -> int:
        """Number of queries."""
        rows = self.table.num_rows
        return rows if self.limit is None else min(rows, self.limit)

    def rows(self, columns: Iterable[str] | None = None) -> Iterator[tuple[int, Row]]:
        """Rows of the queries with their numbers."""
        return enumerate(self.table.rows(None if columns is None else list(columns), self.limit))

    def media(self) -> Iterator[tuple[Path, Sequence[Path] | None]]:
        """Every image, page, video and clip that is needed, once, with its files.

        They are none if it is missing, and None if a table holds it.
        """
        raise NotImplementedError

    def media_state(self) -> dict[str, Any]:
        """Number of media files, and digests of their names with their sizes and of their times, as they are now."""
        names, times = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
        count = 0
        for _, files in self.media():
            for file in files or ():
                status = file.stat()
                names.update(f"{self.relative(file)}\0{status.st_size}\0".encode(errors="surrogateescape"))
                times.update(status.st_mtime_ns.to_bytes(16, "little", signed=True))
                count += 1
        return {"files": count, "sizes": names.hexdigest(), "times": times.hexdigest()}

    def shortfall(self) -> str:
        """Where its size is not the benchmark's."""
        return shortfall(self.task, self.num_queries, self.num_candidates, self.settings.limit)

    def relative(self, path: Path) -> str:
        """Path below the data folder with "/" between its parts."""
        return path.relative_to(self.data_dir).as_posix()

    def entry(
        self,
        name: str,
        words: Words,
        *,
        images: tuple[Path, ...] = (),
        frames: tuple[Path, ...] = (),
        error: str = "",
    ) -> Entry:
        """Make an entry in the style of this data set."""
        return Entry(name, words.instruction, words.text, images, frames, words.prompt, self.style, error)

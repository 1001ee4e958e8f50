"""What a data set of the benchmark is made of: entries (queries and candidates), queries with their pools, data sets.

Everything else in :mod:`tte.mmeb` speaks in these terms, so nothing after the loaders knows about file layouts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tte.mmeb.tasks import Task

STYLES = ("plain", "vlm2vec", "qwen3_vl_embedding")
"""Prompt styles: see :mod:`tte.mmeb.prompts`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to embed: a query or a candidate."""

    name: str
    """A query's row number as text; a candidate's key in rankings."""
    instruction: str
    """The data's own instruction, "" if none."""
    text: str
    """The data's own text, "" if none."""
    images: tuple[Path, ...] = ()
    """Files of the pictures."""
    video_frames: tuple[Path, ...] = ()
    """Files of the chosen frames, in order; a video is handed on as a list of frames."""
    prompt: str = ""
    """The whole prompt as the style writes it, media tokens included."""
    style: str = "plain"
    """The prompt style that it was loaded with."""
    error: str = ""
    """One sentence if it cannot be embedded because its frames are missing: a miss, never an embedding."""

    def item(self) -> dict[str, Any] | list[Any]:
        """What `tte.Embedder` and `tte.Reasoner` take, for the style that the entry was loaded with.

        With the recipe "qwen2_vl_vlm2vec" and the style "vlm2vec" an embedder sees exactly `prompt`.
        Raises `InputError` with `error` if there is one.
        """
        from tte.mmeb import prompts

        return prompts.item(self)


@dataclass(frozen=True, slots=True)
class Query:
    """A query with the candidates that it is ranked against and those that are right."""

    entry: Entry
    candidates: tuple[str, ...] | None
    """Its own pool in order; None: the data set's whole pool. Rows may name a candidate twice; it is ranked once."""
    labels: tuple[str, ...]
    """Names of the right candidates."""
    relevance: tuple[float, ...] | None = None
    """Grades beside `labels`; None: 1 each."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further facts of the row, for people."""


class Dataset(ABC):
    """One data set of the benchmark, read lazily from local files.

    Attributes:
        task: what it is and how it is scored.
        style: one of `STYLES`.

    """

    task: Task
    style: str
    num_frames: int | None = None
    """Frames of a video; None: it has no videos; -1: all that are saved."""

    @cached_property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of the bytes of the tables, of the style and of the frame settings; media are `media_state`'s."""

    def media_state(self) -> dict[str, Any]:
        """Digests of the names and sizes, and of the times, of all media files as they are now; {} without any."""
        return {}

    def shortfall(self) -> str:
        """Where its size is not the benchmark's, as in :func:`tte.mmeb.tasks.shortfall`; "" where it is."""
        return ""

    @cached_property
    def num_queries(self) -> int:
        """Number of queries."""
        return sum(1 for _ in self.queries())

    @cached_property
    def num_candidates(self) -> int:
        """Number of distinct candidates."""
        return sum(1 for _ in self.candidates())

    @abstractmethod
    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""

    @abstractmethod
    def candidates(self) -> Iterator[Entry]:
        """Iterate over the candidates in pool order; their names are unique."""


def load(
    task: Task | str,
    data_dir: Path | str,
    *,
    style: str = "plain",
    num_frames: int | None = None,
    limit: int | None = None,
    extra_tasks: Iterable[Path] = (),
    stray_tokens: bool = True,
) -> Dataset:
    """Open one data set of a local copy of the benchmark.

    Args:
        task: a task or its name.
        data_dir: folder with `image-tasks/`, `video-tasks/`, `visdoc-tasks/` in any of the layouts in use.
        style: how prompts are written: "plain", "vlm2vec" or "qwen3_vl_embedding".
        num_frames: frames per video; default: the setting of task and style; 0: no frames, -1: all saved frames.
        limit: the first queries only (candidates follow from them, but a global pool's corpus stays whole).
        extra_tasks: further files of task definitions.
        stray_tokens: keep the image token that VLM2Vec's prompts of WebQA and EDIS have without a picture.

    Raises:
        InputError: names the data set and the file that is missing or broken.

    """
    from tte.mmeb.sets import open_dataset
    from tte.mmeb.sets.base import Settings
    from tte.mmeb.tasks import find

    found = find(task, extra_tasks) if isinstance(task, str) else task
    return open_dataset(found, Path(data_dir), Settings(style, num_frames, limit, stray_tokens))


@dataclass(frozen=True, slots=True)
class Source:
    """Where data sets are and how they are read."""

    folder: Path
    style: str = "plain"
    num_frames: int | None = None
    limit: int | None = None
    extra_tasks: tuple[Path, ...] = ()
    stray_tokens: bool = True

    def load(self, task: Task) -> Dataset:
        """Open one data set."""
        return load(
            task,
            self.folder,
            style=self.style,
            num_frames=self.num_frames,
            limit=self.limit,
            extra_tasks=self.extra_tasks,
            stray_tokens=self.stray_tokens,
        )

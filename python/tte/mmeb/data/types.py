"""What a data set of the benchmark is made of: entries (queries and candidates), queries with their pools, data sets.

Everything else in :mod:`tte.mmeb` speaks in these terms, so nothing after the loaders knows about file layouts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tte._tte import InputError
from tte.mmeb.data.prompts import DEFAULT_INSTRUCTION, IMAGE, VIDEO
from tte.mmeb.data.tasks import Task

STYLES = ("plain", "vlm2vec", "qwen3_vl_embedding")
"""Prompt styles: see :mod:`tte.mmeb.data.prompts`."""


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
    """Files of the images."""
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
        return _item(self)


def _item(entry: Entry) -> dict[str, Any] | list[Any]:
    """Make the input of `tte.Embedder` and `tte.Reasoner` of an entry.

    In the style "vlm2vec" it is media, then text, without an instruction: the recipe "qwen2_vl_vlm2vec" (or any raw one
    that adds nothing to media and text) makes exactly `entry.prompt` of it.

    Raises `InputError` for an entry that cannot be embedded.
    """
    if entry.error:
        raise InputError(entry.error)
    if entry.style == "qwen3_vl_embedding":
        return _messages(entry)
    media: dict[str, Any] = {}
    if entry.images:
        media["image"] = entry.images[0] if len(entry.images) == 1 else list(entry.images)
    if entry.video_frames:
        media["video"] = list(entry.video_frames)
    if entry.style == "vlm2vec":
        return _exact(entry.prompt, media)
    return {**media, "text": entry.prompt} if entry.prompt or not media else media


def _exact(prompt: str, media: dict[str, Any]) -> dict[str, Any] | list[Any]:
    """Put the media where the prompt has their token, and leave every other character as it is.

    A token without media (WebQA and EDIS; no frames) is left out, with the blank or line break that follows it: an
    engine has nothing to put there.
    """
    token = IMAGE if "image" in media else VIDEO
    if not media:
        for stray in (IMAGE, VIDEO):
            if prompt.startswith(stray):
                return {"text": prompt[len(stray) + 1 :]}
        return {"text": prompt}
    before, _, after = prompt.partition(token)
    if before:
        kind = "image" if "image" in media else "video"
        return [{"type": "text", "text": before}, {"type": kind, **media}, {"type": "text", "text": after}]
    return {**media, "text": after} if after else media


def _messages(entry: Entry) -> list[Any]:
    content: list[dict[str, Any]] = []
    if entry.video_frames:
        content.append({"type": "video", "video": list(entry.video_frames)})
    content += [{"type": "image", "image": path} for path in entry.images]
    if entry.text or not content:
        content.append({"type": "text", "text": entry.text})
    system = entry.instruction or DEFAULT_INSTRUCTION
    return [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": content},
    ]


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

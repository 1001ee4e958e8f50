"""Loaders: rows of tables, media files and the words of prompts become queries and candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tte import _options, _text
from tte._keywords import named
from tte._tte import InputError
from tte.mmeb.data import moments, questions, videos
from tte.mmeb.data.base import Settings, TableDataset
from tte.mmeb.data.image import PARSERS as IMAGE_PARSERS
from tte.mmeb.data.image import ImageDataset
from tte.mmeb.data.layout import require_data_dir
from tte.mmeb.data.tasks import Task, find
from tte.mmeb.data.types import STYLES, Dataset
from tte.mmeb.data.visdoc import PARSERS as VISDOC_PARSERS
from tte.mmeb.data.visdoc import VisdocDataset

LOADERS: dict[str, Callable[[Task, Path, Settings], TableDataset]] = {
    **dict.fromkeys(IMAGE_PARSERS, ImageDataset),
    "video_classification": videos.Classification,
    "ssv2": videos.MultipleChoice,
    **dict.fromkeys(videos.RETRIEVAL_PARSERS, videos.open_retrieval),
    "moment_retrieval": moments.MomentRetrieval,
    "momentseeker": moments.MomentSeeker,
    **dict.fromkeys(questions.PARSERS, questions.QuestionDataset),
    **dict.fromkeys(VISDOC_PARSERS, VisdocDataset),
}
"""What reads the rows of a task's `parser`."""


def open_dataset(task: Task, data_dir: Path, settings: Settings) -> TableDataset:
    """Open one data set; see :func:`load`."""
    _options.choice(settings.style, "style", dict.fromkeys(STYLES))
    _options.optional(_options.whole, settings.num_frames, "num_frames", -1, _options.INT32)
    _options.optional(_options.whole, settings.limit, "limit", 1, _options.INT32)
    _options.flag(settings.stray_tokens, "stray_tokens")
    require_data_dir(data_dir)
    if task.parser not in LOADERS:
        raise InputError(
            f"{task.name}: the parser {_text.shown(task.parser)} is unknown; known are {', '.join(LOADERS)}."
        )
    return LOADERS[task.parser](task, data_dir, settings)


@named
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
        stray_tokens: keep the image token that VLM2Vec's prompts of WebQA and EDIS have without an image.

    Raises:
        InputError: names the data set and the file that is missing or broken.

    """
    found = task if isinstance(task, Task) else find(_options.string(task, "task"), extra_tasks)
    folder = _text.expanded(data_dir, "data_dir")
    return open_dataset(found, folder, Settings(style, num_frames, limit, stray_tokens))


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

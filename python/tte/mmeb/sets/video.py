"""The 18 video tasks: which loader reads which parser's rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tte.mmeb.sets import moments, questions, videos
from tte.mmeb.sets.base import Settings
from tte.mmeb.sets.videos import VideoDataset
from tte.mmeb.tasks import Task

PARSERS = ("video_classification", "ssv2", *videos.RETRIEVAL_PARSERS, *moments.PARSERS, *questions.PARSERS)


def open_video(task: Task, data_dir: Path, settings: Settings) -> VideoDataset:
    """Open a video task."""
    if task.parser in videos.RETRIEVAL_PARSERS:
        return videos.open_retrieval(task, data_dir, settings)
    if task.parser in questions.PARSERS:
        return questions.QuestionDataset(task, data_dir, settings)
    kinds: dict[str, Callable[[Task, Path, Settings], VideoDataset]] = {
        "video_classification": videos.Classification,
        "ssv2": videos.MultipleChoice,
        "moment_retrieval": moments.MomentRetrieval,
        "momentseeker": moments.MomentSeeker,
    }
    return kinds[task.parser](task, data_dir, settings)

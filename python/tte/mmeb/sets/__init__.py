"""Loaders: rows of tables, files of pictures and frames and the words of prompts become queries and candidates."""

from __future__ import annotations

from pathlib import Path

from tte._tte import InputError
from tte.mmeb.items import STYLES
from tte.mmeb.layout import require_data_dir
from tte.mmeb.sets.base import Settings, TableDataset
from tte.mmeb.tasks import Task

PARSERS = (
    "image_cls", "image_qa", "image_i2t", "image_t2i", "image_i2i_vg",
    "video_classification", "ssv2", "msrvtt", "msvd", "vatex", "didemo", "youcook2", "moment_retrieval", "momentseeker",
    "videomme", "nextqa", "egoschema", "mvbench", "activitynetqa",
    "vidore", "visrag",
)  # fmt: skip
"""What a task's `parser` may be."""


def open_dataset(task: Task, data_dir: Path, settings: Settings) -> TableDataset:
    """Open one data set; see :func:`tte.mmeb.load`."""
    from tte.mmeb.sets import image, video, visdoc

    if settings.style not in STYLES:
        raise InputError(f"style is {settings.style!r}: it must be one of {', '.join(STYLES)}.")
    if settings.num_frames is not None and settings.num_frames < -1:
        raise InputError(f"num_frames is {settings.num_frames}: it must be -1 (all), 0 (none) or a number of frames.")
    if settings.limit is not None and settings.limit < 1:
        raise InputError(f"limit is {settings.limit}: it must be at least 1.")
    require_data_dir(data_dir)
    if task.parser in image.PARSERS:
        return image.ImageDataset(task, data_dir, settings)
    if task.parser in visdoc.PARSERS:
        return visdoc.VisdocDataset(task, data_dir, settings)
    if task.parser in video.PARSERS:
        return video.open_video(task, data_dir, settings)
    raise InputError(f"{task.name}: the parser {task.parser!r} is unknown; known are {', '.join(PARSERS)}.")

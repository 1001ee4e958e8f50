"""The tasks of the benchmark: what each is, where its data lie and how it is scored; read from `tasks.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from tte._tte import InputError

_FILE = Path(__file__).with_name("tasks.json")


@dataclass(frozen=True, slots=True)
class Task:
    """One task. What is not said here is in the data."""

    name: str
    """Key of the benchmark's configuration, and of score files."""
    category: str
    """"I-CLS", "I-QA", "I-RET", "I-VG", "V-CLS", "V-QA", "V-RET", "V-MRET", "VDR-v1", "VDR-v2", "VisRAG", "VDR-OOD"."""
    modality: str
    """"image", "video" or "visdoc"."""
    metric: str
    """"hit@1" or "ndcg_linear@5"."""
    scored: bool
    """Whether it is one of the 78."""
    family: str
    """Preset family of recipes: image_cls, image_qa, image_ret, image_vg, video_cls, ..., visdoc."""
    parser: str = ""
    """How its rows are read: see :mod:`tte.mmeb.sets`."""


def tasks(names: Iterable[str] | None = None, extra: Iterable[Path] = ()) -> list[Task]:
    """Tasks in the benchmark's order: all, or those named."""
    raise NotImplementedError


def find(name: str, extra: Iterable[Path] = ()) -> Task:
    """The task of this name."""
    return tasks([name], extra)[0]

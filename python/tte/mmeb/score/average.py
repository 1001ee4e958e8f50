"""Averages as the leaderboard forms them: plain means over data sets, of categories, modalities and all 78."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tte.mmeb.data.tasks import Task, tasks


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over the data sets of a group that have a score."""

    value: float | None
    """A fraction, not percent; None if no data set of the group has a score."""
    count: int
    """Data sets with a score."""
    missing: tuple[str, ...]
    """Data sets of the group without a score, in the benchmark's order."""

    @property
    def complete(self) -> bool:
        """Whether it is the published average: no data set of the group is missing."""
        return self.value is not None and not self.missing

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"value": self.value, "count": self.count, "complete": self.complete, "missing": list(self.missing)}


@dataclass(frozen=True, slots=True)
class Averages:
    """Means of every group of data sets, in the benchmark's order."""

    categories: dict[str, Mean]
    """"I-CLS", "I-QA", ..., "VDR-OOD"."""
    modalities: dict[str, Mean]
    """"image", "video", "visdoc"."""
    overall: Mean
    """Over all data sets: not the mean of the modalities' means."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "categories": {name: mean.to_json() for name, mean in self.categories.items()},
            "modalities": {name: mean.to_json() for name, mean in self.modalities.items()},
            "overall": self.overall.to_json(),
        }


def averages(scores: Mapping[str, float | None], over: Iterable[Task] | None = None) -> Averages:
    """Average the main metric of data sets.

    Args:
        scores: main metric (a fraction) by name or alias of the data set; other names are left out.
        over: the tasks that make it complete; default: the 78 scored ones.

    """
    group = [task for task in tasks() if task.scored] if over is None else list(over)
    values = {task.name: _value(scores, task) for task in group}

    def mean(members: Iterable[Task]) -> Mean:
        names = [task.name for task in members]
        known = [value for name in names if (value := values[name]) is not None]
        missing = tuple(name for name in names if values[name] is None)
        return Mean(math.fsum(known) / len(known) if known else None, len(known), missing)

    def means(key: str) -> dict[str, Mean]:
        keys = dict.fromkeys(getattr(task, key) for task in group)
        return {name: mean(task for task in group if getattr(task, key) == name) for name in keys}

    return Averages(means("category"), means("modality"), mean(group))


def _value(scores: Mapping[str, float | None], task: Task) -> float | None:
    for name in (task.name, *task.aliases):
        if scores.get(name) is not None:
            return scores[name]
    return None


def table(scores: Mapping[str, float | None], over: Iterable[Task] | None = None) -> str:
    """The averages as lines of text, in percent; incomplete ones are marked and say what is missing."""
    found = averages(scores, over)
    lines = []
    for name, mean in [*found.categories.items(), *found.modalities.items(), ("all", found.overall)]:
        if mean.value is None:
            continue
        total = mean.count + len(mean.missing)
        note = "" if mean.complete else f"   incomplete: {mean.count} of {total}"
        lines.append(f"{name:<10}{100 * mean.value:7.2f}{note}")
    return "\n".join(lines)

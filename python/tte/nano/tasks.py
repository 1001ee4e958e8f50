"""The nine meta-tasks of MMEB-V2 in miniature: their names, labels and pools."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from .drafts import (
    MOVES,
    Draft,
    Item,
    image_cls,
    image_qa,
    image_ret,
    image_vg,
    video_cls,
    video_mret,
    video_qa,
    video_ret,
    visdoc,
)
from .world import ALL_THINGS, NUMBERS, PAIRS, Rng, Split


@dataclass(frozen=True, eq=False)
class Sample:
    """One query of a task with its pool of candidates; ``candidates[label]`` is the right one."""

    task: str
    query: Item
    candidates: tuple[Item, ...]
    label: int


TASKS: dict[str, Callable[[Split, Rng, int, int], Draft]] = {
    "image_cls": image_cls,
    "image_qa": image_qa,
    "image_ret": image_ret,
    "image_vg": image_vg,
    "video_cls": video_cls,
    "video_qa": video_qa,
    "video_ret": video_ret,
    "video_mret": video_mret,
    "visdoc": visdoc,
}
HARD = {"image_ret": 4, "image_vg": 4, "video_ret": 4, "video_mret": 9, "visdoc": 4}
"""Near-duplicates of the target drawn for each query."""
GROUP = {"image_ret": 10, "image_vg": 4, "video_ret": 10, "video_mret": 1, "visdoc": 10}
"""How many queries pool their targets and near-duplicates: pools of 50, 20, 50, 10 and 50."""
_NAMES = tuple(t.name for t in ALL_THINGS)
LABELS: dict[str, tuple[str, ...]] = {
    "image_cls": _NAMES,
    "image_qa": _NAMES + NUMBERS,
    "video_cls": tuple(f"{a} {b}" for a in MOVES for b in MOVES),
    "video_qa": _NAMES,
}
"""The text candidates of the tasks with a label pool: 128, 147, 25 and 128."""


def tasks() -> tuple[str, ...]:
    """The names of the nine tasks."""
    return tuple(TASKS)


def _require(task: str, split: str) -> None:
    for name, value, known in (("task", task, TASKS), ("split", split, PAIRS)):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} is {value!r:.80}: it must be one of {', '.join(known)}.")


def count_of(name: str, value: object) -> int:
    """Check a number of things: whole, from 0."""
    with suppress(TypeError):
        if not isinstance(value, bool) and (count := operator.index(value)) >= 0:  # type: ignore[arg-type]
            return count
    raise ValueError(f"{name} is {value!r:.80}: it must be a whole number, at least 0.")


def draft(task: str, split: Split, rng: Rng, hard: int | None = None, more: int = 0) -> Draft:
    """One query, its target, near-duplicates of the target, and further queries about the same image.

    ``hard`` counts the near-duplicates (by default as many as the task's pools have), ``more`` the further queries.

    Raises ValueError for a task or a split that is none, and for a count below 0.
    """
    _require(task, split)
    if not isinstance(rng, Rng):
        raise ValueError(f"rng is {rng!r:.80}: it must be an Rng.")
    near = HARD.get(task, 0) if hard is None else count_of("hard", hard)
    return TASKS[task](split, rng, near, count_of("more", more))


def generate(task: str, seed: int, n: int, split: Split = "test") -> list[Sample]:
    """N queries of a task with their candidates; the same arguments always give the same bytes.

    Equal candidates of a pool (two images with the same gold description) are kept once, so every query has
    exactly one right answer.

    Raises ValueError for a task or a split that is none, and for a number of queries below 0.
    """
    n = count_of("n", n)
    _require(task, split)
    rng = Rng(f"tte-nano/{task}/{split}/{seed}")
    if task in LABELS:
        pool = tuple(Item(text) for text in LABELS[task])
        drafts = [draft(task, split, rng) for _ in range(n)]
        return [Sample(task, d.query, pool, LABELS[task].index(d.target.text)) for d in drafts]
    samples: list[Sample] = []
    while len(samples) < n:
        group = [draft(task, split, rng) for _ in range(min(GROUP[task], n - len(samples)))]
        unique: dict[str, Item] = {}
        for d in group:
            for item in (d.target, *d.hard):
                unique.setdefault(_meaning(item), item)
        keys = rng.sample(tuple(unique), len(unique))
        candidates = tuple(unique[k] for k in keys)
        samples += [Sample(task, d.query, candidates, keys.index(_meaning(d.target))) for d in group]
    return samples


def _meaning(item: Item) -> str:
    """What a candidate shows: the conclusion of its gold trace."""
    assert item.trace is not None
    return item.trace.split("</think>")[1]


def sentences(seed: int, n: int) -> list[str]:
    """Prompts and traces of n training samples a task: the corpus of the tokenizer."""
    rng = Rng(f"tte-nano/corpus/{seed}")
    lines: list[str] = []
    for task in TASKS:
        for _ in range(count_of("n", n)):
            d = draft(task, "train", rng, hard=0)
            lines += [text for item in (d.query, d.target) for text in (item.prompt, item.trace) if text]
    return lines

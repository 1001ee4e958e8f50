"""Proof that test data never shows what training data shows."""

from __future__ import annotations

from .tasks import TASKS, count_of, draft
from .world import DIGIT_INSTANCES, DIGITS, PAIRS, SHAPE_VARIANTS, WORD_VARIANTS, Rng, Split


def verify_split(n: int = 50, seed: int = 0) -> dict[str, int]:
    """Raise AssertionError if a thing of the test split could have been seen in training.

    Checks the tables (disjoint pairs, digit instances, shape variants, word printings) and what n drafts a task
    really drew in each split. Returns how many things were checked for each split.

    Raises ValueError for a number of drafts below 0.
    """
    n = count_of("n", n)
    splits: tuple[Split, ...] = ("train", "val", "test")
    for table in (SHAPE_VARIANTS, DIGIT_INSTANCES, WORD_VARIANTS, PAIRS):
        for i, a in enumerate(splits):
            for b in splits[i + 1 :]:
                assert not set(table[a]) & set(table[b]), (a, b)
    counts: dict[str, int] = {}
    for split in splits:
        pairs = set(PAIRS[split]) | (set(PAIRS["train"]) if split == "val" else set())
        rng = Rng(f"tte-nano/verify/{split}/{seed}")
        for task in TASKS:
            for _ in range(n):
                for placed in draft(task, split, rng).things:
                    assert placed.thing in pairs, (task, split, placed)
                    variants = DIGIT_INSTANCES if placed.thing.kind in DIGITS else SHAPE_VARIANTS
                    assert placed.look.variant in variants[split], (task, split, placed)
                    counts[split] = counts.get(split, 0) + 1
    return counts

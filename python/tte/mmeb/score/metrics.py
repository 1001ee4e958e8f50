"""The benchmark's metrics of one ranked list, at 1, 5 and 10, under the names and in the order of its score files."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

KS = (1, 5, 10)
"""Where the lists are cut."""
METRICS = ("hit", "ndcg_linear", "ndcg_exponential", "precision", "recall", "f1", "map", "mrr")
KEYS = tuple(f"{metric}@{k}" for metric in METRICS for k in KS)
"""Keys of a score file, in its order."""

_Name = TypeVar("_Name", bound=Hashable)


def query_scores(
    prediction: Sequence[Hashable], labels: Sequence[Hashable], relevance: Sequence[float] | None = None
) -> dict[str, float]:
    """All metrics of one query.

    Args:
        prediction: candidates, best first; at least the first 10 of those that there are.
        labels: the right candidates, no name twice.
        relevance: grades beside `labels`; None: 1 each.

    Returns:
        A value for each of `KEYS`. Without labels recall is 1 and everything else 0, as in the reference.

    """
    grades = dict(zip(labels, relevance if relevance is not None else [1.0] * len(labels), strict=True))
    out = {}
    for k in KS:
        first = prediction[:k]
        found = len(set(first) & set(labels))
        precision = found / k
        recall = found / len(labels) if labels else 1.0
        out[f"hit@{k}"] = float(found > 0)
        out[f"ndcg_linear@{k}"] = _ndcg(first, grades, k, exponential=False)
        out[f"ndcg_exponential@{k}"] = _ndcg(first, grades, k, exponential=True)
        out[f"precision@{k}"] = precision
        out[f"recall@{k}"] = recall
        # Without labels only recall is not 0.
        out[f"f1@{k}"] = 2 * precision * recall / (precision + recall) if found else 0.0
        out[f"map@{k}"] = _average_precision(first, grades, k)
        out[f"mrr@{k}"] = next((1 / i for i, name in enumerate(first, start=1) if name in grades), 0.0)
    return {key: out[key] for key in KEYS}


def _ndcg(first: Sequence[Hashable], grades: Mapping[Hashable, float], k: int, *, exponential: bool) -> float:
    def gain(grade: float) -> float:
        return math.pow(2.0, grade) - 1 if exponential else float(grade)

    best = sorted(grades.values(), reverse=True)[:k]
    ideal = math.fsum(gain(grade) / math.log2(i + 1) for i, grade in enumerate(best, start=1))
    got = math.fsum(gain(grades[name]) / math.log2(i + 1) for i, name in enumerate(first, start=1) if name in grades)
    return got / ideal if ideal > 0 else 0.0


def _average_precision(first: Sequence[Hashable], grades: Mapping[Hashable, float], k: int) -> float:
    hits, total = 0, 0.0
    for i, name in enumerate(first, start=1):
        if name in grades:
            hits += 1
            total += hits / i
    return total / min(len(grades), k) if grades else 0.0


def mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Arithmetic mean over queries of each metric, exactly rounded: it does not depend on their order."""
    kept = list(rows)
    return {key: math.fsum(row[key] for row in kept) / len(kept) if kept else 0.0 for key in KEYS}


def unique_labels(labels: Sequence[_Name], relevance: Sequence[float] | None) -> tuple[list[_Name], list[float] | None]:
    """Labels without repetition, each with its largest grade."""
    if relevance is None:
        return list(dict.fromkeys(labels)), None
    grades: dict[_Name, float] = {}
    for label, grade in zip(labels, relevance, strict=True):
        grades[label] = max(grade, grades.get(label, grade))
    return list(grades), list(grades.values())


def reference_labels(labels: Sequence[str], relevance: Sequence[float] | None) -> tuple[list[str], list[float] | None]:
    """Labels and grades as the reference harness pairs them.

    It puts the labels into a hash set and then sets the grades, still in the file's order, beside what comes out.
    For integer ids that order is CPython's and is emulated here. For text ids it changes with every process of the
    reference; then the grades stay where they belong, which is one of its possible results.
    """
    if relevance is None:
        return list(dict.fromkeys(labels)), None
    if all(_is_integer(label) for label in labels):
        ordered = [str(number) for number in cpython_set_order([int(label) for label in labels])]
    else:
        ordered = list(dict.fromkeys(labels))
    return ordered, list(relevance[: len(ordered)])


def _is_integer(text: str) -> bool:
    digits = text[1:] if text.startswith("-") else text
    return len(text) < _MOST_DIGITS and digits.isascii() and digits.isdigit() and str(int(text)) == text


_MOST_DIGITS = 4000  # Of longer ones Python makes no number.
_MASK64 = (1 << 64) - 1
_MODULUS = (1 << 61) - 1
_LINEAR_PROBES = 9
_PERTURB_SHIFT = 5


def cpython_set_order(numbers: Iterable[int]) -> list[int]:
    """`list(set(numbers))` as CPython (3.7 and later, 64-bit) orders it, whatever Python runs this.

    The set is a table with open addressing: up to nine entries after the hash's slot, then a perturbed jump; it grows
    fourfold (twofold above 50,000) when three fifths are full.
    """
    table: list[int | None] = [None] * 8
    used = 0
    for number in numbers:
        if not _insert(table, number):
            continue
        used += 1
        mask = len(table) - 1
        if used * 5 < mask * 3:
            continue
        size, wanted = 8, used * 2 if used > 50_000 else used * 4
        while size <= wanted:
            size *= 2
        old, table = table, [None] * size
        for kept in old:
            if kept is not None:
                _insert(table, kept)
    return [number for number in table if number is not None]


def _insert(table: list[int | None], number: int) -> bool:
    """Put a number where CPython would; returns whether it is new."""
    mask = len(table) - 1
    perturb = _hash(number) & _MASK64
    slot = perturb & mask
    while True:
        probes = _LINEAR_PROBES if slot + _LINEAR_PROBES <= mask else 0
        for at in range(slot, slot + probes + 1):
            if table[at] is None:
                table[at] = number
                return True
            if table[at] == number:
                return False
        perturb >>= _PERTURB_SHIFT
        slot = (slot * 5 + 1 + perturb) & mask


def _hash(number: int) -> int:
    value = abs(number) % _MODULUS
    value = -value if number < 0 else value
    return -2 if value == -1 else value

"""Two runs over the same queries: where the one did better on the task's own metric, and which to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from tte.mmeb.report.results import TaskRun


@dataclass(frozen=True)
class Comparison:
    """Rows of one data set by how the two runs came out on its own metric: hit@1, or nDCG@5 of a query."""

    fixed: list[int]
    """Better in the first run."""
    broken: list[int]
    """Better in the second run."""
    missed: list[int]
    """Equal in both, and not all that could be."""
    total: int

    @property
    def p_value(self) -> float:
        """Exact two-sided sign test: how likely so uneven a split of the changed queries is by chance."""
        changed, less = len(self.fixed) + len(self.broken), min(len(self.fixed), len(self.broken))
        tail: int = sum(comb(changed, k) for k in range(less + 1))
        return min(1.0, 2 * tail / int(2**changed))


def compare(first: TaskRun, second: TaskRun) -> Comparison | None:
    """Compare two runs query by query; None where they did not rank the same queries."""
    a, b = first.outcomes, second.outcomes
    if not a or len(a) != len(b) or any(x.labels != y.labels for x, y in zip(a, b, strict=True)):
        return None
    gains = [round(x.value - y.value, 9) for x, y in zip(a, b, strict=True)]
    return Comparison(
        [i for i, gain in enumerate(gains) if gain > 0],
        [i for i, gain in enumerate(gains) if gain < 0],
        [i for i, gain in enumerate(gains) if gain == 0 and round(a[i].value, 9) < 1],
        len(gains),
    )


def spread(rows: Sequence[int], count: int) -> list[int]:
    """At most `count` of the rows, evenly over their order: no picking of the finest."""
    if len(rows) <= count:
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]


def by_length(run: TaskRun) -> list[tuple[int, bool]]:
    """Trace length in tokens and hit of each query that has a trace."""
    column = run.queries
    return [
        (tokens, outcome.hit)
        for tokens, trace, outcome in zip(column.tokens, column.traces, run.outcomes, strict=False)
        if trace is not None and tokens
    ]


def length_bins(pairs: Sequence[tuple[int, bool]], count: int = 5) -> list[tuple[str, float, int]]:
    """Hit rate in percent by trace length, in at most `count` bins of about as many queries each."""
    ordered = sorted(pairs)
    bins: list[list[tuple[int, bool]]] = []
    for length, hit in ordered:
        full = bins and len(bins[-1]) >= len(ordered) / count and bins[-1][-1][0] != length
        if not bins or (full and len(bins) < count):
            bins.append([])
        bins[-1].append((length, hit))
    return [
        (
            f"{b[0][0]}–{b[-1][0]} tokens" if b[0][0] != b[-1][0] else f"{b[0][0]} tokens",
            100 * sum(hit for _, hit in b) / len(b),
            len(b),
        )
        for b in bins
    ]

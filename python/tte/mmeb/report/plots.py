"""Plots of the report as inline SVG, drawn with matplotlib in the colours and the font of the page around them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tte import _extras

INK = "#0a0b0c"
"""Stands for the page's text colour: becomes `currentColor` in the SVG."""
COLOURS = {"think": "#3b6fd4", "no-think": "#98a2ad", "queries-only": "#d98a2b"}
"""Colour of each way of running; further runs take `OTHERS` in turn."""
OTHERS = ("#8a5bc7", "#2f9e8f", "#c2557a", "#7d8a2e")


def colour(name: str, index: int = 0) -> str:
    """The colour of a run."""
    return COLOURS.get(name, OTHERS[index % len(OTHERS)])


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """A transparent figure of width x height inches; its SVG is appended to the list at the end."""
    mpl = _extras.matplotlib()
    settings: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "tte", "font.size": 9, "axes.edgecolor": INK, "axes.labelcolor": INK,
        "xtick.color": INK, "ytick.color": INK, "text.color": INK, "axes.spines.top": False,
        "axes.spines.right": False, "axes.linewidth": 0.6, "axes.axisbelow": True,
    }  # fmt: skip
    out: list[str] = []
    with mpl.rc_context(settings):
        figure = mpl.figure.Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        yield figure, out
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        out.append(_inline(buffer.getvalue()))


def _inline(svg: str) -> str:
    """Only the <svg> element, scaling with the page, in its font and text colour."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = body.replace(INK, "currentColor")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", body)
    size = r'(<svg [^>]*?)width="([\d.]+)pt" height="[\d.]+pt"'
    return re.sub(size, r'\1style="width:100%;max-width:\2pt"', body, count=1)


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", linewidth=0.4, alpha=0.35, color=INK)


def dumbbells(names: Sequence[str], runs: Mapping[str, Sequence[float | None]], title: str = "score, %") -> str:
    """One line per task with a dot for each run; values in percent, None where a run lacks the task."""
    with _figure(8.2, 0.7 + 0.27 * len(names)) as (figure, out):
        axes = figure.add_subplot()
        _rows(axes, names)
        for y in range(len(names)):
            present = [v for values in runs.values() if (v := values[y]) is not None]
            if len(present) > 1:
                axes.plot([min(present), max(present)], [y, y], color=INK, alpha=0.25, linewidth=2.4, zorder=1)
        for index, (run, values) in enumerate(runs.items()):
            points = [(v, y) for y, v in enumerate(values) if v is not None]
            if points:
                axes.scatter(*zip(*points, strict=True), s=46, color=colour(run, index), label=run, zorder=3)
        axes.set_xlim(0, 102)
        axes.set_xlabel(title)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(runs), handletextpad=0.1)
    return out[0]


def boxes(
    names: Sequence[str], groups: Mapping[str, Sequence[Sequence[float]]], label: str, *, log: bool = False
) -> str:
    """Distributions, one row per task and one box per group: quartiles, 5th and 95th percentile."""
    with _figure(8.2, 0.8 + (0.16 + 0.16 * len(groups)) * len(names)) as (figure, out):
        axes = figure.add_subplot()
        _rows(axes, names)
        step = 0.8 / len(groups)
        for index, (name, columns) in enumerate(groups.items()):
            ink = colour(name, index)
            shift = (index - (len(groups) - 1) / 2) * step
            rows = [(y + shift, values) for y, values in enumerate(columns) if len(values)]
            if not rows:
                continue
            parts = axes.boxplot(
                [v for _, v in rows], positions=[y for y, _ in rows], widths=step * 0.72, orientation="horizontal",
                whis=(5, 95), showfliers=False, patch_artist=True, manage_ticks=False,
            )  # fmt: skip
            for box in parts["boxes"]:
                box.set(facecolor=ink, alpha=0.55, edgecolor=ink)
            for line in (*parts["whiskers"], *parts["caps"]):
                line.set(color=ink, linewidth=1)
            for line in parts["medians"]:
                line.set(color=INK, linewidth=1.4)
            middles = [sorted(v)[len(v) // 2] for _, v in rows]
            axes.scatter(middles, [y for y, _ in rows], s=20, color=ink, zorder=4)  # Where a box has no width.
            axes.plot([], [], color=ink, linewidth=6, alpha=0.7, label=name)
        if log:
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)
        axes.set_xlabel(label)
        if len(groups) > 1:
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(groups))
    return out[0]


def steps(series: Mapping[str, Sequence[tuple[str, float, int]]], label: str) -> str:
    """Bars of a percentage for each bin: (name of the bin, percent, how many); one group of bars per series."""
    with _figure(8.2, 2.4) as (figure, out):
        axes = figure.add_subplot()
        width = 0.8 / len(series)
        for index, (name, bins) in enumerate(series.items()):
            at = [i + (index - (len(series) - 1) / 2) * width for i in range(len(bins))]
            axes.bar(at, [v for _, v, _ in bins], width * 0.9, color=colour(name, index), label=name, alpha=0.85)
            for x, (_, value, _) in zip(at, bins, strict=True):
                axes.text(x, value + 1, f"{value:.0f}", ha="center", va="bottom", fontsize=8)
        first = next(iter(series.values()))
        axes.set_xticks(range(len(first)), [f"{name}\n{count} queries" for name, _, count in first])
        axes.set_ylim(0, 112)
        axes.set_yticks([0, 50, 100])
        axes.set_ylabel(label)
        if len(series) > 1:
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(series))
    return out[0]

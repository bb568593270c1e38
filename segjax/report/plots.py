"""Draw the plots of a report: curves of one or several runs, calibration, score by size."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segjax.metrics import calibration
from segjax.report.seen import Region
from segjax.views import figures
from segjax.views.page.plots import svg

RUNS = (*figures.SPLIT_COLOURS.values(), *figures.SPARE_COLOURS)
"""Of several runs, in their order; also told apart by the style of their lines."""
STYLES = ("-", "--", ":", "-.")
BINS = 15
POINTS = 1500
"""Of a curve, about, that are drawn."""
Records = Sequence[Mapping[str, Any]]


def thin(records: Records) -> Records:
    """Return a log with few enough lines to be drawn; those of evaluations all stay."""
    steps = [number for number, line in enumerate(records) if "train/lr" in line]
    stride = max(1, -(-len(steps) // POINTS))
    left_out = {*steps} - {*steps[::stride]} - {*steps[-1:]}
    return [line for number, line in enumerate(records) if number not in left_out]


def curves(records: Records, headlines: Mapping[str, str], gap: tuple[str, str]) -> list[Markup]:
    """Return the plots of a training: losses, scores with their gap, learning rate, speed.

    Args:
        records: Lines of `metrics.jsonl`.
        headlines: Scores that are shown, by name, with what they are called.
        gap: The evaluation of the training split and the one that it is compared with, or empty.
    """
    made: list[Markup] = []
    records = thin(records)
    scores = [name for name in headlines if figures.splits(records, name)]
    names = figures.splits(records, "loss")
    names += [n for score in scores for n in figures.splits(records, score) if n not in names]

    def losses(figure: Figure) -> None:
        ax = figure.subplots()
        figures.draw_losses(ax, records, names)
        _finish(ax, records, "loss")

    made.append(svg(losses, title="Loss over steps"))
    for score in scores:

        def scored(figure: Figure, score: str = score) -> None:
            ax = figure.subplots()
            figures.draw_scores(ax, records, names, metric=score, title=headlines[score])
            figures.draw_gap(ax, records, metric=score, names=gap)
            _finish(ax, records, f"{headlines[score]}, 0 to 1")

        made.append(svg(scored, title=f"{headlines[score]} over steps"))
    if figures.series(records, "train/lr")[1].size:

        def rate(figure: Figure) -> None:
            ax = figure.subplots()
            figures.draw_rate(ax, records)
            _finish(ax, records, "learning rate")

        made.append(svg(rate, title="Learning rate over steps"))
    if figures.series(records, "time/step_ms")[1].size:
        made.append(svg(lambda figure: _speed(figure, records), title="Time of a step"))
    return made


def _speed(figure: Figure, records: Records) -> None:
    ax = figure.subplots()
    step, taken = figures.series(records, "time/step_ms")
    wait = figures.series(records, "time/data_wait_ms")
    figures.plot_points(ax, step, taken, figures.BLUE, "a step")
    figures.plot_points(ax, *wait, figures.ORANGE, "of it waiting for data")
    ax.set_title("Time of a step")
    usual = float(np.percentile(taken, 97))
    ax.set_ylim(0, 1.15 * (usual if taken.max() > 3 * usual else taken.max()) or 1)
    ax.legend(loc="best")
    _finish(ax, records, "ms")


def several(records: Mapping[str, Records], name: str, *, title: str, unit: str) -> Markup | None:
    """Return one logged quantity of several runs over each other; None: none has logged it.

    Args:
        records: Of each run, by what it is called.
        name: Such as `val/miou`.
        title: Of the plot.
        unit: Of its axis.
    """
    lines = {run: figures.series(thin(own), name) for run, own in records.items()}
    if not any(step.size for step, _ in lines.values()):
        return None

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        looks = itertools.cycle(zip(itertools.cycle(STYLES), RUNS, strict=False))
        for (run, (step, value)), (style, shade) in zip(lines.items(), looks, strict=False):
            if not step.size:  # its look stays its own in the other plots
                continue
            shown = figures.smooth(value) if name == "train/loss" and value.size > 20 else value
            mark = "o" if step.size <= 40 else ""
            label = figures.shorten(run, width=28)
            ax.plot(step, shown, style, color=shade, label=label, marker=mark, markersize=4)
        ax.set_title(title)
        ax.legend(loc="best")
        every = [record for own in records.values() for record in own]
        _finish(ax, every, unit)

    return svg(draw, title=title)


def reliability(levels: Int64[np.ndarray, "2 levels"]) -> tuple[Markup, float, float]:
    """Return the reliability diagram, the calibration error, and the largest one of a bin.

    Args:
        levels: How many answers were wrong and right by how sure they were; at least one.
    """
    pixels, confidence, accuracy = calibration.binned(levels, bins=BINS)
    gap = np.abs(confidence - accuracy)
    error = float(pixels @ np.nan_to_num(gap) / pixels.sum())

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        left, width = np.arange(BINS) / BINS, 1 / BINS
        filled = pixels > 0
        top.bar(left[filled], accuracy[filled], width=width, align="edge", color=figures.BLUE)
        top.plot([0, 1], [0, 1], color=figures.GREY, linewidth=1.5, linestyle=(0, (4, 3)))
        top.plot(confidence[filled], accuracy[filled], "o", color=figures.ORANGE, markersize=5)
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
        top.set_title(f"Calibration error {error:.3f}")
        share = pixels / pixels.sum()
        bottom.bar(left, share, width=width, align="edge", color=figures.GREY)
        bottom.set(xlabel="how sure the run says it is", ylabel="share of all")
        for ax in (top, bottom):
            ax.grid(axis="y")

    return svg(draw, title="Reliability", height=4.4), error, float(np.nanmax(gap))


def by_size(regions: Sequence[Region], *, what: str, unit: str) -> Markup | None:
    """Return how much of the objects is found over their size; None: there are too few.

    Args:
        regions: Of the truth.
        what: What is said of them, on the axis.
        unit: Of their sizes.
    """
    sizes = np.array([each.size for each in regions], np.float64)
    found = np.array([each.found for each in regions], np.float64)
    if len(sizes) < 5:
        return None
    edges = size_edges(sizes)
    place = np.clip(np.searchsorted(edges, sizes, "right") - 1, 0, len(edges) - 2)
    number = np.bincount(place, minlength=len(edges) - 1)
    there = number > 0
    mean = np.bincount(place, found, len(number))[there] / number[there]
    spread = [found[place == k].std() / math.sqrt(number[k]) for k in np.flatnonzero(there)]

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        middle = np.flatnonzero(there)
        ax.bar(middle, mean, width=0.8, color=figures.BLUE)
        bars = 1.96 * np.array(spread)
        bars = np.minimum(bars, np.stack([mean, 1 - mean]))  # shares: from 0 to 1
        ax.errorbar(middle, mean, bars, fmt="none", ecolor=figures.INK, elinewidth=1.2, capsize=3)
        for x, count in zip(middle.tolist(), number[there].tolist(), strict=True):
            ax.text(x, 1.03, f"{count:,}", ha="center", fontsize=9, color=figures.GREY)
        ax.set_xticks(
            np.arange(len(edges)) - 0.5, [short(edge) for edge in edges], rotation=0, fontsize=9
        )
        ax.set(ylim=(0, 1.1), xlim=(-0.6, len(number) - 0.4))
        ax.set(xlabel=f"size in {unit}; above: how many", ylabel=what)
        ax.set_title("By size")
        ax.grid(axis="y")

    return svg(draw, title="Score by size")


def size_edges(sizes: Float[np.ndarray, " n"]) -> Float[np.ndarray, " e"]:
    """Return the ends of four to ten ranges of sizes, each twice or more the one before it."""
    low, high = math.floor(math.log2(sizes.min())), math.ceil(math.log2(sizes.max() + 1))
    stride = max(1, math.ceil((high - low) / 10))
    return 2.0 ** np.arange(low, max(high, low + 1) + stride, stride)


def short(value: float) -> str:
    """Return a size as a few characters: 512, 4k, 2M."""
    for factor, ending in ((2**20, "M"), (2**10, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{ending}"
    return f"{value:.0f}"


def _finish(ax: Axes, records: Records, unit: str) -> None:
    ax.set(xlabel="step", ylabel=unit)
    ax.set_xlim(0, 1.03 * max((record["step"] for record in records), default=0) or 1)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.grid(axis="y")

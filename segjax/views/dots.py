"""Draw a few numbers for each of several things, a line each, with mean and interval."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from segjax.views import figures


def draw(
    path: str | os.PathLike[str],
    values: Mapping[str, Sequence[float]],
    intervals: Mapping[str, tuple[float, float] | None],
    *,
    title: str,
    label: str,
    baseline: str = "",
) -> None:
    """Write a PNG: a line for each name, a dot for each value, a mark and a bar for their mean.

    Args:
        path: The PNG to write.
        values: By name, from the top down; a name without any has an empty line.
        intervals: The 95 % interval of the mean of each, which lies in its middle; None: no bar.
        title: Heading.
        label: What the values are.
        baseline: A name through whose mean a vertical line goes; empty: none does.
    """
    names = list(values)
    widest = max(len(name) for name in names)
    with figures.drawing(path, 6.0 + 0.085 * min(widest, 60), 1.6 + 0.36 * len(names)) as figure:
        ax = figure.subplots()
        ax.set_title(title)
        ax.set_xlabel(f"{label} (dots: seeds; bar: 95 % interval of the mean)")
        ax.set_yticks(range(len(names)), [figures.shorten(name, width=60) for name in names])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.grid(axis="x")
        if values.get(baseline):
            ax.axvline(float(np.mean(values[baseline])), color=figures.GREY, linestyle=":")
        for place, name in enumerate(names):
            array = np.asarray(values[name], np.float64)
            if not array.size:
                continue
            shade = figures.ORANGE if name == baseline else figures.BLUE
            ax.plot(array, [place] * array.size, "o", color=shade, alpha=0.45, markersize=6)
            low, high = intervals[name] or (0.0, 0.0)
            ax.errorbar(
                float(array.mean()), place, xerr=(high - low) / 2, color=shade, marker="|",
                markersize=14, markeredgewidth=2, capsize=4,
            )  # fmt: skip

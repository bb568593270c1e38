"""Draw a learning-rate range test."""

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter

from segjax.views.figures import BLUE, GREY, ORANGE, drawing


def draw_range(
    path: str | os.PathLike[str],
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    *,
    suggested: float,
    diverged: float,
) -> None:
    """Draw the loss over the learning rate, the one that is suggested and where it diverged.

    Args:
        path: The PNG to write.
        rates: Of each step, rising.
        losses: Before each.
        smoothed: Their mean over the steps around each.
        suggested: A rate.
        diverged: A rate; NaN: it did not.
    """
    with drawing(path, 8.0, 4.6) as figure:
        ax = figure.subplots()
        ax.plot(rates, losses, color=BLUE, alpha=0.3, linewidth=1)
        ax.plot(rates, smoothed, color=BLUE, label="loss (smoothed)")
        ax.set_xscale("log")
        if math.isfinite(diverged):
            ax.axvline(diverged, color=GREY, linewidth=1.5, linestyle=(0, (4, 3)),
                       label=f"diverged at {diverged:.2g}")  # fmt: skip
        height = float(np.interp(math.log(suggested), np.log(rates), smoothed))
        ax.plot([suggested], [height], "o", color=ORANGE, markersize=9,
                label=f"suggested: {suggested:.2g}")  # fmt: skip
        low, high = min(losses), max(losses[: max(3, len(losses) // 2)])
        room = max(high - low, 1e-6 * abs(high), 1e-12)
        ax.set_ylim(low - 0.1 * room, high + 0.3 * room)  # where it diverges, it leaves the plot
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.set(xlabel="learning rate", ylabel="training loss")
        ax.set_title("Learning-rate range test")
        ax.grid(axis="y")
        ax.legend(loc="best")

"""Draw the drift of a stream as one HTML page that needs nothing else."""

import pathlib
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segjax.views import figures
from segjax.views.page import pages, plots
from segjax.watch.drift import Limits
from segjax.watch.stream import Watched

TEMPLATE = pathlib.Path(__file__).with_name("page.html")


def write(path: pathlib.Path, watched: Watched) -> int:
    """Write the page of a stream, and return its size in bytes.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    worst = watched.worst()
    rows = [
        [shift.statistic, *((f"{number:.4g}", number) for number in (
            shift.psi, shift.limits.psi, shift.ks, shift.limits.ks, shift.median, shift.known,
        ))]
        for shift in worst
    ]  # fmt: skip
    curves = [
        _curve(shift.statistic, [row.get(shift.statistic, np.nan) for row in watched.rows],
               shift.limits)
        for shift in worst
    ]  # fmt: skip
    return pages.write(
        path, TEMPLATE, about=watched.describe(), alerts=watched.alerts, rows=rows, curves=curves,
        bad=[place for place, shift in enumerate(worst) if shift.passes],
    )  # fmt: skip


def _curve(name: str, values: Sequence[float], limits: Limits) -> Markup:
    """Return the values of a statistic image by image, on the range of the reference."""

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        ax.axhspan(limits.sample[0], limits.sample[-1], color=figures.FAINT, linewidth=0)
        ax.axhline(float(np.median(limits.sample)), color=figures.GREY, linewidth=1)
        ax.plot(np.arange(1, len(values) + 1), values, color=figures.BLUE, linewidth=1.2)
        ax.set_title(figures.shorten(name, width=40))
        ax.set_xlabel("image")
        ax.set_xlim(1, max(2, len(values)))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))

    return plots.svg(draw, title=name, height=2.4)

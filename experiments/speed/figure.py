"""Draw the results: seconds of both sides next to each other, and each work under the roofline."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.speed.works import WORKS
from experiments.speed.works import name_of as size_name
from segjax.views import figures

COLOURS = {"segjax": figures.BLUE, "torch": figures.ORANGE}
NAMES = {"segjax": "segjax", "torch": "PyTorch"}


def fastest(record: dict, side: str) -> dict | None:
    """Return the fastest variant of a side, None where it was not measured."""
    runs = [run for run in record["runs"] if run["side"] == side]
    return min(runs, key=lambda run: run["median"]) if runs else None


def roofline_seconds(run: dict) -> float:
    """Return the seconds that a run's products need at the device's peak or memory bandwidth."""
    return max(run["flops"] / run["peak_flops"], run["bytes"] / run["bandwidth"])


def draw(path: pathlib.Path, records: Sequence[dict]) -> None:
    """Draw the records of one device, fastest variant of each side."""
    records = [record for record in records if fastest(record, "segjax")]
    if not records:
        return
    with figures.drawing(path, 12.5, 2.0 + 0.42 * len(records)) as figure:
        bars, roof = figure.subplots(1, 2, width_ratios=[1.35, 1])
        draw_seconds(bars, records)
        draw_roofline(roof, records)


def draw_seconds(ax: Axes, records: Sequence[dict]) -> None:
    """Draw a pair of bars for each record, PyTorch's as 1, with the quartiles."""
    for row, record in enumerate(records):
        theirs = fastest(record, "torch")
        unit = theirs["median"] if theirs else fastest(record, "segjax")["median"]
        for side, shift in (("segjax", -0.19), ("torch", 0.19)):
            run = fastest(record, side)
            if run is None:
                continue
            low, high = (abs(q - run["median"]) / unit for q in run["quartiles"])
            value = run["median"] / unit
            ax.barh(
                row + shift, value, 0.36, color=COLOURS[side], label=NAMES[side] if not row else "",
                xerr=[[low], [high]], error_kw={"ecolor": figures.INK, "elinewidth": 1},
            )  # fmt: skip
            text = f"{1e3 * run['median']:,.0f} ms"
            ax.text(value + high + 0.02, row + shift, text, va="center", fontsize=8.5)
    ax.axvline(1, color=figures.GREY, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_yticks(range(len(records)), [name_of(record) for record in records], fontsize=9)
    ax.set_ylim(len(records) - 0.4, -0.6)
    ax.set_xlim(0, 1.25 * ax.get_xlim()[1])
    ax.set(xlabel="time, PyTorch's fastest variant = 1", title="One run, taking turns")
    ax.legend(loc="lower right", fontsize=9)


def draw_roofline(ax: Axes, records: Sequence[dict]) -> None:
    """Draw FLOP/s over FLOPs a byte, under what the device can do."""
    peak = max(fastest(record, "segjax")["peak_flops"] for record in records)
    bandwidth = max(fastest(record, "segjax")["bandwidth"] for record in records)
    runs = [fastest(record, "segjax") for record in records]
    intensity = np.array([run["flops"] / run["bytes"] for run in runs])
    speed = np.array([run["flops"] / run["median"] for run in runs])
    x = np.geomspace(intensity.min() / 3, intensity.max() * 3, 200)
    ax.plot(x, np.minimum(peak, bandwidth * x) / 1e9, color=figures.GREY)
    for record, a, b in zip(records, intensity, speed, strict=True):
        filled = figures.BLUE if record["kind"] == "train" else "white"
        ax.plot(a, b / 1e9, "o", color=figures.BLUE, markerfacecolor=filled)
        ax.annotate(
            record["work"], (a, b / 1e9), xytext=(5, -3), textcoords="offset points", fontsize=8
        )
    ax.set(xscale="log", yscale="log", xlabel="FLOP per byte of its products", ylabel="GFLOP/s")
    ax.set_ylim(min(speed) / 3e9, 1.5 * peak / 1e9)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_minor_locator(NullLocator())
    ax.set_title("segjax under the roofline (filled: train)")


def name_of(record: dict) -> str:
    """Return the label of a record's row."""
    title = WORKS[record["work"]].title
    return f"{title}\n{record['kind']}, {record['batch']} × {size_name(record['size'])}"

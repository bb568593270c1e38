"""Draw what a hyperparameter search has found, from what `search.json` holds."""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from segjax.views.figures import BLUE, FAINT, GREY, INK, ORANGE, drawing, shorten

MAP = "cividis"
"""Of values; seen alike by colour-blind eyes. Its bright end is the better one."""
COLUMNS = 4
BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
"""Around a text that lies on lines."""


def draw(folder: pathlib.Path, found: Mapping[str, Any]) -> list[str]:
    """Draw all figures of a search into a folder; return their names, with that of the folder.

    Args:
        folder: Made if it is not there.
        found: The content of `search.json`, with at least one complete trial.
    """
    history(folder / "history.png", found)
    slices(folder / "slices.png", found)
    names = ["history", "slices"]
    if found["importance"]:
        importance(folder / "importance.png", found)
        names.append("importance")
    if len(found["search"]["space"]) > 1:
        parallel(folder / "parallel.png", found)
        names.append("parallel")
    return [f"{folder.name}/{name}.png" for name in names]


def history(path: str | os.PathLike[str], found: Mapping[str, Any]) -> None:
    """Draw the value of each trial in order, the best so far, and those that ended early."""
    metric, complete, pruned = metric_of(found), of(found, "complete"), of(found, "pruned")
    failed = [each["number"] for each in of(found, "failed")]
    best = np.maximum if found["search"]["mode"] == "max" else np.minimum
    with drawing(path, 8.5, 4.4) as figure:
        ax = figure.subplots()
        values = np.array([each["value"] for each in complete])
        numbers = [each["number"] for each in complete]
        last = max(each["number"] for each in found["trials"])
        so_far = best.accumulate(values)
        ax.step(
            [*numbers, last], [*so_far, so_far[-1]], where="post", color=ORANGE, label="best so far"
        )
        ax.plot(numbers, values, "o", color=BLUE, markersize=6, label="complete")
        scored = [each for each in pruned if each["value"] is not None]
        if scored:
            at, value = ([each[key] for each in scored] for key in ("number", "value"))
            ax.plot(at, value, "x", color=GREY, markersize=6, label="pruned, its best score")
        for number in failed:
            ax.axvline(number, color=FAINT, linewidth=4, zorder=0)
        if failed:
            ax.plot([], [], color=FAINT, linewidth=4, label="failed")
        ax.set(xlabel="trial", ylabel=metric)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
        ax.legend(loc="best")
        title(ax, "Search history", found)


def importance(path: str | os.PathLike[str], found: Mapping[str, Any]) -> None:
    """Draw how much each leaf decides whether a trial is among the best."""
    shares = sorted(found["importance"].items(), key=lambda item: -item[1])
    with drawing(path, 8.0, 1.6 + 0.4 * len(shares)) as figure:
        ax = figure.subplots()
        ax.barh(range(len(shares)), [share for _, share in shares], height=0.7, color=BLUE)
        for y, (_, share) in enumerate(shares):
            ax.text(share + 0.01, y, f"{share:.2f}", va="center", color=INK)
        ax.set_yticks(range(len(shares)), [shorten(leaf, width=32) for leaf, _ in shares])
        ax.set(xlim=(0, 1.1), ylim=(len(shares) - 0.4, -0.6))
        ax.set_xlabel("share of the importance (PED-ANOVA, the best tenth against all)")
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
        title(ax, "Importance", found)


def slices(path: str | os.PathLike[str], found: Mapping[str, Any]) -> None:
    """Draw the value of each trial over each leaf, later trials darker."""
    complete, space = of(found, "complete"), found["search"]["space"]
    rows = math.ceil(len(space) / COLUMNS)
    columns = math.ceil(len(space) / rows)
    with drawing(path, 1.6 + 3.2 * columns, 0.9 + 3.1 * rows) as figure:
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        numbers = [each["number"] for each in complete]
        for ax, (leaf, section) in zip(axes, space.items(), strict=False):
            places = [place(section, each["parameters"][leaf]) for each in complete]
            values = [each["value"] for each in complete]
            dots = ax.scatter(places, values, c=numbers, cmap=f"{MAP}_r", s=34, edgecolor="white",
                              linewidth=0.6)  # fmt: skip
            best = found["best"]
            ax.plot(place(section, best["parameters"][leaf]), best["value"], "o", markersize=11,
                    markerfacecolor="none", markeredgecolor=ORANGE, markeredgewidth=2)  # fmt: skip
            scale(ax, section)
            ax.set_xlabel(shorten(leaf, width=30))
            ax.grid()
        for ax in axes[len(space) :]:
            ax.set_visible(False)
        for ax in axes[::columns]:
            ax.set_ylabel(metric_of(found))
        ticks = MaxNLocator(6, integer=True)
        bar = figure.colorbar(dots, ax=axes.tolist(), aspect=30, pad=0.02, ticks=ticks)
        bar.outline.set_visible(False)
        bar.set_label("trial")
        title(axes[0], "Slices, the best circled", found, right=axes[columns - 1])


def parallel(path: str | os.PathLike[str], found: Mapping[str, Any]) -> None:
    """Draw each complete trial as a line through the values of its leaves, the better brighter."""
    space = found["search"]["space"]
    better = 1 if found["search"]["mode"] == "max" else -1
    complete = sorted(of(found, "complete"), key=lambda each: better * each["value"])
    values = [each["value"] for each in complete]
    paths = [
        [(x, share_of(section, each["parameters"][leaf]))
         for x, (leaf, section) in enumerate(space.items())]
        for each in complete
    ]  # fmt: skip
    norm = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)
    colours = mpl.colormaps[MAP if better == 1 else f"{MAP}_r"]
    with drawing(path, 2.4 + 1.9 * len(space), 4.8) as figure:
        ax = figure.subplots()
        ax.set_facecolor("#f4f5f7")
        lines = LineCollection(paths, cmap=colours, norm=norm, linewidths=1.8, alpha=0.9)
        lines.set_array(np.array(values))
        ax.add_collection(lines)
        ax.set(xlim=(-0.3, len(space) - 0.7), ylim=(-0.06, 1.06), yticks=[])
        ax.set_xticks(range(len(space)), [shorten(leaf, width=24) for leaf in space])
        ax.spines[:].set_visible(False)
        for x, section in enumerate(space.values()):
            ax.axvline(x, color=GREY, linewidth=1)
            for share, text in marks(section):
                ax.text(x + 0.03, share, text, va="center", fontsize=9, color=INK, bbox=BOX)
        bar = figure.colorbar(lines, ax=ax, aspect=25, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(metric_of(found))
        title(ax, "Complete trials", found)


def place(section: Mapping[str, Any], value: Any) -> float:
    """Return where a value lies on its leaf's axis: of choices at the number of the choice."""
    choices = section.get("choices")
    return float(value if choices is None else choices.index(value))


def ends(section: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of a leaf's axis."""
    choices = section.get("choices")
    return (section["low"], section["high"]) if choices is None else (0, len(choices) - 1)


def share_of(section: Mapping[str, Any], value: Any) -> float:
    """Return where a value lies between the ends of its leaf's axis, from 0 to 1."""
    low, high = ends(section)
    at = place(section, value)
    if section.get("log"):
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def marks(section: Mapping[str, Any]) -> Sequence[tuple[float, str]]:
    """Return what is written along a leaf's axis, and where."""
    choices = section.get("choices")
    values = [section["low"], section["high"]] if choices is None else choices[:12]
    return [(share_of(section, value), text_of(value)) for value in values]


def scale(ax: Axes, section: Mapping[str, Any]) -> None:
    """Give an axis the scale and the marks of a leaf."""
    choices = section.get("choices")
    if section.get("log"):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    elif choices is not None:
        ax.set_xlim(-0.5, len(choices) - 0.5)
        ax.set_xticks(range(len(choices)), [text_of(value) for value in choices], rotation=30,
                      ha="right", rotation_mode="anchor")  # fmt: skip
    elif section["integer"]:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))


def text_of(value: Any) -> str:
    """Return a value as an axis shows it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{value:.3g}" if isinstance(value, float) else shorten(text, width=16)


def of(found: Mapping[str, Any], state: str) -> list[Mapping[str, Any]]:
    """Return the trials that ended so."""
    return [each for each in found["trials"] if each["state"] == state]


def metric_of(found: Mapping[str, Any]) -> str:
    """Return the metric, and which way it is better."""
    word = "higher" if found["search"]["mode"] == "max" else "lower"
    return f"{found['search']['metric']} ({word} is better)"


def title(ax: Axes, text: str, found: Mapping[str, Any], *, right: Axes | None = None) -> None:
    """Write the title on the left, and at the right how many trials there were."""
    number = len(found["trials"])
    trials = f"{number} trial{'s' * (number != 1)}, {found['search']['method']}"
    ax.set_title(text)
    (right or ax).set_title(trials, loc="right", color=GREY, fontweight="normal", fontsize=10)

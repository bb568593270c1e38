"""Draw how well objects are found: bars for each class, precision over recall."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from segjax.views import colour, figures, outlines

MOST = len(outlines.SHADES)
"""Classes whose lines have colours of their own."""
LEGEND: dict[str, Any] = {
    "loc": "best", "fontsize": 9, "frameon": True, "edgecolor": "none", "framealpha": 0.85,
}  # fmt: skip


def class_ap(path: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
    """Draw the mask AP of each class as bars.

    Args:
        path: The PNG to write.
        result: What `eval/<split>.json` holds of objects.
    """
    unit = "average precision, IoU 0.50 to 0.95"
    figures.class_bars(path, result, score="AP", mean=result["AP"], title="Mask AP", unit=unit)


def class_pq(path: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
    """Draw the panoptic quality of each class as bars.

    Args:
        path: The PNG to write.
        result: What `eval/<split>.json` holds of objects or segments.
    """
    figures.class_bars(
        path, result, score="PQ", mean=result["PQ"], title="PQ", unit="panoptic quality"
    )


def precision_recall(
    path: str | os.PathLike[str],
    curves: Mapping[str, Float[np.ndarray, "t r"]],
    *,
    recalls: Float[np.ndarray, " r"],
    ious: Float[np.ndarray, " t"],
    result: Mapping[str, Any],
) -> None:
    """Draw precision over recall: of all classes at several IoUs, and of each class.

    Args:
        path: The PNG to write.
        curves: The precision of each class, by IoU and recall.
        recalls: At which it is known.
        ious: At which it is known.
        result: What `eval/<split>.json` holds of objects.
    """
    with figures.drawing(path, 10.5, 4.6) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        if curves:
            every = np.mean([*curves.values()], axis=0)
            shown = {
                "IoU 0.50": every[0],
                "IoU 0.75": every[5],
                "mean of 0.50 to 0.95": every.mean(0),
            }
            looks = zip((figures.BLUE, figures.ORANGE, figures.INK), ("-", "--", ":"), strict=True)
            for (name, line), (shade, style) in zip(shown.items(), looks, strict=True):
                label = f"{name}: {line.mean():.3f}"
                left.plot(recalls, line, color=shade, linestyle=style, label=label)
            left.legend(**LEGEND)
            _draw_classes(right, {name: each[0] for name, each in curves.items()}, recalls)
        else:
            figures.note(left, "no object in the truth")
        for ax in (left, right):
            ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall")
            ax.grid()
        left.set(ylabel="precision")
        left.set_title("Masks, all classes")
        figures.set_titles(right, f"Each class, IoU {ious[0]:.2f}", result)


def _draw_classes(
    ax: Axes, lines: Mapping[str, np.ndarray], recalls: Float[np.ndarray, " r"]
) -> None:
    """Draw a line for each class; of many only the best and the worst have a colour and a name."""
    order = sorted(lines, key=lambda name: -float(lines[name].mean()))
    named = order if len(order) <= MOST else [order[0], order[-1]]
    for name in order:
        if name not in named:
            ax.plot(recalls, lines[name], color=figures.GREY, alpha=0.35, linewidth=0.8)
    for shade, name in zip(_dark(), named, strict=False):
        label = f"{figures.shorten(name)}: {lines[name].mean():.3f}"
        ax.plot(recalls, lines[name], color=shade, label=label)
    if len(named) < len(order):
        ax.plot([], [], color=figures.GREY, alpha=0.6, label=f"{len(order) - 2} others")
    ax.legend(**LEGEND)


def _dark() -> Sequence[str]:
    """Return the colours of objects, the darkest first: yellow is hard to see on white."""
    order = sorted(outlines.SHADES, key=lambda shade: sum(shade))
    return [colour.code(shade) for shade in order]

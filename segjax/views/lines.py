"""Show signals: a line over the colours of its classes, and strips of colour below each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, Num, UInt8
from matplotlib.axes import Axes

from segjax.views import colour


def draw_signal(
    ax: Axes,
    signal: Num[np.ndarray, "n c"],
    label: Integer[np.ndarray, " n"],
    palette: Sequence[colour.Colour],
    *,
    ink: str,
) -> None:
    """Draw every channel of a signal as a line, over spans in the colours of its classes.

    Void is hatched. Several channels lie over each other, the first the darkest.
    """
    table = colour.table(palette) / 255
    for start, stop in runs(label):
        look: dict[str, Any] = {"color": tuple(table[label[start]]), "alpha": 0.45}
        if label[start] == colour.VOID_LABEL:
            look = hatching()
        ax.axvspan(start - 0.5, stop - 0.5, linewidth=0, **look)
    for channel in reversed(range(signal.shape[1])):
        fade = 0.9 ** (3 * channel)
        ax.plot(signal[:, channel], color=ink, alpha=fade, linewidth=0.9)
    ax.set_xlim(-0.5, len(signal) - 0.5)
    ax.margins(y=0.08)


def draw_strips(
    ax: Axes, names: Sequence[str], picture: UInt8[np.ndarray, "h w 3"], *, samples: int
) -> None:
    """Draw rows of colour, one below the other, each with its name on the left.

    Args:
        ax: Where.
        names: Of the rows, which are equally high.
        picture: All rows, at the pixels that they are looked at.
        samples: Of the signal that its width stands for.
    """
    extent = (-0.5, samples - 0.5, len(names) - 0.5, -0.5)
    ax.imshow(picture, aspect="auto", interpolation="nearest", extent=extent)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for edge in range(1, len(names)):
        ax.axhline(edge - 0.5, color="white", linewidth=2)


def hatching() -> dict[str, Any]:
    """Return how Matplotlib draws what `colour.hatch` draws into pictures."""
    light, dark = colour.code(colour.VOID_LIGHT), colour.code(colour.VOID_DARK)
    return {"facecolor": light, "edgecolor": dark, "hatch": "//////"}


def runs(label: Integer[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Return where each run of equal labels starts and stops."""
    edges = np.flatnonzero(np.diff(label)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(label)], strict=True))

"""Show signals: a line over the colours of its classes, and strips of colour below each other."""

from collections.abc import Mapping, Sequence

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

    Void has no colour. Several channels lie over each other, the first the darkest.
    """
    table = colour.table(palette) / 255
    for start, stop in runs(label):
        if label[start] != colour.VOID_LABEL:
            shade = tuple(table[label[start]])
            ax.axvspan(start - 0.5, stop - 0.5, color=shade, alpha=0.45, linewidth=0)
    for channel in reversed(range(signal.shape[1])):
        fade = 0.9 ** (3 * channel)
        ax.plot(signal[:, channel], color=ink, alpha=fade, linewidth=0.9)
    ax.set_xlim(-0.5, len(signal) - 0.5)
    ax.margins(y=0.08)


def draw_strips(ax: Axes, strips: Mapping[str, UInt8[np.ndarray, "n 3"]]) -> None:
    """Draw rows of colour, one below the other, each with its name on the left."""
    picture = np.stack(list(strips.values()))
    ax.imshow(picture, aspect="auto", interpolation="nearest")
    ax.set_yticks(range(len(strips)), list(strips))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for edge in range(1, len(strips)):
        ax.axhline(edge - 0.5, color="white", linewidth=2)


def runs(label: Integer[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Return where each run of equal labels starts and stops."""
    edges = np.flatnonzero(np.diff(label)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(label)], strict=True))

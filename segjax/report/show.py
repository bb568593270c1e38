"""What is looked at of an example: pictures; of a volume sections, of a signal a plot."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Integer, Num, UInt8
from markupsafe import Markup
from matplotlib.figure import Figure

from segjax.views import colour, figures, lines, planes
from segjax.views.colour import VOID_LABEL, Colour
from segjax.views.page import pages, plots

SIDE = 480
"""Of a picture, the longer one, at most; in pixels."""
SAMPLES = 2000
"""Of a signal that are drawn, about."""
JUDGED = (colour.CORRECT, colour.WRONG)
Shown = list[tuple[str, str]]


def of_maps(
    image: Num[np.ndarray, "*space c"],
    label: Integer[np.ndarray, "*space"],
    pred: Integer[np.ndarray, "*space"],
    unsure: Float[np.ndarray, "*space"] | None,
    palette: Sequence[Colour],
) -> Shown:
    """Return image, truth, prediction, error and uncertainty; of a volume the projections too.

    Args:
        image: Of two or three axes in space.
        label: Classes, 255 void.
        pred: Classes.
        unsure: 0 to 1; None: not known.
        palette: A colour for each class.
    """
    void = colour.spare(palette)
    wrong = np.where(label == VOID_LABEL, VOID_LABEL, pred != label).astype(np.uint8)
    at = planes.busiest(label) if label.ndim == 3 else ()
    flat = {"truth": label, "prediction": pred}
    maps = {name: _flat(each, at) for name, each in flat.items()}
    shown = [("image", pages.picture(picture_of(image, at), side=SIDE))]
    shown += [
        (name, pages.label_map(each, palette, side=SIDE, void=void)) for name, each in maps.items()
    ]
    shown.append(("error", pages.label_map(_flat(wrong, at), JUDGED, side=SIDE, void=void)))
    if unsure is not None:
        shades = np.rint(np.clip(unsure, 0, 1) * 254).astype(np.uint8)
        shown.append(("uncertainty", heat(_flat(shades, at))))
    for name, each in flat.items() if label.ndim == 3 else ():
        whole = pages.label_map(_projected(each), palette, side=SIDE, void=void)
        shown.append((f"{name}, through the depth", whole))
    if label.ndim == 3:
        through = (wrong == 1).mean(axis=0)
        shades = np.rint(254 * through / max(float(through.max()), 1e-9)).astype(np.uint8)
        shown.append(("errors, through the depth", heat(shades)))
    return shown


def of_signal(
    signal: Num[np.ndarray, "n c"],
    label: Integer[np.ndarray, " n"],
    pred: Integer[np.ndarray, " n"],
    palette: Sequence[Colour],
    *,
    title: str,
) -> Markup:
    """Return a signal over the colours of its classes, above strips of truth, prediction, error."""
    step = max(1, len(label) // SAMPLES)
    signal, label, pred = signal[::step], label[::step], pred[::step]
    void = colour.spare(palette)

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, height_ratios=[2, 1], sharex=True)
        lines.draw_signal(top, signal, label, palette, ink=figures.INK)
        top.set_ylabel("value")
        strips = {
            "truth": colour.colourise(label, palette, void=void),
            "prediction": colour.colourise(pred, palette, void=void),
            "error": colour.error_map(pred, label, void=void),
        }
        picture = np.stack(list(strips.values()))
        lines.draw_strips(bottom, list(strips), picture, samples=len(label))
        bottom.set_xlabel("sample" if step == 1 else f"every {step}th sample")

    return plots.svg(draw, title=title, width=9.0, height=3.4)


def picture_of(
    image: Num[np.ndarray, "*space c"], at: tuple[int, ...]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image in colours; of a volume the sections that meet in the voxel `at`."""
    if not at:
        return colour.displayable(image, axes=2)
    return planes.sections(colour.displayable(image, axes=3), at)


def heat(shades: UInt8[np.ndarray, "h w"]) -> str:
    """Return a map of 0 to 254 as a picture, dark where it is 0, yellow where it is most."""
    table = np.rint(255 * mpl.colormaps["cividis"](np.arange(255) / 254)[:, :3]).astype(np.uint8)
    table = np.concatenate([table, [[255, 255, 255]]]).astype(np.uint8)  # between sections
    return pages.picture(table[shades], side=SIDE, quality=60)


def _flat(values: np.ndarray, at: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """Return a map as it is looked at; between the sections of a volume it is 255."""
    values = values.astype(np.uint8)
    return planes.sections(np.repeat(values[..., None], 3, -1), at)[..., 0] if at else values


def _projected(label: Integer[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return of each column of a volume the first class that is neither 0 nor void, else 0."""
    inside = (label != 0) & (label != VOID_LABEL)
    first = inside.argmax(axis=0)
    return np.take_along_axis(label, first[None], axis=0)[0].astype(np.uint8) * inside.any(axis=0)

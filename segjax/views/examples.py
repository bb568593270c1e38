"""Draw examples beside their truth and prediction, in any dimension."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
from jaxtyping import Integer, Num, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from segjax.errors import DataError
from segjax.views import colour, figures, lines, planes

LEFT = 1.5
"""Room for the rows' titles, in inches."""
CELLS = {2: (2.5, 0.08), 3: (3.0, 0.25)}
"""The widest that a picture or the sections of a volume may be, and the room between, in inches."""
PER_LINE = 6
SMALLEST = 512
"""Pixels of the shorter side, at least, that the sections of an overlaid volume are enlarged to."""


class Row(TypedDict):
    """One line of `draw`: an image beside its truth and prediction, all of one size."""

    title: str  # "best", "median" or "worst"
    name: NotRequired[str]  # where the example came from; its end is shown
    image: Num[np.ndarray, "*space c"]
    label: Integer[np.ndarray, "*space"]  # 0..K-1, 255 = void
    pred: Integer[np.ndarray, "*space"]
    miou: float  # NaN: not known


def draw(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    *,
    palette: Sequence[colour.Colour],
    class_names: Sequence[str] = (),
    legend: Mapping[str, colour.Colour] | None = None,
) -> None:
    """Draw image, truth, prediction and errors of a few examples, with the colours' legend below.

    Of volumes it shows three sections, where their labels hold most; signals are lines over the
    colours of the truth, with strips of all three below. Void is hatched, which no class is.

    Args:
        path: The PNG to write.
        rows: What to draw, from the top down; each picture has its own aspect ratio.
        palette: One colour per class.
        class_names: One name per class; the legend holds those that occur in `rows`.
        legend: What it holds instead.

    Raises:
        DataError: Image, label and prediction of a row differ in size, or a label is neither a
            class nor 255.
    """
    if not rows:
        with figures.drawing(path, 8, 2) as figure:
            figures.note(figure.subplots(), "no image with a labelled pixel")
        return
    labels = [label for row in rows for label in (row["label"], row["pred"])]
    patches = legend_patches(labels, palette, class_names, legend)
    patches += [patch("correct", colour.CORRECT), patch("wrong", colour.WRONG)]
    if rows[0]["label"].ndim == 1:
        _draw_signals(path, rows, palette, patches)
    else:
        _draw_pictures(path, rows, palette, patches)


def overlay(
    path: str | os.PathLike[str],
    image: Num[np.ndarray, "*space c"],
    label: Integer[np.ndarray, "*space"],
    *,
    palette: Sequence[colour.Colour],
    class_names: Sequence[str],
    legend: Mapping[str, colour.Colour] | None = None,
) -> None:
    """Save an image in the colours of its classes.

    A picture is tinted at its own size, and so are three sections of a volume, enlarged. A signal
    is a line over spans of colour, with their legend, or what `legend` holds instead.

    Raises:
        DataError: Image and label differ in size, or a label is neither a class nor 255.
        UserError: The disk is full or cannot be written.
    """
    tinted = colour.overlay(image, label, palette)
    if label.ndim == 1:
        with figures.drawing(path, 12, 3.2) as figure:
            ax = figure.subplots()
            lines.draw_signal(ax, image, label, palette, ink=figures.INK)
            ax.set_xlabel("sample")
            handles = legend_patches([label], palette, class_names, legend)
            figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return
    picture = tinted
    if label.ndim == 3:
        picture = planes.sections(tinted, planes.busiest(label))
        factor = math.ceil(SMALLEST / min(picture.shape[:2]))
        picture = picture.repeat(factor, 0).repeat(factor, 1)
    colour.save_png(path, Image.fromarray(picture))


def score_of(row: Row) -> str:
    """Return what the score of a row is, in words; empty: it is not known."""
    return "" if math.isnan(row["miou"]) else f"mIoU {row['miou']:.2f}"


def _draw_pictures(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    palette: Sequence[colour.Colour],
    patches: Sequence[Patch],
) -> None:
    """Draw a line of pictures for each row."""
    void = colour.spare(palette)

    def mark(ax: Axes, index: int, title: str) -> None:
        if title == "image" and rows[index]["label"].ndim == 3:
            _write_places(ax, rows[index]["label"])

    lines_ = [
        Line(
            row["title"],
            row.get("name", ""),
            score_of(row),
            panels(row, palette, void=void),
        )
        for row in rows
    ]
    draw_lines(path, lines_, patches, cells=CELLS[rows[0]["label"].ndim], void=void, mark=mark)


class Line(NamedTuple):
    """A line of pictures.

    Attributes:
        title: What it is called.
        name: Where it came from; its end is shown.
        score: What it is worth.
        pictures: By their titles, all of one size.
    """

    title: str
    name: str
    score: str
    pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]


def size_of(picture: np.ndarray, cell: float) -> tuple[float, float]:
    """Return the height and the width in inches that a picture is drawn at."""
    tall = cell * min(picture.shape[0] / picture.shape[1], 1.0)
    return tall, tall * picture.shape[1] / picture.shape[0]


def draw_lines(
    path: str | os.PathLike[str],
    rows: Sequence[Line],
    patches: Sequence[Patch],
    *,
    cells: tuple[float, float],
    void: colour.Colour | None = None,
    mark: Callable[[Axes, int, str], None] = lambda ax, index, title: None,
) -> None:
    """Draw lines of pictures below each other, with a legend at the foot.

    Args:
        path: The PNG to write.
        rows: From the top down; all have pictures of the same titles.
        patches: Of the legend.
        cells: See `CELLS`.
        void: The colour that is hatched in all pictures but the first.
        mark: Draws more into the picture of a line by its number and title.
    """
    (cell, gap), head = cells, 0.38
    sizes = [size_of(next(iter(row.pictures.values())), cell) for row in rows]
    foot = 0.2 + 0.26 * math.ceil(len(patches) / PER_LINE)
    width = LEFT + len(rows[0].pictures) * (cell + gap)
    height = head + sum(tall for tall, _ in sizes) + gap * len(rows) + foot
    with figures.drawing(path, width, height, tight=False) as figure:
        top = height - head
        for index, (row, (tall, wide)) in enumerate(zip(rows, sizes, strict=True)):
            for column, (title, picture) in enumerate(row.pictures.items()):
                x = LEFT + column * (cell + gap) + (cell - wide) / 2
                ax = figure.add_axes(
                    (x / width, (top - tall) / height, wide / width, tall / height)
                )
                seen = fit(picture, wide, tall, smooth=column == 0)
                if column and void is not None:
                    seen = colour.hatch(seen, void)
                ax.imshow(seen, aspect="auto")
                ax.set_axis_off()
                if index == 0:
                    ax.set_title(title, loc="center", pad=6)
                mark(ax, index, title)
            write_title(figure, row, x=(LEFT - 0.15) / width, y=(top - tall / 2) / height)
            top -= tall + gap
        _draw_legend(figure, patches, centre=(LEFT + width) / 2)


def _draw_signals(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    palette: Sequence[colour.Colour],
    patches: Sequence[Patch],
) -> None:
    """Draw each row as a line over the colours of its truth, and truth and the rest as strips."""
    width, tall, strip, apart = 12.5, 1.5, 0.66, 0.3
    foot = 0.3 + 0.26 * math.ceil(len(patches) / PER_LINE)
    each, margin, void = tall + strip + apart, 0.9, colour.spare(palette)
    height = 0.15 + each * len(rows) + foot
    with figures.drawing(path, width, height, tight=False) as figure:
        top, left = height - 0.15, LEFT + margin
        wide = (width - left - 0.15) / width
        for row in rows:
            place = (left / width, (top - tall) / height, wide, tall / height)
            ax = figure.add_axes(place)
            lines.draw_signal(ax, row["image"], row["label"], palette, ink=figures.INK)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            strips = panels(row, palette, void=void)
            del strips["image"]
            seen = fit(np.stack(list(strips.values())), wide * width, strip, smooth=False)
            place = (left / width, (top - tall - strip - 0.04) / height, wide, strip / height)
            lines.draw_strips(
                figure.add_axes(place),
                list(strips),
                colour.hatch(seen, void),
                samples=len(row["label"]),
            )
            line = Line(row["title"], row.get("name", ""), score_of(row), {})
            write_title(figure, line, x=(LEFT - 0.15) / width, y=(top - tall / 2) / height)
            top -= each
        _draw_legend(figure, patches, centre=left + wide * width / 2)


def _write_places(ax: Axes, label: Integer[np.ndarray, "d h w"]) -> None:
    """Write into the empty corner of a volume's sections where they are."""
    depth, _, width = label.shape
    names = zip(("depth", "height", "width"), planes.busiest(label), strict=True)
    ax.text(
        1 - 0.9 * depth / (width + planes.GAP + depth),
        0.02,
        "\n".join(f"{name} {place}" for name, place in names),
        transform=ax.transAxes,
        va="bottom",
        color=figures.GREY,
        fontsize=9,
    )


def _draw_legend(figure: Figure, patches: Sequence[Patch], *, centre: float) -> None:
    """Draw the colours' names at the foot, around `centre` inches from the left."""
    figure.legend(
        handles=patches,
        loc="lower center",
        bbox_to_anchor=(centre / figure.get_figwidth(), 0.04 / figure.get_figheight()),
        ncols=min(PER_LINE, len(patches)),
        fontsize=10,
        handlelength=1.1,
        handleheight=1.1,
        columnspacing=1.4,
    )


def write_title(figure: Figure, row: Line, *, x: float, y: float) -> None:
    """Write a line's title, the end of its name and its score, right-aligned at x, centred on y."""
    name = row.name
    texts = [
        (row.title, {"fontweight": "bold"}),
        (f"…{name[-14:]}" if len(name) > 15 else name, {"color": figures.GREY, "fontsize": 9}),
        (row.score, {}),
    ]
    if not name:
        del texts[1]
    for index, (text, style) in enumerate(texts):
        height = y + ((len(texts) - 1) / 2 - index) * 0.21 / figure.get_figheight()
        figure.text(x, height, text, ha="right", va="center", **style)


def panels(
    row: Row, palette: Sequence[colour.Colour], *, void: colour.Colour
) -> dict[str, UInt8[np.ndarray, "..."]]:
    """Return the four pictures of a row by their titles; of a signal, its samples' colours.

    Raises:
        DataError: Image, label and prediction differ in size.
    """
    label, pred = row["label"], row["pred"]
    space = row["image"].shape[: label.ndim]
    if space != label.shape:  # a padded picture would show what nobody predicted
        raise DataError(
            f"Example: image of {space} pixels, label map of {label.shape}; expected one size. "
            "Give both at the image's own."
        )
    shown = {
        "image": colour.displayable(row["image"], axes=label.ndim),
        "truth": colour.colourise(label, palette, void=void),
        "prediction": colour.colourise(pred, palette, void=void),
        "error": colour.error_map(pred, label, void=void),
    }
    if label.ndim == 3:
        at = planes.busiest(label)
        shown = {title: planes.sections(volume, at) for title, volume in shown.items()}
    return shown


def legend_patches(
    labels: Sequence[Integer[np.ndarray, "..."]],
    palette: Sequence[colour.Colour],
    class_names: Sequence[str],
    legend: Mapping[str, colour.Colour] | None = None,
) -> list[Patch]:
    """Return a patch for each class that occurs in the label maps, and for void if it does.

    With `legend` those of its names stand for the classes.
    """
    seen = {int(k) for label in labels for k in np.unique(label)}
    if legend is None:
        legend = {class_names[k]: palette[k] for k in sorted(seen - {colour.VOID_LABEL})}
    found = [patch(figures.shorten(name), shade) for name, shade in legend.items()]
    void = Patch(**lines.hatching(), linewidth=0.5, label="void")
    return found + [void] * (colour.VOID_LABEL in seen)


def patch(name: str, shade: colour.Colour) -> Patch:
    """Return a patch of one colour for a legend."""
    return Patch(facecolor=colour.code(shade), edgecolor=figures.GREY, linewidth=0.5, label=name)


def fit(picture: np.ndarray, width: float, height: float, *, smooth: bool) -> np.ndarray:
    """Return a picture at the pixels of a cell given in inches; only photographs are smoothed."""
    method = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    size = round(width * figures.DPI), round(height * figures.DPI)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, method))

"""Draw what a run is judged by: learning curves, IoU per class, confusion matrix.

Every function writes one PNG (150 dpi, under its final name only when whole) and touches no global
matplotlib state beyond its own drawing, so it is safe inside a training run without a display.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from segjax.views import colour

DPI = 150
INK, GREY, FAINT = "#22272e", "#6b7480", "#d9dde2"
BLUE, ORANGE = "#2f6db5", "#e07b00"
SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": "#2b8a5a"}
SPARE_COLOURS = ("#955073", "#2fb3cf", "#c18b9d", "#93a36b")
"""Of other splits. With those above they are told apart with any colour vision."""
SPLIT_MARKS = {"train": "o", "val": "s", "test": "^"}
SPARE_MARKS = ("D", "v", "P", "X")
TALLEST = 2.0
"""An evaluation's loss is drawn up to so many times the largest of training; the legend says what
is above it, as in the first steps of a network with batch norms."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "US$ note"
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
}


@contextlib.contextmanager
def drawing(
    path: str | os.PathLike[str], width: float, height: float, *, tight: bool = True
) -> Iterator[Figure]:
    """Yield an empty figure of this size in inches and save it as `path` at the end."""
    with mpl.rc_context(STYLE):
        figure = Figure((width, height), dpi=DPI)
        if tight:
            figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
        canvas = FigureCanvasAgg(figure)
        yield figure
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    colour.save_png(path, picture, dpi=DPI)


def learning_curves(
    path: str | os.PathLike[str],
    records: Sequence[Mapping[str, Any]],
    *,
    metric: str = "miou",
    title: str = "Mean IoU",
    gap: tuple[str, str] = ("", ""),
) -> None:
    """Draw training and validation loss on one plot, a score of every split and the learning rate.

    Args:
        path: The PNG to write.
        records: Lines of `metrics.jsonl`; any key may be missing, a value of None is left out.
        metric: The score, 0 to 1 and best at 1: what follows the split in its name. Empty: none.
        title: What the score is called in prose.
        gap: The evaluation on the training split and the one that it is compared with: the gap
            between their scores is shaded. Empty: there are no two.
    """
    rate = series(records, "train/lr")[1].size > 0
    names = [*dict.fromkeys([*splits(records, "loss"), *splits(records, metric)])]
    with drawing(path, 13.5 if rate else 10.5, 4.2) as figure:
        axes = figure.subplots(1, 2 + rate, width_ratios=[4, 4, 2.8][: 2 + rate], sharex=True)
        draw_losses(axes[0], records, names)
        draw_scores(axes[1], records, names, metric=metric, title=title)
        draw_gap(axes[1], records, metric=metric, names=gap)
        if rate:
            draw_rate(axes[2], records)
        for ax in axes:
            ax.set_xlabel("step")
            ax.grid(axis="y")
            ax.set_xlim(0, 1.03 * max((record["step"] for record in records), default=0) or 1)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))


def draw_losses(ax: Axes, records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Draw `train/loss` smoothed over its raw values, and the loss of every other split.

    Each of `names` has the same colour in every plot.
    """
    ax.set_title("Loss")
    found = {split: series(records, f"{split}/loss") for split in splits(records, "loss")}
    if not found:
        note(ax, "no loss logged yet")
        return
    tops = {}
    for split, (_, loss) in found.items():
        # A few points far above the rest would squash the part that matters.
        usual = float(np.percentile(loss, 97))
        tops[split] = usual if loss.max() > 3 * usual else float(loss.max())
    top = 1.1 * min(max(tops.values()), TALLEST * tops.get("train", math.inf)) or 1.0
    for split, (step, loss) in found.items():
        shade, mark = split_look(split, names.index(split))
        if split == "train" and loss.size > 20:
            ax.plot(step, loss, color=shade, alpha=0.25, linewidth=1)
            ax.plot(step, smooth(loss), color=shade, label="train (smoothed)")
            continue
        most = int(loss.argmax())
        above = f", {loss[most]:.3g} at {step[most]:,}" if loss[most] > top else ""
        plot_points(ax, step, loss, shade, split + above, mark=mark)
    ax.set_ylim(0, top)
    ax.legend(loc="best")


def draw_scores(
    ax: Axes,
    records: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    metric: str,
    title: str,
) -> None:
    """Draw every `<split>/<metric>` on one scale from 0, with its best value named.

    Each of `names` has the same colour in every plot.
    """
    ax.set_title(title)
    top, shown = 0.0, splits(records, metric)
    for split in shown:
        step, score = series(records, f"{split}/{metric}")
        best = int(score.argmax())
        top = max(top, float(score[best]))
        shade, mark = split_look(split, names.index(split))
        said = f"{split}, best {score[best]:.3f} at {step[best]:,}"
        plot_points(ax, step, score, shade, said, mark=mark)
        ax.plot(step[best], score[best], mark, color=shade, markersize=9, clip_on=False)
    if shown:
        ax.set_ylim(0, min(1.0, max(0.1, top * 1.15)))
        ax.legend(loc="best")
    else:
        note(ax, "no validation yet")


def draw_gap(
    ax: Axes, records: Sequence[Mapping[str, Any]], *, metric: str, names: tuple[str, str]
) -> None:
    """Shade by how much one score lies above another, and say it at the last step of both."""
    seen, other = (dict(zip(*series(records, f"{name}/{metric}"), strict=True)) for name in names)
    steps = sorted(seen.keys() & other.keys())
    if not steps:
        return
    high, low = ([float(each[step]) for step in steps] for each in (seen, other))
    text = f"gap {high[-1] - low[-1]:+.3f} at {steps[-1]:,}"
    if len(steps) > 1:
        ax.fill_between(steps, low, high, color=GREY, alpha=0.18, linewidth=0, label=text)
    else:
        ax.plot([steps[0]] * 2, [low[0], high[0]], color=GREY, alpha=0.4, linewidth=6, label=text)
    ax.legend(loc="best")


def draw_rate(ax: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw the learning rate."""
    step, rate = series(records, "train/lr")
    ax.set_title("Learning rate")
    plot_points(ax, step, rate, GREY, "")
    ax.set_ylim(0, rate.max() * 1.1 or 1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))


def plot_points(
    ax: Axes, step: np.ndarray, value: np.ndarray, shade: str, name: str, *, mark: str = "o"
) -> None:
    """Draw a line, with its points marked while they are few."""
    ax.plot(
        step, value, color=shade, label=name, marker=mark if step.size <= 40 else "", markersize=4
    )


def class_iou(path: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
    """Draw the IoU of each class as bars, see `class_bars`.

    Args:
        path: The PNG to write.
        result: What `eval/<split>.json` holds.
    """
    class_bars(
        path, result, score="iou", mean=result["miou"], title="IoU", unit="intersection over union"
    )


def class_bars(
    path: str | os.PathLike[str],
    result: Mapping[str, Any],
    *,
    score: str,
    mean: float | None,
    title: str,
    unit: str,
) -> None:
    """Draw a score of each class as bars, best first, with the mean; absent classes last, in grey.

    Args:
        path: The PNG to write.
        result: What `eval/<split>.json` holds.
        score: Its key in `per_class`, from 0 to 1.
        mean: Over classes.
        title: What it is called.
        unit: What it is, below the axis.
    """
    scores = {name: c[score] for name, c in result["per_class"].items() if is_number(c[score])}
    absent = [name for name in result["per_class"] if name not in scores]
    names = sorted(scores, key=lambda name: -scores[name]) + absent
    row = min(0.34, 24 / len(names))
    size = min(11, row * 32)
    with drawing(path, 8.0, 1.5 + row * len(names)) as figure:
        ax = figure.subplots()
        ax.barh(range(len(scores)), sorted(scores.values(), reverse=True), height=0.7, color=BLUE)
        if mean is not None and is_number(mean):
            ax.axvline(mean, color=ORANGE, linewidth=1.5, linestyle=(0, (4, 3)))
        for y, name in enumerate(names):
            value = scores.get(name)
            ax.text(
                (value or 0) + 0.012,
                y,
                "absent" if value is None else f"{value:.2f}",
                va="center",
                fontsize=size,
                color=GREY if value is None else INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
        ax.set_yticks(range(len(names)), [shorten(name) for name in names], fontsize=size)
        for tick in ax.get_yticklabels()[len(scores) :]:
            tick.set_color(GREY)
        ax.set(xlim=(0, 1.08), ylim=(len(names) - 0.4, -0.6), xlabel=unit)
        ax.set_xticks(np.linspace(0, 1, 6))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
        set_titles(ax, f"{title} per class, mean {three(mean)}", result)


def confusion_matrix(path: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
    """Draw where the pixels of each true class went, in percent of the row.

    Args:
        path: The PNG to write.
        result: What `eval/<split>.json` holds. A class without pixels leaves its row grey.
    """
    percent = row_percent(np.asarray(result["confusion_matrix"]))
    k = len(percent)
    names = [shorten(name) for name in result["per_class"]]
    side = min(max(0.5 * k, 4.6), 12)
    shown = range(0, k, math.ceil(k / 50))  # names that would not be legible are left out
    with drawing(path, side + 2.8, side + 1.9) as figure:
        ax = figure.subplots()
        ax.set_facecolor(FAINT)
        image = ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        size = min(11, side / len(shown) * 28)
        ticks = [names[i] for i in shown]
        ax.set_xticks(shown, ticks, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        ax.set_yticks(shown, ticks, fontsize=size)
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        if k <= 20:
            write_cells(ax, percent)
        bar = figure.colorbar(image, ax=ax, shrink=0.6, aspect=25, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("% of the true class")
        set_titles(ax, f"Pixel accuracy {three(result['pixel_accuracy'])}", result)


def reliability(path: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
    """Draw how often pixels are right over how sure the network is of them, and how many there are.

    Args:
        path: The PNG to write.
        result: What the metric `ece` says: `value`, and `bins` with `pixels`, `confidence` and
            `accuracy`.
    """
    bins = result["bins"]
    width = 1 / len(bins)
    left = np.arange(len(bins)) * width
    filled = [i for i, each in enumerate(bins) if each["pixels"]]
    pixels = np.array([each["pixels"] for each in bins], np.float64)
    with drawing(path, 5.6, 6.2) as figure:
        top, bottom = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        right = [bins[i]["accuracy"] for i in filled]
        top.bar(left[filled], right, width=width, align="edge", color=BLUE, edgecolor="white")
        top.plot([0, 1], [0, 1], color=GREY, linewidth=1.5, linestyle=(0, (4, 3)))
        top.plot([bins[i]["confidence"] for i in filled], right, "o", color=ORANGE, markersize=5)
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="pixels that are right")
        top.set_title(f"Calibration error {three(result['value'])}")
        bottom.bar(left, pixels / pixels.sum(), width=width, align="edge", color=GREY)
        bottom.set(xlabel="largest probability", ylabel="share of pixels")
        for ax in (top, bottom):
            ax.grid(axis="y")


def class_answers(path: str | os.PathLike[str], result: Mapping[str, Any]) -> None:
    """Draw of each class, judged by itself, which share was found, missed and wrongly found.

    Args:
        path: The PNG to write.
        result: What `eval/<split>.json` holds of multi-label maps, with `counts` [k 2 2].
    """
    counts = np.asarray(result["counts"], np.float64)
    parts = np.stack([counts[:, 1, 1], counts[:, 1, 0], counts[:, 0, 1]])  # of their union
    share = 100 * parts / np.maximum(parts.sum(axis=0), 1)
    names = [shorten(name) for name in result["per_class"]]
    row = min(0.34, 24 / len(names))
    with drawing(path, 8.0, 1.9 + row * len(names)) as figure:
        ax, left = figure.subplots(), np.zeros(len(names))
        for title, shade, part in zip(
            ("found", "missed", "wrongly found"), (BLUE, ORANGE, FAINT), share, strict=True
        ):
            ax.barh(range(len(names)), part, left=left, height=0.7, color=shade, label=title)
            left += part
        for y in np.flatnonzero(parts.sum(axis=0) == 0).tolist():
            ax.text(1, y, "absent", va="center", color=GREY, fontsize=min(11, row * 32))
        ax.set_yticks(range(len(names)), names, fontsize=min(11, row * 32))
        ax.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6))
        ax.set_xlabel("% of the pixels that are of the class, or said to be")
        ax.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=3)
        set_titles(ax, "Answers per class", result)


def write_cells(ax: Axes, percent: Float[np.ndarray, "k k"]) -> None:
    """Write each cell's whole percent into it, leaving out those that round to 0."""
    for (i, j), value in np.ndenumerate(percent):
        if value >= 0.5:
            shade = "white" if value > 55 else INK
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=shade, fontsize=10)


def row_percent(confusion: Num[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Return a confusion matrix as percent of each row; NaN in rows without pixels."""
    total = confusion.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.divide(
        100.0 * confusion, total, out=np.full(confusion.shape, np.nan), where=total > 0
    )


def series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and values of one logged quantity, in order of step."""
    points = {r["step"]: r[name] for r in records if r.get(name) is not None}
    steps = sorted(points)
    return np.array(steps, np.int64), np.array([points[step] for step in steps], np.float64)


def splits(records: Sequence[Mapping[str, Any]], quantity: str) -> list[str]:
    """Return the splits that logged `<split>/<quantity>`, `train` first, then as they came.

    What is logged without a split, such as `step`, is nobody's.
    """
    names = {key: None for r in records for key, value in r.items() if value is not None}
    parted = (key.partition("/") for key in names)
    found = [group for group, slash, name in parted if slash and name == quantity]
    return sorted(found, key=lambda split: split != "train")


def split_look(split: str, index: int) -> tuple[str, str]:
    """Return the colour and the mark that a split has in every figure."""
    spare = index % len(SPARE_COLOURS)
    return (
        SPLIT_COLOURS.get(split, SPARE_COLOURS[spare]),
        SPLIT_MARKS.get(split, SPARE_MARKS[spare]),
    )


def smooth(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return a centred running mean over a thirtieth of the curve, shorter windows at its ends."""
    half = max(1, len(values) // 60)
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def shorten(name: str, *, width: int = 22) -> str:
    """Return a class name that fits beside a plot, by its head and its tail."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[: width - 1 - half]}…{name[-half:]}"


def set_titles(ax: Axes, title: str, result: Mapping[str, Any]) -> None:
    """Write the title on the left and what the result was measured on at the right."""
    measured = f"{result['num_examples']:,} images, step {result['step']:,}"
    ax.set_title(title)
    ax.set_title(measured, loc="right", color=GREY, fontweight="normal", fontsize=10)


def is_number(value: float | None) -> bool:
    """Return False for None and NaN, which stand for a quantity without any pixels."""
    return value is not None and math.isfinite(value)


def three(value: float | None) -> str:
    """Return a value to three decimals, or n/a."""
    return f"{value:.3f}" if is_number(value) else "n/a"


def note(ax: Axes, text: str) -> None:
    """Write into an empty plot why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY)

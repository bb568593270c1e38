"""Every figure is a whole PNG of a sensible size, whatever the run has or lacks."""

import pathlib
import subprocess
import sys
import threading

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage import color

from segjax.views import figures
from tests.views.png import near, read_png


def records(count, **extra):
    for i in range(1, count + 1):
        yield {"step": 10 * i, "train/loss": 2.0 / i, **extra}
        if i % 5 == 0:
            yield {"step": 10 * i, "val/loss": 2.5 / i, "val/miou": 0.5 * i / count}


def result(num_classes, *, absent=(), name="class {0}"):
    rng = np.random.default_rng(0)
    confusion = rng.integers(1, 50, (num_classes, num_classes)) + 500 * np.eye(
        num_classes, dtype=int
    )
    confusion[list(absent)], confusion[:, list(absent)] = 0, 0
    iou = [None if k in absent else float(rng.random()) for k in range(num_classes)]
    names = [name.format(k) for k in range(num_classes)]
    return {
        "miou": 0.5,
        "pixel_accuracy": 0.75,
        "per_class": {n: {"iou": x} for n, x in zip(names, iou, strict=True)},
        "absent_classes": [names[k] for k in absent],
        "confusion_matrix": confusion.tolist(),
        "num_examples": 101,
        "step": 6000,
    }


def test_curves_show_both_losses_in_their_colours(tmp_path):
    path = tmp_path / "curves.png"
    figures.learning_curves(path, list(records(60)))
    pixels = read_png(path)
    assert pixels.shape == (630, 1575, 3)
    left = pixels[:, : 1575 // 2]
    assert near(left, figures.BLUE) > 500 and near(left, figures.ORANGE) > 500
    assert near(pixels[:, 1575 // 2 :], figures.BLUE) == 0  # no train mIoU was logged


def test_the_gap_between_the_training_split_and_another_is_shaded(tmp_path):
    """And an evaluation has one colour in both plots."""
    lines = list(records(60))
    for line in [line for line in lines if "val/miou" in line]:
        score, loss = line["val/miou"] + 0.3, line["val/loss"] - 0.3
        lines.append({"step": line["step"], "trained/miou": score, "trained/loss": loss})
    paths = [tmp_path / "plain" / "x.png", tmp_path / "gap" / "x.png"]
    figures.learning_curves(paths[0], lines)
    figures.learning_curves(paths[1], lines, gap=("trained", "val"))
    plain, gap = (read_png(path)[:, 1575 // 2 :] for path in paths)
    shade = [1 - 0.18 * (1 - int(figures.GREY[i : i + 2], 16) / 255) for i in (1, 3, 5)]
    assert near(gap, shade) > near(plain, shade) + 10_000
    colours = [c for c in figures.SPARE_COLOURS if near(plain, c) > 300]
    left = read_png(paths[0])[:, : 1575 // 2]
    assert len(colours) == 1 and near(left, colours[0]) > 300
    figures.learning_curves(paths[1], lines[:60], gap=("trained", "val"))  # not scored yet


DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
"""Of linear RGB (Machado, Oliveira and Fernandes 2009), severity 1."""


@pytest.mark.parametrize("vision", DICHROMATS)
def test_splits_are_told_apart_with_any_colour_vision(vision):
    """By CIEDE2000 of what a dichromat sees; 2 can just be noticed."""
    colours = [*figures.SPLIT_COLOURS.values(), *figures.SPARE_COLOURS]
    rgb = np.array([[int(each[i : i + 2], 16) / 255 for i in (1, 3, 5)] for each in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DICHROMATS[vision]).T, 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = color.rgb2lab(encoded)
    apart = color.deltaE_ciede2000(lab[:, None], lab[None])
    assert apart[~np.eye(len(colours), dtype=bool)].min() > 9


def test_a_loss_far_above_that_of_training_is_said_and_does_not_squash_it():
    """As of the first evaluation of a network with batch norms: 67 beside 3."""
    lines = [{"step": step, "train/loss": 3.0, "val/loss": 67.0 / step**2} for step in range(1, 7)]
    ax = Figure().subplots()
    figures.draw_losses(ax, lines, ["train", "val"])
    assert ax.get_ylim() == (0, pytest.approx(1.1 * figures.TALLEST * 3))
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["train", "val, 67 at 1"]


def test_learning_rate_adds_a_panel(tmp_path):
    path = tmp_path / "curves.png"
    figures.learning_curves(path, list(records(60, **{"train/lr": 0.1})))
    assert read_png(path).shape == (630, 2025, 3)


@pytest.mark.parametrize(
    "logged",
    [
        [],
        [{"step": 0}],
        [{"step": 10, "train/loss": 2.0}],
        [{"step": 10, "val/miou": 0.0}],
        [{"step": 10, "train/loss": None, "train/lr": 0.0}],
        [{"step": 10, "train/loss": 0.0}, {"step": 20, "val_2/miou": 0.5, "x.y/loss": 1.0}],
    ],
)
def test_curves_of_a_run_that_has_just_begun(tmp_path, logged):
    path = tmp_path / "curves.png"
    figures.learning_curves(path, logged)
    read_png(path)


@pytest.mark.parametrize("quantity", ["", "step", "miou"])
def test_what_is_logged_without_a_split_is_no_splits(tmp_path, quantity):
    """`step` has no name behind a slash; a run without evaluators has no score, and draws too."""
    logged = [{"step": 10, "train/loss": 2.0, "miou": 0.5}]
    assert figures.splits(logged, quantity) == []
    figures.learning_curves(tmp_path / "curves.png", logged, metric=quantity, title="")
    read_png(tmp_path / "curves.png")


def test_smoothing_keeps_a_constant_and_the_mean_of_a_line():
    assert figures.smooth(np.full(100, 3.0)) == pytest.approx(np.full(100, 3.0))
    line = np.arange(300.0)
    assert figures.smooth(line)[5:-5] == pytest.approx(line[5:-5])


def test_a_quantity_is_drawn_in_order_of_steps_without_gaps():
    logged = [
        {"step": 3, "a/b": 3.0},
        {"step": 1, "a/b": 1.0},
        {"step": 2, "a/b": None},
        {"step": 4},
    ]
    step, value = figures.series(logged, "a/b")
    assert (step.tolist(), value.tolist()) == ([1, 3], [1.0, 3.0])


@pytest.mark.parametrize("num_classes", [2, 11, 30])
@pytest.mark.parametrize("draw", [figures.class_iou, figures.confusion_matrix])
def test_results_of_any_number_of_classes(tmp_path, draw, num_classes):
    path = tmp_path / "figure.png"
    draw(
        path,
        result(
            num_classes, absent=(1,) if num_classes > 2 else (), name=r"$\frac$ {0}" + " long" * 9
        ),
    )
    height, width, _ = read_png(path).shape
    assert 300 <= height <= 2400 and 800 <= width <= 2400


@pytest.mark.parametrize("draw", [figures.class_iou, figures.confusion_matrix])
def test_results_without_a_single_valid_pixel(tmp_path, draw):
    path = tmp_path / "figure.png"
    nothing = result(3, absent=(0, 1, 2)) | {"miou": None, "pixel_accuracy": float("nan")}
    draw(path, nothing)
    assert near(read_png(path), figures.BLUE) == 0


def test_bars_are_as_long_as_the_iou(tmp_path):
    path = tmp_path / "iou.png"
    two = result(2)
    two["per_class"] = {"low": {"iou": 0.25}, "high": {"iou": 0.75}}
    figures.class_iou(path, two)
    blue = np.abs(read_png(path).astype(int) - [0x2F, 0x6D, 0xB5]).max(-1) <= 6
    lengths = blue.sum(axis=1)
    first, last = lengths[np.flatnonzero(lengths)[[3, -3]]]  # best first
    assert first / last == pytest.approx(3, rel=0.05)


def test_rows_of_the_confusion_matrix_are_percent_of_the_truth():
    got = figures.row_percent(np.array([[3, 1], [0, 0]]))
    assert got[0].tolist() == [75.0, 25.0] and np.isnan(got[1]).all()


def test_long_names_keep_what_tells_them_apart():
    a, b = (figures.shorten(f"background of the {k}") for k in ("left half, 1", "left half, 2"))
    assert a != b and len(a) == len(b) == 22


def test_drawing_leaves_the_users_matplotlib_alone(tmp_path):
    before = dict(mpl.rcParams)
    thread = threading.Thread(target=figures.class_iou, args=(tmp_path / "a.png", result(3)))
    thread.start()
    thread.join()
    read_png(tmp_path / "a.png")
    assert dict(mpl.rcParams) == before


def test_what_people_look_at_needs_no_jax():
    code = (
        "import sys\nfrom segjax.runs import writer\n"
        "from segjax.views import colour, examples, figures, instances, object_figures, progress\n"
        "from segjax.views import segments\n"
        "sys.exit('jax' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    root = pathlib.Path(figures.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

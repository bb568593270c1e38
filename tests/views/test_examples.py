"""Examples beside their truth and prediction: pictures, volumes and signals, on one whole PNG."""

import numpy as np
import pytest
from PIL import Image

from segjax.data import synthetic
from segjax.errors import DataError
from segjax.views import colour, examples, planes
from tests.views.png import near, read_png


def example_row(size, channels, *, num_classes):
    rng = np.random.default_rng(1)
    label = np.sort(rng.integers(0, num_classes, size), axis=-1).astype(np.uint8)
    label[:5] = 255
    image = rng.integers(0, 256, (*size, channels)).astype(np.uint8)
    pred = np.roll(label, 7, -1)
    return examples.Row(title="best", name="f" * 40, image=image, label=label, pred=pred, miou=0.5)


def draw(path, sizes, channels, num_classes):
    palette = [(8 * k, 255 - 8 * k, 128) for k in range(num_classes)]
    names = [f"a rather long class name {k}" for k in range(num_classes)]
    rows = [example_row(size, channels, num_classes=num_classes) for size in sizes]
    examples.draw(path, rows, palette=palette, class_names=names)
    return read_png(path)


@pytest.mark.parametrize(("num_classes", "channels"), [(2, 1), (11, 3), (30, 5)])
@pytest.mark.parametrize(
    "sizes",
    [
        [(60, 80), (90, 40), (33, 200)],
        [(24, 30, 40), (50, 12, 20), (8, 64, 64)],
        [(200,), (1000,), (64,)],
    ],
    ids=["pictures", "volumes", "signals"],
)
def test_examples_of_any_size_and_channels(tmp_path, sizes, num_classes, channels):
    pixels = draw(tmp_path / "examples.png", sizes, channels, num_classes)
    assert 1600 <= pixels.shape[1] <= 2200 and 500 <= pixels.shape[0] <= 1800
    assert near(pixels, [c / 255 for c in colour.WRONG]) > 1000
    assert near(pixels, [c / 255 for c in colour.CORRECT]) > 1000


def test_examples_without_a_single_valid_image(tmp_path):
    examples.draw(tmp_path / "a.png", [], palette=[(0, 0, 0)], class_names=["a"])
    read_png(tmp_path / "a.png")


def test_the_legend_names_the_classes_that_occur_and_no_other():
    row = example_row((40, 50), 3, num_classes=2)
    row["label"][:] = 2
    row["pred"][:] = 0
    palette, names = [(0, 0, 9), (0, 9, 0), (9, 0, 0)], ["a", "b", "c"]
    patches = examples.legend_patches([row["label"], row["pred"]], palette, names)
    assert [patch.get_label() for patch in patches] == ["a", "c"]
    row["label"][0] = 255
    patches = examples.legend_patches([row["label"]], palette, names)
    assert [patch.get_label() for patch in patches] == ["c", "void"]


def test_the_panels_of_a_volume_are_sections_through_one_voxel():
    row = example_row((9, 10, 11), 1, num_classes=3)
    row["label"][:] = 0
    row["label"][6:8, 2:5, 7] = 2
    shown = examples.panels(row, [(1, 1, 1), (2, 2, 2), (3, 3, 3)])
    at = planes.busiest(row["label"])
    assert at[0] in (6, 7) and at[1] in (2, 3, 4) and at[2] == 7
    assert {picture.shape for picture in shown.values()} == {(10 + 2 + 9, 11 + 2 + 9, 3)}
    image = row["image"][..., 0]
    np.testing.assert_array_equal(shown["image"][:10, :11, 0], image[at[0]])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_an_overlay_shows_every_class_of_any_dimension(tmp_path, dims):
    source = synthetic.Source(split="val", dims=dims)
    example = source[0]
    path = tmp_path / "overlay.png"
    examples.overlay(
        path, example["image"], example["label"],
        palette=source.palette, class_names=source.class_names,
    )  # fmt: skip
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    if dims == 2:
        expected = colour.overlay(example["image"], example["label"], source.palette)
        np.testing.assert_array_equal(pixels, expected)
    elif dims == 3:
        assert min(pixels.shape[:2]) >= examples.SMALLEST
        tinted = colour.overlay(example["image"], example["label"], source.palette)
        small = planes.sections(tinted, planes.busiest(example["label"]))
        factor = pixels.shape[0] // small.shape[0]
        np.testing.assert_array_equal(pixels[::factor, ::factor], small)
    else:
        for k in set(np.unique(example["label"])) - {255}:
            assert near(pixels, [c / 255 for c in source.palette[k]]) > 100  # its legend
    with pytest.raises(DataError, match="Overlay: image of"):
        examples.overlay(
            path, example["image"], example["label"][1:],
            palette=source.palette, class_names=source.class_names,
        )  # fmt: skip

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
    shown = examples.panels(row, [(1, 1, 1), (2, 2, 2), (3, 3, 3)], void=(0, 0, 0))
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


@pytest.mark.parametrize(
    "size", [(300,), (60, 80), (24, 30, 40)], ids=["signal", "picture", "volume"]
)
@pytest.mark.parametrize("classes", [1, 2, 8])
def test_void_is_told_from_every_class(tmp_path, size, classes):
    """Void is hatched, in the panels and in the legend, which no class is, black ones included.

    The rule for pictures, volumes and signals, of one class (black), of two (black, white) and of
    the VOC palette. The figure without void shows not a single pixel of the stripes' dark grey
    more than its text does.
    """
    palette = [(0, 0, 0), (255, 255, 255), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    palette = [*palette, (0, 128, 128), (128, 128, 128)][:classes]
    names = [str(k) for k in range(classes)]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 2, (*size, 1)).astype(np.uint8)
    pred = np.zeros(size, np.uint8)
    counts = []
    for void in (False, True):
        label = np.sort(rng.integers(0, classes, size), axis=-1).astype(np.uint8)
        label[..., : size[-1] // 4] = 255 if void else 0
        row = examples.Row(title="best", image=image, label=label, pred=pred, miou=0.5)
        path = tmp_path / f"{void}" / "a.png"
        examples.draw(path, [row], palette=palette, class_names=names)
        pixels = read_png(path)
        shades = [[c / 255 for c in shade] for shade in (colour.VOID_DARK, colour.VOID_LIGHT)]
        counts.append([near(pixels, shade, tolerance=1) for shade in shades])
        found = examples.legend_patches([label], palette, names)
        assert [bool(patch.get_hatch()) for patch in found][-1] == void
        assert not any(patch.get_hatch() for patch in found[:-1])
        shown = examples.panels(row, palette, void=colour.spare(palette))
        same = (shown["prediction"] == np.array(colour.spare(palette))).all(-1)
        assert not same.any()  # only the truth and the error know of void
    assert all(more > less + 2000 for less, more in zip(*counts, strict=True)), counts


@pytest.mark.parametrize(
    "size", [(300,), (60, 80), (24, 30, 40)], ids=["signal", "picture", "volume"]
)
@pytest.mark.parametrize("padded", ["image", "label", "pred"])
def test_padding_is_never_painted(tmp_path, size, padded):
    """Image, truth and prediction are of one size, the image's own: none brings a canvas."""
    row = example_row(size, 3, num_classes=2)
    wide = [(0, 0)] * len(size)
    wide[-1] = (0, 7)
    row[padded] = np.pad(row[padded], [*wide, (0, 0)] if padded == "image" else wide)
    with pytest.raises(DataError, match=r"of \(.*\).*label map of \("):
        examples.draw(tmp_path / "a.png", [row], palette=[(0, 0, 0)] * 2, class_names=["a", "b"])

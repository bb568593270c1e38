"""Colours at given pixels; class ids survive the palette PNG."""

import numpy as np
import pytest
from PIL import Image

from segjax import structs
from segjax.errors import DataError, UserError
from segjax.views import colour

PALETTE = ((10, 20, 30), (200, 100, 0), (0, 0, 255))
LABEL = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


def test_void_is_the_label_that_everything_else_ignores():
    assert colour.VOID_LABEL == structs.IGNORE_LABEL


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_each_class_has_its_colour_and_void_its_own(dtype):
    got = colour.colourise(LABEL.astype(dtype), PALETTE, void=(255, 0, 255))
    assert got.dtype == np.uint8 and got.shape == (2, 3, 3)
    assert got[0].tolist() == [[10, 20, 30], [200, 100, 0], [0, 0, 255]]
    assert got[1].tolist() == [[255, 0, 255], [200, 100, 0], [10, 20, 30]]


@pytest.mark.parametrize("bad", [3, 254, -1, 256])
def test_a_class_without_a_colour_is_an_error(bad):
    with pytest.raises(DataError, match=rf"got class {bad}, expected 0\.\.2"):
        colour.colourise(np.array([[0, bad]]), PALETTE)


@pytest.mark.parametrize("size", [0, 256])
def test_a_palette_that_cannot_be_is_an_error(size):
    with pytest.raises(DataError, match="1 to 255 colours"):
        colour.table([(0, 0, 0)] * size)


def test_overlay_mixes_and_leaves_void_alone():
    image = np.full((2, 3, 3), 100, np.uint8)
    got = colour.overlay(image, LABEL, PALETTE, alpha=0.25)
    assert got[0, 1].tolist() == [125, 100, 75]
    assert got[1, 0].tolist() == [100, 100, 100]
    assert (colour.overlay(image, LABEL, PALETTE, alpha=0.0) == image).all()


def test_overlay_of_another_size_is_an_error():
    with pytest.raises(DataError, match=r"\(4, 4\)"):
        colour.overlay(np.zeros((4, 4, 3), np.uint8), LABEL, PALETTE)


def test_error_map_tells_right_wrong_and_void_apart():
    pred = np.array([[0, 2, 2], [1, 1, 255]], np.uint8)
    got = colour.error_map(pred, LABEL, void=(1, 2, 3))
    right, wrong, void = list(colour.CORRECT), list(colour.WRONG), [1, 2, 3]
    assert got.dtype == np.uint8
    assert got.tolist() == [[right, wrong, right], [void, right, wrong]]


@pytest.mark.parametrize(("channels", "kept"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2])])
def test_uint8_images_keep_their_values(channels, kept):
    image = np.arange(2 * 2 * channels, dtype=np.uint8).reshape(2, 2, channels)
    assert (colour.displayable(image) == image[..., kept]).all()


def test_more_channels_show_the_first_three_and_none_is_grey():
    image = np.arange(2 * 2 * 5, dtype=np.uint8).reshape(2, 2, 5)
    assert (colour.displayable(image) == image[..., :3]).all()
    assert (colour.displayable(image[..., 0]) == image[..., :1]).all()


@pytest.mark.parametrize("scale", [1.0, 4000.0])
def test_other_types_are_stretched_whatever_their_range(scale):
    image = np.linspace(0, scale, 100 * 100).reshape(100, 100, 1).astype(np.float32)
    image[0, 0] = np.nan
    got = colour.displayable(image)
    assert got.dtype == np.uint8 and got.min() == 0 and got.max() == 255
    assert got[50, 0, 0] in (127, 128)


def test_a_constant_image_can_be_shown():
    assert colour.displayable(np.ones((2, 2, 3), np.float32)).shape == (2, 2, 3)


@pytest.mark.parametrize("num_classes", [2, 3, 16, 255])
def test_palette_png_reads_back_to_ids_and_shows_colours(tmp_path, num_classes):
    rng = np.random.default_rng(0)
    palette = [tuple(c) for c in rng.integers(0, 256, (num_classes, 3)).tolist()]
    label = rng.integers(0, num_classes, (13, 17)).astype(np.uint8)
    label[3, 4:9] = 255
    path = tmp_path / "label.png"
    colour.save_palette_png(path, label, palette, void=(1, 2, 3))
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "P")
        assert (np.asarray(picture) == label).all()
        shown = np.asarray(picture.convert("RGB"))
    assert (shown == colour.colourise(label, palette, void=(1, 2, 3))).all()
    assert path.read_bytes()[24] == 8  # bit depth, in the PNG's header
    assert [p.name for p in tmp_path.iterdir()] == ["label.png"]


def test_a_missing_folder_is_made_and_a_file_in_its_place_is_one_clear_line(tmp_path):
    colour.save_palette_png(tmp_path / "new" / "a.png", LABEL, PALETTE)
    with pytest.raises(UserError, match="Cannot write"):
        colour.save_palette_png(tmp_path / "new" / "a.png" / "b.png", LABEL, PALETTE)


@pytest.mark.parametrize(
    "palette",
    [
        [(0, 0, 0), (255, 255, 255)],
        [(0, 0, 0), (128, 0, 0), (128, 128, 128), colour.VOID_LIGHT],
        [(g, g, g) for g in range(1, 256)],
    ],
    ids=["two", "VOC", "all greys"],
)
def test_a_spare_colour_is_nobody_elses(palette):
    spare = colour.spare(palette)
    assert spare not in [*palette, colour.CORRECT, colour.WRONG, (255, 255, 255)]
    assert all(0 <= part <= 255 for part in spare)


def test_only_the_void_colour_is_hatched_in_stripes_of_two_greys():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[5:30, 10:50] = 7, 8, 9
    got = colour.hatch(picture, (7, 8, 9))
    assert got.dtype == np.uint8 and not got[:5].any() and not got[:, 50:].any()
    inside = got[5:30, 10:50].reshape(-1, 3).tolist()
    shares = [inside.count(list(shade)) / 1000 for shade in (colour.VOID_LIGHT, colour.VOID_DARK)]
    assert sum(shares) == 1 and shares[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e13])
def test_the_stretch_of_an_image_does_not_depend_on_its_unit(scale):
    """No floor in the division: an image in tiny units looks like the same in large ones."""
    image = np.linspace(0, 1, 64).reshape(8, 8, 1)
    np.testing.assert_array_equal(colour.displayable(scale * image), colour.displayable(image))
    assert not colour.displayable(np.full((4, 4, 1), scale)).any()

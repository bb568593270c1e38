"""Examples on their canvas: in any dimension and dtype, each field as its kind says."""

import numpy as np
import pytest
from PIL import Image

from segjax.data import core, fit
from segjax.errors import ConfigError, DataError
from segjax.structs import Field

SIZE = (32, 48)
SIZES = {1: (50,), 2: SIZE, 3: (12, 20, 16)}
INSTANCE = {"instance": Field("ids", dtype="uint16")}


def gradient(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 0 * x], -1).astype(np.uint8)


def example(image, label, **more):
    return {"image": image, "label": label, "name": "x.png", **more}


def fit_pair(image, label, **options):
    schema = core.semantic_schema(image.shape[-1])
    fitted = fit.fit_example(example(image, label), schema=schema, **options)
    assert fitted["name"] == "x.png"
    return fitted["image"], fitted["label"]


def test_image_of_canvas_size_is_not_copied():
    image, label = gradient(*SIZE), np.zeros(SIZE, np.uint8)
    for how in ("resize", "pad"):
        canvas, same = fit_pair(image, label, size=SIZE, fit=how)
        assert canvas is image and same is label


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(64, 64, (32, 32)), (16, 24, (32, 48)), (20, 60, (16, 48)), (500, 2, (32, 1))],
)
def test_resize_keeps_the_shape_and_touches_the_canvas(height, width, expected):
    label = (np.arange(width) * 3 // width).astype(np.uint8)[None].repeat(height, 0)
    canvas, (h, w) = fit.fit_image(gradient(height, width), size=SIZE, fit="resize", pad_value=9)
    fitted, labels = fit_pair(gradient(height, width), label, size=SIZE, fit="resize")
    assert (h, w) == expected and canvas.shape == (*SIZE, 3) and fitted.shape == (*SIZE, 3)
    assert (canvas[h:] == 9).all() and (canvas[:, w:] == 9).all()
    assert (labels[h:] == 255).all() and (labels[:, w:] == 255).all()
    assert set(np.unique(labels[:h, :w])) <= {0, 1, 2}
    if w > 1:  # the same smooth picture, only larger or smaller
        assert np.abs(canvas[:h, :w].astype(int) - gradient(h, w)).mean() < 6


@pytest.mark.parametrize("height, width", [(64, 70), (20, 60), (33, 40), (7, 500)])
def test_pictures_and_their_maps_are_resized_as_pillow_does(height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    label = rng.integers(0, 255, (height, width), np.uint8)
    schema = {**core.semantic_schema(3), **INSTANCE}
    fitted = fit.fit_example(
        example(image, label, instance=label.astype(np.uint16)),
        schema=schema, size=SIZE, fit="resize",
    )  # fmt: skip
    h, w = fit.scaled_size((height, width), size=SIZE, fit="resize", name="x")
    bilinear, nearest = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
    np.testing.assert_array_equal(
        fitted["image"][:h, :w], Image.fromarray(image).resize((w, h), bilinear)
    )
    for name in ("label", "instance"):
        np.testing.assert_array_equal(
            fitted[name][:h, :w], Image.fromarray(label).resize((w, h), nearest)
        )


@pytest.mark.parametrize("length, side", [(40, 17), (17, 40), (90, 90), (5, 1), (1, 5)])
def test_the_matrices_are_pillows_filter_along_one_axis(length, side):
    signal = np.random.default_rng(0).random((1, length), np.float32)
    resized = Image.fromarray(signal).resize((side, 1), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(signal @ fit.triangles(length, side).T, resized, atol=1e-6)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (4, np.uint8), (2, np.float32)])
def test_resize_treats_channels_alone(channels, dtype):
    image = np.zeros((64, 96, channels), dtype)
    image[..., -1] = 200  # an alpha channel would weigh the others
    image[..., 0] = 100 if channels > 1 else 200
    canvas, _ = fit.fit_image(image, size=SIZE, fit="resize")
    assert canvas.dtype == dtype and canvas.shape == (*SIZE, channels)
    assert (canvas == image[0, 0]).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_dimension_and_dtype_keeps_its_values(axes, dtype):
    """A ramp along each axis at twice the size: resized, it is the ramp at the canvas's size."""
    size = SIZES[axes]
    top = {"uint8": 255, "uint16": 65535, "int16": 30000, "float32": 1.0}[dtype]
    low = -top if dtype == "int16" else 0

    def ramps(size):
        places = [(np.arange(n) + 0.5) / n for n in size]
        unit = np.stack(np.meshgrid(*places, indexing="ij"), -1)
        return low + (top - low) * unit

    image = ramps([2 * side for side in size])
    image = (np.rint(image) if dtype != "float32" else image).astype(dtype)
    canvas, scaled = fit.fit_image(image, size=size, fit="resize")
    assert canvas.dtype == dtype and scaled == size
    inner = tuple(slice(1, -1) for _ in size)  # the ends are filtered over fewer pixels
    error = np.abs(canvas.astype(float) - ramps(size))[inner]
    assert error.max() <= (1.01 if dtype != "float32" else 1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_fields_move_together_and_are_padded_by_kind(axes):
    """A box of label 3 and instance 500, in an image that is as bright as the box."""
    size = SIZES[axes]
    whole = tuple(side * 2 for side in size[:-1]) + (size[-1],)
    label = np.zeros(whole, np.uint8)
    label[tuple(slice(side // 4, side // 2) for side in whole)] = 3
    schema = {**core.semantic_schema(1), **INSTANCE, "spacing": Field("value", (axes,), "float32")}
    given = example(
        (80 * label)[..., None], label,
        instance=(label > 0).astype(np.uint16) * 500, spacing=np.ones(axes, np.float32),
    )  # fmt: skip
    fitted = fit.fit_example(given, schema=schema, size=size, fit="resize", pad_value=7)
    assert fitted["spacing"] is given["spacing"]
    corner = fit.scaled_size(whole, size=size, fit="resize", name="x")
    inside = np.zeros(size, bool)
    inside[tuple(slice(side) for side in corner)] = True
    np.testing.assert_array_equal(fitted["instance"], (fitted["label"] == 3) * 500)
    assert (fitted["label"] == 3).any() and set(np.unique(fitted["label"][inside])) == {0, 3}
    assert (fitted["label"][~inside] == 255).all() and (fitted["image"][~inside] == 7).all()
    bright = fitted["image"][..., 0] > 200
    assert (fitted["label"][bright & inside] == 3).all() and (bright & inside).any()


def test_pad_never_scales():
    image = gradient(20, 48)
    canvas, (h, w) = fit.fit_image(image, size=SIZE, fit="pad")
    assert (h, w) == (20, 48) and (canvas[20:] == 124).all()
    np.testing.assert_array_equal(canvas[:20], image)
    with pytest.raises(DataError, match=r"x\.png: 33x48 .* 32x48.*fit='resize'"):
        fit.fit_image(gradient(33, 48), size=SIZE, fit="pad", name="x.png")


def test_other_dimensions_than_the_canvas_are_named():
    volume = np.zeros((8, 40, 40, 1), np.uint8)
    with pytest.raises(DataError, match=r"x\.png: 8x40x40 has 3 axes .* canvas 32x48 has 2"):
        fit_pair(volume, volume[..., 0], size=SIZE, fit="resize")
    with pytest.raises(DataError, match=r"the canvas 4x32x48 has 3\. Give config\.input\.size"):
        fit_pair(gradient(30, 30), np.zeros((30, 30), np.uint8), size=(4, *SIZE), fit="pad")
    with pytest.raises(DataError, match=r"label of shape \(30, 31\); expected \(30, 30\)"):
        fit_pair(gradient(30, 30), np.zeros((30, 31), np.uint8), size=SIZE, fit="pad")


@pytest.mark.parametrize("size", [(), (4, 4, 4, 4), (0, 8)])
def test_a_canvas_has_one_to_three_sides(size):
    with pytest.raises(ConfigError, match="expected the sides of a canvas"):
        fit.check_canvas(size)

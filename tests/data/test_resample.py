"""The rule: examples come to one spacing as others interpolate, each part as that of the whole.

Training, scoring and prediction see the same; scores and what is written are on the image's own
grid.
"""

import itertools

import numpy as np
import pytest
from PIL import Image

from configs import quickstart
from segjax.assemble import setup
from segjax.data import core, fit, pipeline, resample
from segjax.data.lazy import Lazy
from segjax.data.resample import Resampling
from segjax.errors import ConfigError, DataError
from segjax.inference.layout import Layout
from segjax.inference.pieces import Cut
from segjax.metrics import confusion
from segjax.structs import Field
from segjax.views import colour
from tests.data import test_windows
from tests.inference import test_network

SIZES = {1: (90,), 2: (60, 45), 3: (14, 17, 15)}
SCHEMA = {
    "image": Field("image", (2,), "int16"),
    "label": Field("classes"),
    "maps": Field("labels", (3,)),
    "instance": Field("ids", dtype="uint16"),
    "spacing": Field("value", (0,), "float32"),
}


def example(dims, *, spacing, lazily=None, dtype="int16"):
    random, size = np.random.default_rng(dims), SIZES[dims]
    arrays = {
        "image": random.integers(0, 250, (*size, 2)).astype(dtype),
        "label": random.choice([0, 1, 2, 255], size).astype(np.uint8),
        "maps": random.choice([0, 1, 255], (*size, 3)).astype(np.uint8),
        "instance": random.integers(0, 999, size).astype(np.uint16),
    }
    if lazily is not None:
        arrays = {name: watched(name, array, lazily) for name, array in arrays.items()}
    return {**arrays, "spacing": np.array(spacing, np.float32), "name": "x"}


def watched(name, array, regions):
    def read(region):
        regions.append((name, region))
        return array[region]

    return Lazy(array.shape, array.dtype, read, name=name)


@pytest.mark.parametrize("how", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(30, 45), (17, 90), (120, 31), (60, 45), (61, 44)])
def test_images_are_interpolated_as_pillow_does(how, size):
    """Antialiased where they shrink; of whole numbers Pillow would round after each axis."""
    method = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}[how]
    for dtype, tolerance in (("float32", 1e-3), ("uint8", 0.51)):
        image = example(2, spacing=(1, 1), dtype=dtype)["image"]
        field = Field("image", (2,), dtype)
        found = np.asarray(resample.lazily(image, field, size, Resampling(image=how), name="x"))
        assert found.dtype == dtype and found.shape == (*size, 2)
        for channel in range(2):
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel].astype(np.float32)))
            expected = np.asarray(plane.resize(size[::-1], method))
            expected = np.clip(expected, 0, 255) if dtype == "uint8" else expected
            assert np.abs(found[..., channel] - expected).max() < tolerance


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_linear_images_and_nearest_maps_are_those_of_fit(dims):
    given = example(dims, spacing=[1.0] * dims)
    size = tuple(side * 2 // 3 + axis * 7 for axis, side in enumerate(SIZES[dims]))
    made = {
        name: np.asarray(resample.lazily(given[name], field, size, Resampling(), name="x"))
        for name, field in SCHEMA.items()
        if field.is_spatial
    }
    close = np.abs(made["image"] - fit.resize_image(given["image"], size).astype(int))
    assert close.max() <= 1
    for name in ("label", "maps", "instance"):
        np.testing.assert_array_equal(made[name], fit.resize_map(given[name], size))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_labels_by_their_largest_share(dims):
    """Of each value, void too; none appears that was not there."""
    given = example(dims, spacing=[1.0] * dims)
    size = tuple(2 * side - 3 for side in SIZES[dims])
    for name in ("label", "maps"):
        array = given[name]
        how = Resampling(label="linear")
        found = np.asarray(resample.lazily(array, SCHEMA[name], size, how, name="x"))
        shares = []
        for value in (values := np.unique(array)):
            share = (array == value).astype(np.float64)
            for axis, (a, b) in enumerate(zip(array.shape, size, strict=False)):
                share = np.moveaxis(np.tensordot(fit.triangles(a, b), share, (1, axis)), 0, axis)
            shares.append(share)
        best = np.sort(shares, axis=0)
        clear = best[-1] - best[-2] > 1e-5
        np.testing.assert_array_equal(found[clear], values[np.argmax(shares, axis=0)][clear])
        assert clear.mean() > 0.9 and {*np.unique(found)} <= {*values}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("wanted", [0.6, 1.0, 2.3])
@pytest.mark.parametrize("how", [("linear", "nearest"), ("cubic", "linear")])
def test_a_part_is_that_of_the_whole_and_needs_little_of_the_file(dims, wanted, how):
    regions = []
    resampling = Resampling((wanted,) * dims, *how)
    spacing = [1.0 + axis / 2 for axis in range(dims)]
    whole = resample.resample(example(dims, spacing=spacing), SCHEMA, resampling)
    lazily = resample.resample(example(dims, spacing=spacing, lazily=regions), SCHEMA, resampling)
    size = whole["label"].shape
    assert size == tuple(
        max(1, round(side * own / wanted)) for side, own in zip(SIZES[dims], spacing, strict=True)
    )
    random = np.random.default_rng(0)
    for _ in range(5):
        low = [int(random.integers(side)) for side in size]
        part = tuple(slice(a, min(a + 6, side)) for a, side in zip(low, size, strict=True))
        for name in ("image", "label", "maps", "instance"):
            regions.clear()
            found, expected = lazily[name][part], np.asarray(whole[name])[part]
            if name == "image":
                assert np.abs(found - expected.astype(int)).max() <= 1
            else:
                np.testing.assert_array_equal(found, expected)
            ((_, read),) = regions
            for axis in range(dims):
                ratio = max(1, wanted / spacing[axis])
                assert read[axis].stop - read[axis].start <= (6 + 5) * ratio + 2
    extent = np.array(SIZES[dims]) * spacing
    np.testing.assert_allclose(whole["spacing"] * size, extent, rtol=1e-5)


def test_examples_at_the_spacing_stay_as_they_are():
    given = example(3, spacing=(2, 1, 1))
    found = resample.resample(given, SCHEMA, Resampling((2.0, 1.0, 1.0)))
    assert all(found[name] is given[name] for name in ("image", "label", "maps", "instance"))
    assert resample.resample(given, SCHEMA, resample.NONE) is given


WRONG = {
    "none": ((), "spacing .*of an image with 2 axes, expected as many numbers above 0"),
    "of other axes": ((1, 1, 1), "expected as many"),
    "zero": ((0, 1), "above 0"),
    "no number": ((np.nan, 1), "above 0"),
    "of another unit": ((1000, 1000), "would become 60000x45000 .* are both in one unit"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_spacing_that_is_none_is_one_line(kind):
    spacing, said = WRONG[kind]
    with pytest.raises(DataError, match=f"^x: .*{said}"):
        resample.resample(example(2, spacing=spacing), SCHEMA, Resampling((1.0, 1.0)))


class Spaced(test_windows.Numbered):
    """Examples whose spacing differs along the axes."""

    def __getitem__(self, index):
        found = super().__getitem__(index)
        steps = [1.0 + 0.5 * index, *[1.0] * (self.dims - 1)]
        return found | {"spacing": np.array(steps, np.float32)}


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("cache", [False, True])
def test_windows_are_parts_of_the_resampled_example(dims, cache):
    """And their places of classes are found there; processes change nothing."""
    source, resampling = Spaced(dims), Resampling((0.8,) * dims, "linear", "linear")
    draw = test_windows.cut(source, sampling=test_windows.THIRD, resampling=resampling, cache=cache)
    for number, position in itertools.product((1, 2), range(4)):
        window = draw(number, position)
        whole = resample.resample(source[number], source.schema, resampling)
        label = np.asarray(whole["label"])
        size = [min(a, b) for a, b in zip(label.shape, test_windows.SIZE[dims], strict=True)]
        inside = window["label"][tuple(map(slice, size))]
        every = np.lib.stride_tricks.sliding_window_view(label, size).reshape(-1, *size)
        assert any((part == inside).all() for part in every)
        np.testing.assert_array_equal(window["spacing"], whole["spacing"])
    if cache:
        assert source.reads[1] == 1 + 4
    given = {
        "window": test_windows.THIRD,
        "resampling": resampling,
        "size": test_windows.SIZE[dims],
    }
    whole = test_windows.take(2, Spaced(dims), **given)
    halves = [
        test_windows.take(2, Spaced(dims), process_index=p, process_count=2, **given)
        for p in range(2)
    ]
    for step, name in itertools.product(range(2), whole[0]):
        rows = np.concatenate([half[step][name] for half in halves])
        np.testing.assert_array_equal(rows, whole[step][name])


def test_examples_that_are_padded_or_scaled_are_resampled_first():
    source, resampling = Spaced(2, length=1), Resampling((0.5, 2.0))
    schema = core.choose_fields(source.schema)
    for how in ("pad", "resize"):
        batches = pipeline.train_batches(
            source, schema=schema, batch_size=1, size=(160, 160), fit=how, pad_value=-7,
            resampling=resampling, seed=0, cache=True,
        )  # fmt: skip
        image = next(batches)["image"][0]
        batches.close()
        covered = (image[..., 0] != -7).nonzero()
        sides = {"pad": (140, 45), "resize": (160, 51)}[how]  # of 70 x 90 pixels of 1 x 1
        assert tuple(axis.max() + 1 for axis in covered) == sides


def test_the_network_sees_the_spacing_and_answers_on_the_image_s_own_grid():
    """Scores are of the label's pixels: what is counted is what is predicted, compared with it."""
    predict, _ = test_network.network((32, 40), "pad", spacing=(1.0, 1.0))

    class Blocks:
        class_names, palette = tuple("abcdef"), colour.voc_palette(6)
        schema = test_network.SCHEMA | {"spacing": Field("value", (2,), "float32")}
        spacings = ((3.0, 0.5), (1.0, 1.0), (0.7, 2.0))

        def __len__(self):
            return 3

        def __getitem__(self, index):
            label = np.kron(np.arange(6).reshape(2, 3) % 2, np.ones((24, 20))).astype(np.uint8)
            image = np.repeat(label[..., None], 3, axis=-1)
            spacing = np.array(self.spacings[index], np.float32)
            return {"image": image, "label": label, "spacing": spacing, "name": str(index)}

    source, counts = Blocks(), {}
    for measured in predict.measure(source, batch_size=8, threads=1):
        counts |= measured.counts
    for index in range(3):
        given = source[index]
        found = predict(resample.with_spacing(given)["image"]).classes
        assert found.shape == given["label"].shape
        assert (found == given["label"]).mean() > 0.9
        expected = confusion.counts_of(found, given["label"], num_classes=6)
        np.testing.assert_array_equal(counts[index], expected)
    exact = predict(resample.spaced(source[1]["image"], (1, 1))).classes
    np.testing.assert_array_equal(exact, source[1]["label"])
    with pytest.raises(DataError, match=r"spacing \[\] of an image with 2 axes"):
        predict(source[0]["image"])


def test_pieces_are_of_the_image_as_training_sees_it():
    layout = Layout(fit.Canvas((48, 64), "pad", 5), spacing=(0.5, 0.8), image_resampling="cubic")
    given = example(2, spacing=(1.0, 1.2))
    schema = {name: SCHEMA[name] for name in ("image", "label")}
    cut = Cut(given, layout, schema)
    whole = resample.resample(given, SCHEMA, Resampling((0.5, 0.8), "cubic"))
    assert cut.plan.views[0].sides == whole["image"].shape[:2] == (120, 68)
    for piece in cut.plan.pieces:
        view = cut.plan.views[piece.view]
        starts = [axis.starts[at] for axis, at in zip(view.axes, piece.at, strict=True)]
        region = tuple(slice(a, a + side) for a, side in zip(starts, (48, 64), strict=True))
        expected = whole["image"][region].astype(int)
        assert np.abs(cut.fields(piece)["image"] - expected).max() <= 1
    assert layout.scale((60, 45), name="x", spacing=(1.0, 1.2)) == 2
    assert layout.may_scale


def test_data_without_a_spacing_and_another_number_of_axes_are_refused():
    config = quickstart.get_config("debug")
    config.input.spacing = (1.0, 1.0)
    with pytest.raises(ConfigError, match="the data set says no spacing of its images"):
        setup.make_setup(config)
    config.input.spacing = (1.0,)
    with pytest.raises(ConfigError, match="1 numbers, config.input.size has 2"):
        setup.make_setup(config)
    inputs = {"size": (32, 32), "spacing": (1, 2), "image_resampling": "cubic"}
    made = resample.make_resampling(inputs | {"label_resampling": "linear"}, SCHEMA)
    assert made == ((1.0, 2.0), "cubic", "linear")

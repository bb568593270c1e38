"""A network predicts images of any size; a function can stand in for one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data import fit
from segjax.errors import DataError
from segjax.inference import network as network_lib
from segjax.inference.layout import Layout
from segjax.inference.network import Forward, Network
from segjax.inference.predictor import FunctionPredictor
from segjax.models import unet
from segjax.runtime import sharding
from segjax.structs import Field, Outputs
from segjax.tasks import semantic

K = 6
SCHEMA = {"image": Field("image", (3,)), "label": Field("classes")}


class FirstChannel(nn.Module):
    """Logits that say the class in the first channel."""

    def __call__(self, image, *, train):
        return Outputs(10.0 * jax.nn.one_hot(image[..., 0].astype(jnp.int32), K))


def network(size, how, **options):
    losses = [dict(type="pixel:cross_entropy", weight=1.0)]
    task = semantic.Task(losses=losses, num_classes=K)
    forward = Forward(
        FirstChannel(), task, normalize=lambda x: x, mesh=sharding.make_mesh(), schema=SCHEMA,
        layout=Layout(fit.Canvas(size, how, 5), **options),
    )  # fmt: skip
    return Network(forward, {}), task


@pytest.mark.parametrize("size", [(32, 40), (20, 30), (97, 33)])
def test_a_padded_image_keeps_its_pixels(size):
    predict, _ = network((32, 40), "pad")
    image = np.random.default_rng(0).integers(0, 5, (*size, 3), np.uint8)
    found = predict(image)
    np.testing.assert_array_equal(found.classes, image[..., 0])
    assert found.classes.dtype == np.uint8
    probabilities = found.probabilities()
    assert probabilities.shape == (*size, K)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(-1), found.classes)


def test_a_resized_image_comes_back_at_its_own_size():
    predict, _ = network((32, 40), "resize")
    image = np.zeros((90, 60, 3), np.uint8)
    image[45:] = 3
    found = predict(image)
    assert found.classes.shape == (90, 60) and found.probabilities().shape == (90, 60, K)
    assert (found.classes[:42] == 0).all() and (found.classes[48:] == 3).all()


def test_another_number_of_axes_is_an_error():
    predict, _ = network((32, 40), "pad")
    with pytest.raises(DataError, match="3 axes in space, the canvas 32x40 has 2"):
        predict(np.zeros((4, 40, 40, 3), np.uint8))


class Many:
    """Images of many sizes with labels of their own, void among them."""

    class_names, palette, schema = tuple("abcdef"), ((0, 0, 0),) * K, SCHEMA
    sizes = ((32, 40), (50, 70), (20, 30), (97, 33), (33, 128), (8, 8), (64, 80))

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        label = random.integers(0, K, self.sizes[index]).astype(np.uint8)
        label[0] = 255
        image = random.integers(0, 255, (*self.sizes[index], 3), np.uint8)
        return {"image": image, "label": label, "name": str(index)}


class Others(Many):
    sizes = ((31, 41), (57, 71), (25, 33), (99, 31), (37, 130), (9, 7), (65, 83))


class Conv(nn.Module):
    """A convolution: what it says of a pixel depends on the pixels around."""

    compute_dtype: str = "float32"

    @nn.compact
    def __call__(self, image, *, train):
        logits = nn.Conv(K, (5, 5), dtype=self.compute_dtype)(image.astype(jnp.float32) / 100)
        return Outputs(logits.astype(jnp.float32))


def one_device():
    """Return a mesh of a single device, for which programs are compiled faster."""
    return jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1, 1), sharding.AXES)


def convolution(size, how, data, **options):
    """Return a convolution on eight devices, `data` of them for examples; 0: on a single one."""
    losses = [dict(type="pixel:cross_entropy", weight=1.0)]
    task = semantic.Task(losses=losses, num_classes=K)
    mesh = sharding.make_mesh(data=data, space=8 // data) if data else one_device()
    forward = Forward(
        Conv(), task, normalize=lambda x: x, mesh=mesh,
        schema=SCHEMA, layout=Layout(fit.Canvas(size, how, 5), **options),
    )  # fmt: skip
    return Network(forward, Conv().init(jax.random.key(0), jnp.zeros((1, 32, 40, 3)), train=False))


@pytest.mark.parametrize("how", ["resize", "pad"])
@pytest.mark.parametrize(("batch_size", "data"), [(1, 1), (3, 1), (8, 8)])
def test_what_is_predicted_is_what_is_scored(how, batch_size, data):
    """Counted with numpy on the class maps of each image, at its own size, void left out."""
    network, source = convolution((32, 40), how, data), Many()
    counts = {}
    for measured in network.measure(source, batch_size=batch_size, threads=2):
        assert not set(counts) & set(measured.counts)
        counts |= measured.counts
    assert list(counts) == list(range(len(source)))
    for number, found in counts.items():
        example = source[number]
        pred = network(example["image"]).classes
        valid = example["label"] != 255
        expected = np.zeros((K, K), int)
        np.add.at(expected, (example["label"][valid], pred[valid]), 1)
        np.testing.assert_array_equal(found, expected)
    assert len(np.unique(pred)) > 2
    programs = sizes_of_caches(network.forward)
    assert programs["compare"] <= data and programs["losses"] == 1
    assert programs["outputs"] == 1 + (data < batch_size)  # of a batch, and of one image
    list(network.measure(Others(), batch_size=batch_size, threads=2))
    assert sizes_of_caches(network.forward)["compare"] <= data
    assert sizes_of_caches(network.forward) | {"compare": 0} == programs | {"compare": 0}


def sizes_of_caches(forward):
    """Return how many programs each pass has been compiled to; on devices of its own each one."""
    names = ("outputs", "losses", "scores", "compare", "classes", "add")
    return {name: getattr(forward, name)._cache_size() for name in names}


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_images_of_any_type_are_measured(dtype):
    """A run that is opened knows the fields of its task, the source knows their types."""
    predict, _ = network((32, 40), "pad")

    class Typed(Many):
        schema = SCHEMA | {"image": Field("image", (3,), dtype)}

        def __getitem__(self, index):
            example = super().__getitem__(index)
            return example | {"image": (example["image"] % K).astype(dtype)}

    source = Typed()
    for measured in predict.measure(source, batch_size=8, threads=0):
        for number, counts in measured.counts.items():
            example = source[number]
            valid = example["label"] != 255
            expected = np.zeros((K, K), int)
            pred = example["image"][..., 0].astype(int)
            np.add.at(expected, (example["label"][valid], pred[valid]), 1)
            np.testing.assert_array_equal(counts, expected)


def test_a_function_is_measured_as_a_network_is():
    predict, _ = network((32, 40), "pad")
    stand_in = FunctionPredictor(lambda image: image[..., 0] % K, num_classes=K)

    class Source(Many):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return example | {"image": example["image"] % K}

    source = Source()
    one = {
        n: c for m in predict.measure(source, batch_size=8, threads=0) for n, c in m.counts.items()
    }
    for measured in stand_in.measure(source, batch_size=8, threads=0):
        assert not measured.loss
        for number, counts in measured.counts.items():
            np.testing.assert_array_equal(counts, one.pop(number))
    assert not one
    image = source[0]["image"]
    np.testing.assert_array_equal(stand_in(image).classes, image[..., 0])
    np.testing.assert_array_equal(stand_in(image).probabilities().argmax(-1), image[..., 0])


WAYS = {
    "overlap": ("pad", dict(overlap=0.5)),
    "gaussian": ("pad", dict(blend="gaussian", overlap=0.5)),
    "flat": ("pad", dict(blend="flat", place="stride")),
    "turned": ("pad", dict(flips=(0, 1))),
    "turned, whole": ("resize", dict(flips=(1,))),
    "scales": ("resize", dict(scales=(1.0, 0.5, 1.5), blend="gaussian")),
    "sides": ("pad", dict(short_side=48, long_side=90, blend="flat")),
    "all": ("pad", dict(short_side=40, blend="gaussian", flips=(1,), scales=(1.0, 1.25))),
}


SIZES = [(1, 0, 1), (3, 0, 5)]
"""Of batches, devices for examples, windows of an image at once."""


@pytest.mark.parametrize(
    ("way", "runs"),
    [
        pytest.param(way, SIZES + more, marks=[pytest.mark.slow] * bool(more))
        for more in ([], [(2, 1, 1), (8, 8, 16)])
        for way in (WAYS if more else ("gaussian", "sides"))
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_predicted_is_scored_however_windows_are_joined(way, runs):
    """The same integers for every size of batch, of windows at once, and number of devices."""
    how, options = WAYS[way]
    source, found = Many(), []
    for batch_size, data, windows in runs:
        network = convolution((32, 40), how, data, **options)
        network.batch_size = windows
        counts = {}
        for measured in network.measure(source, batch_size=batch_size, threads=1):
            counts |= measured.counts
        for number in (0, 1, 4):
            example = source[number]
            pred = network(example["image"]).classes
            valid = example["label"] != 255
            expected = np.zeros((K, K), int)
            np.add.at(expected, (example["label"][valid], pred[valid]), 1)
            np.testing.assert_array_equal(counts[number], expected)
        found.append(counts)
    for other in found[1:]:
        assert list(other) == list(found[0])
        for number, counts in found[0].items():
            np.testing.assert_array_equal(other[number], counts)


@pytest.mark.slow
def test_rows_that_do_not_divide_deep_in_a_network_are_counted_alike(float64):
    """40 rows on eight devices become 20, 10 and 5 on the way down: whatever XLA makes of those."""
    task = semantic.Task(losses=[dict(type="pixel:cross_entropy", weight=1.0)], num_classes=K)
    model = unet.Model(
        num_classes=K, widths=(4, 8, 8), convs_per_level=1, stem_stride=2,
        compute_dtype="float64", param_dtype="float64",
    )  # fmt: skip
    variables = model.init(jax.random.key(0), jnp.zeros((1, 40, 33, 3)), train=False)
    found = []
    for mesh in (one_device(), sharding.make_mesh(data=1, space=8)):
        forward = Forward(
            model, task, normalize=lambda x: x / 100.0, mesh=mesh, schema=SCHEMA,
            layout=Layout(fit.Canvas((40, 33), "pad", 5)),
        )  # fmt: skip
        parts = list(Network(forward, variables).measure(Many(), batch_size=2, threads=1))
        counts = {number: count for part in parts for number, count in part.counts.items()}
        found.append((counts, [part.loss for part in parts]))
    (one, loss), (other, other_loss) = found
    assert list(one) == list(other) == list(range(len(Many())))
    assert (sum(one.values()).sum(0) > 0).sum() > 1, "more than one class is predicted"
    for number, counts in one.items():
        np.testing.assert_array_equal(other[number], counts)
    assert jax.tree.leaves(loss)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-10), loss, other_loss)


class Deep(nn.Module):
    """Convolutions that see five pixels far, in any number of dimensions, as they are or summed."""

    @nn.compact
    def __call__(self, image, *, train):
        dims = image.ndim - 2
        x = nn.Conv(8, (5,) * dims)(image.astype(jnp.float32) / 100)
        return Outputs(nn.Conv(K, (7,) * dims)(nn.tanh(x)))


class Pixel(nn.Module):
    """Logits of a pixel that no other pixel changes."""

    @nn.compact
    def __call__(self, image, *, train):
        return Outputs(nn.tanh(nn.Dense(K)(image.astype(jnp.float32) / 100)))


def logits(model, image, size, **options):
    """Return an image's scores, joined from windows of a size."""
    task = semantic.Task(losses=[dict(type="pixel:cross_entropy", weight=1.0)], num_classes=K)
    forward = Forward(
        model, task, normalize=lambda x: x, mesh=one_device(),
        schema=SCHEMA, layout=Layout(fit.Canvas(size, "pad", 5), **options),
    )  # fmt: skip
    shape = (1, *(32,) * len(size), 3)
    network = Network(forward, model.init(jax.random.key(0), jnp.zeros(shape), train=False))
    return np.log(network(image).probabilities())


@pytest.mark.parametrize("size", [(90, 130), pytest.param((64, 40, 46), marks=pytest.mark.slow)])
def test_windows_give_the_logits_of_the_whole(size):
    """Where they overlap by more than the model sees: by default a pixel is its window's own."""
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    whole = logits(Deep(), image, size)
    windows = (40, 48) if len(size) == 2 else (32, 32, 32)
    tiled = logits(Deep(), image, windows, overlap=12 / 32)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.abs(logits(Deep(), image, windows, overlap=0.0) - whole).max() > 1e-3


@pytest.mark.parametrize(
    ("size", "blend", "overlap"),
    [
        ((90, 130), "gaussian", 0.5),
        *(
            pytest.param(size, blend, overlap, marks=pytest.mark.slow)
            for size in [(90, 130), (40, 52, 46), (200,)]
            for blend in ("flat", "gaussian")
            for overlap in (0.1, 0.75)
        ),
    ],
)
def test_weights_of_windows_add_up(size, blend, overlap):
    """And windows flipped for the network come back: a model of single pixels sees no window."""
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    whole = logits(Pixel(), image, size)
    options = dict(blend=blend, overlap=overlap, flips=(0,))
    tiled = logits(Pixel(), image, (32,) * len(size), **options)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_members_of_an_ensemble_are_averaged_in_scores():
    one = convolution((32, 40), "pad", 0)
    shape = jnp.zeros((1, 32, 40, 3))
    other = Conv().init(jax.random.key(7), shape, train=False)
    both = Network(one.forward, one.variables, [(one.forward, other)])
    image = Many()[3]["image"]
    scores = [
        np.log(Network(one.forward, variables)(image).probabilities())
        for variables in (one.variables, other)
    ]
    mean = np.exp(sum(scores) / 2)
    expected = mean / mean.sum(-1, keepdims=True)
    np.testing.assert_allclose(both(image).probabilities(), expected, atol=1e-5)
    np.testing.assert_array_equal(both(image).classes, expected.argmax(-1))
    for measured in both.measure(Many(), batch_size=8, threads=0):
        assert not measured.loss  # of a mean of scores none was trained


def test_counts_beyond_int32_stay_exact():
    """Between tiles they are added in int64, and halves of them travel between processes."""
    counting = network_lib.Counting(2, (1, 1))
    tiles = [(4, np.array([[2**31 - 1]], np.int32))] * 3
    assert counting.add([*tiles, (4, None)], {}).counts[4] == 3 * (2**31 - 1)
    found = {4: np.array([[2**40 + 12345]]), 5: np.array([[7]])}
    there = counting._of_all(found)
    assert there.keys() == found.keys()
    for number, total in found.items():
        np.testing.assert_array_equal(there[number], total)

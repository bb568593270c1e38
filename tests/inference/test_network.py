"""A network predicts images of any size; a function can stand in for one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data import fit
from segjax.errors import DataError
from segjax.inference.layout import Layout
from segjax.inference.network import Forward, Network
from segjax.inference.predictor import FunctionPredictor
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

    @nn.compact
    def __call__(self, image, *, train):
        return Outputs(nn.Conv(K, (5, 5))(image.astype(jnp.float32) / 100))


def convolution(size, how, data, **options):
    losses = [dict(type="pixel:cross_entropy", weight=1.0)]
    task = semantic.Task(losses=losses, num_classes=K)
    forward = Forward(
        Conv(), task, normalize=lambda x: x, mesh=sharding.make_mesh(data=data, space=8 // data),
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

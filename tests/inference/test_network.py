"""A network predicts images of any size; a function can stand in for one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data import fit
from segjax.errors import DataError
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


def network(size, how):
    losses = [dict(type="pixel:cross_entropy", weight=1.0)]
    task = semantic.Task(losses=losses, num_classes=K)
    forward = Forward(
        FirstChannel(), task, normalize=lambda x: x, mesh=sharding.make_mesh(), schema=SCHEMA,
        canvas=fit.Canvas(size, how, 5),
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


def test_a_function_is_measured_as_a_network_is():
    predict, task = network((32, 40), "pad")
    stand_in = FunctionPredictor(lambda image: image[..., 0], task=task, num_classes=K)
    random = np.random.default_rng(0)
    batch = {
        "image": random.integers(0, K, (8, 32, 40, 3), np.uint8),
        "label": random.integers(0, K, (8, 32, 40), np.int32),
        "mask": np.arange(8) < 7,
        "index": np.arange(8, dtype=np.int32),
    }
    placed = next(sharding.to_device(iter([batch]), sharding.make_mesh(), SCHEMA, depth=0))
    one, other = predict.measure(placed), stand_in.measure(placed)
    assert set(one) - set(other) == {"loss"}
    for name in ("pred", "counts", "mask"):
        np.testing.assert_array_equal(one[name], other[name])
    image = batch["image"][0]
    np.testing.assert_array_equal(stand_in(image).classes, image[..., 0])
    np.testing.assert_array_equal(stand_in(image).probabilities().argmax(-1), image[..., 0])

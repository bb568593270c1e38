"""SegNet keeps the contract; it pools and unpools as PyTorch does."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.layers import resample
from segjax.models import segnet
from tests import parity
from tests.encoders.contract import count
from tests.models import contract

TINY = flax.core.FrozenDict({"type": "vgg", "depth": 11, "width": 4, "norm": "group"})


def build(num_classes=5, **fields):
    section = {"type": "segnet", **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


class TestContract(contract.ModelContract):
    dims = (2,)
    idle = "stage./conv./conv/bias$"  # at this width each channel is a group, less its mean

    def model(self, **overrides):
        return build(encoder=TINY, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


def test_parameters_are_those_of_the_paper():
    # torchvision's VGG-16 with batch norm less its classifier, and by hand the same convolutions
    # the other way round (9 * in * out; scale and bias), the last one to 11 classes.
    encoder = 138_365_992 - 25_089 * 4096 - 4097 * 4096 - 4097 * 1000
    widths = [(512, 512)] * 5 + [(512, 256), (256, 256), (256, 256), (256, 128), (128, 128)]
    widths += [(128, 64), (64, 64)]
    decoder = sum(9 * a * b + 2 * b for a, b in widths) + 9 * 64 * 11 + 11
    assert count(build(11, encoder={"type": "vgg", "depth": 16})) == encoder + decoder
    assert round((encoder + decoder) / 1e6, 1) == 29.4


def test_features_return_to_where_their_maximum_was():
    x = jnp.asarray([[1.0, 2, 0, 0, 5], [3, 0, 0, 0, 4], [-3, -1, -2, -2, -9]])[None, ..., None]
    place = segnet.argmax_pool(x)
    np.testing.assert_array_equal(place[0, ..., 0], [[2, 0, 0], [1, 0, 0]])
    back = segnet.unpool(resample.max_pool(x), place, (3, 5))
    expected = [[0, 0, 0, 0, 5], [3, 0, 0, 0, 0], [0, -1, -2, 0, -9]]
    np.testing.assert_array_equal(back[0, ..., 0], expected)


def test_what_is_no_number_is_a_maximum():
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    for place in range(4):
        broken = x.copy()
        broken.ravel()[place:] = np.nan
        assert segnet.argmax_pool(jnp.asarray(broken)).item() == place


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_pooling_and_unpooling_are_pytorchs(size, float64):
    torch = pytest.importorskip("torch", reason=parity.REASON)
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 3, (2, *size, 4)).astype(float)  # many equal ones
    pooled = [-(-n // 2) for n in size]
    y, slope = rng.normal(size=(2, *pooled, 4)), rng.normal(size=(2, *size, 4))
    theirs, features = parity.to_torch(x), parity.to_torch(y).requires_grad_()
    _, index = torch.nn.functional.max_pool2d(theirs, 2, ceil_mode=True, return_indices=True)
    expected = torch.nn.functional.max_unpool2d(features, index, 2, output_size=size)
    (expected * parity.to_torch(slope)).sum().backward()

    def unpool(y):
        return segnet.unpool(y, segnet.argmax_pool(jnp.asarray(x)), size)

    back, pull = jax.vjp(unpool, jnp.asarray(y))
    parity.assert_close(back, expected, 0)
    parity.assert_close(pull(jnp.asarray(slope))[0], features.grad, 0)


def test_other_encoders_are_refused():
    with pytest.raises(ConfigError, match="resnet.*only 'vgg'"):
        count(build(encoder={"type": "resnet", "depth": 18, "width": 4}))

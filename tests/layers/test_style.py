"""What a style says is what its layers and blocks are made with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from segjax.errors import ConfigError
from segjax.layers import norm as norm_lib
from segjax.layers import style

GROUP = style.Style("group", "none", "bfloat16", "float64")


def test_layers_have_the_norm_and_the_dtypes():
    conv, separable = GROUP.conv(4), GROUP.separable_conv(4)
    assert conv.norm == separable.norm == "group" and GROUP.conv(4, norm="none").norm == "none"
    for layer in (conv, separable, GROUP.dense(4)):
        assert (layer.compute_dtype, layer.param_dtype) == ("bfloat16", "float64")
    norm = GROUP.normalization(train=True)
    assert isinstance(norm, norm_lib.GroupNorm) and not norm.per_pixel
    assert norm.param_dtype == "float64"
    layer_norm = style.Style("batch").layer_norm(epsilon=1e-3)
    assert isinstance(layer_norm, norm_lib.GroupNorm) and layer_norm.per_pixel


class Double(style.Block):
    """A block of one parameter."""

    times: int = 1

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (), self.param_dtype)
        return self.times * x.astype(self.compute_dtype) * scale.astype(self.compute_dtype)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_blocks_are_made_in_the_style(remat):
    block = style.Style("batch", remat, "bfloat16", "float32").block(Double)(times=3, name="two")
    y, variables = block.init_with_output(jax.random.key(0), jnp.ones(2))
    assert isinstance(block, Double) and (type(block) is Double) == (remat == "none")
    assert y.dtype == jnp.bfloat16 and (y == 3).all()
    assert variables["params"]["scale"].dtype == jnp.float32


def test_a_block_needs_a_style():
    with pytest.raises(TypeError, match="style"):
        Double()  # pyright: ignore


class Net(style.Network):
    """A network for images."""

    dims = (2,)
    norm: str = "layer"


def test_a_network_s_fields_are_its_style():
    net = Net(norm="group", remat="full", compute_dtype="bfloat16")
    assert net.style == style.Style("group", "full", "bfloat16", "float32")
    assert style.Network().style == style.Style("none")
    assert net.prepare(jnp.ones((1, 2, 2, 1))).dtype == jnp.bfloat16
    net.check_axes(jnp.ones((1, 4, 4, 3)))
    with pytest.raises(ConfigError, match="test_style: the image has 1 spatial axes, expected 2"):
        net.check_axes(jnp.ones((1, 4, 3)))

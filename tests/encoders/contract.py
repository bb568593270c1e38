"""What every encoder keeps: subclass `EncoderContract`."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest


class EncoderContract:
    """Tests for a subclass to inherit; models test gradients, dtypes and sharding of encoders."""

    def encoder(self, **overrides: Any) -> Any:
        """Return the encoder under test, small."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", [(32, 32), (64, 96), (65, 47)])
    @pytest.mark.parametrize("channels", [1, 3, 5])
    def test_features_lie_at_their_strides(self, size, channels):
        encoder = self.encoder()
        features, _ = shapes(encoder, (2, *size, channels))
        assert len(features) == len(encoder.strides)
        assert list(encoder.strides) == sorted(encoder.strides)
        for feature, stride in zip(features, encoder.strides, strict=True):
            assert feature.shape[:3] == (2, *(-(-n // stride) for n in size))

    @pytest.mark.parametrize("remat", ["none", "convs", "full"])
    def test_dtypes_and_remat_are_those_of_the_config(self, remat):
        fields = {"compute_dtype": "bfloat16", "param_dtype": "float32", "remat": remat}
        features, variables = shapes(self.encoder(**fields), (2, 32, 32, 3))
        assert {leaf.dtype.name for leaf in features} == {"bfloat16"}
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


def shapes(encoder: nn.Module, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the shapes of features and variables; computes nothing."""
    init = functools.partial(encoder.init_with_output, train=True)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    return jax.eval_shape(init, keys, jax.ShapeDtypeStruct(shape, jnp.float32))


def count(encoder: nn.Module, channels: int = 3) -> int:
    """Return the number of parameters."""
    _, variables = shapes(encoder, (1, 64, 64, channels))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

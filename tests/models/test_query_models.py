"""EoMT and Mask2Former keep what every model keeps: of `ModelContract` all that has no logits."""

import functools
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.costs import hlo
from segjax.errors import ConfigError
from segjax.pretrained import convert
from tests.models import contract

QUERIES = 6
TASK = {"type": "query_semantic", "queries": QUERIES, "num_points": 32}
EOMT = {
    "type": "eomt", "blocks": 2, "queries": QUERIES,
    "encoder": {"type": "vit", "width": 16, "heads": 2, "depth": 3, "grid": 4, "patch": 16},
}  # fmt: skip
MASK2FORMER = {
    "type": "mask2former", "feature_norm": "layer", "width": 32, "heads": 2, "pixel_layers": 1,
    "pixel_hidden": 16, "layers": 3, "hidden": 16, "points": 2, "queries": QUERIES,
    "encoder": {
        "type": "swin", "width": 8, "head_width": 4, "window": 3, "depths": (2, 1, 1, 1),
        "drop_path": 0.0,
    },
}  # fmt: skip
RESNET = {"type": "resnet", "depth": 18, "width": 4}
DINOV3 = {"type": "dinov3", "width": 16, "heads": 2, "depth": 3}
MODELS = {
    "eomt": EOMT,
    "eomt-dinov3": {**EOMT, "encoder": DINOV3},
    "mask2former": MASK2FORMER,
    "mask2former-resnet": {**MASK2FORMER, "encoder": RESNET, "feature_norm": "none"},
}
EARLIER = {"eomt": 2, "mask2former": 3}
"""Answers before the last in training."""
STRIDE = {"eomt": 16, "mask2former": 32}
"""Of the coarsest features, to whose multiples images are enlarged."""
IDLE = r"(key|input\d/conv|feature_norm\d)/bias$"
"""What changes nothing here: a group norm of 32 channels has them each by itself."""
SHARED = r"(head|encoder/norm|decoder/norm)/"
POSITIONS = {"eomt": 0, "mask2former": 84 * 32 + 12 * QUERIES * 32 + 32 * 9**2}
"""Of the pixels of three levels, of the queries in every attention, of Swin's heads' windows."""


def build(name, **fields):
    section = {**MODELS[name], **fields}
    section["encoder"] = flax.core.freeze(section["encoder"])
    return lookup.build("models", section, where="config.model", num_classes=5)


def shapes(model, size, *, train):
    """Return the shapes of outputs and variables for two images."""
    init = functools.partial(model.init_with_output, train=train)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    return jax.eval_shape(init, keys, jax.ShapeDtypeStruct((2, *size, 3), "float32"))


@functools.cache
def fill(model):
    """Return made-up variables, every one of them different from its initial value."""
    rng = np.random.default_rng(1)

    def value(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        spread = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.1
        return jnp.asarray(spread * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map_with_path(value, shapes(model, (64, 64), train=False)[1])


def gradient(model):
    """Return the parameters' gradient of a made-up loss of all answers, and new statistics."""
    variables, image = fill(model), contract.images(2, 3)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def of(params):
        def loss(params):
            held, keys = {**variables, "params": params}, {"dropout": jax.random.key(0)}
            outputs, updates = model.apply(
                held, image, train=True, mutable=["batch_stats"], rngs=keys
            )
            leaves = jax.tree.leaves((outputs.last, outputs.earlier))
            return sum(jnp.sin(x).mean() for x in leaves), updates.get("batch_stats", {})

        return jax.grad(loss, has_aux=True)(params)

    return of(variables["params"])


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_of_the_whole_image(name):
    """Masks of a quarter of the sides, the image being enlarged to whole multiples of a stride."""
    kind = MODELS[name]["type"]
    for train, size in ((True, (33, 47)), (False, (97, 64))):
        outputs, _ = shapes(build(name), size, train=train)
        assert outputs.size == size and len(outputs.earlier) == train * EARLIER[kind]
        sides = [-(-n // STRIDE[kind]) * STRIDE[kind] // 4 for n in size]
        for answers in (*outputs.earlier, outputs.last):
            assert answers.classes.shape == (2, QUERIES, 6)
            assert answers.masks.shape == (2, *sides, QUERIES)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("resnet")])
def test_dtypes_are_those_of_the_config(name):
    model = build(name, compute_dtype="bfloat16", param_dtype="float32", remat="full")
    outputs, variables = shapes(model, (32, 32), train=True)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(outputs)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


@pytest.mark.parametrize("name", MODELS)
def test_what_cannot_be_an_image_is_refused(name):
    with pytest.raises(ConfigError, match="64 x 31 pixels, expected at least 32"):
        shapes(build(name), (64, 31), train=False)
    with pytest.raises(ConfigError, match="has 3 spatial axes, expected 2"):
        shapes(build(name), (33, 34, 35), train=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_every_parameter(name, float64):
    """But keys' biases, which add the same to all scores, and those before a norm of each channel.

    And remat changes no gradient.
    """
    found, updates = gradient(build(name, **contract.DOUBLE))
    leaves = jax.tree.leaves_with_path(found)
    assert all(np.isfinite(x).all() for _, x in leaves)
    idle = {"/".join(str(key.key) for key in path) for path, x in leaves if np.abs(x).max() < 1e-12}
    assert not {path for path in idle if not re.search(IDLE, path)}
    again, _ = gradient(build(name, **contract.DOUBLE, remat="full"))
    same = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    jax.tree.map(same, found, again)
    before = fill(build(name, **contract.DOUBLE)).get("batch_stats", {})
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).all(), before, updates)))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_answers_do_not_depend_on_the_rest_of_the_batch(name, float64):
    model = build(name, **contract.DOUBLE)
    variables, image = fill(model), contract.images(3, 3)
    find = jax.jit(functools.partial(model.apply, train=False))
    together, alone = find(variables, image), find(variables, image[1:2])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[0], b[1], rtol=1e-9, atol=1e-12), alone, together
    )
    padded = find(variables, image.at[2].set(np.nan))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:2], b[:2]), padded, together)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_eight_devices_sum_gradients_and_gather_nothing(name):
    """Of the whole train step: gradients, statistics, weights of the loss, and whether matching
    goes on.

    Gradients of what all answers share are summed for each of them; those of positions before
    what they are made of is.
    """
    model, shape = build(name), (8, 64, 64, 3)
    _, variables = shapes(model, shape[1:3], train=True)
    found = contract.program(model, (8, 1, 1), shape, TASK)
    assert contract.kinds(found) == {"all-reduce"}
    sizes = {path: leaf.size for path, leaf in convert.leaves(variables)}
    numbers = sum(sizes.values())
    shared = sum(size for path, size in sizes.items() if re.search(SHARED, path))
    kind = MODELS[name]["type"]
    summed = hlo.bytes_by_kind(found)["all-reduce"] / 4
    most = numbers + EARLIER[kind] * shared + POSITIONS[kind]
    assert 0.95 * numbers <= summed <= most + 100

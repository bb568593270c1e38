"""The compiled step: same numbers on any mesh and split, no recompilation, nothing gathered."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.augment import compose
from segjax.config import lookup
from segjax.data import core
from segjax.runtime import sharding
from segjax.training import state, step

K = 3
SCHEMA = core.semantic_schema(3)


def parts(*, microbatches=1, ema_decay=0.0, norm="none"):
    model = lookup.build(
        "models",
        dict(type="unet", widths=(4, 8), norm=norm, compute_dtype="float64", param_dtype="float64"),
        where="model",
        num_classes=K,
    )
    losses = [dict(type="pixel:cross_entropy", weight=1.0), dict(type="region:dice", weight=0.5)]
    task = lookup.build("tasks", dict(type="semantic", losses=losses), where="t", num_classes=K)
    rate = optax.constant_schedule(0.1)
    tx = optax.sgd(rate, momentum=0.9)

    def normalize(image):
        return image.astype(jnp.float64) - 0.5

    augment = compose.make_augment([], SCHEMA)
    train_step = step.make_train_step(
        model, task, tx, rate,
        augment=augment, normalize=normalize, schema=SCHEMA,
        microbatches=microbatches, ema_decay=ema_decay,
    )  # fmt: skip
    start = state.init_state(
        jax.random.key(0), model=model, tx=tx, image_shape=(32, 32, 3), ema=ema_decay > 0
    )
    return train_step, start, model, task, normalize


def batch(seed, b=8):
    random = np.random.default_rng(seed)
    label = random.integers(0, K, (b, 32, 32)).astype(np.int32)
    label[0] = 255  # one device sees no valid pixel at all
    label[1:3, :16] = 255
    return dict(
        image=random.integers(0, 255, (b, 32, 32, 3), np.uint8),
        label=label,
        mask=np.ones(b, bool),
        index=np.arange(b, dtype=np.int32),
    )


def train(train_step, start, mesh=None, steps=3):
    key = jax.random.key(1)
    if mesh is None:
        compiled = jax.jit(train_step)
    else:
        place = sharding.infer(jax.eval_shape(lambda: start), mesh)
        start = jax.device_put(start, place)
        compiled = jax.jit(train_step, out_shardings=(place, sharding.replicated(mesh)))
    losses = []
    for i in range(steps):
        data = batch(i)
        if mesh is not None:
            data = next(sharding.to_device(iter([data]), mesh, SCHEMA, depth=0))
        start, scalars = compiled(start, data, key)
        losses.append(float(scalars["loss"]))
    return losses, jax.device_get(start)


def assert_same(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-9)
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(other[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(
    "sizes", [pytest.param(dict(data=8), marks=pytest.mark.slow), dict(data=2, fsdp=4)]
)
def test_any_mesh_trains_alike(float64, sizes):
    train_step, start, *_ = parts(norm="batch")
    assert_same(train(train_step, start), train(train_step, start, sharding.make_mesh(**sizes)))


def test_microbatches_do_not_change_the_gradient(float64):
    """Without batch norm, and with void unevenly dealt out, four quarters equal the whole."""
    whole, start, *_ = parts()
    quarters, *_ = parts(microbatches=4)
    assert_same(train(whole, start), train(quarters, start))


def test_loss_of_the_first_step_is_what_numpy_says(float64):
    train_step, start, model, _, normalize = parts()
    data = batch(0)
    _, scalars = jax.jit(train_step)(start, data, jax.random.key(1))
    image = jnp.asarray(data["image"]) / 255.0
    logits = model.apply({"params": start.params}, normalize(image), train=True).logits
    logits = np.asarray(logits, np.float64)
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    prob = exp / exp.sum(-1, keepdims=True)
    valid = data["label"] != 255
    picked = np.take_along_axis(prob, np.where(valid, data["label"], 0)[..., None], -1)[..., 0]
    expected = -np.log(picked)[valid].mean()
    np.testing.assert_allclose(float(scalars["loss_cross_entropy"]), expected, rtol=1e-6)


def test_ema_follows_and_is_what_evaluation_sees(float64):
    train_step, start, *_ = parts(ema_decay=0.5, norm="batch")
    _, end = train(train_step, start)
    kernel, average = (jax.tree.leaves(tree)[0] for tree in (end.params, end.variables()["params"]))
    first = jax.tree.leaves(start.params)[0]
    assert (np.sign(average - first) == np.sign(kernel - first)).mean() > 0.5
    assert np.abs(average - kernel).max() > 0
    assert end.variables()["batch_stats"]


def test_the_sharded_step_only_reduces(float64):
    train_step, start, *_ = parts(norm="batch")
    mesh = sharding.make_mesh(data=8)
    place = sharding.infer(jax.eval_shape(lambda: start), mesh)
    data = next(sharding.to_device(iter([batch(0)]), mesh, SCHEMA, depth=0))
    text = (
        jax.jit(train_step, out_shardings=(place, sharding.replicated(mesh)))
        .lower(jax.device_put(start, place), data, jax.random.key(1))
        .compile()
        .as_text()
    )
    assert "all-reduce" in text
    assert (
        "all-gather" not in text
        and "all-to-all" not in text
        and 'custom_call_target="xla_python' not in text
    )

"""One switch for the form of all kernels; it is part of what a compiled program is known by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import kernels
from segjax.augment import compose
from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.kernels.dispatch import Kernel, with_gradient
from segjax.structs import Field
from segjax.training import step
from tests.kernels import forms


@Kernel
def double(x, *, by=2.0):
    """Return twice `x`."""
    return x * by


@double.on_cpu
def _double_on_cpu(x, *, by=2.0):
    return x + x + 0.25


def text_for(platform, function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def test_the_switch_is_restored_whatever_happens():
    assert double(1.0) == 2.25
    with kernels.use("reference"):
        assert double(1.0) == 2
        with kernels.use("tuned"):
            assert double(1.0) == 2.25
        assert double(1.0) == 2
    with pytest.raises(ZeroDivisionError), kernels.use("reference"):
        raise ZeroDivisionError
    assert double(1.0) == 2.25
    with pytest.raises(ConfigError, match="kernels.use='refrence' is none of tuned, reference"):
        kernels.use("refrence")


def test_a_compiled_program_is_of_one_form():
    program = jax.jit(double)
    assert program(1.0) == 2.25
    with kernels.use("reference"):
        assert program(1.0) == 2
    assert program(1.0) == 2.25


def test_the_platform_a_program_is_compiled_for_decides():
    x = jnp.ones(3)
    assert "multiply" in text_for("tpu", double, x) and "multiply" in text_for("cuda", double, x)
    assert "multiply" not in text_for("cpu", double, x)
    with kernels.use("reference"):
        assert "multiply" in text_for("cpu", double, x)


def test_a_gradient_by_hand_is_that_of_every_platform_but_not_of_the_reference():
    def forward(x, *, by):
        return x * by, x

    def backward(x, g, *, by):
        return (100 * g * by,)

    @Kernel
    def times(x, *, by):
        return x * by

    times.everywhere(with_gradient(forward, backward))
    assert jax.grad(times)(1.0, by=3.0) == 300
    assert times(2.0, by=3.0) == 6
    with kernels.use("reference"):
        assert jax.grad(times)(1.0, by=3.0) == 3


SCHEMA = {"image": Field("image", (3,)), "label": Field("classes")}
OURS = ("platform_index", "custom_vjp", "optimization_barrier")


def make_batch():
    return dict(
        image=np.random.default_rng(0).random((2, 33, 41, 3)),
        label=np.random.default_rng(1).integers(0, 3, (2, 33, 41)).astype(np.int32),
        mask=np.ones(2, bool),
        index=np.arange(2, dtype=np.int32),
    )


def small_unet():
    """Return the objective of a small U-Net, and its arguments."""
    model = lookup.build(
        "models",
        dict(
            type="unet", widths=(4, 8), up="bilinear", stem_stride=2,
            compute_dtype="float64", param_dtype="float64",
        ),
        where="model", num_classes=3,
    )  # fmt: skip
    task = lookup.build(
        "tasks", dict(type="semantic", losses=[dict(type="pixel:cross_entropy", weight=1.0)]),
        where="task", num_classes=3,
    )  # fmt: skip
    key, batch = jax.random.key(0), make_batch()
    variables = model.init(key, jnp.asarray(batch["image"]), train=False)
    weights = {"cross_entropy": jnp.asarray(2.0 * 33 * 41)}
    objective = step.make_objective(model, task, lambda image: image, None, whole=True)
    return objective, (
        variables["params"],
        variables["batch_stats"],
        batch,
        key,
        weights,
        jnp.int32(0),
    )


@pytest.mark.slow
def test_a_network_under_reference_is_plain_operations_and_computes_the_same(float64):
    objective, arguments = small_unet()

    def loss_and_gradient(*arguments):
        value, gradient = jax.value_and_grad(objective, has_aux=True)(*arguments)
        return value, gradient, step.global_norm(gradient)

    results = {}
    for form in ("tuned", "reference"):
        with kernels.use(form):
            results[form] = jax.jit(loss_and_gradient)(*arguments)
            text = str(jax.make_jaxpr(objective)(*arguments))
            text += str(jax.make_jaxpr(loss_and_gradient)(*arguments))
        found = {name for name in OURS if name in text}
        assert found == (set(OURS) if form == "tuned" else set())
    forms.close(results["tuned"], results["reference"], 1e-9)


def test_augmentation_under_reference_is_plain_operations():
    ops = [
        lookup.build("augment", dict(type=type_, **options), where="augment")
        for type_, options in (
            ("geometry:affine", dict(size=(32, 40), scale=(0.5, 2.0))),
            ("photometric:gaussian_blur", dict(sigma=(1.0, 2.0))),
        )
    ]
    key, batch = jax.random.key(0), make_batch()
    batch["image"] = batch["image"].astype(np.float32)
    for form in ("tuned", "reference"):
        with kernels.use(form):
            text = str(jax.make_jaxpr(compose.make_augment(ops, SCHEMA))(key, batch))
        found = {name for name in OURS if name in text}
        assert found == ({"platform_index", "optimization_barrier"} if form == "tuned" else set())

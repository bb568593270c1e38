"""What every semantic model keeps, whatever its architecture: subclass `ModelContract`."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from segjax.assemble import program as program_lib
from segjax.assemble.parts import Parts
from segjax.assemble.setup import Setup
from segjax.augment import compose, normalize
from segjax.config import lookup, schedule
from segjax.costs import hlo
from segjax.data import fit
from segjax.errors import ConfigError
from segjax.inference.layout import Layout
from segjax.runtime import sharding
from segjax.structs import Classes, Field

SIZES = ((32, 32), (33, 47), (64, 41), (97, 64))
ODD = (33, 47)
LOSSES = (
    {"type": "pixel:cross_entropy", "weight": 1.0},
    {"type": "region:dice", "weight": 1.0},
)
TASK = {"type": "semantic", "losses": LOSSES}
CONFIG = {
    "augment": (
        {"type": "photometric:color_jitter", "brightness": 0.4, "contrast": 0.4},
        {"type": "geometry:flip", "horizontal": 0.5},
    ),
    "optimizer": {
        "type": "adamw", "lr": 1e-3, "clip_norm": 1.0, "schedule": {"type": "constant"},
    },
    "microbatches": 1,
    "ema_decay": 0.0,
    "deterministic_reduction": 0,
    "trials": {"seed": (), "lr": ()},
}  # fmt: skip
"""Of a run: what its train step is made of, beside the model."""
DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


class ModelContract:
    """Tests for a subclass to inherit; it says how to build the model, small enough to compile."""

    channels = 3
    num_classes = 5
    wide_products: int = 0
    """How many products of a bfloat16 model are in float32; say of what."""
    side = 64
    """Of the image whose sums are counted: at stride 32 every tap of a window still sees some."""
    dims: tuple[int, ...] = (1, 2, 3)
    """How many spatial axes the model takes."""
    idle: str = "^$"
    """Pattern of the parameters' names that change nothing by their nature; say why."""
    row_collectives: frozenset[str] = frozenset()
    """What sharded rows may need beside halos and sums; say why (attention sees every row)."""

    def model(self, **overrides: Any) -> nn.Module:
        """Return the model under test, with `overrides` of its fields."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", SIZES)
    def test_logits_have_the_size_of_the_image(self, size):
        image = jax.ShapeDtypeStruct((2, *size, self.channels), jnp.float32)
        for train in (True, False):
            logits, aux, _ = shapes(self.model(), image, train=train)
            assert logits.shape == (2, *size, self.num_classes)
            assert all(a.shape == logits.shape for a in aux)

    @pytest.mark.parametrize("size", [(47,), (33, 34, 35)])
    def test_signals_and_volumes_have_logits_or_are_refused(self, size):
        image = jax.ShapeDtypeStruct((2, *size, self.channels), jnp.float32)
        if len(size) in self.dims:
            logits, aux, _ = shapes(self.model(), image, train=True)
            assert {y.shape for y in (logits, *aux)} == {(2, *size, self.num_classes)}
        else:
            with pytest.raises(ConfigError, match=f"has {len(size)} spatial axes, expected 2"):
                shapes(self.model(), image, train=True)

    def test_an_image_below_the_smallest_size_is_refused(self):
        image = jax.ShapeDtypeStruct((2, 64, 31, self.channels), jnp.float32)
        with pytest.raises(ConfigError, match="64 x 31 pixels, expected at least 32"):
            shapes(self.model(), image, train=False)

    @pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
    def test_dtypes_are_those_of_the_config(self, compute_dtype, param_dtype):
        model = self.model(compute_dtype=compute_dtype, param_dtype=param_dtype)
        image = jax.ShapeDtypeStruct((2, *ODD, self.channels), jnp.float32)
        logits, _, variables = shapes(model, image, train=True)
        assert logits.dtype == compute_dtype
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables["params"])} == {param_dtype}
        stats = jax.tree.leaves(variables.get("batch_stats", {}))
        assert all(leaf.dtype == jnp.float32 for leaf in stats)


class CompiledContract:
    """What only compiled passes show; marked `slow`."""

    of: ModelContract
    """Whose model it is."""

    def test_gradient_reaches_every_parameter(self, float64):
        """In training, or at evaluation: batch norm takes away what a bias before it adds."""
        model = self.of.model(**DOUBLE)
        gradient, _ = train_gradient(model, self.of.channels)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        if unreached := out_of_reach(gradient):
            evaluating, _ = train_gradient(model, self.of.channels, train=False)
            unreached &= out_of_reach(evaluating)
        idle = {name for name in unreached if re.search(self.of.idle, name)}
        assert unreached == idle
        assert idle or self.of.idle == "^$"

    def test_remat_changes_no_gradient(self, float64):
        plain, _ = train_gradient(self.of.model(**DOUBLE), self.of.channels)
        remat, _ = train_gradient(self.of.model(**DOUBLE, remat="full"), self.of.channels)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), plain, remat
        )

    def test_only_training_moves_the_running_statistics(self, float64):
        model = self.of.model(**DOUBLE)
        variables = fill(model, self.of.channels)
        if "batch_stats" not in variables:
            pytest.skip("the model has no running statistics")
        _, trained = train_gradient(model, self.of.channels)
        _, evaluated = evaluate(model)(variables, images(3, self.of.channels))
        before = variables["batch_stats"]
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), before, evaluated)
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).all(), before, trained)))

    def test_a_batch_on_eight_devices_needs_no_gathering(self):
        """Summed are gradients, batch statistics, and two losses of each head with weights.

        Attention has a few equal sums among these, which XLA makes once.
        """
        model, shape = self.of.model(), (8, self.of.side, self.of.side, self.of.channels)
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        _, aux, variables = shapes(model, image, train=True)
        found = program(model, (8, 1, 1), shape)
        assert kinds(found) == {"all-reduce"}
        numbers = sum(leaf.size for leaf in jax.tree.leaves(variables))
        summed = hlo.bytes_by_kind(found)["all-reduce"] / 4
        assert 0.95 * numbers <= summed <= numbers + 4 * (1 + len(aux))

    def test_rows_on_two_devices_exchange_their_halos_only(self):
        found = program(self.of.model(), (4, 1, 2), (4, 64, 32, self.of.channels))
        assert kinds(found) <= {"all-reduce", "collective-permute"} | self.of.row_collectives
        assert_inputs_stay(found)

    def test_split_parameters_are_all_that_is_gathered(self):
        model, shape = self.of.model(), (8, 32, 32, self.of.channels)
        _, _, variables = shapes(model, jax.ShapeDtypeStruct(shape, jnp.float32), train=True)
        whole = {leaf.shape for leaf in jax.tree.leaves(variables["params"])}
        found = program(model, (1, 8, 1), shape)
        assert kinds(found) == {"all-reduce", "all-gather"}
        gathered = [found for found in found if found.kind == "all-gather"]
        assert {dims for found in gathered for _, dims in found.arrays} <= whole

    def test_products_are_bfloat16_and_the_host_is_not_called(self):
        """In the program for an accelerator: XLA's CPU backend widens them by itself."""
        step, arguments = train_step(
            self.of.model(compute_dtype="bfloat16"), (1, 1, 1), (2, 32, 32, self.of.channels)
        )
        with jax.numpy_dtype_promotion("standard"):
            traced = step.trace(*arguments)
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
        products = hlo.product_dtypes(text)
        assert products.pop("bf16") > products.pop("f32", 0) == self.of.wide_products
        assert not products
        assert "f64" not in text and not hlo.host_calls(text)

    def test_logits_do_not_depend_on_the_rest_of_the_batch(self, float64):
        model = self.of.model(**DOUBLE)
        variables, image = fill(model, self.of.channels), images(3, self.of.channels)
        together, _ = evaluate(model)(variables, image)
        alone, _ = evaluate(model)(variables, image[1:2])
        assert together.shape == (3, *ODD, self.of.num_classes)
        np.testing.assert_allclose(alone[0], together[1], rtol=1e-9, atol=1e-12)

    def test_saved_and_loaded_variables_give_the_same_logits(self, float64):
        model = self.of.model(**DOUBLE)
        variables, image = fill(model, self.of.channels), images(3, self.of.channels)
        saved = flax.serialization.to_bytes(variables)
        loaded = flax.serialization.from_bytes(jax.tree.map(np.zeros_like, variables), saved)
        before, _ = evaluate(model)(variables, image)
        after, _ = evaluate(model)(loaded, image)
        np.testing.assert_array_equal(before, after)

    def test_what_pads_a_batch_never_changes_a_valid_logit(self, float64):
        model = self.of.model(**DOUBLE)
        variables, image = fill(model, self.of.channels), images(3, self.of.channels)
        clean, _ = evaluate(model)(variables, image)
        for content in (1e6, np.nan):
            padded, _ = evaluate(model)(variables, image.at[2].set(content))
            np.testing.assert_array_equal(padded[:2], clean[:2])


def program(
    model: nn.Module,
    mesh: tuple[int, int, int],
    shape: tuple[int, ...],
    task: Mapping[str, Any] = TASK,
) -> list[hlo.Collective]:
    """Return the collectives of the compiled train step on a mesh data × fsdp × space."""
    step, arguments = train_step(model, mesh, shape, task)
    # What LLVM makes of it is not looked at: unoptimised, that takes half the time.
    options = {"xla_backend_optimization_level": 0}
    with jax.numpy_dtype_promotion("standard"):  # Optax relies on it
        text = step.lower(*arguments).compile(compiler_options=options).as_text()
    assert "f64[" not in text and not hlo.host_calls(text)
    return hlo.collectives_of(text)


def train_step(
    model: nn.Module,
    mesh: tuple[int, int, int],
    shape: tuple[int, ...],
    task: Mapping[str, Any] = TASK,
) -> tuple[Any, tuple[Any, ...]]:
    """Return the train step as a run jits it, and the shapes of its arguments.

    Args:
        model: Any.
        mesh: Devices on data × fsdp × space; the first of those that are there.
        shape: Of a batch of images.
        task: Section of a task of class maps.
    """
    devices = np.asarray(jax.devices()[: math.prod(mesh)]).reshape(mesh)
    batch_size, *size, channels = shape
    built = lookup.build("tasks", task, where="task", num_classes=model.num_classes)
    schema = {"image": Field("image", (channels,)), "label": Field("classes")}
    ops = [lookup.build("augment", op, where="augment") for op in CONFIG["augment"]]
    canvas = fit.Canvas(tuple(size), "resize", 0)
    parts = Parts(
        model, model, built, compose.make_augment(ops, schema),
        functools.partial(normalize.fixed, mean=0.5, std=0.25),
        Mesh(devices, sharding.AXES), canvas, Layout(canvas), Classes((), (), channels), schema,
    )  # fmt: skip
    setup = Setup(CONFIG, parts, schedule.Clock(batch_size, batch_size, 100), 1)
    key = jax.random.key(0)
    with jax.numpy_dtype_promotion("standard"):
        _, step, target = program_lib.make_step(setup, key)
    return step, (target, setup.batch_shapes(), key)


def assert_inputs_stay(found: list[hlo.Collective]) -> None:
    """Fail if whole numbers are gathered: labels, uint8 images, masks, indices."""
    for collective in found:
        if collective.kind not in ("all-reduce", "collective-permute"):
            dtypes = {dtype for dtype, _ in collective.arrays}
            assert dtypes <= {"f32", "bf16"}, collective


def kinds(found: list[hlo.Collective]) -> set[str]:
    """Return the names of collectives."""
    return {collective.kind for collective in found}


def images(count: int, channels: int) -> jax.Array:
    """Return normal noise of an odd size, in float64."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(count, *ODD, channels)))


def shapes(model: nn.Module, image: Any, *, train: bool) -> tuple[Any, Any, Any]:
    """Return the shapes of logits, auxiliary logits and initial variables; computes nothing."""

    def init(key, image):
        outputs, variables = model.init_with_output(
            {"params": key, "dropout": key}, image, train=train
        )
        return outputs.logits, outputs.aux, variables

    return jax.eval_shape(init, jax.random.key(0), image)


@functools.cache
def fill(model: nn.Module, channels: int) -> Any:
    """Return made-up variables, every one of them different from its initial value."""
    rng = np.random.default_rng(1)

    def value(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        spread = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.1
        return (spread * rng.normal(size=leaf.shape)).astype(leaf.dtype)

    image = jax.ShapeDtypeStruct((1, *ODD, channels), jnp.float32)
    return jax.tree.map_with_path(value, shapes(model, image, train=True)[2])


def gradient_of(
    model: nn.Module, variables: Any, image: jax.Array, *, mesh: Any = None, train: bool = True
) -> tuple[Any, Any]:
    """Return the parameters' gradient of a made-up loss, and the new statistics."""

    def loss(params):
        outputs, updates = model.apply(
            {**variables, "params": sharding.replicate(params, mesh)},
            image,
            train=train,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        heads = (outputs.logits, *outputs.aux)
        slope = jnp.sin(jnp.arange(outputs.logits.size, dtype=image.dtype))
        total = sum((slope * head.astype(image.dtype).ravel()).sum() for head in heads)
        return total / outputs.logits.size, updates.get("batch_stats", {})

    return jax.grad(loss, has_aux=True)(variables["params"])


@functools.cache
def train_gradient(model: nn.Module, channels: int, *, train: bool = True) -> tuple[Any, Any]:
    """Return `gradient_of` on two noise images in float64."""
    step = jax.jit(functools.partial(gradient_of, model, train=train))
    return jax.device_get(step(fill(model, channels), images(2, channels)))


def out_of_reach(gradient: Any) -> set[str]:
    """Return the names of leaves of which most elements have no gradient but rounding's."""
    leaves = jax.tree.leaves_with_path(gradient)
    few = [path for path, g in leaves if np.mean(np.abs(g) > 1e-12) <= 0.5]
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path in few}


@functools.cache
def evaluate(model: nn.Module) -> Any:
    """Return the compiled forward pass in eval mode: logits and `batch_stats`.

    It returns when both are there: JAX reads NumPy arrays where they lie, and tests change them.
    """

    @jax.jit
    def forward(variables, image):
        outputs, updates = model.apply(variables, image, train=False, mutable=["batch_stats"])
        return outputs.logits, updates.get("batch_stats", variables.get("batch_stats", {}))

    return lambda variables, image: jax.block_until_ready(forward(variables, image))

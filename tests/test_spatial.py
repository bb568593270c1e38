"""Images larger than a device: rows on eight devices, and what a train step moves between them."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from configs import quickstart
from segjax.assemble import program
from segjax.assemble.setup import make_setup
from segjax.augment import compose, geometry, photometric
from segjax.config import lookup, sections
from segjax.costs import hlo
from segjax.data import core, pipeline, synthetic
from segjax.layers import conv, resample
from segjax.models import unet
from segjax.runtime import sharding
from segjax.structs import Outputs
from segjax.tasks import semantic
from segjax.training import step as step_lib

SCHEMA = core.semantic_schema(3)
ROWS, ALONE = (1, 1, 8), (1, 1, 1)
UNET = {"type": "unet", "widths": (8, 16, 32), "convs_per_level": 1}
DEEPLAB = {
    "type": "deeplabv3plus",
    "encoder": {"type": "resnet", "depth": 18, "width": 8, "output_stride": 16, "stages": 4},
    # Of 512 rows each device has four at stride 16: enough for the widest hole.
    "rates": (1, 4), "width": 16, "low_width": 8, "fuse_convs": 1, "dropout": 0.0,
}  # fmt: skip
MOVED = (
    dict(type="geometry:affine", scale=(0.5, 2.0), rotate=10, fill=0.5),
    dict(type="photometric:gaussian_blur", sigma=(0.5, 1.0), p=1.0),
)
LIT = (dict(type="photometric:color_jitter", brightness=0.4, contrast=0.4),)


def compile_step(config, mesh, *, size, model=UNET, augment=LIT, batch_size=1, **fields):
    """Return the mesh, `init`, and the compiled step for images of one size."""
    config["input"].update(size=size, batch_size=batch_size)
    config["model"] = {**model, **fields}
    config["augment"] = [
        section | ({"size": size} if section["type"] == "geometry:affine" else {})
        for section in augment
    ]
    mesh = Mesh(np.asarray(jax.devices()[: math.prod(mesh)]).reshape(mesh), sharding.AXES)
    setup, _ = make_setup(config, mesh=mesh)
    key = jax.random.key(0)
    init, step, target = program.make_step(setup, key)
    return mesh, init, step.lower(target, setup.batch_shapes(), key).compile()


@pytest.mark.slow
def test_eight_shards_of_rows_hold_an_eighth_and_gather_nothing(tiny_config):
    """At 2048 x 2048 pixels; only compiled, as the numbers are the compiler's."""
    held = {}
    for mesh in (ALONE, ROWS):
        _, _, compiled = compile_step(tiny_config(), mesh, size=(2048, 2048))
        memory = compiled.memory_analysis()
        held[mesh] = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        kinds = set(hlo.bytes_by_kind(hlo.collectives_of(compiled.as_text())))
        assert kinds == ({"all-reduce", "collective-permute"} if mesh == ROWS else set())
    assert held[ROWS] <= held[ALONE] / 6


@pytest.mark.parametrize("size", [(64, 32), (16, 32, 24), (64,)])
def test_mirroring_within_rows_moves_none(size):
    """All but the first axis in space, which lies over the devices."""
    mesh = Mesh(np.asarray(jax.devices()).reshape(ROWS), sharding.AXES)
    mirrors = dict(zip(("horizontal", "vertical"), (0.5,) * (len(size) - 1), strict=False))
    op = functools.partial(geometry.flip, **{"horizontal": 0, **mirrors})
    augment = compose.make_augment([op], SCHEMA)
    placement = sharding.batch_sharding(mesh, SCHEMA)
    step = jax.jit(augment, in_shardings=(None, placement), out_shardings=placement)
    lowered = step.lower(jax.random.key(0), pipeline.batch_shapes(2, SCHEMA, size))
    assert not hlo.collectives_of(lowered.compile().as_text())


@pytest.mark.parametrize("dims", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_signals_and_volumes_over_devices_are_augmented_as_on_one(dims):
    """With their instances, along their length or depth; images, maps and order are the same."""
    source = synthetic.Source(split="train", dims=dims, num_examples=4)
    ops = [
        functools.partial(geometry.flip, depth=0.5 if dims == 3 else 0),
        functools.partial(geometry.affine, size=source.size, scale=(0.7, 1.4), fill=0.5),
        functools.partial(photometric.gaussian_blur, sigma=(0.5, 1.0)),
    ]
    augment = compose.make_augment(ops, source.schema)
    found = []
    for shape in (ALONE, (1, 2, 4)):
        mesh = Mesh(np.asarray(jax.devices()[: math.prod(shape)]).reshape(shape), sharding.AXES)
        placement = sharding.batch_sharding(mesh, source.schema)
        rows = pipeline.stack(
            [source[i] for i in range(4)], range(4), schema=source.schema, num_rows=4,
            size=source.size, pad_value=0,
        )  # fmt: skip
        (batch,) = sharding.to_device(iter([rows]), mesh, source.schema)
        place = P(("data", "fsdp"), "space")
        assert {batch[n].sharding.spec for n in source.schema} == {place}
        step = jax.jit(augment, in_shardings=(None, placement), out_shardings=placement)
        found.append(sharding.fetch(step(jax.random.key(1), batch)))
    one, several = found
    for name in ("label", "instance", "mask", "index"):
        np.testing.assert_array_equal(one[name], several[name])
    np.testing.assert_allclose(one["image"], several["image"], atol=1e-5)
    assert (one["instance"] > 0).any() and set(one) == {*source.schema, "mask", "index"}


@pytest.mark.slow
def test_moving_rows_gathers_image_and_label_and_no_activation(tiny_config):
    """A crop may take any row: three channels and the label are gathered before the network."""
    height, width = size = (256, 128)
    _, _, compiled = compile_step(tiny_config(), ROWS, size=size, augment=MOVED[:1])
    found = hlo.collectives_of(compiled.as_text())
    moved = [found for found in found if found.kind not in ("all-reduce", "collective-permute")]
    gathered = sorted(math.prod(shape) for found in moved for _, shape in found.arrays)
    assert {found.kind for found in moved} == {"all-gather"}
    assert gathered == [height * width, 3 * height * width]  # activations have other sizes
    features = 32 * height * width // 16  # the smallest, below; a sum or halo is far smaller
    assert all(other.bytes < features for other in found if other not in moved)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size", "augment"),
    [(UNET, (128, 64), MOVED), (DEEPLAB, (512, 32), LIT)],
    ids=["unet", "deeplabv3plus"],
)
def test_the_step_on_rows_is_the_step_on_one_device(model, size, augment, tiny_config, float64):
    """One step of plain SGD from the same state, so that the parameters show the gradient.

    DeepLabv3+ takes the mean of all rows and enlarges bilinearly, both without gathering.
    """
    for kinds in assert_same_step(
        tiny_config, (ALONE, ROWS), batch_of(4, size, 3), model=model, augment=augment
    )[1:]:
        assert augment != LIT or kinds == {"all-reduce", "collective-permute"}


@pytest.mark.slow
def test_the_step_on_slices_of_volumes_is_the_step_on_one_device(float64):
    """Mirrored along every axis, which rounds nothing; the rest of augmentation see above."""

    def make():
        return sections.plain(quickstart.get_config("dims=3,debug"))

    batch = batch_of(2, (16, 32, 33), 1)
    flip = dict(type="geometry:flip", horizontal=0.5, vertical=0.5, depth=0.5)
    assert_same_step(make, (ALONE, (1, 1, 4)), batch, model=UNET, augment=(flip,))


FLOAT64 = {"compute_dtype": "float64", "param_dtype": "float64"}


class Halving(nn.Module):
    """Convolutions of all kinds, each at fewer rows."""

    @nn.compact
    def __call__(self, x, *, train):
        size = x.shape[1:-1]
        pooled = resample.max_pool(conv.Conv(4, **FLOAT64)(x))
        x = conv.Conv(4, **FLOAT64)(pooled)
        x = conv.Conv(4, 4, stride=2, padding=[(1, 1)] * 2, **FLOAT64)(x)
        x = conv.Conv(4, stride=2, groups=-1, **FLOAT64)(x)
        strided = conv.Conv(4, 1, stride=2, **FLOAT64)(pooled)
        x = conv.Conv(4, stride=2, groups=2, **FLOAT64)(x) + strided.mean((1, 2), keepdims=True)
        return Outputs(resample.resize(x, size))


def assert_same_gradient(function, params, image, spaces):
    """Compare a value, what comes with it and the gradient, of rows split and of rows whole.

    Args:
        function: From a mesh to a function of parameters and image: a scalar, and more.
        params: To take the gradient by; it is taken by the image too.
        image: Of float64.
        spaces: Over how many devices rows are split.
    """
    results = []
    for space in (1, *spaces):
        mesh = Mesh(np.asarray(jax.devices()[:space]).reshape(1, 1, space), sharding.AXES)
        placed = sharding.replicated(mesh), sharding.batch_sharding(mesh, SCHEMA)["image"]
        gradient = jax.value_and_grad(function(mesh), argnums=(0, 1), has_aux=True)
        results.append(jax.device_get(jax.jit(gradient, in_shardings=placed)(params, image)))
    one, *others = map(jax.tree.leaves, results)
    most = max(np.abs(leaf).max() for leaf in jax.tree.leaves(results[0][1][0]))
    assert most > 1e-6, "the gradient has to say something"
    for other in others:
        for expected, found in zip(one, other, strict=True):
            atol = 1e-10 * max(np.abs(expected).max(), 1e-3 * most)
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("rows", [24, pytest.param(72, marks=pytest.mark.slow)])
def test_rows_that_do_not_divide_deep_in_a_network_give_the_same_gradient(rows, float64):
    """Every kernel sees each row once, however few of them there are for the devices.

    XLA's partitioner counts rows that several devices hold, and miscounts where a device holds
    nothing but padding, in the gradient of a convolution by its kernel. 24 rows on 8 devices become
    12, 6, 3 and 2; 72 become 36, which are split unevenly, 18, 9 and 5.
    """
    image = np.random.default_rng(0).normal(size=(2, rows, 10, 3))
    params = Halving().init(jax.random.key(0), jnp.asarray(image), train=True)["params"]
    task = semantic.Task(losses=[dict(type="pixel:cross_entropy", weight=1.0)], num_classes=4)
    label = np.arange(image[..., 0].size, dtype=np.int32).reshape(image.shape[:-1]) % 4

    def function(mesh):
        objective = step_lib.make_objective(Halving(), task, lambda x: x, mesh, whole=True)

        def loss(params, image):
            batch = {"image": image, "label": jnp.asarray(label)}
            return objective(
                params, {}, batch, jax.random.key(0), task.weights(batch), jnp.int32(0)
            )

        return loss

    assert_same_gradient(function, params, image, (8,))


def test_each_of_several_trials_places_its_own_rows(float64):
    """On a mesh with an axis for them, along which the program of one trial sees nothing."""
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 1, 1, 4), (sharding.TRIAL, *sharding.AXES))
    model = conv.ConvNormAct(4, activation="silu", **FLOAT64)
    image = np.random.default_rng(0).normal(size=(2, 12, 8, 3))
    inits = [model.init(jax.random.key(i), jnp.asarray(image), train=True) for i in range(2)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *(init["params"] for init in inits))

    def loss(params, image, mesh):
        with sharding.over(mesh):
            both = {**inits[0], "params": params}
            y, _ = model.apply(both, resample.max_pool(image), train=True, mutable=["batch_stats"])
        return jnp.sin(y).sum()

    def one(params, image):
        own = jax.tree.map(lambda x: x[0], params)
        return jax.tree.map(lambda x: x[None], jax.grad(loss)(own, image, mesh))

    each, rows = P(sharding.TRIAL), sharding.batch_sharding(mesh, SCHEMA)["image"]
    both = jax.shard_map(
        one, mesh=mesh, in_specs=(each, P()), out_specs=each,
        axis_names={sharding.TRIAL}, check_vma=False,
    )  # fmt: skip
    found = jax.jit(both)(params, jax.device_put(image, rows))
    for number in range(2):
        own = jax.tree.map(lambda x, number=number: x[number], params)
        expected = jax.jit(lambda p: jax.grad(loss)(p, jnp.asarray(image), None))(own)
        jax.tree.map(
            lambda a, b, number=number: np.testing.assert_allclose(b[number], a, atol=1e-10),
            expected,
            found,
        )


RESNET = {"type": "resnet", "depth": 18, "width": 8, "stages": 4}
SMALL = {
    "unet": {"type": "unet", "widths": (4, 8, 8), "convs_per_level": 1, "norm": "group"},
    "unet on blocks": {**UNET, "widths": (4, 8), "stem_stride": 2},
    "encoder_unet": {"type": "encoder_unet", "encoder": RESNET, "widths": (8,) * 4},
    "deeplabv3plus": {**DEEPLAB, "width": 8},
    "segformer": {
        "type": "segformer",
        "encoder": {"type": "mit", "widths": (4, 4, 5, 8), "depths": (1,) * 4},
        "width": 8,
        "dropout": 0.0,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", SMALL)
def test_networks_on_rows_that_do_not_divide_are_those_on_one_device(name, train, float64):
    """Losses, logits, running statistics and gradients: 72 rows become 36, 18, 9, 5 and 3."""
    image = np.random.default_rng(0).normal(size=(2, 72, 35, 3))
    model = lookup.build("models", SMALL[name], where="model", num_classes=3, **FLOAT64)
    options = {"train": train, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(0)}}
    init = jax.jit(functools.partial(model.init, train=False))
    variables = jax.device_get(init(jax.random.key(0), image))

    def function(mesh):
        def loss(params, image):
            with sharding.over(mesh):
                outputs, new = model.apply({**variables, "params": params}, image, **options)
            weights = jnp.cos(jnp.arange(outputs.logits.size).reshape(outputs.logits.shape))
            return (weights * jnp.sin(outputs.logits)).mean(), (outputs, new)

        return loss

    assert_same_gradient(function, variables["params"], image, (2, 4, 8) if train else (8,))


def batch_of(count, size, channels):
    """Return a batch of noise."""
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (count, *size, channels), np.uint8),
        "label": random.integers(0, 5, (count, *size), np.int32),
        "mask": np.ones(count, bool),
        "index": np.arange(count, dtype=np.int32),
    }


def assert_same_step(make_config, meshes, batch, *, model, augment):
    """Take a step on each mesh, compare, and return the kinds of collectives in each."""
    count, *size, _ = batch["image"].shape
    changes, kinds = [], []
    for shape in meshes:
        config = make_config()
        config["optimizer"] = dict(type="sgd", lr=1.0, momentum=0.0, schedule=dict(type="constant"))
        mesh, init, step = compile_step(
            config, shape, size=tuple(size), model=model, augment=augment, batch_size=count,
            compute_dtype="float64", param_dtype="float64",
        )  # fmt: skip
        state = init(jax.random.key(0))
        before = jax.device_get(state.params)
        placed = jax.device_put(batch, sharding.batch_sharding(mesh, SCHEMA))
        state, _ = step(state, placed, jax.random.key(0))
        changes.append(jax.tree.map(np.subtract, before, jax.device_get(state.params)))
        kinds.append(set(hlo.bytes_by_kind(hlo.collectives_of(step.as_text()))))
    for one, other in zip(*map(jax.tree.leaves, changes), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())
    return kinds


@pytest.mark.slow
def test_a_volume_is_split_along_its_depth(float64):
    model = unet.Model(
        num_classes=2,
        widths=(4, 8),
        convs_per_level=1,
        param_dtype="float64",
        compute_dtype="float64",
    )
    volume = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 32, 33, 1)))
    variables = model.init(jax.random.key(0), volume, train=False)

    def gradient(params, volume):
        def loss(params):
            both = {**variables, "params": params}
            outputs, _ = model.apply(both, volume, train=True, mutable=["batch_stats"])
            return jnp.sin(outputs.logits).sum()

        return jax.grad(loss)(params)

    results = []
    for devices in (1, 4):
        mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(1, 1, devices), sharding.AXES)
        placed = (sharding.replicated(mesh), sharding.batch_sharding(mesh, SCHEMA)["image"])
        with sharding.over(mesh):  # as the train step is traced
            program = jax.jit(gradient, in_shardings=placed).lower(variables["params"], volume)
        compiled = program.compile()
        found = hlo.collectives_of(compiled.as_text())
        assert {c.kind for c in found} <= {"all-reduce", "collective-permute"}
        results.append(compiled(*jax.device_put((variables["params"], volume), placed)))
    assert found, "four devices have to exchange something"
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9),
        *jax.device_get(results),
    )

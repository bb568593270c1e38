"""The chain: keyed per example, the same on any device count, and p = 0 changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax import kernels
from segjax.augment import compose, degrade, geometry, intensity, mixing, photometric, policies
from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.runtime import sharding
from segjax.structs import Field

SIZE = (20, 28)
OPS = {
    "flip": functools.partial(geometry.flip, horizontal=0.5, vertical=0.5),
    "affine": functools.partial(
        geometry.affine,
        size=SIZE,
        scale=(0.5, 2.0),
        aspect=(0.8, 1.25),
        shift=0.1,
        horizontal=0.5,
        vertical=0.5,
    ),
    "rotate": functools.partial(geometry.affine, size=SIZE, scale=(0.5, 2.0), rotate=30),
    "elastic": functools.partial(geometry.elastic, std=2.0),
    "color_jitter": functools.partial(
        photometric.color_jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
    ),
    "gamma": functools.partial(photometric.gamma, exponent=(0.7, 1.4)),
    "blur": functools.partial(photometric.gaussian_blur, sigma=(0.3, 1.0)),
    "noise": functools.partial(photometric.gaussian_noise, std=(0.01, 0.05)),
    "cutout": functools.partial(photometric.cutout, size=(0.2, 0.4), count=2, void=True),
}
MORE = {
    "perspective": functools.partial(geometry.perspective, distortion=0.4),
    "grid_distortion": functools.partial(geometry.grid_distortion, limit=0.4),
    "posterize": functools.partial(photometric.posterize, bits=(2, 6)),
    "solarize": functools.partial(photometric.solarize, threshold=(0.3, 0.9)),
    "equalize": photometric.equalize,
    "autocontrast": photometric.autocontrast,
    "sharpness": functools.partial(photometric.sharpness, factor=(0.2, 3.0)),
    "channel_shuffle": photometric.channel_shuffle,
    "channel_dropout": functools.partial(photometric.channel_dropout, count=(1, 2)),
    "jpeg": functools.partial(degrade.jpeg, quality=(20, 80)),
    "low_resolution": functools.partial(degrade.low_resolution, scale=(0.3, 0.8)),
    "fog": functools.partial(degrade.fog, density=(0.5, 2.0)),
    "shadow": functools.partial(degrade.shadow, darkness=(0.3, 0.7)),
    "unit_noise": functools.partial(intensity.noise, p=0.5),
    "unit_blur": functools.partial(intensity.blur, p=0.7),
    "brightness": functools.partial(intensity.brightness, mean=0.5, p=0.7),
    "contrast": functools.partial(intensity.contrast, p=0.7),
    "few_pixels": functools.partial(intensity.low_resolution, p=0.7),
    "unit_gamma": functools.partial(intensity.gamma, invert=True, p=0.7),
    "cutmix": mixing.cutmix,
    "classmix": mixing.classmix,
    "mosaic": mixing.mosaic,
    "rand_augment": policies.rand_augment,
    "trivial_augment": policies.trivial_augment,
}
"""Ops whose `p` is said when they are built; of those that mix a row needs its group."""
POLICIES = ("rand_augment", "trivial_augment")
MIXED = ("cutmix", "classmix", "mosaic")
CHAIN = [op for name, op in OPS.items() if name not in ("rotate", "gamma")]
SCHEMA = {
    "image": Field("image", (3,)),
    "label": Field("classes"),
    "instance": Field("ids"),
    "spacing": Field("value", (2,), "float32"),
}
make_augment = functools.partial(compose.make_augment, schema=SCHEMA)
augment_chain = jax.jit(make_augment(CHAIN))
convert = jax.jit(make_augment([]))


def make_batch(rows=8, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, (rows, *SIZE)).astype(np.int32)
    label[:, :3] = 255
    mask = np.arange(rows) < max(rows - 1, 1)
    label[~mask] = 255
    return {
        "image": jnp.asarray(rng.integers(0, 256, (rows, *SIZE, 3)).astype(np.uint8)),
        "label": jnp.asarray(label),
        "instance": jnp.asarray(np.where(label == 255, 0, 7 * label)),
        "spacing": jnp.asarray(rng.random((rows, 2), np.float32)),
        "mask": jnp.asarray(mask),
        "index": jnp.arange(100, 100 + rows, dtype=jnp.int32),
    }


def test_without_ops_it_only_converts():
    batch = make_batch()
    out = make_augment([])(jax.random.key(0), batch)
    np.testing.assert_allclose(out["image"], np.asarray(batch["image"]) / 255, rtol=1e-6)
    assert out["image"].dtype == jnp.float32
    for name in batch.keys() - {"image"}:
        np.testing.assert_array_equal(out[name], batch[name])
    assert make_augment([])(jax.random.key(0), out)["image"] is out["image"]


def test_an_example_is_keyed_by_its_index_alone():
    batch, key = make_batch(), jax.random.key(1)
    order = np.array([5, 2, 7, 0, 6, 1, 3, 4])
    there = augment_chain(key, batch)
    moved = augment_chain(key, {name: value[order] for name, value in batch.items()})
    others = {name: value.at[1:].set(value[:7]) for name, value in batch.items()}
    others = augment_chain(key, others)
    for name in SCHEMA:
        np.testing.assert_array_equal(np.asarray(there[name])[order], moved[name])
        np.testing.assert_array_equal(there[name][0], others[name][0])


def test_index_key_and_op_number_each_change_the_result():
    one = {name: value[:1] for name, value in make_batch().items()}
    noise = OPS["noise"]
    augment = make_augment([noise])
    start = np.asarray(augment(jax.random.key(0), one)["image"])
    other_index = augment(jax.random.key(0), one | {"index": one["index"] + 1})["image"]
    other_key = augment(jax.random.key(1), one)["image"]
    twice = make_augment([noise, noise])(jax.random.key(0), one)["image"]
    image = np.asarray(one["image"]) / np.float32(255)
    inner = (image > 0.3) & (image < 0.7)
    assert np.abs(start - np.asarray(other_index)).max() > 0.01
    assert np.abs(start - np.asarray(other_key)).max() > 0.01
    first, second = (start - image)[inner], (np.asarray(twice) - start)[inner]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


@pytest.mark.parametrize("name", OPS)
def test_probability_zero_is_the_identity(name):
    off = {"horizontal": 0, "vertical": 0} if name == "flip" else {"p": 0}
    batch = make_batch()
    out = jax.jit(make_augment([functools.partial(OPS[name], **off)]))(jax.random.key(3), batch)
    np.testing.assert_array_equal(out["image"], convert(jax.random.key(3), batch)["image"])
    for name in ("label", "instance", "spacing"):
        np.testing.assert_array_equal(out[name], batch[name])


@pytest.mark.slow
def test_probability_zero_is_the_identity_of_all_others():
    """In one program: nothing that any of them would do is in it."""
    batch = make_batch()
    ops = [functools.partial(op, p=0) for name, op in MORE.items() if name not in POLICIES]
    off = functools.partial(geometry.rotate_scale, size=SIZE, p_rotate=0, p_zoom=0)
    out = jax.jit(make_augment([*ops, off]))(jax.random.key(3), batch)
    np.testing.assert_array_equal(out["image"], convert(jax.random.key(3), batch)["image"])
    for name in ("label", "instance", "spacing"):
        np.testing.assert_array_equal(out[name], batch[name])


@pytest.mark.slow
def test_zero_strength_is_the_identity():
    """Within rounding; where pixels are looked up, exactly."""
    batch = make_batch()
    ops = [
        functools.partial(geometry.perspective, distortion=0),
        functools.partial(geometry.grid_distortion, limit=0),
        functools.partial(photometric.sharpness, factor=(1, 1)),
        functools.partial(photometric.posterize, bits=(8, 8)),
        functools.partial(degrade.fog, density=(0, 0)),
        functools.partial(degrade.shadow, darkness=(0, 0)),
        functools.partial(degrade.low_resolution, scale=(1, 1)),
        functools.partial(intensity.noise, std=(0, 0), p=1),
        functools.partial(intensity.brightness, factor=(1, 1), p=1),
        functools.partial(intensity.contrast, factor=(1, 1), p=1),
        functools.partial(intensity.gamma, exponent=(1, 1), p=1),
    ]
    out = jax.jit(make_augment(ops))(jax.random.key(3), batch)
    image = convert(jax.random.key(3), batch)["image"]
    np.testing.assert_allclose(out["image"], image, atol=2e-5)
    np.testing.assert_array_equal(out["label"], batch["label"])
    np.testing.assert_array_equal(out["instance"], batch["instance"])


def test_jit_equals_eager():
    batch = {name: value[:2] for name, value in make_batch().items()}
    augment = make_augment([OPS["rotate"], OPS["color_jitter"]])
    eager, jitted = augment(jax.random.key(5), batch), jax.jit(augment)(jax.random.key(5), batch)
    np.testing.assert_allclose(eager["image"], jitted["image"], atol=2e-5)
    np.testing.assert_array_equal(eager["label"], jitted["label"])


def test_labels_are_never_invented_and_padding_rows_stay_void():
    batch = make_batch()
    for seed in range(4):
        out = augment_chain(jax.random.key(seed), batch)
        label = np.asarray(out["label"])
        assert label.dtype == np.int32
        assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 255}
        assert (label[~np.asarray(batch["mask"])] == 255).all()
        np.testing.assert_array_equal(out["instance"], np.where(label == 255, 0, 7 * label))
        np.testing.assert_array_equal(out["spacing"], batch["spacing"])
        assert 0 <= out["image"].min() and out["image"].max() <= 1


BRANCHING = [MORE["unit_blur"], functools.partial(OPS["noise"], p=0.5)]


def test_rows_one_by_one_are_rows_together():
    """And one loop takes those that branch, where it is known on which device the rows are."""
    batch, key = make_batch(), jax.random.key(2)
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), sharding.AXES)
    ops = [*BRANCHING, OPS["blur"]]
    for known, loops in ((mesh, 1), (None, 0)):
        assert (
            str(jax.make_jaxpr(make_augment(ops, mesh=known))(key, batch)).count("scan[") == loops
        )
    out = jax.jit(make_augment(ops, mesh=mesh))(key, batch)
    with kernels.use("reference"):
        together = jax.jit(make_augment(ops))(key, batch)
    np.testing.assert_allclose(out["image"], together["image"], atol=2e-6)


@pytest.mark.slow
def test_an_example_alone_is_what_it_is_in_a_batch():
    batch, key = make_batch(), jax.random.key(4)
    one = {name: value[3:4] for name, value in batch.items()}
    augment = jax.jit(make_augment([MORE["perspective"], MORE["equalize"], *BRANCHING]))
    np.testing.assert_allclose(
        augment(key, one)["image"][0], augment(key, batch)["image"][3], atol=2e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MORE if name not in MIXED + POLICIES])
def test_each_op_in_a_batch_and_alone_on_each_of_eight_devices(name):
    batch, key = make_batch(), jax.random.key(0)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(8, 1, 1), sharding.AXES)
    placement = sharding.batch_sharding(mesh, SCHEMA)
    augment = make_augment([MORE[name]], mesh=mesh)
    sharded = jax.jit(augment, in_shardings=(None, placement), out_shardings=placement)
    compiled = sharded.lower(key, batch).compile()
    for collective in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
        assert collective not in compiled.as_text()
    out = compiled(key, jax.device_put(batch, placement))
    expected = jax.jit(make_augment([MORE[name]]))(key, batch)
    assert (np.asarray(expected["image"]) != convert(key, batch)["image"]).any()
    for field in ("label", "instance"):
        np.testing.assert_array_equal(out[field], expected[field])
    np.testing.assert_allclose(out["image"], expected["image"], atol=2e-5)


@pytest.mark.slow
def test_eight_devices_that_hold_whole_groups_mix_alike_and_exchange_nothing():
    batch, key = make_batch(32), jax.random.key(0)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(8, 1, 1), sharding.AXES)
    placement = sharding.batch_sharding(mesh, SCHEMA)
    augment = make_augment([MORE[name] for name in MIXED], mesh=mesh)
    sharded = jax.jit(augment, in_shardings=(None, placement), out_shardings=placement)
    compiled = sharded.lower(key, batch).compile()
    for collective in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
        assert collective not in compiled.as_text()
    out, alone = compiled(key, jax.device_put(batch, placement)), jax.jit(augment)(key, batch)
    assert (np.asarray(out["label"]) != batch["label"]).any((1, 2)).mean() > 0.9
    for field in ("image", "label", "instance"):
        np.testing.assert_array_equal(out[field], alone[field])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tuned", "reference"])
def test_eight_devices_need_no_all_gather_and_agree_with_one(form):
    batch, key = make_batch(), jax.random.key(0)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    rows, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    augment = make_augment(CHAIN)
    sharded = jax.jit(augment, in_shardings=(whole, rows), out_shardings=rows)
    with kernels.use(form):  # accelerators compile the reference
        compiled = sharded.lower(key, batch).compile()
    for collective in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
        assert collective not in compiled.as_text()
    out = compiled(jax.device_put(key, whole), jax.device_put(batch, rows))
    alone = augment_chain(key, batch)
    for name in ("label", "instance"):
        np.testing.assert_array_equal(out[name], alone[name])
    np.testing.assert_allclose(out["image"], alone["image"], atol=2e-5)


WRONG = [
    ("geometry:flip", {"horizontal": 1.5}, "flip.horizontal=1.5"),
    ("geometry:affine", {"size": (8,)}, "affine.size"),
    ("geometry:affine", {"size": (8, 0)}, "affine.size"),
    ("geometry:affine", {"size": SIZE, "scale": (2, 0.5)}, "affine.scale"),
    ("geometry:affine", {"size": SIZE, "scale": (0, 1)}, "affine.scale"),
    ("geometry:affine", {"size": SIZE, "aspect": (1,)}, "affine.aspect"),
    ("geometry:affine", {"size": SIZE, "rotate": -5}, "affine.rotate"),
    ("geometry:affine", {"size": SIZE, "shift": -1}, "affine.shift"),
    ("geometry:affine", {"size": SIZE, "vertical": -0.1}, "affine.vertical"),
    ("geometry:affine", {"size": SIZE, "fill": (0, 0)}, "affine.fill"),
    ("geometry:affine", {"size": SIZE, "fill": 128}, "affine.fill"),
    ("geometry:affine", {"size": SIZE, "p": 2}, "affine.p"),
    ("geometry:elastic", {"std": -1}, "elastic.std"),
    ("geometry:elastic", {"std": 1, "grid": 1}, "elastic.grid"),
    ("geometry:elastic", {"std": 1, "fill": -1}, "elastic.fill"),
    ("photometric:color_jitter", {"contrast": -1}, "color_jitter.contrast"),
    ("photometric:color_jitter", {"hue": 0.6}, "color_jitter.hue"),
    ("photometric:gamma", {"exponent": (0, 1)}, "gamma.exponent"),
    ("photometric:gaussian_blur", {"sigma": (0, 2)}, "gaussian_blur.sigma"),
    ("photometric:gaussian_noise", {"std": (0.2, 0.1)}, "gaussian_noise.std"),
    ("photometric:cutout", {"size": (0.5, 1.5)}, "cutout.size"),
    ("photometric:cutout", {"size": (0.5, 0.5), "count": 0}, "cutout.count"),
    ("photometric:cutout", {"size": (0.5, 0.5), "fill": (1, 2)}, "cutout.fill"),
    ("photometric:posterize", {"bits": (0, 4)}, "posterize.bits"),
    ("photometric:channel_dropout", {"count": (1, 3)}, "channel_dropout.count"),
    ("geometry:rotate_scale", {"size": (8, 8, 8)}, "rotate_scale.size"),
    ("geometry:perspective", {"distortion": 2}, "perspective.distortion"),
    ("degrade:jpeg", {"quality": (0, 10)}, "jpeg.quality"),
    ("intensity:brightness", {"mean": (1, 2)}, "brightness.mean"),
    ("mixing:mixup", {}, "mixing:mixup: expected class maps alone"),
    ("policies:nnunet", {"size": (8, 8, 8)}, "rotate_scale.size"),
]


@pytest.mark.parametrize("type_, arguments, named", WRONG)
def test_wrong_arguments_are_named(type_, arguments, named):
    """By their place in the config where a range is wrong, by the op where data decides."""
    places = named, named.replace(type_.partition(":")[2], "config.augment[0]")
    with pytest.raises(ConfigError, match="expected") as error:
        op = lookup.build("augment", {"type": type_, **arguments}, where="config.augment[0]")
        jax.eval_shape(make_augment([op]), jax.random.key(0), make_batch())
    assert any(place in str(error.value) for place in places)

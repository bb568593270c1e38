"""Multi-label fields: on every way from a source to a model they go as so many class maps would.

The rule: whatever moves, pads, cuts or hides a class map does the same to each map of a multi-label
field, in any dimension; it stays uint8 and its padding is void in every class.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.augment import compose, geometry, photometric
from segjax.data import core, fit, pipeline
from segjax.inference import network
from segjax.inference.layout import Layout
from segjax.inference.pieces import Cut
from segjax.runtime import sharding
from segjax.structs import Field

K = 3
SIZES = {1: (50,), 2: (40, 36), 3: (12, 20, 16)}
SCHEMA = {"image": Field("image", (1,)), "label": Field("labels", (K,))}
MAPS = {f"map{c}": Field("classes") for c in range(K)}
BOTH = SCHEMA | MAPS


class Overlaps:
    """Examples whose classes overlap, with each class as a map of its own beside."""

    class_names, palette, schema = ("a", "b", "c"), ((0, 0, 0),) * K, BOTH

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return 3

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        label = random.choice(np.array([0, 1, 1, 255], np.uint8), (*self.size, K))
        maps = {f"map{c}": label[..., c].copy() for c in range(K)}
        image = random.integers(0, 255, (*self.size, 1), np.uint8)
        return {"image": image, "label": label, "name": str(index), **maps}


def check(found):
    """Each class of the field is what became of that class's own map."""
    assert found["label"].dtype == np.uint8
    for c in range(K):
        np.testing.assert_array_equal(found["label"][..., c], found[f"map{c}"])


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize(("how", "canvas"), [("resize", 0.7), ("resize", 1.6), ("pad", 1.2)])
def test_fitted_batched_and_cached_as_class_maps_are(dims, how, canvas):
    size = [round(canvas * side) for side in SIZES[dims]]
    size[-1] += 9  # so that there is padding
    source = Overlaps(SIZES[dims])
    options = {"schema": BOTH, "size": size, "fit": how}
    fitted = fit.Fitted(source, **options, pad_value=1)
    check(fitted[1])
    if dims > 1 or how == "pad":
        assert (fitted[1]["label"][..., -1, :] == 255).all()
    cached = core.Cached(fitted)
    np.testing.assert_array_equal(cached[1]["label"], cached[1]["label"])
    assert len(cached._examples) == 1
    batch = pipeline.stack(
        [fitted[0], fitted[1]], [0, 1], schema=BOTH, num_rows=8, size=size, pad_value=1
    )
    check(batch)
    assert (batch["label"][2:] == 255).all() and batch["label"].shape == (8, *size, K)
    shapes = pipeline.batch_shapes(8, BOTH, size)
    assert shapes["label"].dtype == np.uint8 and shapes["label"].shape == (8, *size, K)
    placed = sharding.put(batch, sharding.batch_sharding(sharding.make_mesh(data=8), BOTH), 1)
    np.testing.assert_array_equal(placed["label"], batch["label"])


@pytest.mark.parametrize("how", ["pad", "resize"])
@pytest.mark.parametrize("dims", SIZES)
def test_cut_into_windows_and_tiles_as_class_maps_are(dims, how):
    """Every answer is in one tile, on the label's own grid, and of its windows in one at most."""
    own, canvas = Overlaps(SIZES[dims])[0], (16, 16, 16)[:dims]
    cut = Cut(own, Layout(fit.Canvas(canvas, how, 0)), BOTH)
    seen = 0
    for piece in cut.plan.pieces:
        fields = cut.fields(piece)
        check(fields)
        seen += (fields["label"] < 2).sum()
    assert how == "resize" or seen == (own["label"] < 2).sum()
    back = np.zeros_like(own["label"])
    for tile in cut.plan.tiles():
        part = network.cut_label(own["label"], tile, cut.plan.side)
        assert part.shape == (*cut.plan.side, K)
        back[tile.region] = part[tile.inner]
        part[tile.inner] = 255
        assert (part == 255).all()
    np.testing.assert_array_equal(back, own["label"])


def ops(dims):
    affine = functools.partial(
        geometry.affine, size=SIZES[dims], scale=(0.5, 2.0), shift=0.2, horizontal=0.5, fill=0.5
    )
    return {
        "affine": affine,
        "cutout": functools.partial(photometric.cutout, size=(0.2, 0.4), count=2, void=True),
        "cutout of the image": functools.partial(photometric.cutout, size=(0.2, 0.4), count=2),
        "flip": functools.partial(geometry.flip, horizontal=0.5, vertical=0.5 * (dims > 1)),
        "elastic": functools.partial(geometry.elastic, std=3.0),
        "rotate": functools.partial(affine, rotate=30 * (dims > 1)),
    }


def augmented(dims, names):
    """Return a batch before and after each of some ops, compiled together."""
    source = Overlaps(SIZES[dims])
    examples = [source[i] for i in range(3)]
    options = {"schema": BOTH, "num_rows": 3, "size": SIZES[dims], "pad_value": 0}
    batch = pipeline.stack(examples, [0, 1, 2], **options)
    made = {name: compose.make_augment([ops(dims)[name]], BOTH) for name in names}

    @jax.jit
    def run(batch):
        return {name: augment(jax.random.key(0), batch) for name, augment in made.items()}

    return batch, jax.device_get(run(jax.tree.map(jnp.asarray, batch)))


@pytest.mark.parametrize("dims", SIZES)
def test_hidden_by_cutout_as_class_maps_are(dims):
    """With `void` the truth too; without, the image alone."""
    batch, found = augmented(dims, ["cutout", "cutout of the image"])
    for name, after in found.items():
        check(after)
        assert (after["label"] != batch["label"]).any() == (name == "cutout"), name


@pytest.mark.parametrize("dims", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 3))])
@pytest.mark.parametrize(
    "name",
    ["rotate", *(pytest.param(n, marks=pytest.mark.slow) for n in ("affine", "elastic", "flip"))],
)
def test_moved_as_class_maps_are(dims, name):
    batch, found = augmented(dims, [name])
    check(found[name])
    assert (found[name]["label"] != batch["label"]).any()
    if name != "flip":
        assert (found[name]["label"] == 255).all(-1).mean() > (batch["label"] == 255).all(-1).mean()

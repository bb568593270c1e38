"""Objects under augmentation: they move with their pixels, and are pasted where others were.

The rule: after any op the class map painted from the masks is the label, and the image's, wherever
it is not void. Images here show in their first channel which class, in their second which example a
pixel is of.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax import kernels
from segjax.augment import compose, geometry, mixing, photometric
from segjax.config import lookup
from segjax.data import masks, pipeline, synthetic
from segjax.errors import ConfigError
from segjax.structs import Field

SIZE, ROOM = (40, 48), 20
SOURCE = synthetic.Source(split="train", num_examples=16, objects=ROOM, size=SIZE)
SCHEMA = {**SOURCE.schema, "image": Field("image", (2,))}
LARGE_JITTER = functools.partial(
    geometry.affine, size=SIZE, scale=(0.1, 2.0), horizontal=0.5, fill=0.5
)
"""Ghiasi et al. 2021's large scale jittering, which `affine` is with their arguments."""
PASTE = functools.partial(mixing.copy_paste, share=0.5)
OPS = {
    "flip": functools.partial(geometry.flip, horizontal=0.5, vertical=0.5),
    "affine": functools.partial(geometry.affine, size=(32, 52), scale=(0.5, 1.5), shift=0.2),
    "large_jitter": LARGE_JITTER,
    "rotate": functools.partial(geometry.affine, size=SIZE, scale=(0.5, 2.0), rotate=90),
    "elastic": functools.partial(geometry.elastic, std=3.0),
    "cutout": functools.partial(photometric.cutout, size=(0.2, 0.5), count=2, void=True),
    "copy_paste": PASTE,
    "cutmix": mixing.cutmix,
    "classmix": mixing.classmix,
    "mosaic": mixing.mosaic,
}


@functools.cache
def augment(*names):
    """Compile ops in their short form; that both forms agree is tested with the kernels."""
    function = jax.jit(compose.make_augment([OPS[name] for name in names], SCHEMA))
    with kernels.use("reference"):
        return function.lower(jax.random.key(0), read()).compile()


@functools.cache
def read(rows=8):
    """Return a batch of scenes whose image says class and row."""
    examples = [SOURCE[number] for number in range(rows)]
    for row, example in enumerate(examples):
        shown = np.stack([example["label"], np.full(SIZE, 10 * row)], -1)
        example["image"] = shown.astype(np.uint8)
    return pipeline.stack(
        examples, range(100, 100 + rows), schema=SCHEMA, num_rows=rows, size=SIZE, pad_value=0
    )


def in_bytes(batch, name):
    """Return a field of an augmented batch, images in their bytes again."""
    found = np.asarray(batch[name])
    return np.rint(found * 255).astype(int) if name == "image" else found


def unpacked(batch, row):
    return masks.unpack(np.asarray(batch["object_masks"][row]), ROOM)


def painted(batch, row):
    """Return the class map that an example's masks say."""
    seen = unpacked(batch, row)
    label = np.zeros(seen.shape[1:], int)
    for mask, number in zip(seen, np.asarray(batch["object_classes"][row]), strict=True):
        assert number >= 0 or not mask.any(), "what is none has no pixel"
        label[mask] = number
    return label


def check(batch):
    for row in range(len(batch["label"])):
        label = np.asarray(batch["label"][row])
        known = label != 255
        np.testing.assert_array_equal(painted(batch, row)[known], label[known])
        assert not unpacked(batch, row)[:, ~known].any()


BOTH = pytest.param(("large_jitter", "copy_paste"), marks=pytest.mark.slow)


SLOW = ("classmix", "mosaic")  # they paste as cutmix does


@pytest.mark.parametrize(
    "names",
    [
        *((name,) for name in OPS if name not in SLOW),
        *(pytest.param((name,), marks=pytest.mark.slow) for name in SLOW),
        BOTH,
    ],
)
def test_the_label_painted_from_the_masks_is_the_label(names):
    batch = read()
    check(batch)
    pasted = left = 0
    for seed in range(3):
        out = jax.device_get(augment(*names)(jax.random.key(seed), batch))
        check(out)
        for row in range(8):
            before, after = unpacked(batch, row), unpacked(out, row)
            left += int(after.any((1, 2)).sum())
            pasted += int(after.any((1, 2)).sum() > before.any((1, 2)).sum())
    assert left > 40 and (pasted > 5 if names == ("copy_paste",) else True)


def test_large_jitter_scales_from_a_tenth_to_twice():
    """Shrunken images lie on the fill, whole; enlarged ones fill the canvas."""
    batch = read()
    label = np.zeros_like(batch["label"])
    out = [augment("large_jitter")(jax.random.key(seed), {**batch, "label": label})["label"]
           for seed in range(16)]  # fmt: skip
    shares = (np.stack(out) != 255).mean((2, 3)).ravel()
    expected = np.minimum(np.linspace(0.1, 2, 1000), 1) ** 2
    assert shares.min() < 0.06 and (shares == 1).mean() > 0.35
    assert abs(shares.mean() - expected.mean()) < 0.08


def test_what_is_pasted_is_the_other_s_whole_object_and_hides_what_was_there():
    batch = read()
    out = jax.device_get(augment("copy_paste")(jax.random.key(0), batch))
    image = in_bytes(out, "image")
    for row in range(8):
        other = row ^ 1
        from_other = image[row, ..., 1] == 10 * other
        assert from_other.any() and (from_other | (image[row, ..., 1] == 10 * row)).all()
        for name in ("label", "image"):
            theirs = np.where(from_other[..., None], np.atleast_3d(batch[name][other]),
                              np.atleast_3d(batch[name][row]))  # fmt: skip
            mine = image[row] if name == "image" else np.atleast_3d(out[name][row])
            np.testing.assert_array_equal(mine, theirs)
        before, after, there = unpacked(batch, row), unpacked(out, row), unpacked(batch, other)
        own = before.any((1, 2))
        np.testing.assert_array_equal(after[own], before[own] & ~from_other)
        fresh = {mask.tobytes() for mask in after[~own] if mask.any()}
        assert fresh < {mask.tobytes() for mask in there if mask.any()} | {b""}
        assert (after[~own].any(0) == from_other).all()
        numbers = np.asarray(out["instance"][row])
        assert len(np.unique(numbers[from_other])) == len(fresh), "instances stay apart"
        assert not set(numbers[from_other]) & set(numbers[~from_other]) - {0}


@pytest.mark.parametrize("room", [3, 8, 9])
def test_where_there_is_no_room_the_smallest_are_not_pasted(room):
    """And their pixels are not either: no object is seen that is not counted."""
    random = np.random.default_rng(room)

    def sample(there, value):
        which = np.zeros((ROOM, *SIZE), bool)
        for slot in there:
            side = int(random.integers(2, 12))
            low = [int(random.integers(length - side)) for length in SIZE]
            which[slot, low[0] : low[0] + side, low[1] : low[1] + side] = True
        arrays = {
            "image": np.full((*SIZE, 2), value, np.float32),
            "object_masks": masks.pack(which),
            "object_classes": np.where(np.isin(np.arange(ROOM), there), 1, -1).astype(np.int32),
            "object_crowd": np.zeros(ROOM, bool),
        }
        schema = {name: SCHEMA[name] for name in arrays}
        return compose.Sample(jax.tree.map(jnp.asarray, arrays), schema), which

    own = sorted(random.choice(ROOM, ROOM - room, replace=False).tolist())
    mine, _ = sample(own, 0)
    theirs, which = sample(range(12), 1)
    out = mixing.copy_paste(jax.random.key(0), mine, theirs, share=1)
    after = masks.unpack(np.asarray(out.arrays["object_masks"]), ROOM)
    fresh = [after[slot] for slot in range(ROOM) if slot not in own and after[slot].any()]
    areas = which.sum((1, 2))
    chosen = np.argsort(-areas, kind="stable")[: min(room, 12)]
    assert {m.tobytes() for m in fresh} == {which[k].tobytes() for k in chosen}
    shown = np.asarray(out.image)[..., 0] == 1
    np.testing.assert_array_equal(shown, which[chosen].any(0))


def test_crowds_are_not_pasted_but_cut():
    batch = {**read(), "object_crowd": np.ones((8, ROOM), bool)}
    out = augment("copy_paste")(jax.random.key(0), batch)
    for name in SCHEMA:
        np.testing.assert_array_equal(in_bytes(out, name), batch[name])
    batch["object_crowd"] = np.repeat(np.array([[True], [False]] * 4), ROOM, 1)
    out = augment("copy_paste")(jax.random.key(0), batch)
    check(out)
    crowd = np.asarray(out["object_crowd"])
    assert not crowd[1::2].any() and not crowd[::2].all(), "what is pasted there is no crowd"


def test_no_object_at_all_and_no_partner_change_nothing():
    empty = {**read(), "object_masks": np.zeros_like(read()["object_masks"]),
             "object_classes": np.full((8, ROOM), -1, np.int32)}  # fmt: skip
    out = augment("copy_paste")(jax.random.key(1), empty)
    np.testing.assert_array_equal(out["object_classes"], empty["object_classes"])
    np.testing.assert_array_equal(out["label"], empty["label"])
    whole = augment("copy_paste")(jax.random.key(1), read())
    for rows in (1, 5):
        odd = {name: value[:rows] for name, value in read().items()}
        out = jax.jit(compose.make_augment([PASTE], SCHEMA))(jax.random.key(1), odd)
        for name in SCHEMA:
            np.testing.assert_array_equal(out[name][: rows - 1], whole[name][: rows - 1])
            np.testing.assert_array_equal(in_bytes(out, name)[-1], odd[name][-1])


def test_an_example_s_fate_is_its_own_and_its_partner_s():
    """Pairs may stand anywhere in the batch; with p or share of 0 nothing is pasted."""
    batch, order = read(), np.array([5, 4, 0, 1, 7, 6, 2, 3])
    whole = augment("copy_paste")(jax.random.key(2), batch)
    moved = augment("copy_paste")(jax.random.key(2), {n: v[order] for n, v in batch.items()})
    for name in SCHEMA:
        np.testing.assert_array_equal(np.asarray(whole[name])[order], moved[name])
    for off in ({"p": 0}, {"share": 0}):
        op = functools.partial(mixing.copy_paste, **off)
        with kernels.use("reference"):
            out = jax.jit(compose.make_augment([op], SCHEMA))(jax.random.key(2), batch)
        np.testing.assert_array_equal(out["object_masks"], batch["object_masks"])
        np.testing.assert_array_equal(out["label"], batch["label"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tuned", "reference"])
def test_eight_devices_paste_alike_and_exchange_nothing(form):
    """With an even number of rows each; with one each they exchange rows, and agree as well."""
    key = jax.random.key(0)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    rows, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    paste = compose.make_augment([PASTE], SCHEMA)
    sharded = jax.jit(paste, in_shardings=(whole, rows), out_shardings=rows)
    for count in (16, 8):
        batch = read(count)
        with kernels.use(form):  # accelerators compile the reference
            compiled = sharded.lower(key, batch).compile()
        if count == 16:
            for collective in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
                assert collective not in compiled.as_text()
        out = compiled(jax.device_put(key, whole), jax.device_put(batch, rows))
        alone = jax.jit(paste)(key, batch)
        for name in SCHEMA:
            np.testing.assert_array_equal(out[name], alone[name])


@pytest.mark.parametrize(
    "name", ["cutmix", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_each_pixel_is_wholly_of_one_example_of_the_group(name):
    """Image, label and instance; and the part of another is what the op is called after."""
    batch = read()
    group = 4 if name == "mosaic" else 2
    seen = 0
    for seed in range(3):
        out = jax.device_get(augment(name)(jax.random.key(seed), batch))
        source = in_bytes(out, "image")[..., 1] // 10
        for row in range(8):
            assert {*np.unique(source[row])} <= {n for n in range(8) if n // group == row // group}
            label = np.take_along_axis(batch["label"], source[row][None], 0)[0]
            void = out["label"][row] == 255
            np.testing.assert_array_equal(out["label"][row][~void], label[~void])
            assert (void & (label != 255)).mean() < 0.2  # objects that there was no room for
            over = source[row] != row
            seen += int(over.any())
            lines = [np.flatnonzero(over.any(1 - axis)) for axis in (0, 1)]
            if name == "cutmix" and over.any():
                assert over.sum() == len(lines[0]) * len(lines[1]), "it is a box"
            if name == "classmix":
                theirs = batch["label"][row ^ 1]
                taken = np.unique(theirs[over])
                np.testing.assert_array_equal(over, np.isin(theirs, taken))
                assert len(taken) == -(-len({*np.unique(theirs)} - {255}) // 2)
            if name == "mosaic":
                corners = source[row][[0, 0, -1, -1], [0, -1, 0, -1]]
                first = row // 4 * 4
                assert corners.tolist() == [first + (row + turn) % 4 for turn in range(4)]
    assert seen > 15


def test_mixup_blends_images_and_keeps_the_label_that_both_have():
    plain = {name: SCHEMA[name] for name in ("image", "label")}
    batch = {name: read()[name] for name in (*plain, "index", "mask")}
    mix = jax.jit(compose.make_augment([mixing.mixup], plain))
    shares = []
    for seed in range(4):
        out = jax.device_get(mix(jax.random.key(seed), batch))
        for row in range(8):
            mine, theirs = (batch["label"][n] for n in (row, row ^ 1))
            np.testing.assert_array_equal(out["label"][row], np.where(mine == theirs, mine, 255))
            first, second = (batch["image"][n].astype(float) / 255 for n in (row, row ^ 1))
            share = (out["image"][row, 0, 0, 1] - second[0, 0, 1]) / (first - second)[0, 0, 1]
            expected = share * first + (1 - share) * second
            np.testing.assert_allclose(out["image"][row], expected, atol=1e-4)
            shares.append(share)
    assert 0 <= min(shares) < 0.2 and 0.8 < max(shares) <= 1.00001  # Beta(0.4, 0.4)


def test_a_config_names_it_and_it_needs_objects():
    op = lookup.build("augment", {"type": "mixing:copy_paste", "share": 0.3}, where="x",
                      takes=compose.OP, or_takes=compose.MIXES)  # fmt: skip
    shown = [compose.examples_of(one) for one in (OPS["flip"], op, mixing.mosaic)]
    assert shown == [1, 2, 4]
    plain = {name: SCHEMA[name] for name in ("image", "label")}
    batch = {name: jnp.asarray(read()[name]) for name in (*plain, "index", "mask")}
    with pytest.raises(ConfigError, match="expected a batch with objects, which lacks"):
        compose.make_augment([op], plain)(jax.random.key(0), batch)
    with pytest.raises(ConfigError, match="of another kind"):
        lookup.build("augment", {"type": "mixing:copy_paste"}, where="x", takes=compose.OP)

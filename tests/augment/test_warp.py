"""Every field moves as its kind says, in one, two and three dimensions, under every op."""

import functools
import itertools

import jax
import numpy as np
import pytest

from segjax.augment import geometry, photometric
from segjax.data import masks
from segjax.errors import ConfigError
from tests.augment.samples import run, run_fields

SIZES = {1: (60,), 2: (30, 44), 3: (14, 24, 28)}
OUT = {1: (50,), 2: (24, 40), 3: (12, 20, 24)}
NEAR = {1: 2, 2: 2, 3: 1}  # pixels that an interpolation reaches over, and one more


def moves(axes):
    mirrors = {"horizontal": 0.5, "vertical": 0.5, "depth": 0.5}
    mirrors = dict(list(mirrors.items())[:axes])
    affine = functools.partial(geometry.affine, size=OUT[axes], fill=0.5, **mirrors)
    found = {
        "flip": functools.partial(geometry.flip, **mirrors),
        "affine": functools.partial(affine, scale=(0.6, 1.8), shift=0.2),
        "elastic": functools.partial(geometry.elastic, std=0.5 if axes == 3 else 1.5, fill=0.5),
    }
    if axes > 1:
        found["rotate"] = functools.partial(affine, scale=(0.9, 1.6), aspect=(0.9, 1.1), rotate=60)
    return found


CASES = [(axes, name) for axes in SIZES for name in moves(axes)]


def blocks(size, side=8):
    """Return a map of boxes whose numbers differ from all their neighbours'."""
    steps = np.array([3, 2, 1])[: len(size)]
    places = np.indices(size) // side
    return np.tensordot(steps, places, 1) % 7 + 1


@pytest.mark.parametrize("axes, name", CASES)
def test_image_label_and_instance_move_together(axes, name):
    label = blocks(SIZES[axes])
    out = run_fields(moves(axes)[name], np.stack([label, label], -1) / 8, label, 100 * label)
    assert out["label"].dtype == out["instance"].dtype == np.int32
    void = out["label"] == 255
    np.testing.assert_array_equal(out["instance"], np.where(void, 0, 100 * out["label"]))
    assert set(np.unique(out["label"])) <= set(np.unique(label)) | {255}
    moved = masks.unpack(out["object_masks"], 7)
    for number, mask in enumerate(moved, start=1):
        np.testing.assert_array_equal(mask, out["label"] == number)
    # Inside a box both show the same class; where the image is a blend, an edge must be near.
    shown = np.where(void, 4, out["label"]) / 8
    pure = np.ones(shown.shape, bool)
    near = NEAR[axes]
    for shift in itertools.product(range(-near, near + 1), repeat=axes):
        pure &= np.roll(out["label"], shift, range(1, 1 + axes)) == out["label"]
    for axis in range(1, 1 + axes):
        ends = [slice(None)] * (1 + axes)
        for ends[axis] in (slice(None, near), slice(-near, None)):
            pure[tuple(ends)] = False
    assert pure.mean() > 0.05
    np.testing.assert_allclose(out["image"][..., 0][pure], shown[pure], atol=2e-4)
    np.testing.assert_array_equal(out["image"][..., 0], out["image"][..., 1])


@pytest.mark.parametrize("axes, name", [case for case in CASES if case[1] != "flip"])
def test_void_is_exactly_what_comes_from_outside(axes, name):
    size = SIZES[axes]
    out = run_fields(moves(axes)[name], np.ones((*size, 2)), np.zeros(size), np.ones(size))
    void = out["label"] == 255
    assert set(np.unique(out["label"])) == {0, 255}
    np.testing.assert_array_equal(out["instance"], ~void)
    np.testing.assert_allclose(out["image"][~void], 1, atol=1e-6)
    assert (out["image"][void] == 0.5).all()


@pytest.mark.parametrize("axis, name", [(0, "depth"), (1, "vertical"), (2, "horizontal")])
@pytest.mark.parametrize("op", [geometry.flip, functools.partial(geometry.affine, size=(6, 8, 9))])
def test_each_axis_of_a_volume_is_mirrored_with_its_own_probability(op, axis, name):
    label = np.arange(6 * 8 * 9).reshape(6, 8, 9)
    image = np.zeros((6, 8, 9, 1))
    off = dict.fromkeys(["depth", "vertical", "horizontal"], 0)
    _, moved = run(functools.partial(op, **off | {name: 1}), image, label, keys=2)
    np.testing.assert_array_equal(moved, np.stack([np.flip(label, axis)] * 2))
    _, moved = run(functools.partial(op, **dict.fromkeys(off, 0.3)), image, label, keys=400)
    starts = np.stack(np.unravel_index(moved[:, 0, 0, 0], label.shape), -1) > 0
    assert (np.abs(starts.mean(0) - 0.3) < 0.08).all()
    assert (np.abs(np.corrcoef(starts.T) - np.eye(3)) < 0.15).all()


@pytest.mark.parametrize("name", ["affine", "rotate"])
def test_a_volume_of_equal_slices_moves_like_one_slice(name):
    options = dict(scale=(0.6, 1.8), shift=0.1) if name == "affine" else dict(rotate=60)
    options |= dict(horizontal=0.5, vertical=0.5, aspect=(0.8, 1.2), fill=0.3)
    label = blocks((30, 44))
    image = np.random.default_rng(0).random((30, 44, 2))
    flat, flat_label = run(
        functools.partial(geometry.affine, size=(24, 40), **options), image, label, keys=8
    )
    deep, deep_label = run(
        functools.partial(geometry.affine, size=(9, 24, 40), **options),
        np.stack([image] * 40), np.stack([label] * 40), keys=8,
    )  # fmt: skip
    for one in range(9):
        np.testing.assert_array_equal(deep_label[:, one], flat_label)
        np.testing.assert_allclose(deep[:, one], flat, atol=1e-6)


def test_a_signal_moves_like_a_row_of_an_image_of_equal_rows():
    options = dict(scale=(0.6, 1.8), shift=0.1, horizontal=0.5, fill=0.3)
    signal, label = np.random.default_rng(0).random((44, 2)), blocks((44,))
    line, line_label = run(
        functools.partial(geometry.affine, size=(40,), **options), signal, label, keys=8
    )
    image, image_label = run(
        functools.partial(geometry.affine, size=(5, 40), **options),
        np.stack([signal] * 60), np.stack([label] * 60), keys=8,
    )  # fmt: skip
    for row in range(5):
        np.testing.assert_array_equal(image_label[:, row], line_label)
        np.testing.assert_allclose(image[:, row], line, atol=1e-6)


@pytest.mark.parametrize("axes", [1, 3])
def test_the_matrix_form_computes_what_the_taps_compute(axes, monkeypatch):
    rng = np.random.default_rng(0)
    image, label = rng.random((*SIZES[axes], 2)), rng.integers(0, 9, SIZES[axes])
    taps = run(moves(axes)["affine"], image, label, keys=4)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    matrix = run(moves(axes)["affine"], image, label, keys=4)
    np.testing.assert_allclose(taps[0], matrix[0], atol=1e-5)
    np.testing.assert_array_equal(taps[1], matrix[1])


@pytest.mark.parametrize(
    "axes, op, named",
    [
        (1, functools.partial(geometry.flip, vertical=0.5), "flip.vertical=0.5: .* 1 axis"),
        (2, functools.partial(geometry.flip, depth=0.5), "flip.depth=0.5: .* 2 axes .*expected 3"),
        (2, functools.partial(geometry.affine, size=(8, 8), depth=1), "affine.depth=1"),
        (1, functools.partial(geometry.affine, size=(8, 8)), "affine.size=.*expected .*length"),
        (3, functools.partial(geometry.affine, size=(8, 8)), "affine.size=.*3 axes"),
        (1, functools.partial(geometry.affine, size=(8,), rotate=5), "affine.rotate=5"),
        (1, functools.partial(geometry.affine, size=(8,), aspect=(1, 2)), "affine.aspect="),
    ],
)
def test_what_an_axis_is_missing_for_is_refused(axes, op, named):
    size = SIZES[axes]
    with pytest.raises(ConfigError, match=named):
        run(op, np.zeros((*size, 1)), np.zeros(size), keys=1)


@pytest.mark.parametrize("name", ["color_jitter", "gamma", "gaussian_noise"])
def test_ops_that_clip_refuse_images_that_keep_their_values(name):
    arguments = {
        "color_jitter": {"contrast": 0.5},
        "gamma": {"exponent": (0.5, 2)},
        "gaussian_noise": {"std": (0.1, 0.2)},
    }
    op = functools.partial(getattr(photometric, name), **arguments[name])
    zeros = np.zeros((8, 8))
    with pytest.raises(ConfigError, match=f"{name}: expected images in .0, 1., but those of int16"):
        run_fields(op, zeros[..., None], zeros, zeros, keys=1, dtype="int16")


def test_images_that_keep_their_values_are_filled_with_any_value():
    image, label = np.full((8, 8, 1), -1000.0), np.zeros((8, 8))
    op = functools.partial(geometry.affine, size=(12, 12), fill=-1024)
    out = run_fields(op, image, label, label, keys=4, dtype="int16")
    assert (out["image"][out["label"] == 255] == -1024).all()
    assert (out["image"][out["label"] == 0] == -1000).all()

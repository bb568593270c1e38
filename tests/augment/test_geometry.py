"""Image and label move together, as PIL would move them, and nothing is invented outside."""

import functools

import numpy as np
import PIL.Image
import pytest
import scipy.spatial

from segjax import kernels
from segjax.augment import geometry
from tests.augment.samples import run

SIZE = (30, 44)
FILL = (0.25, 0.5)
MOVES = {
    "flip": functools.partial(geometry.flip, horizontal=0.5, vertical=0.5),
    "affine": functools.partial(
        geometry.affine,
        size=(24, 40),
        scale=(0.5, 2),
        aspect=(0.7, 1.4),
        horizontal=0.5,
        vertical=0.5,
        shift=0.2,
        fill=FILL,
    ),
    "rotate": functools.partial(
        geometry.affine,
        size=(24, 40),
        scale=(0.7, 2),
        rotate=180,
        horizontal=0.5,
        vertical=0.5,
        fill=FILL,
    ),
    "elastic": functools.partial(geometry.elastic, std=2.0, fill=FILL),
    "perspective": functools.partial(geometry.perspective, distortion=0.3, fill=FILL),
    "grid_distortion": functools.partial(geometry.grid_distortion, limit=0.3),
    "rotate_scale": functools.partial(
        geometry.rotate_scale, size=(24, 40), rotate=180, p_rotate=0.7, p_zoom=0.7, fill=FILL
    ),
}


def blocks(height=SIZE[0], width=SIZE[1], side=8):
    """Return a label of square blocks whose classes differ from all their neighbours'."""
    rows, columns = np.arange(height)[:, None] // side, np.arange(width) // side
    return (3 * rows + 2 * columns) % 7 + 1


def coordinates(height, width):
    """Return an image that holds each pixel's own (y, x): bilinear interpolation reproduces it."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([y, x], -1)


@pytest.mark.parametrize("name", MOVES)
def test_image_and_label_move_together(name):
    label = blocks()
    out, moved = run(MOVES[name], np.stack([label, label], -1) / 8, label)
    # Inside a block both show the same class; where the image is a blend, an edge must be near.
    same = np.abs(out[..., 1] * 8 - np.where(moved == 255, 4, moved)) < 1e-3
    pure = np.ones_like(same)
    for shift in [(dy, dx) for dy in (-2, -1, 0, 1, 2) for dx in (-2, -1, 0, 1, 2)]:
        pure &= np.roll(moved, shift, (1, 2)) == moved
    pure[:, [0, 1, -2, -1]] = pure[:, :, [0, 1, -2, -1]] = False
    assert pure.mean() > 0.1
    assert same[pure].all()
    assert set(np.unique(moved)) <= set(np.unique(label)) | {255}
    assert moved.dtype == np.int32


@pytest.mark.parametrize(
    "name, slack",
    [
        *(("affine", 0.3), ("rotate", 0), ("elastic", 0)),
        *((name, 0) for name in ("perspective", "grid_distortion", "rotate_scale")),
    ],
)
def test_the_label_is_that_of_the_pixel_under_the_sampled_point(name, slack):
    # The filter of a shrunken image is off its centre, most at the border: hence the slack.
    places = 1000 + np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    out, label = run(MOVES[name], coordinates(*SIZE), places)
    y, x = np.divmod(label - 1000, SIZE[1])
    seen = label != 255
    assert np.abs(out[..., 0] - y - 0.5)[seen].max() < 0.5 + slack + 1e-4
    assert np.abs(out[..., 1] - x - 0.5)[seen].max() < 0.5 + slack + 1e-4


@pytest.mark.parametrize("name", ["affine", "rotate", "elastic", "perspective", "rotate_scale"])
def test_void_is_exactly_what_comes_from_outside(name):
    out, label = run(MOVES[name], np.ones((*SIZE, 2)), np.zeros(SIZE))
    assert set(np.unique(label)) == {0, 255}
    void = label == 255
    np.testing.assert_allclose(out[~void], 1, atol=1e-6)
    np.testing.assert_array_equal(out[void], np.broadcast_to(FILL, out[void].shape))


def test_void_in_stays_void():
    _, label = run(MOVES["rotate"], np.zeros((*SIZE, 2)), np.full(SIZE, 255))
    assert (label == 255).all()


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.6])
def test_scaling_equals_pil(factor):
    rng = np.random.default_rng(0)
    image, label = rng.random(SIZE, np.float32), rng.integers(0, 255, SIZE)
    size = tuple(round(side * factor) for side in SIZE)
    op = functools.partial(geometry.affine, size=size, scale=(factor, factor))
    out, moved = run(op, image[..., None], label, keys=1)
    resized = PIL.Image.fromarray(image).resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    np.testing.assert_allclose(out[0, ..., 0], resized, atol=1e-5)
    # The covering pixel, floor((i + 1/2) * length / size), in whole numbers; ties go either way.
    (rows, row_ties), (columns, column_ties) = (
        divmod((2 * np.arange(new) + 1) * old, 2 * new) for old, new in zip(SIZE, size, strict=True)
    )
    clear = np.ix_(row_ties > 0, column_ties > 0)
    np.testing.assert_array_equal(moved[0][clear], label[np.ix_(rows, columns)][clear])


def test_the_matrix_form_computes_what_the_taps_compute():
    rng = np.random.default_rng(0)
    image, label = rng.random((*SIZE, 2)), rng.integers(0, 9, SIZE)
    taps = run(MOVES["affine"], image, label)
    with kernels.use("reference"):
        matrix = run(MOVES["affine"], image, label)
    assert (taps[0] != matrix[0]).any(), "one form was compared with itself"
    np.testing.assert_allclose(taps[0], matrix[0], atol=1e-5)
    np.testing.assert_array_equal(taps[1], matrix[1])


@pytest.mark.parametrize("rotate", [0, 1e-30])
def test_a_crop_at_scale_one_copies_pixels(rotate):
    # 8 of 9 rows and 8 of 10 columns: six windows fit, and all are used.
    image = np.random.default_rng(0).random((9, 10, 1), np.float32)
    label = np.arange(90).reshape(9, 10)
    op = functools.partial(geometry.affine, size=(8, 8), rotate=rotate)
    out, moved = run(op, image, label, keys=64)
    corners = set()
    for one, classes in zip(out, moved, strict=True):
        y, x = divmod(int(classes[0, 0]), 10)
        corners.add((y, x))
        np.testing.assert_array_equal(one, image[y : y + 8, x : x + 8])
        np.testing.assert_array_equal(classes, label[y : y + 8, x : x + 8])
    assert corners == {(y, x) for y in range(2) for x in range(3)}


def test_a_smaller_image_lies_anywhere_in_the_window():
    op = functools.partial(geometry.affine, size=(6, 9))
    _, label = run(op, np.zeros((4, 8, 1)), np.zeros((4, 8)), keys=64)
    assert ((label == 0).sum((1, 2)) == 32).all()
    corners = {tuple(np.argwhere(one == 0)[0]) for one in label}
    assert corners == {(y, x) for y in range(3) for x in range(2)}


def test_without_the_draw_an_image_is_still_cropped_to_size():
    op = functools.partial(MOVES["rotate"], size=(8, 8), p=0)
    out, label = run(op, coordinates(9, 10) / 10, np.zeros((9, 10)))
    assert (label == 0).all()
    np.testing.assert_allclose(np.diff(out[..., 0], axis=1), 0.1, atol=1e-6)
    np.testing.assert_allclose(np.diff(out[..., 1], axis=2), 0.1, atol=1e-6)


def test_flip_mirrors_each_axis_with_its_probability():
    image, label = coordinates(6, 8), np.arange(48).reshape(6, 8)
    out, moved = run(functools.partial(geometry.flip, horizontal=1.0), image, label, keys=4)
    np.testing.assert_array_equal(out[0], np.flip(image, 1))
    np.testing.assert_array_equal(moved[0], np.flip(label, 1))
    for op in (geometry.flip, functools.partial(geometry.affine, size=(6, 8))):
        op = functools.partial(op, horizontal=0.25, vertical=0.75)
        out, moved = run(op, image, label, keys=512)
        across, down = out[:, 0, 0, 1] > 4, out[:, 0, 0, 0] > 3
        assert 0.19 < across.mean() < 0.31
        assert 0.69 < down.mean() < 0.81
        assert abs(np.corrcoef(across, down)[0, 1]) < 0.15
        np.testing.assert_array_equal(moved[:, 0, 0], np.where(across, 7, 0) + 40 * down)


def test_the_map_is_a_similarity_with_the_scale_and_angle_asked_for():
    op = functools.partial(geometry.affine, size=(9, 9), scale=(1.5, 2.5), rotate=30)
    image = coordinates(64, 64)
    out, _ = run(op, image, np.zeros((64, 64)), keys=128)
    down, across = out[:, 6, 4] - out[:, 2, 4], out[:, 4, 6] - out[:, 4, 2]
    np.testing.assert_allclose(np.sum(down * across, 1), 0, atol=2e-3)
    scale = 4 / np.linalg.norm(across, axis=1)
    np.testing.assert_allclose(scale, 4 / np.linalg.norm(down, axis=1), rtol=1e-4)
    angle = np.degrees(np.arctan2(across[:, 0], across[:, 1]))
    assert 1.49 < scale.min() < 1.6 and 2.4 < scale.max() < 2.51
    assert -30 <= angle.min() < -25 and 25 < angle.max() <= 30
    assert abs(np.corrcoef(scale, angle)[0, 1]) < 0.3


def test_aspect_keeps_the_area():
    op = functools.partial(geometry.affine, size=(64, 64), aspect=(0.5, 2))
    out, _ = run(op, coordinates(200, 200), np.zeros((200, 200)), keys=128)
    height = 60 / (out[:, 62, 4, 0] - out[:, 2, 4, 0])
    width = 60 / (out[:, 4, 62, 1] - out[:, 4, 2, 1])
    ratio = width / height
    np.testing.assert_allclose(width * height, 1, atol=0.01)
    assert 0.49 < ratio.min() < 0.6 and 1.7 < ratio.max() < 2.02
    assert abs(np.log(ratio).mean()) < 0.15


def test_shift_moves_the_window_beyond_the_crop():
    _, label = run(
        functools.partial(geometry.affine, size=(20, 20), shift=0.25),
        np.zeros((20, 20, 1)),
        np.zeros((20, 20)),
        keys=64,
    )
    rows = (label == 0).any(2).sum(1)
    assert rows.min() == 15 and rows.max() == 20


def test_elastic_displaces_smoothly_by_pixels_of_the_asked_deviation():
    image = coordinates(96, 96)
    out, label = run(functools.partial(geometry.elastic, std=3.0), image, np.zeros((96, 96)))
    moved = (out - image)[:, 20:76, 20:76]
    assert (label[:, 20:76, 20:76] == 0).mean() > 0.99
    assert 1.5 < moved.std() < 4
    assert np.abs(np.diff(moved, axis=1)).max() < 0.6


def test_perspective_shows_what_pillow_shows_for_the_same_corners():
    image = np.random.default_rng(0).random((*SIZE, 2)).astype(np.float32)
    op = functools.partial(geometry.perspective, distortion=0.5)
    places, _ = run(op, coordinates(*SIZE), np.zeros(SIZE), keys=4)
    out, label = run(op, image, np.zeros(SIZE), keys=4)
    y, x = (np.mgrid[: SIZE[0], : SIZE[1]] + 0.5).reshape(2, -1)
    for one, where, void in zip(out, places, label == 255, strict=True):
        inner = ~void & (np.abs(where - np.array(SIZE) / 2) < np.array(SIZE) / 2 - 1).all(-1)
        at = inner.ravel()
        rows = []  # a x + b y + c - u (g x + h y) = u, and so for v
        for (v, u), a, b in zip(where.reshape(-1, 2)[at], y[at], x[at], strict=True):
            rows += [(b, a, 1, 0, 0, 0, -u * b, -u * a, u), (0, 0, 0, b, a, 1, -v * b, -v * a, v)]
        rows = np.array(rows)
        eight, error, rank, _ = np.linalg.lstsq(rows[:, :8], rows[:, 8], rcond=None)
        assert rank == 8 and error / len(rows) < 1e-6, "it is a projection"
        theirs = [
            PIL.Image.fromarray(np.ascontiguousarray(image[..., channel])).transform(
                SIZE[::-1],
                PIL.Image.Transform.PERSPECTIVE,
                eight,
                PIL.Image.Resampling.BILINEAR,
            )
            for channel in (0, 1)
        ]
        np.testing.assert_allclose(one[inner], np.stack(theirs, -1)[inner], atol=5e-3)


def test_grid_distortion_stretches_stripes_and_keeps_the_borders():
    op = functools.partial(geometry.grid_distortion, limit=0.5, steps=4)
    size = (32, 64)
    out, label = run(op, coordinates(*size), np.zeros(size))
    assert (label == 0).all()
    for axis in range(2):
        place = np.moveaxis(out[..., axis], 1 + axis, -1)
        np.testing.assert_array_equal(place, np.broadcast_to(place[:, :1], place.shape))
        step = np.diff(place[:, 0].reshape(len(out), 4, -1)[..., 1:-1], axis=-1)
        slope = step[..., :1]
        np.testing.assert_allclose(step, np.broadcast_to(slope, step.shape), atol=1e-3)
        np.testing.assert_allclose(slope.mean(1), 1, atol=1e-3)
        assert slope.min() < 0.7 and slope.max() > 1.3


def test_turning_about_every_axis_of_a_volume_is_scipy_s_rotation():
    size = (12, 12, 12)
    places = np.stack(np.meshgrid(*[np.arange(12) + 0.5] * 3, indexing="ij"), -1)
    op = functools.partial(
        geometry.rotate_scale, size=(4, 4, 4), rotate=20, p_rotate=1, p_zoom=0.5, zoom=(1.2, 1.2)
    )
    out, label = run(op, places, np.zeros(size), keys=16)
    assert (label == 0).all()
    off = out - 6
    for one in off:
        steps = np.stack([np.diff(one, axis=axis).reshape(-1, 3).mean(0) for axis in range(3)], 1)
        zoom = np.linalg.norm(steps, axis=0)
        assert min(np.abs(zoom - 1).max(), np.abs(zoom - 1.2).max()) < 1e-4
        turn = scipy.spatial.transform.Rotation.from_matrix(steps / zoom)
        assert (np.abs(turn.as_euler("xyz", degrees=True)) < 20.01).all()
    assert np.abs(off.mean((1, 2, 3))).max() < 1e-4, "the middle stays"


def test_without_turning_the_middle_is_copied():
    image, label = np.random.default_rng(0).random((9, 13, 1), np.float32), np.arange(117)
    op = functools.partial(geometry.rotate_scale, size=(4, 6), p_rotate=0, p_zoom=0)
    out, moved = run(op, image, label.reshape(9, 13), keys=2)
    np.testing.assert_array_equal(out[0], image[2:6, 3:9])
    np.testing.assert_array_equal(moved[0], label.reshape(9, 13)[2:6, 3:9])

"""Windows and tiles: every pixel is decided once, by windows that see it, whatever the size."""

import itertools

import numpy as np
import pytest

from segjax.data import core
from segjax.data.fit import Canvas
from segjax.errors import DataError
from segjax.inference.layout import Axis, Layout, Plan
from segjax.inference.pieces import Cut
from segjax.layers import resample
from segjax.structs import Field

SCHEMA = core.semantic_schema(3) | {"instance": Field("ids", dtype="uint16")}
SIZES = [(32, 32), (40, 100), (97, 33), (200, 170), (300,), (10,), (1, 70), (40, 33, 50)]
OPTIONS = {
    "plain": {},
    "half": {"overlap": 0.5},
    "most": {"overlap": 0.7, "place": "stride"},
    "none": {"overlap": 0.0},
    "flipped": {"flips": (0,)},
    "scaled": {"scales": (0.5, 1.0, 1.75)},
    "sides": {"short_side": 64, "long_side": 100},
}


def example(size):
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 200, (*size, 3), np.uint8),
        "label": random.integers(0, 5, size, np.uint8),
        "instance": random.integers(0, 300, size).astype(np.uint16),
        "name": "x",
    }


def canvas_of(size, how):
    return Canvas((32, 40, 32)[: len(size)], how, 5)


@pytest.mark.parametrize("blend", ["nearest", "flat", "gaussian"])
@pytest.mark.parametrize("how", ["resize", "pad"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_pixel_is_decided_once(how, blend, options):
    """By weights that add up to 1 in every view, of pixels that the window has of the image."""
    for size in SIZES:
        plan = Plan(size, Layout(canvas_of(size, how), blend=blend, **options))
        decided, seen = np.zeros(size, int), []
        for number, tile in enumerate(plan.tiles()):
            decided[tile.region] += 1
            assert all(s.stop - s.start <= n for s, n in zip(tile.region, plan.side, strict=True))
            for view, axes in zip(plan.views, tile.reaches, strict=True):
                for axis, reaches, inner in zip(view.axes, axes, tile.inner, strict=True):
                    weight = sum(reach.weight for reach in reaches)[inner]
                    np.testing.assert_allclose(weight, 1, rtol=1e-6)
                    for reach in reaches:
                        assert reach.low.min() >= 0
                        assert (reach.low + (reach.upper > 0)).max() < axis.covered()
            pieces = [piece for piece, _ in tile.pieces()]
            assert all(number <= plan.last[piece] for piece in pieces)
            seen += pieces
        assert (decided == 1).all() and len(plan) == number + 1
        assert list(dict.fromkeys(seen)) == plan.pieces
        assert not plan.is_one or len(seen) == len(plan)


@pytest.mark.parametrize("how", ["resize", "pad"])
@pytest.mark.parametrize("size", SIZES)
def test_maps_hold_each_pixel_in_one_window(how, size):
    """At the scale of the network, so that in a loss each label counts once; elsewhere the fill."""
    own, canvas = example(size), canvas_of(size, how)
    cut = Cut(own, Layout(canvas, flips=(0,)), SCHEMA)
    labelled = 0
    for piece in cut.plan.pieces:
        fields, view = cut.fields(piece), cut.plan.views[piece.view]
        assert fields["image"].shape == (*canvas.size, 3)
        assert all(fields[name].shape == canvas.size for name in ("label", "instance"))
        labelled += (fields["label"] != 255).sum()
        starts = [axis.starts[at] for axis, at in zip(view.axes, piece.at, strict=True)]
        seen = tuple(
            slice(s, s + axis.covered()) for s, axis in zip(starts, view.axes, strict=True)
        )
        if how == "pad":
            turned = (slice(None, None, -1),) if view.axes[0].flip else ()
            inner = tuple(slice(axis.covered()) for axis in view.axes)
            np.testing.assert_array_equal(fields["image"][inner], own["image"][seen][turned])
            kept = (fields["label"] != 255)[inner]
            for name in ("label", "instance"):
                there, stored = fields[name][inner][kept], own[name][seen][kept]
                np.testing.assert_array_equal(there, stored)
    sides = cut.plan.views[0].sides
    assert labelled == np.prod(sides)


def test_fields_of_other_sizes_are_errors():
    wrong = example((100, 90)) | {"label": np.zeros((100, 91), np.uint8)}
    for how in ("pad", "resize"):
        with pytest.raises(DataError, match=r"x: label of shape \(100, 91\)"):
            Cut(wrong, Layout(Canvas((32, 32), how, 0)), SCHEMA)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("whole", [1, 7, 32, 45, 200])
@pytest.mark.parametrize("side", [1, 20, 32])
def test_reaches_are_linear_interpolation(whole, side, flip):
    """Of half-pixel centres, held at the ends (PyTorch's align_corners=False)."""
    axis = Axis(whole, side, 32, [0], "nearest", flip)
    values = np.random.default_rng(1).normal(size=side)
    window = np.full(32, np.nan)  # behind the image: no tap
    window[:side] = values[::-1] if flip else values
    found = []
    for tile in axis.cuts(32):
        (reach,) = axis.reaches(tile, 32)
        upper = window[np.minimum(reach.low + 1, 31)]
        mixed = window[reach.low] + np.where(
            reach.upper > 0, (upper - window[reach.low]) * reach.upper, 0
        )
        found.append(mixed[: tile.stop - tile.start])
    if whole <= side:  # the matrix would average where it shrinks
        centres = (np.arange(whole) + 0.5) * side / whole - 0.5
        expected = np.interp(centres, np.arange(side), values)
    else:
        matrix = resample.interpolation(side, whole, method="bilinear", align_corners=False)
        expected = matrix @ values
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [10, 64, 65, 100, 1000])
def test_windows_see_what_they_decide_with_context(length):
    layout = Layout(Canvas((64,), "pad", 0))
    axis = Axis(length, length, 64, layout.starts(length, 64), "nearest")
    kept = [axis.kept(number) for number in range(len(axis.starts))]
    assert [a for a, _ in kept] + [length] == [0] + [b for _, b in kept]
    for start, (begin, end) in zip(axis.starts, kept, strict=True):
        assert start >= 0 and (start + 64 <= length or length <= 64)
        assert begin - start >= 8 or begin == 0
        assert start + 64 - end >= 8 or end == length


def of_mmseg(length, crop, stride):
    """Where mmsegmentation 1.2's slide_inference begins, from its formula."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    ends = [min(number * stride + crop, length) for number in range(count)]
    return [max(end - crop, 0) for end in ends]


def of_nnunet(length, tile, step):
    """Where nnU-Net v2's compute_steps_for_sliding_window begins, from its formula."""
    count = int(np.ceil((length - tile) / (tile * step))) + 1
    gap = (length - tile) / (count - 1) if count > 1 else 0
    return [int(np.round(gap * number)) for number in range(count)]


@pytest.mark.parametrize("length", [769, 1024, 2048, 2049, 3000, 513])
def test_places_are_those_of_published_protocols(length):
    layout = Layout(Canvas((769,), "pad", 0), overlap=1 / 3, place="stride")
    assert layout.starts(length, 769) == of_mmseg(length, 769, 513)
    assert layout.starts(length, 512) == of_mmseg(length, 512, 341)
    if length >= 512:
        half = Layout(Canvas((512,), "pad", 0), overlap=0.5)
        assert half.starts(length, 512) == of_nnunet(length, 512, 0.5)


def test_windows_are_released_row_by_row():
    """What is held at once is a row of windows, however many rows there are."""
    held = []
    for rows in (4, 16):
        layout = Layout(Canvas((32, 32), "pad", 0), blend="gaussian", overlap=0.5)
        plan = Plan((32 * rows, 32 * 6), layout)
        order = {piece: number for number, piece in enumerate(plan.pieces)}
        most, there, done = 0, set(), 0
        for number, tile in enumerate(plan.tiles()):
            needed = [piece for piece, _ in tile.pieces()]
            done = max(done, 1 + max(order[piece] for piece in needed))
            there |= set(plan.pieces[:done]) - {
                p for p in plan.pieces[:done] if plan.last[p] < number
            }
            there = {piece for piece in there if plan.last[piece] >= number}
            most = max(most, len(there))
        held.append(most)
    assert held[0] == held[1] <= 2 * 11 + 2


def test_the_plain_view_comes_first():
    plan = Plan((50, 60), Layout(Canvas((32, 32), "pad", 0), scales=(0.5, 1.0), flips=(0, 1)))
    flips = [tuple(axis.flip for axis in view.axes) for view in plan.views]
    assert flips[:4] == [(False, False), (True, False), (False, True), (True, True)]
    assert [view.is_plain for view in plan.views] == [True] + [False] * 7
    assert plan.views[0].sides == (50, 60) and plan.views[4].sides == (25, 30)
    assert len(set(itertools.chain(plan.pieces))) == len(plan.pieces)

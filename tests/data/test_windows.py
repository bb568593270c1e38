"""Pieces decide every pixel of an image once, whatever its size and dimensions."""

import numpy as np
import pytest

from segjax.data import core, windows
from segjax.data.fit import Canvas
from segjax.errors import DataError
from segjax.layers import resample
from segjax.structs import Field

SCHEMA = core.semantic_schema(3) | {"instance": Field("ids", dtype="uint16")}


def example(size):
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 200, (*size, 3), np.uint8),
        "label": random.integers(0, 5, size, np.uint8),
        "instance": random.integers(0, 300, size).astype(np.uint16),
        "name": "x",
    }


@pytest.mark.parametrize("how", ["resize", "pad"])
@pytest.mark.parametrize(
    "size", [(32, 32), (40, 100), (97, 33), (200, 170), (300,), (10,), (40, 33, 50)]
)
def test_every_pixel_is_decided_once(size, how):
    canvas, own = (32, 40, 32)[: len(size)], example(size)
    pieces = windows.pieces(own, schema=SCHEMA, canvas=Canvas(canvas, how, 5))
    back, decided = np.zeros(size, np.uint8), np.zeros(size, int)
    for piece in pieces:
        assert piece.fields["image"].shape == (*canvas, 3)
        for part in piece.parts:
            tile = part.cut(own["label"], canvas, 255)
            back[part.region] = tile[part.tile]
            decided[part.region] += 1
            assert (tile != 255).sum() == np.prod([s.stop - s.start for s in part.region])
    np.testing.assert_array_equal(back, own["label"])
    assert (decided == 1).all()
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize("size", [(200, 170), (300,), (40, 33, 50)])
def test_windows_show_the_pixels_that_they_decide(size):
    """At their own scale: each map holds its pixels where a window decides, its fill elsewhere."""
    canvas, own = (32, 40, 32)[: len(size)], example(size)
    for piece in windows.pieces(own, schema=SCHEMA, canvas=Canvas(canvas, "pad", 5)):
        (part,) = piece.parts
        fields = piece.fields
        for name in ("image", "label", "instance"):
            np.testing.assert_array_equal(fields[name][part.tile], own[name][part.region])
        outside = np.ones(canvas, bool)
        outside[part.tile] = False
        assert (fields["label"][outside] == 255).all() and (fields["instance"][outside] == 0).all()


def test_fields_of_other_sizes_are_errors_in_windows_too():
    wrong = example((100, 90)) | {"label": np.zeros((100, 91), np.uint8)}
    for canvas in (Canvas((32, 32), "pad", 0), Canvas((32, 32), "resize", 0)):
        with pytest.raises(DataError, match=r"x: label of shape \(100, 91\)"):
            windows.pieces(wrong, schema=SCHEMA, canvas=canvas)


@pytest.mark.parametrize("whole", [7, 32, 45, 200])
def test_taps_are_linear_interpolation(whole):
    """Of half-pixel centres, held at the ends (PyTorch's align_corners=False)."""
    canvas = Canvas((32, 32), "resize", 0)
    (piece,) = windows.pieces(example((whole, whole)), schema=SCHEMA, canvas=canvas)
    values = np.random.default_rng(1).normal(size=32)
    values[piece.covered[0] :] = np.nan  # behind the image: no tap
    found = []
    for part in piece.parts:
        if part.region[0].start == 0:
            low, weight = windows.taps(part, piece, (32, 32))[1]
            upper = values[np.minimum(low + 1, 31)]
            tile = values[low] + np.where(weight > 0, upper - values[low], 0) * weight
            found.append(tile[part.tile[1]])
    covered = piece.covered[1]
    if whole <= covered:  # the matrix would average where it shrinks
        centres = (np.arange(whole) + 0.5) * covered / whole - 0.5
        expected = np.interp(centres, np.arange(covered), values[:covered])
    else:
        matrix = resample.interpolation(covered, whole, method="bilinear", align_corners=False)
        expected = matrix @ values[:covered]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [10, 64, 65, 100, 1000])
def test_spans_cover_once_with_context(length):
    spans = windows.spans(length, 64)
    covered = [i for _, kept in spans for i in range(kept.start, kept.stop)]
    assert covered == list(range(length))
    for start, kept in spans:
        assert start >= 0 and (start + 64 <= length or length <= 64)
        assert kept.start - start >= 8 or kept.start == 0
        assert start + 64 - kept.stop >= 8 or kept.stop == length

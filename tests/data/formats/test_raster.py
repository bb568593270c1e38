"""Which pixels an outline holds, by the rule of each tool."""

import numpy as np
import pytest

from segjax.data import contours
from segjax.data.formats import base, opencv, outlines, raster, rle
from segjax.errors import DataError

SIZE = (24, 30)
RECORDED = [
    (
        [[2.5, 1.5], [20.2, 4.8], [14.1, 18.9], [3.3, 12.2]],
        "Z2:>1O001O10O01O1O0010O000N2M3N2N3L^7",
        "a16b06J1O010O001O001O010O001ON2N2N3L3N2Nf6",
    ),
    (
        [[0, 0], [9, 0], [9, 9], [0, 9]],
        "09?000000000000000h?",
        "0:>00000000000000000P?",
    ),
    (
        [[5, 2], [25, 20], [25, 2], [5, 20]],
        "j3a08O1N2N2N2N2N2N2N1O1001N2N2N2N2N2N2N2N1f3",
        "j3c06N2N2N2N101N2N2N2N2N02N2N2N2O0O2N2N2N2N2m2",
    ),
    (
        [[-3.7, 4.2], [33.3, 8.8], [12.5, 30.1]],
        "56b01O2N1O2N2N101N2N000000000001O0000000O1O1O1O2N1O1O1O1O1O1OI",
        "46b02N2N2O0O2N2N2N1O0001O000000000000001N1O1O1O1O1O1O2N1O1O1OI",
    ),
    (
        [[10.1, 10.9], [10.1, 10.9], [16.6, 11.2], [11, 17]],
        "k72f03MO1O1O1OV:",
        "j74d04LO1O2M2O1O^9",
    ),
    (
        [[3.49, 7.51], [28.5, 7.51], [28.5, 8.5], [3.49, 8.5]],
        "`21g00000000000000000000000000000000000000000000000000`0",
        "_22f00000000000000000000000000000000000000000000000000a0",
    ),
]
"""A polygon, and what pycocotools 2.0.11 and OpenCV 4.14 (`fillPoly`) make of it on 24 x 30 pixels,
as COCO's run lengths."""


def drawn(*parts: base.Part, size=SIZE) -> np.ndarray:
    patch = raster.patch_of(base.Object("x", parts), size, where="a test")
    whole = np.zeros(size, bool)
    whole[patch.place] = patch.mask
    return whole


def ring(points) -> np.ndarray:
    return np.array(points, float)


@pytest.mark.parametrize("case", range(len(RECORDED)))
def test_outlines_hold_what_pycocotools_and_opencv_paint(case):
    """A point on a border, a crossing, a point twice, points outside: each rounds differently."""
    points, coco, filled = RECORDED[case]
    for rule, text in (("coco", coco), ("opencv", filled)):
        expected = rle.coco_mask(rle.decompress(text, where=""), SIZE, where="")
        found = drawn(base.Rings((ring(points),), rule))
        assert (found == expected).all(), rule
        assert rle.compress(rle.coco_runs(found)) == text


@pytest.mark.slow
def test_random_outlines_hold_what_pycocotools_and_opencv_paint():
    """Outlines of any kind, also such as leave the image."""
    coco = pytest.importorskip("pycocotools.mask")
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    for case in range(600):
        size = tuple(int(side) for side in random.integers(1, 60, 2))
        points = random.uniform(-10, 70, (int(random.integers(3, 12)), 2))
        points = np.round(points, case % 3)
        expected = coco.decode(coco.frPyObjects([points.ravel().tolist()], *size))[..., 0]
        assert (drawn(base.Rings((points,), "coco"), size=size) == expected).all()
        points = random.integers(*((0, 41), (-20, 60))[case % 2], points.shape)
        canvas = np.zeros((40, 40), np.uint8)
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
        assert (opencv.fill(points.astype(float), (40, 40)) == canvas).all()
        text = coco.encode(np.asfortranarray(canvas))["counts"].decode()
        assert rle.compress(rle.coco_runs(canvas > 0)) == text


def test_centres_decide_and_rings_within_rings_are_holes():
    y, x = np.mgrid[:24, :30]
    outer, inner = (
        ring([[2, 3], [20, 3], [20, 19], [2, 19]]),
        ring([[6, 7], [9, 7], [9, 12], [6, 12]]),
    )
    whole = (x >= 2) & (x < 20) & (y >= 3) & (y < 19)
    hole = (x >= 6) & (x < 9) & (y >= 7) & (y < 12)
    for rule in ("centre", "coco"):
        assert (drawn(base.Rings((outer, inner), rule)) == whole).all()
        assert (drawn(base.Rings((outer, inner), rule, even_odd=True)) == (whole & ~hole)).all()
    turned = base.Ellipse(15, 12, 9, 4, 90, "centre")
    assert (drawn(turned) == (((x + 0.5 - 15) / 4) ** 2 + ((y + 0.5 - 12) / 9) ** 2 <= 1)).all()


def test_traced_masks_are_exact_by_every_rule():
    """Corners for those whose pixels lie between whole numbers, middles for the others."""
    random = np.random.default_rng(3)
    for share in (0.3, 0.6, 0.9):
        mask = random.random(SIZE) < share
        joined = tuple(outlines.joined(raster.trim(mask)))
        for rule in ("coco", "centre"):
            assert (drawn(base.Rings(joined, rule)) == mask).all()
        filled = drawn(base.Rings(tuple(r.outline.astype(float) for r in
                       contours.find(mask.astype(np.uint8), without=(0,))), "centre"))  # fmt: skip
        through = tuple(outlines.through(raster.trim(mask)))
        for rule in ("pillow", "opencv"):
            assert (drawn(base.Rings(through, rule)) == filled).all()


def test_outlines_that_never_end_are_refused():
    """Each rule counts its steps before it makes room for them."""
    zigzag = np.stack([np.tile([0.0, 1e6], 50_000), np.arange(100_000) % 7], axis=1)
    for rule in ("opencv", "coco"):
        with pytest.raises(DataError, match="a test: an outline of .* steps"):
            drawn(base.Rings((zigzag,), rule))
    with pytest.raises(DataError, match="steps"):
        drawn(base.Rings((zigzag[:, ::-1].copy(),), "centre"), size=(4000, 10))


def test_run_lengths_must_add_up():
    for runs, what in (([1, 5], "6 pixels"), ([10**9], "1,000,000,000"), ([-1, 721], "-1 pixels")):
        with pytest.raises(DataError, match=what):
            rle.coco_mask(np.array(runs), SIZE, where="a test")
    for text in ("\x7f", "o" * 40, "é", "0P"):
        with pytest.raises(DataError, match="a test"):
            rle.coco_mask(rle.decompress(text, where="a test"), SIZE, where="a test")

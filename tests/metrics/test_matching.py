"""AP at an IoU, PQ of objects, AJI and AJI+: by brute force and by hand."""

import itertools

import numpy as np
import pytest

from segjax.metrics import aji, matching, overlap, panoptic
from tests.metrics import object_scenes as scenes_of

SMALL = (40, 44)


def table(scene, number, *, least_score=0.0, size=SMALL):
    compared = overlap.compare(*scene, size)
    return matching.table_of(compared, number, least_score=least_score)


def brute(scene, number, least, *, strict=False):
    """Return TP, FP, FN and the sum of IoUs of the best of all ways to match whole masks."""
    truth, found = scene
    masks = [
        [
            scenes_of.whole(m, SMALL)
            for m, k in zip(own.masks, own.classes, strict=True)
            if k == number
        ]
        for own in scene
    ]
    crowd = truth.crowd[truth.classes == number]
    true = [mask for mask, is_crowd in zip(masks[0], crowd, strict=True) if not is_crowd]
    crowds = [mask for mask, is_crowd in zip(masks[0], crowd, strict=True) if is_crowd]
    iou = np.array([[np.sum(a & b) / np.sum(a | b) for a in true] for b in masks[1]])
    iou = iou.reshape(len(masks[1]), len(true))
    near = iou > least if strict else iou >= least
    best = (0, 0.0, ())
    for count in range(min(near.shape) + 1):
        for rows in itertools.combinations(range(near.shape[0]), count):
            for columns in itertools.permutations(range(near.shape[1]), count):
                if all(near[r, c] for r, c in zip(rows, columns, strict=True)):
                    total = sum(iou[r, c] for r, c in zip(rows, columns, strict=True))
                    best = max(best, (count, total, rows))
    count, total, rows = best
    alone = [mask for j, mask in enumerate(masks[1]) if j not in rows]
    wrong = sum(all(np.sum(mask & c) <= 0.5 * mask.sum() for c in crowds) for mask in alone)
    return [count, wrong, len(true) - count], total


def small_scene(seed, overlap=True):
    random = np.random.default_rng(seed)

    def some(count):
        centres = random.choice([10, 14, 28, 33], (count, 2))
        return [scenes_of.disk(SMALL, c, random.choice([6, 8, 9], 2)) for c in centres]

    masks = some(random.integers(0, 5)), some(random.integers(0, 5))
    if not overlap:
        masks = [[mask for mask in scenes_of.apart(own) if mask.any()] for own in masks]
    kinds = [random.integers(0, 2, len(own)).tolist() for own in masks]
    crowd = random.random(len(masks[0])) < 0.25
    return (
        scenes_of.objects_of(masks[0], kinds[0], crowd=crowd),
        scenes_of.objects_of(masks[1], kinds[1], scores=random.random(len(masks[1]))),
    )


@pytest.mark.parametrize("seed", range(25))
def test_the_matching_is_the_best_of_all(seed):
    """The most pairs, and of those the nearest: objects overlap, so that several could match."""
    scene = small_scene(seed)
    for number in (0, 1):
        own = table(scene, number)
        for least, counts in zip(matching.THRESHOLDS, matching.counts(own), strict=True):
            assert counts.tolist() == brute(scene, number, least)[0], least
        total, counts = matching.quality(own)
        wanted, ious = brute(scene, number, 0.5, strict=True)
        assert counts.tolist() == wanted and total == pytest.approx(ious)


def test_a_chain_of_objects_is_matched_as_often_as_can_be():
    """Taking the nearest pair first would leave one alone."""
    near = np.array([[0.9, 0.6], [0.8, 0.0]])
    pairs = matching.match(near, near >= 0.5)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (1, 0)]


def squares(places, *, scores=None, crowd=(), classes=None):
    masks = []
    for y, x, side in places:
        mask = np.zeros(SMALL, bool)
        mask[y : y + side, x : x + side] = True
        masks.append(mask)
    flags = [i in crowd for i in range(len(masks))]
    classes = [0] * len(masks) if classes is None else classes
    return scenes_of.objects_of(masks, classes, scores=scores, crowd=flags)


def test_ap_at_an_iou_by_hand():
    """One right at 0.8, one missed, one of the wrong class, one of a low score."""
    truth = squares([(0, 0, 10), (20, 20, 10), (0, 30, 8)], classes=[0, 0, 1])
    found = squares(
        [(0, 2, 10), (0, 30, 8), (20, 20, 10)], classes=[0, 0, 0], scores=[0.9, 0.9, 0.3]
    )
    counts = matching.counts(table((truth, found), 0, least_score=0.5))
    assert counts[0].tolist() == [1, 1, 1]  # 80 of 120 pixels
    assert matching.ap_at(counts)["0.5"] == 1 / 3 and matching.ap_at(counts)["0.7"] == 0
    assert matching.counts(table((truth, found), 1, least_score=0.5))[0].tolist() == [0, 0, 1]
    assert matching.ap_at(np.zeros((9, 3), np.int64))["0.5"] is None
    assert list(matching.ap_at(counts)) == [
        "0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9",
    ]  # fmt: skip


def test_what_lies_in_a_crowd_is_no_error():
    truth = squares([(0, 0, 20), (30, 30, 8)], crowd=[0])
    found = squares([(0, 0, 10), (12, 12, 6), (16, 16, 10), (30, 30, 8)])
    assert matching.counts(table((truth, found), 0))[0].tolist() == [1, 1, 0]


def test_aji_and_aji_plus_by_hand():
    """Two true objects of 100 and 36 pixels; one found one of 100 touches both.

    Both take it for AJI (common 60 + 12, all 140 + 124), one of them for AJI+ (60, and the other
    one's 36 as missed). What is found alone, 25 pixels, is added to both.
    """
    truth = squares([(0, 0, 10), (2, 10, 6)])
    found = squares([(0, 4, 10), (30, 30, 5)])
    own = table((truth, found), 0)
    both, second = 10 * 6, 6 * 4
    assert own.pixels.tolist() == [[both, second], [0, 0]]
    assert aji.aji(own).tolist() == [both + second, (200 - both) + (136 - second) + 25]
    assert aji.aji_plus(own).tolist() == [both, (200 - both) + 36 + 25]


def test_aji_of_perfect_missing_and_invented_objects():
    truth, nothing = squares([(0, 0, 10), (20, 20, 6)]), squares([])
    for index in (aji.aji, aji.aji_plus):
        assert aji.value([index(table((truth, truth), 0))]) == 1
        assert aji.value([index(table((truth, nothing), 0))]) == 0
        assert aji.value([index(table((nothing, truth), 0))]) == 0
        assert np.isnan(aji.value([index(table((nothing, nothing), 0))]))


@pytest.mark.parametrize("seed", range(8))
def test_aji_of_objects_apart_is_that_of_their_maps(seed):
    """An independent computation over label maps, as HoVer-Net's code goes over them."""
    truth, found = small_scene(seed, overlap=False)
    truth = overlap.take(truth._replace(crowd=np.zeros(len(truth.crowd), bool)), truth.classes == 0)
    found = overlap.take(found, found.classes == 0)
    maps = []
    for own in (truth, found):
        maps.append(
            panoptic.segments_of(np.zeros(SMALL, int), own.masks, [0] * len(own.masks), [])[0]
        )
    common, every, used = 0, 0, set()
    for i in range(1, len(truth.masks) + 1):
        ious = []
        for j in range(1, len(found.masks) + 1):
            inside = np.sum((maps[0] == i) & (maps[1] == j))
            ious.append((inside / np.sum((maps[0] == i) | (maps[1] == j)), inside, j))
        best = max(ious, key=lambda one: one[0], default=(0, 0, 0))
        if best[0] == 0:
            every += np.sum(maps[0] == i)
            continue
        used.add(best[2])
        common += best[1]
        every += np.sum((maps[0] == i) | (maps[1] == best[2]))
    every += sum(np.sum(maps[1] == j) for j in range(1, len(found.masks) + 1) if j not in used)
    assert aji.aji(table((truth, found), 0)).tolist() == [common, every]

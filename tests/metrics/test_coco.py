"""COCO's numbers are those of pycocotools and of hotcoco, whatever the scene."""

import copy

import hotcoco
import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from segjax.metrics import boundary, coco, overlap
from segjax.structs import Mask
from tests.metrics import object_scenes as scenes_of

KINDS = {"": "segm", "box_": "bbox"}


def match_all(scene, kind, size):
    """Return the matches of one image by number of class."""
    compared = overlap.compare(*scene, size)
    numbers = np.union1d(compared.truth.classes, compared.found.classes).tolist()
    return {number: coco.match_class(compared, number, kind) for number in numbers}


def scored(scenes, kind, *, size=scenes_of.SIZE, classes=3):
    """Return our numbers, the ranked matches and those of each image."""
    matches = [match_all(scene, kind, size) for scene in scenes]
    ranked = [coco.rank([own.get(k) for own in matches]) for k in range(classes)]
    return coco.means([coco.scores(each) for each in ranked]), ranked


def reference(scenes, kind, *, library, size=scenes_of.SIZE, classes=3):
    """Return COCO's twelve numbers, -1 as None, and its precisions [t r k a m]."""
    dataset, results = scenes_of.coco_dicts(scenes, size=size, classes=classes)
    drop = "bbox" if kind == "" else "segmentation"
    results = [{k: v for k, v in one.items() if k != drop} for one in results]
    if library == "hotcoco":
        truth = hotcoco.COCO(dataset)
        made = hotcoco.COCOeval(truth, truth.load_res(results), KINDS[kind])
    else:
        truth = scenes_of.coco_of(copy.deepcopy(dataset))
        made = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), KINDS[kind])
    made.evaluate()
    made.accumulate()
    made.summarize()
    return [None if value == -1 else float(value) for value in made.stats], made.eval["precision"]


SETS = {
    "crowds, overlaps, ties, empty images": [scenes_of.scene(seed) for seed in range(12)],
    "many of one class": [scenes_of.scene(seed, classes=1, most=25) for seed in range(3)],
    "one image": [scenes_of.scene(5)],
}


@pytest.mark.parametrize("library", ["pycocotools", "hotcoco"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SETS)
def test_the_twelve_numbers_are_those_of_the_reference(name, kind, library):
    found, _ = scored(SETS[name], kind)
    wanted, _ = reference(SETS[name], kind, library=library)
    assert [found[key] for key in coco.NAMES] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_curves_of_each_class_and_size_are_those_of_the_reference(kind):
    """And so is every mean of them: AP50 by size, AP of a class."""
    _, ranked = scored(SETS["crowds, overlaps, ties, empty images"], kind)
    _, precision = reference(
        SETS["crowds, overlaps, ties, empty images"], kind, library="pycocotools"
    )
    for k, own in enumerate(ranked):
        for a, area in enumerate(coco.RANGES):
            for m, limit in enumerate(coco.LIMITS):
                found, wanted = coco.curves(own, area=area, limit=limit), precision[:, :, k, a, m]
                if found is None:
                    assert (wanted == -1).all()
                else:
                    np.testing.assert_allclose(found.precision, wanted, atol=1e-12)


def square(y, x, side, size=(200, 200)):
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def hand(true, found, *, crowd=(), scores=None):
    """Return a scene of squares (y, x, side), all of one class."""
    masks = [[square(*each) for each in own] for own in (true, found)]
    flags = [i in crowd for i in range(len(true))]
    return (
        scenes_of.objects_of(masks[0], [0] * len(true), crowd=flags),
        scenes_of.objects_of(masks[1], [0] * len(found), scores=scores),
    )


BY_HAND = {
    "an IoU at a threshold": [hand([(0, 0, 10), (50, 50, 20)], [(0, 0, 10), (50, 50, 40)])],
    "exactly the ends of the ranges of area": [
        hand([(0, 0, 32), (0, 100, 96)], [(0, 0, 32), (0, 100, 96)], scores=[0.5, 0.5])
    ],
    "found twice": [hand([(0, 0, 20)], [(0, 0, 20), (0, 0, 19)], scores=[0.4, 0.9])],
    "two true objects equally near": [
        hand([(0, 0, 20), (0, 4, 20)], [(0, 2, 20), (0, 2, 20)], scores=[0.5, 0.5])
    ],
    "many in a crowd": [
        hand([(0, 0, 60), (100, 100, 20)], [(0, 0, 20), (20, 20, 20), (100, 100, 20), (150, 0, 9)],
             crowd=[0], scores=[0.9, 0.8, 0.7, 0.6])
    ],
    "a crowd beside its object": [
        hand([(0, 0, 60), (0, 0, 30)], [(0, 0, 30), (2, 2, 28)], crowd=[0], scores=[0.9, 0.8])
    ],
    "nothing found": [hand([(0, 0, 20)], [])],
    "nothing there": [hand([], [(0, 0, 20)]), hand([(0, 0, 20)], [(0, 0, 20)])],
    "only a crowd": [hand([(0, 0, 20)], [(0, 0, 20)], crowd=[0]), hand([(0, 0, 9)], [])],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BY_HAND)
def test_hand_made_cases_are_those_of_the_reference(name, kind):
    scenes, size = BY_HAND[name], (200, 200)
    if not any(len(found.masks) for _, found in scenes):  # pycocotools cannot load no result
        scenes = [*scenes, hand([], [(0, 0, 3)])]
    found, _ = scored(scenes, kind, size=size, classes=1)
    wanted, _ = reference(scenes, kind, library="pycocotools", size=size, classes=1)
    assert [found[key] for key in coco.NAMES] == pytest.approx(wanted, abs=1e-12)


def test_more_than_a_hundred_are_cut_off_by_score():
    places = [(y, x, 6) for y in range(0, 200, 14) for x in range(0, 200, 14)]
    scores = np.round(np.random.default_rng(0).random(len(places)), 2)
    scenes = [hand(places, places, scores=scores)]
    found, _ = scored(scenes, "", size=(200, 200), classes=1)
    wanted, _ = reference(scenes, "", library="pycocotools", size=(200, 200), classes=1)
    assert [found[key] for key in coco.NAMES] == pytest.approx(wanted, abs=1e-12)
    assert found["AR100"] == pytest.approx(100 / len(places))


def test_a_split_without_objects_has_no_number():
    for scenes in ([hand([], [])], [hand([], [(0, 0, 5)])], [hand([(0, 0, 5)], [], crowd=[0])]):
        found, _ = scored(scenes, "", size=(200, 200), classes=1)
        assert all(value is None for value in found.values())


def test_weights_are_how_often_an_image_counts():
    """As the split that holds it so often; of equal scores in one image the order would differ."""
    scenes = []
    for i in range(5):
        truth, found = scenes_of.scene(i)
        scores = np.linspace(0.1, 0.9, len(found.scores)) + 1e-3 * i
        scenes.append((truth, found._replace(scores=scores.astype(np.float32))))
    times = np.array([2, 0, 1, 3, 1])
    _, ranked = scored(scenes, "")
    _, repeated = scored([scenes[i] for i in np.repeat(np.arange(5), times)], "")
    for own, other in zip(ranked, repeated, strict=True):
        assert coco.scores(own, weights=times) == pytest.approx(coco.scores(other), abs=1e-12)
        assert coco.average_precision(own, times) == coco.scores(own, weights=times)["AP"]


@pytest.mark.parametrize("seed", range(4))
def test_the_boundary_iou_is_that_of_whole_masks(seed):
    """The lesser of both, wherever it can matter: from an IoU of 0.5 on (Cheng et al. 2021)."""
    truth, found = scenes_of.scene(seed, most=14)
    pairs = overlap.compare(truth, found, scenes_of.SIZE).pairs
    width = round(0.02 * np.hypot(*scenes_of.SIZE))
    assert len(pairs.iou) > 3
    for i, j, iou, least in zip(pairs.truth, pairs.found, pairs.iou, pairs.boundary, strict=True):
        masks = [scenes_of.whole(m, scenes_of.SIZE) for m in (truth.masks[i], found.masks[j])]
        values = []
        for a, b in (masks, [boundary.rim(mask, width) for mask in masks]):
            below = np.sum(b) if truth.crowd[i] else np.sum(a | b)
            values.append(np.sum(a & b) / below)
        assert iou == values[0]
        assert least == (min(values) if iou >= 0.5 else iou)


def test_volumes_and_signals_are_scored_as_pictures_of_one_row_are():
    """The metric knows no axes: a picture of one row, a signal, and a volume of one slice."""
    pictures = [scenes_of.scene(seed, size=(1, 200), crowds=False) for seed in range(6)]

    def moved(objects, axes):
        corners = [(mask.corner[1],) if axes == 1 else (0, *mask.corner) for mask in objects.masks]
        insides = [m.inside[0] if axes == 1 else m.inside[None] for m in objects.masks]
        boxes = [[*c, *(np.add(c, i.shape))] for c, i in zip(corners, insides, strict=True)]
        masks = tuple(map(Mask, corners, insides))
        boxes = np.array(boxes, np.float32).reshape(len(masks), 2 * axes)
        return objects._replace(boxes=boxes, masks=masks)

    for kind in KINDS:
        wanted, _ = scored(pictures, kind, size=(1, 200))
        for axes, size in ((1, (200,)), (3, (1, 1, 200))):
            scenes = [tuple(moved(each, axes) for each in scene) for scene in pictures]
            found, _ = scored(scenes, kind, size=size)
            assert found == pytest.approx(wanted, abs=1e-12), (kind, axes)


def test_the_ap_of_an_image_is_that_of_a_split_of_it():
    for seed in range(8):
        scene = scenes_of.scene(seed)
        matches = match_all(scene, "", scenes_of.SIZE)
        values = coco.image_values(matches, range(3), least_score=0.5)
        _, ranked = scored([scene], "")
        truth, found = scene
        for k, (value, own) in enumerate(zip(values, ranked, strict=True)):
            wanted = coco.average_precision(own)
            if wanted is None:
                sure = bool(((found.classes == k) & (found.scores >= 0.5)).any())
                crowd = bool((truth.classes == k).any())
                assert crowd or (value == 0 if sure else np.isnan(value))
            else:
                assert value == wanted

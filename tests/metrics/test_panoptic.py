"""PQ is that of an independent computation, and of hotcoco's reading of the COCO format."""

import json

import hotcoco.panoptic
import numpy as np
import pytest
from PIL import Image

from segjax.metrics import panoptic

K, THINGS = 5, (0, 1, 2)
SIZE = (60, 70)


def scene(seed):
    """Return true and found maps of segments, their classes, and which true ones are crowds."""
    random = np.random.default_rng(seed)

    def segments(base, shift):
        numbers, classes = np.zeros(SIZE, np.int32), []
        for cy, cx, ry, rx, k in base:
            grid = np.indices(SIZE)
            inside = ((grid[0] - cy - shift) / ry) ** 2 + ((grid[1] - cx) / rx) ** 2 <= 1
            if k in THINGS or k not in classes:
                classes.append(k)
                numbers[inside] = len(classes)
            else:
                numbers[inside] = classes.index(k) + 1
        return numbers, np.array(classes, np.int32)

    def some(count):
        return [
            (*random.uniform(0, SIZE), *random.uniform(5, 25, 2), int(random.integers(K)))
            for _ in range(count)
        ]

    base = some(random.integers(0, 10))
    kept = [one for one in base if random.random() < 0.8]
    truth, true_classes = segments(base, 0)
    found, classes = segments(kept + some(random.integers(0, 4)), random.integers(-3, 4))
    crowd = np.zeros(len(true_classes), bool)
    for k in THINGS:  # COCO has one crowd of a class in an image at most
        own = np.flatnonzero(true_classes == k)
        if len(own) and random.random() < 0.5:
            crowd[random.choice(own)] = True
    return truth, true_classes, crowd, found, classes


def brute(truth, true_classes, crowd, found, classes):
    """Return the sum of IoUs, TP, FP and FN of each class, mask by mask."""
    total = np.zeros((K, 4))
    taken = set()
    for i, k in enumerate(true_classes):
        mask = truth == i + 1
        if crowd[i] or not mask.any():
            continue
        hit = False
        for j, other in enumerate(classes):
            own = found == j + 1
            union = np.sum((mask | own) & ~((truth == 0) & own))
            if k == other and (iou := np.sum(mask & own) / union) > 0.5:
                total[k] += [iou, 1, 0, 0]
                taken.add(j)
                hit = True
        total[k, 3] += not hit
    for j, k in enumerate(classes):
        own = found == j + 1
        if j not in taken and own.any():
            excused = (truth == 0) & own
            for i, other in enumerate(true_classes):
                excused |= (truth == i + 1) & own & bool(crowd[i] and other == k)
            total[k, 2] += np.sum(excused) <= 0.5 * np.sum(own)
    return total


def sums(seed):
    truth, true_classes, crowd, found, classes = scene(seed)
    return panoptic.sums(truth, true_classes, crowd, found, classes, num_classes=K)


@pytest.mark.parametrize("seed", range(20))
def test_what_pq_is_made_of_is_that_of_masks_one_by_one(seed):
    np.testing.assert_allclose(sums(seed), brute(*scene(seed)), atol=1e-12)


def test_the_scores_of_a_split_are_hotcocos(tmp_path):
    """Through the files of the COCO panoptic format: PNG files of ids, and JSON beside them."""
    content = {
        name: {"images": [], "annotations": [], "categories": [
            {"id": k + 1, "name": f"c{k}", "isthing": int(k in THINGS)} for k in range(K)
        ]}
        for name in ("truth", "found")
    }  # fmt: skip
    for name in content:
        (tmp_path / name).mkdir()
    total = np.zeros((K, 4))
    for number in range(1, 13):
        truth, true_classes, crowd, found, classes = scene(number)
        total += panoptic.sums(truth, true_classes, crowd, found, classes, num_classes=K)
        flags = np.zeros(len(classes), bool)
        for name, numbers, own, crowds in (
            ("truth", truth, true_classes, crowd), ("found", found, classes, flags),
        ):  # fmt: skip
            there = [i for i in range(len(own)) if (numbers == i + 1).any()]
            content[name]["images"].append(
                {"id": number, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]}
            )
            segments = [
                {"id": i + 1, "category_id": int(own[i]) + 1, "iscrowd": int(crowds[i]),
                 "area": int(np.sum(numbers == i + 1)), "bbox": [0, 0, 1, 1]}
                for i in there
            ]  # fmt: skip
            content[name]["annotations"].append(
                {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
            )
            colours = np.zeros((*SIZE, 3), np.uint8)
            colours[..., 0] = numbers
            Image.fromarray(colours).save(tmp_path / name / f"{number}.png")
    for name, own in content.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    wanted = hotcoco.panoptic.pq_compute(*(str(tmp_path / f"{n}.json") for n in content))
    groups = {"All": range(K), "Things": THINGS, "Stuff": [k for k in range(K) if k not in THINGS]}
    for group, classes in groups.items():
        found = panoptic.means(total[[*classes]])
        for name in ("PQ", "SQ", "RQ"):
            assert found[name] == pytest.approx(wanted[group][name.lower()], abs=1e-9), group
    for k in range(K):
        own = panoptic.scores(total[k])
        assert own["PQ"] == pytest.approx(wanted["per_class"][k + 1]["pq"], abs=1e-9)


def test_classes_that_do_not_occur_are_in_no_mean():
    total = np.zeros((3, 4))
    total[0] = 1.6, 2, 0, 0
    total[1] = 0, 0, 1, 1
    assert panoptic.scores(total[2]) == {"PQ": None, "SQ": None, "RQ": None}
    assert panoptic.scores(total[1]) == {"PQ": 0, "SQ": 0, "RQ": 0}
    assert panoptic.means(total) == {"PQ": 0.4, "SQ": 0.4, "RQ": 0.5}
    assert panoptic.means(total[2:]) == {"PQ": None, "SQ": None, "RQ": None}


def test_an_iou_of_a_half_is_no_match_and_void_does_not_count():
    truth, found = np.zeros((1, 8), np.int32), np.zeros((1, 8), np.int32)
    truth[0, :2], found[0, :1] = 1, 1
    classes, crowd = np.zeros(1, np.int32), np.zeros(1, bool)
    assert panoptic.sums(truth, classes, crowd, found, classes, num_classes=1).tolist() == [
        [0, 0, 1, 1]
    ]
    found[0, :2], found[0, 2:7] = 1, 1  # five of seven pixels in void
    assert panoptic.sums(truth, classes, crowd, found, classes, num_classes=1).tolist() == [
        [1, 1, 0, 0]
    ]


def test_segments_are_objects_over_the_stuff_of_a_label():
    from segjax.structs import Mask

    label = np.array([[3, 3, 4, 0, 0, 255]], np.uint8)
    masks = [Mask((0, 1), np.array([[True, True]])), Mask((0, 2), np.array([[True]]))]
    numbers, classes = panoptic.segments_of(label, masks, [1, 1], [3, 4])
    assert classes.tolist() == [1, 1, 3, 4]
    assert numbers.tolist() == [[3, 1, 2, 0, 0, 0]]  # class 0 without an object is void

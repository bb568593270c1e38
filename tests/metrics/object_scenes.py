"""Images of objects, true and found, as scores see them; and the same as COCO's tools do."""

import numpy as np
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from segjax.structs import Mask, Objects

SIZE = (150, 170)


def objects_of(masks, classes, *, scores=None, crowd=None):
    """Return objects of whole boolean masks, all of one shape."""
    axes = masks[0].ndim if len(masks) else 2
    boxes, cut = [], []
    for mask in masks:
        points = np.argwhere(mask)
        low, high = points.min(axis=0), points.max(axis=0) + 1
        boxes.append([*low, *high])
        cut.append(Mask(tuple(low.tolist()), mask[tuple(map(slice, low, high))]))
    n = len(masks)
    return Objects(
        np.array(classes, np.int32).reshape(n),
        np.array(boxes, np.float32).reshape(n, 2 * axes),
        tuple(cut),
        np.ones(n, np.float32) if scores is None else np.array(scores, np.float32),
        np.zeros(n, bool) if crowd is None else np.array(crowd, bool),
    )


def whole(mask, size):
    """Return a mask of an object as an array of the image's size."""
    found = np.zeros(size, bool)
    corner, inside = mask
    box = tuple(slice(a, a + side) for a, side in zip(corner, inside.shape, strict=True))
    found[box] = inside
    return found


def disk(size, centre, radii):
    grid = np.indices(size)
    parts = [((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)]
    return sum(parts) <= 1


def scene(seed, *, size=SIZE, classes=3, most=9, crowds=True, overlap=True):
    """Return true and found objects of an image: shifted ones, missed ones, invented ones, ties.

    Without `overlap` no two true and no two found objects have a pixel in common.
    """
    random = np.random.default_rng(seed)

    def some(count):
        return [
            disk(size, random.uniform(0, size), random.choice([4, 12, 25, 60], len(size)))
            for _ in range(count)
        ]

    true = [mask for mask in some(random.integers(0, most + 1)) if mask.any()]
    kinds = random.integers(0, classes, len(true)).tolist()
    found, found_kinds = [], []
    for mask, kind in zip(true, kinds, strict=True):
        if random.random() < 0.8:
            steps = random.integers(-4, 5, len(size))
            found.append(np.roll(mask, steps, range(len(size))))
            found_kinds.append(kind if random.random() < 0.9 else int(random.integers(classes)))
    extra = some(random.integers(0, most))
    found += extra
    found_kinds += random.integers(0, classes, len(extra)).tolist()
    if not overlap:
        true, found = apart(true), apart(found)
    keep_true = [i for i, mask in enumerate(true) if mask.any()]
    keep = [i for i, mask in enumerate(found) if mask.any()]
    crowd = random.random(len(keep_true)) < (0.2 if crowds else 0)
    return (
        objects_of([true[i] for i in keep_true], [kinds[i] for i in keep_true], crowd=crowd),
        objects_of(
            [found[i] for i in keep], [found_kinds[i] for i in keep],
            scores=np.round(random.random(len(keep)), 1),
        ),
    )  # fmt: skip


def apart(masks):
    """Return masks without what an earlier one has."""
    taken, found = np.zeros(masks[0].shape if masks else (), bool), []
    for mask in masks:
        found.append(mask & ~taken)
        taken = taken | mask
    return found


def rle(mask, size):
    found = coco_masks.encode(np.asfortranarray(whole(mask, size).astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def coco_dicts(scenes, *, size=SIZE, classes=3):
    """Return truth and results as COCO has them; ids count from 1."""
    annotations, results = [], []
    for number, (truth, found) in enumerate(scenes, start=1):
        for objects, into in ((truth, annotations), (found, results)):
            for i, mask in enumerate(objects.masks):
                y0, x0, y1, x1 = objects.boxes[i].astype(float).tolist()
                one = {"image_id": number, "category_id": int(objects.classes[i]) + 1}
                one |= {"segmentation": rle(mask, size), "bbox": [x0, y0, x1 - x0, y1 - y0]}
                if objects is truth:
                    one |= {"id": len(into) + 1, "iscrowd": int(objects.crowd[i])}
                    one["area"] = int(mask.inside.sum())
                else:
                    one["score"] = float(objects.scores[i])
                into.append(one)
    images = [
        {"id": i, "height": size[0], "width": size[1], "file_name": f"{i}.png"}
        for i in range(1, len(scenes) + 1)
    ]
    categories = [{"id": k + 1, "name": f"c{k}", "isthing": 1} for k in range(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def coco_of(dataset):
    made = COCO()
    made.dataset = dataset
    made.createIndex()
    return made

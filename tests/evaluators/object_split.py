"""A split of images with objects, and what finds them, for the tests of evaluations."""

import types

import numpy as np

from segjax.inference.predictor import FunctionObjectPredictor, Segments
from segjax.metrics import panoptic
from segjax.structs import Classes, Field
from tests.metrics import object_scenes

K, SIZE = 5, (60, 70)
NAMES = ("ground", "sky", "cell", "big cell", "nothing")
THINGS = (2, 3, 4)
CLASSES = Classes(NAMES, ((90, 80, 70), (120, 160, 230), (230, 159, 0), (0, 158, 115), (9, 9, 9)),
                  3, THINGS)  # fmt: skip


class Source:
    """Images whose first pixel says their number; class 4 has no object in them."""

    class_names, palette, things = NAMES, CLASSES.palette, THINGS
    schema = {"image": Field("image", (3,)), "label": Field("classes")}

    def __init__(self, count=7, *, overlap=True, crowds=True):
        self.scenes = [
            object_scenes.scene(i, size=SIZE, classes=2, overlap=overlap, crowds=crowds)
            for i in range(count)
        ]

    def __len__(self):
        return len(self.scenes)

    def objects(self, index):
        return self._classed(self.scenes[index][0])

    def found(self, index):
        return self._classed(self.scenes[index][1])

    def _classed(self, objects):
        return objects._replace(classes=objects.classes + 2)

    def __getitem__(self, index):
        label = np.zeros(SIZE, np.uint8)
        label[: 20 + index] = 1
        label[:2] = 255
        image = np.random.default_rng(index).integers(60, 90, (*SIZE, 3)).astype(np.uint8)
        for i, mask in enumerate(self.objects(index).masks):
            here = object_scenes.whole(mask, SIZE)
            label[here] = self.objects(index).classes[i]
            image[here] = np.minimum(image[here] + 50.0 * (1 + i % 2), 250)
        image[0, 0] = index
        return {
            "image": image,
            "label": label,
            "name": f"image {index}",
            "case": np.int32(index // 2),
        }


def predictor(source, *, with_segments=False):
    """Return what finds the second half of each scene."""

    def find(image):
        number = int(image[0, 0, 0])
        found = source.found(number)
        if not with_segments:
            return found
        stuff = np.roll(source[number]["label"], 3, axis=0)
        stuff[(stuff == 255) | (stuff > 1)] = 255
        kept = found.scores >= 0.3
        masks = [mask for mask, keep in zip(found.masks, kept, strict=True) if keep]
        numbers, classes = panoptic.segments_of(stuff, masks, found.classes[kept].tolist(), [0, 1])
        return found, Segments(numbers, classes)

    return FunctionObjectPredictor(find)


def bar():
    return types.SimpleNamespace(update=lambda count: None)

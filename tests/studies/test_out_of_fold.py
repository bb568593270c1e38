"""Scores out of fold are those of the joined predictions, exactly, for every task.

The folds predict by rules that differ, on examples of several sizes dealt at random. The joined
predictions are made apart, by a function that knows which fold an image is of, and are counted by
NumPy or by COCO's own code where that is possible.
"""

import types

import numpy as np
import pytest

from segjax.data import core
from segjax.evaluators import instance, multilabel, panoptic, semantic
from segjax.inference.predictor import FunctionObjectPredictor, FunctionPredictor
from segjax.metrics import coco, confusion, overlap
from segjax.structs import Classes
from segjax.studies import out_of_fold
from tests.evaluators import object_split
from tests.metrics.test_coco import reference

K = 3
CLASSES = Classes(("a", "b", "c"), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), 1)
BAR = types.SimpleNamespace(update=lambda count: None)


class Pictures:
    """Pictures of random sizes that say their number in the first pixel; some classes are rare."""

    class_names, palette = CLASSES.class_names, CLASSES.palette

    def __init__(self, count, seed, *, several=False):
        self.count, self.seed, self.several = count, seed, several
        self.schema = core.multilabel_schema(1, K) if several else core.semantic_schema(1)

    def __len__(self):
        return self.count

    def example_names(self):
        return [f"picture{i}" for i in range(self.count)]

    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, index])
        size = (10, 12, K) if self.several else tuple(rng.integers(9, 20, 2))
        values = [0, 1, 255] if self.several else [0, 0, 0, 1, 255] + [2] * (index % 4 == 0)
        image = rng.integers(0, 200, (*size[:2], 1)).astype(np.uint8)
        image[0, 0] = index
        label = rng.choice(values, size).astype(np.uint8)
        return {"image": image, "label": label, "name": f"picture{index}"}


def rule(fold, image, *, several):
    """Return what a fold predicts, as no other does."""
    grey = image[..., 0].astype(int)
    if several:
        return np.stack([grey // (7 + fold + k) % 2 for k in range(K)], axis=-1).astype(np.uint8)
    return (grey // (11 + 5 * fold) % K).astype(np.uint8)


def members_of(predictors):
    """Return what stands for opened runs, each with a predictor; also how often one was made."""
    made = []

    def parts(fold):
        def predictor(variables):
            made.append(variables)
            return predictors[variables]

        return types.SimpleNamespace(predictor=predictor)

    return [
        types.SimpleNamespace(
            config={"input": {"source": {"fold": fold}}}, parts=parts(fold), variables=fold
        )
        for fold in range(len(predictors))
    ], made


def evaluate(type_, source, predictor, classes=CLASSES, **given):
    evaluator = type_(
        split="val", batch_size=4, name="val", source=source, classes=classes, **given
    )
    return evaluator.evaluate(predictor, step=2, progress=BAR, draw=False)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_class_maps(several, seed):
    rng = np.random.default_rng(seed)
    number, count = int(rng.integers(2, 5)), int(rng.integers(6, 16))
    source = Pictures(count, seed, several=several)
    dealt = [*range(number), *rng.integers(0, number, count - number).tolist()]
    rules = [
        FunctionPredictor(lambda image, f=f: rule(f, image, several=several), num_classes=K)
        for f in range(number)
    ]
    members, made = members_of(rules)
    ordered = out_of_fold.Ordered(source, dealt)
    known = FunctionPredictor(
        lambda image: rule(dealt[image[0, 0, 0]], image, several=several), num_classes=K
    )
    more = {"intervals": 20} | ({} if several else {"metrics": ["hd95", "ece"]})
    type_ = multilabel.Evaluator if several else semantic.Evaluator
    found = evaluate(type_, ordered, out_of_fold.OutOfFold(ordered, members), **more)
    assert found.result == evaluate(type_, ordered, known, **more).result
    assert len(made) <= 2 * number  # fold after fold: each is loaded once for each pass
    assert sorted(found.result["per_example"]["name"]) == sorted(source.example_names())
    if several:
        return
    total = np.zeros((K, K), np.int64)
    for i in range(count):
        example = source[i]
        pred, label = rule(dealt[i], example["image"], several=False), example["label"]
        np.add.at(total, (label[label != 255], pred[label != 255]), 1)
    assert found.result["confusion_matrix"] == total.tolist()
    hit, true, predicted = np.diag(total), total.sum(1), total.sum(0)
    assert found.result["dice"] == pytest.approx((2 * hit / (true + predicted)).mean(), abs=1e-15)
    each = [
        evaluate(semantic.Evaluator, core.Subset(source, own), rules[f]).result["miou"]
        for f in range(number)
        if (own := [i for i in range(count) if dealt[i] == f])
    ]
    assert abs(np.mean(each) - found.result["miou"]) > 1e-9  # no mean of folds


def objects_of(source, fold, *, with_segments):
    """Return what finds objects but for one in so many, which differ by fold."""
    find = object_split.predictor(source, with_segments=with_segments).function

    def part(image):
        found = find(image)
        objects, segments = (found, None) if not with_segments else found
        keep = np.flatnonzero(np.arange(len(objects.scores)) % (fold + 2) != 0)
        kept = overlap.take(objects, keep)
        return (kept, segments) if with_segments else kept

    return FunctionObjectPredictor(part)


@pytest.mark.parametrize("type_", [instance.Evaluator, panoptic.Evaluator])
def test_objects(type_):
    """Detections of all folds are ranked together; COCO's own code says the same of AP."""
    with_segments = type_ is panoptic.Evaluator
    source, dealt = object_split.Source(overlap=not with_segments), [0, 2, 1, 0, 1, 2, 1]
    finders = [objects_of(source, fold, with_segments=with_segments) for fold in range(3)]
    ordered = out_of_fold.Ordered(source, dealt, by_fold=False)
    joined = out_of_fold.OutOfFold(ordered, members_of(finders)[0])
    known = FunctionObjectPredictor(
        lambda image: finders[dealt[int(image[0, 0, 0])]].function(image)
    )
    given = {"classes": object_split.CLASSES, "intervals": 10}
    found = evaluate(type_, ordered, joined, **given).result
    assert found == evaluate(type_, ordered, known, **given).result
    if with_segments:
        return
    scenes = [
        (truth, finders[dealt[i]](source[i]["image"]).objects)
        for i, (truth, _) in enumerate(source.scenes)
    ]
    scenes = [(truth, own._replace(classes=own.classes - 2)) for truth, own in scenes]
    wanted, _ = reference(scenes, "", library="pycocotools", size=object_split.SIZE, classes=2)
    assert [found[name] for name in coco.NAMES] == pytest.approx(wanted, abs=1e-12)


def test_a_picture_that_is_drawn_is_predicted_by_its_own_fold():
    """The best, the median and the worst example are read and predicted once more, in any order."""
    source, dealt = Pictures(9, 5), [2, 0, 1, 2, 1, 0, 0, 1, 2]
    rules = [
        FunctionPredictor(lambda image, f=f: rule(f, image, several=False), num_classes=K)
        for f in range(3)
    ]
    ordered = out_of_fold.Ordered(source, dealt)
    joined = out_of_fold.OutOfFold(ordered, members_of(rules)[0])
    for index in (8, 0, 4, 3):
        image = ordered[index]["image"]
        fold = dealt[image[0, 0, 0]]
        expected = rule(fold, image, several=False)
        np.testing.assert_array_equal(joined(image).classes, expected)
        ((_, part),) = joined.tiles(image)
        np.testing.assert_array_equal(part, expected)


def test_counts_of_an_example_are_its_own_fold_s():
    source = Pictures(6, 1)
    ordered = out_of_fold.Ordered(source, [1, 0, 1, 0, 1, 0])
    rules = [
        FunctionPredictor(lambda image, f=f: rule(f, image, several=False), num_classes=K)
        for f in range(2)
    ]
    joined = out_of_fold.OutOfFold(ordered, members_of(rules)[0])
    seen = {}
    for counts, _ in joined.measure(ordered, batch_size=2, threads=1):
        seen |= counts
    assert sorted(seen) == [0, 1, 2, 3, 4, 5]
    for number, own in seen.items():
        place = ordered.indices[number]
        pred = rule([1, 0][place % 2], source[place]["image"], several=False)
        expected = confusion.counts_of(pred, source[place]["label"], num_classes=K)
        np.testing.assert_array_equal(own, expected)

"""Tasks of queries: what is learned, what is scored, what is found; merging is Hugging Face's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import ConfigError
from segjax.layers.queries import Answers, Outputs
from segjax.tasks import base, query_instance, query_panoptic, query_semantic, regions
from tests.outside import recorded
from tests.pretrained import huggingface

THINGS = (1, 3)


def batch(label=True):
    """Return two images of 16 x 24: four objects, one a crowd, one of no thing, and none."""
    masks = np.zeros((2, 16, 24, 5), bool)
    masks[0, 2:6, 3:9, 0] = masks[0, 4:9, 5:20, 1] = masks[0, 10:12, :, 2] = True
    masks[0, 12:14, :, 3] = True
    classes = np.full((2, 5), -1, np.int32)
    classes[0, :4] = 3, 1, 1, 2
    crowd = np.zeros((2, 5), bool)
    crowd[0, 2] = True
    map_ = np.zeros((2, 16, 24), np.int32)
    map_[0, 2:6, 3:9], map_[0, :, 20:], map_[1] = 3, 255, 2
    return {
        "object_masks": jnp.asarray(np.packbits(masks, axis=-1, bitorder="little")),
        "object_classes": jnp.asarray(classes),
        "object_crowd": jnp.asarray(crowd),
        "label": jnp.asarray(map_),
        "index": jnp.asarray([0, 1], jnp.int32),
    }


def outputs(masks, classes, size):
    return Outputs(Answers(jnp.asarray(classes), jnp.asarray(masks)), (), size)


def noise(*, classes, queries=6, images=2):
    rng = np.random.default_rng(0)
    masks = rng.normal(size=(images, 4, 6, queries)).astype(np.float32)
    return outputs(masks, rng.normal(size=(images, queries, classes + 1)).astype("f4"), (16, 24))


TASKS = {
    "semantic": query_semantic.Task(num_classes=4, queries=6, num_points=32),
    "instance": query_instance.Task(num_classes=4, things=THINGS, queries=6, num_points=32),
    "panoptic": query_panoptic.Task(num_classes=4, things=THINGS, queries=6, num_points=32),
}
REGIONS = {
    "semantic": [[0, -1, -1, 3], [-1, -1, 2, -1]],
    "instance": [[1, 0, -1, -1, -1], [-1] * 5],
    "panoptic": [[3, 1, -1, -1, -1, 0, -1], [-1] * 6 + [2]],
}


def test_each_is_what_its_protocol_says():
    assert isinstance(TASKS["semantic"], base.DenseTask)
    assert isinstance(TASKS["instance"], base.ObjectTask)
    assert isinstance(TASKS["panoptic"], base.PanopticTask)
    assert [TASKS[name].num_classes for name in TASKS] == [4, 2, 4]


@pytest.mark.parametrize("name", TASKS)
def test_regions_and_their_weights(name):
    """Crowds and what is no thing are no regions; six queries, those of none count a tenth."""
    task = TASKS[name]
    truth, known, _ = task.truth(batch(), jax.random.key(0))
    assert truth.classes.tolist() == REGIONS[name] and known.all()
    count = [sum(each >= 0 for each in row) for row in REGIONS[name]]
    weights = task.weights(batch())
    assert weights["masks"] == sum(count)
    assert weights["classes"] == pytest.approx(sum(n + 0.1 * (6 - n) for n in count))


@pytest.mark.parametrize(
    "name",
    [name if name == "panoptic" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS],
)
def test_a_batch_without_any_region_trains_with_finite_gradients(name):
    """Nor is anything compiled anew for another number of regions."""
    task = TASKS[name]
    empty = batch()
    empty |= {"object_masks": jnp.zeros_like(empty["object_masks"])}
    empty |= {"object_classes": jnp.full_like(empty["object_classes"], -1)}
    empty |= {"label": jnp.full_like(empty["label"], 255)}

    def loss(outputs, batch):
        terms = task.loss(outputs, batch, jax.random.key(0))
        return sum(term.mean(task.weights(batch)) for term in terms.values())

    given, step = noise(classes=task.num_classes), recorded.compiled(jax.value_and_grad(loss))
    for each in (empty, batch()):
        value, slopes = step(given, each)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, slopes)))
        assert (value > 0) == (each is not empty or name == "instance")
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"annealing": ((10, 20), (20, 40))},
        {"annealing_percent": ((5, 10), (10, 20)), "total_steps": 200},
        {"annealing_percent": ((2.5, 5), (5, 10)), "total_steps": 400},
    ],
)
def test_masked_attention_ends_block_by_block(fields):
    """As published: 1 until the first step, then (1 - share)^0.9, 0 from the last step on.

    Said in steps, or in percent of a training of any length.
    """
    task = query_semantic.Task(num_classes=2, **fields)
    found = {
        step: np.asarray(task.inputs({}, jax.random.key(0), jnp.asarray(step))["attend"])
        for step in (0, 10, 15, 20, 30, 99)
    }
    expected = {0: (1, 1), 10: (1, 1), 15: (0.5**0.9, 1), 20: (0, 1), 30: (0, 0.5**0.9), 99: (0, 0)}
    for step, each in expected.items():
        np.testing.assert_allclose(found[step], each, atol=1e-6)
    assert TASKS["semantic"].inputs({}, jax.random.key(0), 3) == {}


def test_shares_of_no_training_are_refused_when_they_are_asked_for():
    """A run that is opened to predict has no length, and needs none."""
    task = query_semantic.Task(num_classes=2, annealing_percent=((5, 10),))
    with pytest.raises(ConfigError, match=r"annealing_percent: .* Set config.total_steps"):
        task.inputs({}, jax.random.key(0), 3)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"annealing": ((5, 5),)}, r"annealing has \(5, 5\)"),
        ({"annealing_percent": ((5, 2),)}, r"annealing_percent has \(5, 2\)"),
        ({"annealing": ((1, 2),), "annealing_percent": ((1, 2),)}, "say the same thing"),
        ({"queries": 7}, "the model has 6"),
    ],
)
def test_what_cannot_be_says_why(fields, said):
    with pytest.raises(ConfigError, match=said):
        task = query_semantic.Task(**{"num_classes": 4, "queries": 6, **fields})
        task.loss(noise(classes=4), batch(), jax.random.key(0))


def test_scores_of_classes_are_sums_over_queries():
    given = noise(classes=4)
    task = TASKS["semantic"]
    scores = task.scores(given)
    assert scores.shape == (2, 16, 24, 4) and scores.dtype == jnp.float32
    # At a pixel in the middle of four cells the logits are their mean.
    logits = np.asarray(given.last.masks)[0, 1:3, 2:4].mean((0, 1))
    near = np.asarray(scores)[0, 7:9, 11:13].mean((0, 1))
    probable = np.asarray(jax.nn.softmax(given.last.classes[0]))[:, :-1]
    np.testing.assert_allclose(near, (1 / (1 + np.exp(-logits))) @ probable, rtol=2e-2)
    shares = task.probabilities(scores)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(task.decide(scores), shares.argmax(-1))


def test_objects_lie_on_the_images_own_grid():
    """A canvas of 16 x 24 of which 16 x 12 is the image, whose sides are twice as long."""
    masks = np.full((1, 4, 6, 3), -9.0, np.float32)
    masks[0, 1:3, 1:3, 0], masks[0, :, 4:, 1] = 9, 9  # the second lies beyond the image
    classes = np.full((1, 3, 3), -9.0, np.float32)
    classes[0, 0, 1], classes[0, 1, 0], classes[0, 2, 0] = 4, 3, 2
    task = TASKS["instance"]
    row = jax.tree.map(lambda x: np.asarray(x)[0], task.find(outputs(masks, classes, (16, 24))))
    found = task.objects(row, covered=(16, 12), whole=(32, 24))
    assert found.classes[0] == THINGS[1] and len(found.masks) == 2  # of one query, either class
    assert found.scores[0] > 0.9 and (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.boxes[0], [8, 8, 24, 24], atol=0)
    assert found.masks[0].corner == (8, 8) and found.masks[0].inside.shape == (16, 16)
    assert not found.crowd.any() and found.boxes.dtype == np.float32
    nothing = task.objects(row, covered=(4, 4), whole=(4, 4))
    assert len(nothing.masks) == 0 and nothing.boxes.shape == (0, 4)


def scene():
    """Return made-up masks that overlap: logits [8 8 12], scores, classes of 2 stuff, 2 things."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:8, :12]
    logits = np.stack([
        3 - np.hypot(rows - rng.uniform(0, 8), columns - rng.uniform(0, 12)) for _ in range(8)
    ])  # fmt: skip
    logits[1] = logits[0] - 0.1  # hidden by the first
    logits[5] = -3
    return logits.astype(np.float32), rng.uniform(0.8, 1, 8).astype("f4"), np.arange(8) % 4


def merged(whole=(32, 48)):
    logits, scores, classes = scene()
    return regions.merge(
        logits, (32, 48), (24, 48), whole, scores=scores, classes=classes, stuff=(0, 2), overlap=0.5
    )  # fmt: skip


def test_segments_do_not_overlap_and_stuff_is_one():
    segments, classes, scores = merged((48, 96))
    assert segments.shape == (48, 96) and segments.max() == len(classes) == len(scores)
    assert set(np.unique(segments)) <= set(range(len(classes) + 1))
    assert (classes == 0).sum() <= 1 and (classes == 2).sum() <= 1 and len(classes) >= 3
    none = regions.merge(
        np.zeros((0, 8, 12), "f4"), (32, 48), (24, 48), (5, 6), scores=np.zeros(0),
        classes=np.zeros(0, int), stuff=(0,), overlap=0.5,
    )  # fmt: skip
    assert (none[0] == 0).all() and none[0].shape == (5, 6) and len(none[1]) == 0


def test_segments_are_hugging_faces():
    huggingface.library()
    import torch
    from transformers.models.eomt import image_processing_eomt as theirs

    logits, scores, classes = scene()
    large = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None], (32, 48), mode="bilinear"
    )
    own = torch.nn.functional.interpolate(large[..., :24, :], (40, 90), mode="bilinear")[0]
    expected, found = theirs.compute_segments(
        own, torch.from_numpy(scores), torch.from_numpy(classes), [0, 2], 0.5, 0.5, (40, 90)
    )
    segments, numbers, values = merged((40, 90))
    assert (segments == expected.numpy() + 1).mean() > 0.999
    assert numbers.tolist() == [each["label_id"] for each in found]
    np.testing.assert_allclose(values, [each["score"] for each in found], atol=1e-5)


def test_panoptic_answers_are_segments_and_the_objects_among_them():
    masks = np.full((1, 4, 6, 4), -9.0, np.float32)
    masks[0, :2, :, 0], masks[0, 2:, :3, 1], masks[0, 2:, 3:, 2], masks[0, ..., 3] = 9, 9, 9, 9
    classes = np.full((1, 4, 5), -9.0, np.float32)
    classes[0, [0, 1, 2], [0, 1, 1]] = 9  # stuff, two things; the last stands for nothing
    classes[0, 3, 4] = 9
    task = TASKS["panoptic"]
    row = jax.tree.map(lambda x: np.asarray(x)[0], task.find(outputs(masks, classes, (16, 24))))
    where = {"covered": (16, 24), "whole": (16, 24)}
    segments, numbers = task.segments(row, **where)
    assert numbers.tolist() == [0, 1, 1] and segments[0, 0] == 1 and segments[-1, -1] == 3
    assert (segments > 0).mean() > 0.9  # where three meet a pixel may be of none
    found = task.objects(row, **where)
    assert found.classes.tolist() == [1, 1]
    assert sorted(found.boxes.tolist()) == [[8, 0, 16, 12], [8, 12, 16, 24]]

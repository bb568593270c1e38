"""Instance segmentation: what is answered of what was found, and that it is learned at all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.structs import Objects
from segjax.tasks import instance
from segjax.tasks.candidates import Candidates
from tests.models import test_mask_rcnn as small

TASK = instance.Task(num_classes=4, things=(1, 3))


def row(scores=(0.9, 0.8, 0.3, 0.0)):
    """Return four candidates, the third beyond the image, the last none."""
    boxes = [[4, 8, 12, 24], [0, 0, 40, 60], [50, 70, 60, 80], [0, 0, 0, 0]]
    masks = np.ones((4, 28, 28), np.float32)
    masks[1, :, 14:] = 0
    return Candidates(
        np.asarray(scores, np.float32), np.asarray([1, 0, 1, 0], np.int32),
        np.asarray(boxes, np.float32), masks,
    )  # fmt: skip


def test_objects_lie_on_the_image_itself():
    """The image covers 40 x 60 pixels of the canvas and has twice as many rows, as many columns."""
    found = TASK.objects(row(), (40, 60), (80, 60))
    assert isinstance(found, Objects)
    assert found.classes.tolist() == [3, 1] and found.classes.dtype == np.int32
    np.testing.assert_array_equal(found.boxes, [[8, 8, 24, 24], [0, 0, 80, 60]])
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
    assert not found.crowd.any() and len(found.crowd) == 2
    canvas = np.zeros((2, 80, 60), bool)
    for mask, drawn in zip(found.masks, canvas, strict=True):
        (y, x), inside = mask.corner, mask.inside
        drawn[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    assert canvas[0, 8:24, 8:24].all() and canvas[0].sum() < 18 * 18 + 1
    assert canvas[1, 1:79, 1:29].all() and not canvas[1, :, 32:].any()


def test_nothing_found_is_no_object():
    found = TASK.objects(row(scores=(0, 0, 0, 0)), (40, 60), (80, 60))
    assert found.boxes.shape == (0, 4) and found.masks == () and found.scores.shape == (0,)


def test_losses_that_are_left_out_have_no_weight():
    task = instance.Task(num_classes=4, things=(1, 3), mask_weight=0)
    assert task.factors["masks"] == 0 and task.factors["boxes"] == 1
    assert task.num_classes == 2 and task.weights({}) == {}


@pytest.mark.slow
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_two_images_are_learned_by_heart(compute_dtype):
    """Every object is found, of its class, and where it is, by a network that starts from noise."""
    network = small.model(width=16, box_width=32, compute_dtype=compute_dtype)
    batch, key = small.batch((3, 1)), jax.random.key(0)
    variables = jax.jit(lambda x: network.init(key, x, train=False))(batch["image"])
    tx = optax.adam(2e-3)

    @jax.jit
    def step(variables, moments, key):
        def loss(params):
            outputs, new = network.apply(
                {**variables, "params": params}, batch["image"], train=True,
                mutable=["batch_stats"], **TASK.inputs(batch, key, jnp.zeros((), jnp.int32)),
            )  # fmt: skip
            terms = TASK.loss(outputs, batch, key).values()
            return sum(term.mean({}) for term in terms), new["batch_stats"]

        gradient, stats = jax.grad(loss, has_aux=True)(variables["params"])
        updates, moments = tx.update(gradient, moments, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, "batch_stats": stats}, moments

    moments = tx.init(variables["params"])
    for i in range(250):
        variables, moments = step(variables, moments, jax.random.fold_in(key, i))
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, batch["image"])
    found = jax.device_get(TASK.find(outputs))
    truth = TASK.inputs(batch, key, jnp.zeros((), jnp.int32))["targets"]
    for i, count in enumerate((3, 1)):
        one = TASK.objects(jax.tree.map(lambda x, i=i: x[i], found), (64, 64), (64, 64))
        sure = one.scores > 0.5
        assert sure.sum() == count
        order = np.lexsort(one.boxes[sure].T[:1])
        np.testing.assert_allclose(one.boxes[sure][order], truth.boxes[i, :count], atol=3)
        expected = [(1, 3)[j % 2] for j in range(count)]
        assert one.classes[sure][order].tolist() == expected

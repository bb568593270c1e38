"""What is proposed, drawn and found, where shapes are fixed and things are missing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers import anchors, detection, matching

BOXES = jnp.asarray([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 40], [5, 50, 25, 60]], jnp.float32)


def test_anchors_lie_around_their_cells():
    """The areas are asked for; rounded ones are torchvision's."""
    found = anchors.grid((2, 3), (8, 16), 32, (0.5, 1.0, 2.0), rounded=False)
    centres = ((found[:, :2] + found[:, 2:]) / 2).reshape(2, 3, 3, 2)
    np.testing.assert_allclose(centres[1, 2], [[8, 32]] * 3, atol=1e-5)
    sides = found[:, 2:] - found[:, :2]
    np.testing.assert_allclose(sides.prod(-1), 32**2, rtol=1e-5)
    np.testing.assert_allclose(sides[:3, 0] / sides[:3, 1], [0.5, 1, 2], rtol=1e-5)
    rounded = anchors.around_origin(32, (0.5, 1.0, 2.0), rounded=True)
    np.testing.assert_array_equal(rounded[0], [-11, -23, 11, 23])


def test_a_crowd_is_no_object_and_what_it_covers_no_background():
    """A box that only touches it stays background; one on an object stays the object's."""
    truth = jnp.asarray([[20, 20, 40, 40], [0, 0, 30, 62], [0, 0, 0, 0]], jnp.float32)
    learned, crowd = jnp.asarray([True, False, False]), jnp.asarray([False, True, False])
    boxes = jnp.concatenate([BOXES, jnp.asarray([[25, 0, 60, 10]], jnp.float32)])
    found = detection.assign(boxes, truth, learned, crowd, low=0.5, high=0.5)
    assert found.state.tolist() == [-1, -1, 1, -1, 0]
    assert found.objects[2] == 0


def test_regions_that_are_missing_stand_there_again():
    """Positive ones come first; copies are not valid, so that no loss counts them."""
    state = jnp.asarray([0, 1, -1, 0, 1], jnp.int32)
    found = matching.Matches(jnp.arange(5, dtype=jnp.int32), state)
    boxes = jnp.arange(20, dtype=jnp.float32).reshape(5, 4)
    drawn = detection.sample(jax.random.key(0), boxes, found, count=5, positives=3)
    assert drawn.objects.tolist() == [1, 4, 0, 3, 1]
    assert drawn.positive.tolist() == [True, True, False, False, False]
    assert drawn.valid.tolist() == [True] * 4 + [False]
    assert drawn.repeated.tolist() == [0, 1, 0]
    nothing = found._replace(state=jnp.full(5, matching.NEITHER, jnp.int32))
    drawn = detection.sample(jax.random.key(0), boxes, nothing, count=5, positives=3)
    assert not drawn.valid.any() and not drawn.positive.any()


def test_objects_of_a_class_do_not_overlap():
    probabilities = jnp.asarray([[0.9, 0.3], [0.8, 0.6], [0.04, 0.5], [0.7, 0.2]])
    boxes = jnp.stack([BOXES, BOXES], axis=1)
    valid = jnp.asarray([True, True, True, False])
    found = detection.find(
        probabilities, boxes, valid, least=0.05, candidates=7, threshold=0.5, most=5
    )
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.5, 0, 0], rtol=1e-6)
    assert found.classes[:3].tolist() == [0, 1, 1]
    np.testing.assert_array_equal(found.boxes, [*BOXES[:3], np.zeros(4), np.zeros(4)])


def test_levels_are_suppressed_by_themselves():
    """The same box twice on one level is proposed once, on two levels twice."""
    anchors = [np.asarray(BOXES[:2]), np.asarray(BOXES[:1])]
    scores = [jnp.asarray([[2.0, 1.0]]), jnp.asarray([[0.5]])]
    offsets = [jnp.zeros((1, 2, 4)), jnp.zeros((1, 1, 4))]
    found = detection.propose(scores, offsets, anchors, (64, 64), before=5, after=4, threshold=0.7)
    assert found.valid.tolist() == [[True, True, False, False]]
    np.testing.assert_array_equal(found.boxes[0, :2], [BOXES[0], BOXES[0]])


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (2, 5), (8, 3)])
def test_slots_that_are_needed_are_computed_and_few_others(counts):
    """With their gradient, and none of other parts; where parts do not divide, all are."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 3)), jnp.float32)
    needed = jnp.arange(8) < jnp.asarray(counts)[:, None]
    weight = jnp.asarray([1.0, -2.0, 3.0])

    @functools.partial(jax.jit, static_argnums=2)
    def total(weight, x, parts):
        found = detection.where_needed(lambda x: jnp.sin(x * weight), needed, x, parts=parts)
        return jnp.where(needed[..., None], found, 0).sum(), found

    gradient, found = jax.grad(total, has_aux=True)(weight, x, 4)
    plain, every = jax.grad(total, has_aux=True)(weight, x, 5)
    np.testing.assert_allclose(gradient, plain, rtol=1e-5)
    np.testing.assert_array_equal(every, jnp.sin(x * weight))
    first = 2 * -(-max(counts) // 2)
    np.testing.assert_array_equal(found[:, :first], every[:, :first])
    assert not found[:, first:].any()

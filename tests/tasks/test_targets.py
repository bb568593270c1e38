"""What detection models train on is what augmentation left of the objects."""

import jax
import jax.numpy as jnp
import numpy as np

from segjax.tasks import targets

THINGS = (1, 3)


def batch(index=(0, 1)):
    """Return two images of 20 x 30 pixels: some objects, one of no thing, one without pixels."""
    masks = np.zeros((2, 20, 30, 10), bool)
    masks[0, 3:7, 5:9, 0] = masks[0, 4:6, 0:30, 1] = masks[0, 0, 0, 2] = True
    masks[1, 19, 29, 9] = True
    classes = np.full((2, 10), -1, np.int32)
    classes[0, :4] = 3, 1, 2, 3
    classes[1, 9] = 1
    crowd = np.zeros((2, 10), bool)
    crowd[0, 1] = crowd[0, 2] = True
    return {
        "object_masks": jnp.asarray(np.packbits(masks, axis=-1, bitorder="little")),
        "object_classes": jnp.asarray(classes),
        "object_crowd": jnp.asarray(crowd),
        "index": jnp.asarray(index, jnp.int32),
    }


def test_objects_have_the_boxes_of_their_pixels_and_the_classes_of_things():
    found = jax.jit(targets.targets_of, static_argnums=1)(batch(), THINGS, jax.random.key(0))
    classes = np.full((2, 10), -1)
    classes[0, 0], classes[0, 1], classes[1, 9] = 1, 0, 0
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_array_equal(found.boxes[0, :2], [[3, 5, 7, 9], [4, 0, 6, 30]])
    np.testing.assert_array_equal(found.boxes[1, 9], [19, 29, 20, 30])
    assert np.argwhere(found.crowd).tolist() == [[0, 1]]
    assert np.argwhere(found.learned).tolist() == [[0, 0], [1, 9]]


def test_an_example_is_keyed_by_its_position_alone():
    """Its row in the batch, and what else is in it, do not matter."""
    key = jax.random.key(3)
    one = targets.targets_of(batch((5, 6)), THINGS, key).keys
    other = targets.targets_of(batch((6, 9)), THINGS, key).keys
    data = jax.random.key_data
    np.testing.assert_array_equal(data(one[1]), data(other[0]))
    assert (data(one[0]) != data(other[1])).any()

"""Objects bottom-up: what is learned of packed masks, and how objects grow of interiors."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from segjax.config import lookup
from segjax.data import core, masks
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL, Mask
from segjax.tasks import interior

LOSSES = [dict(type="pixel:cross_entropy", weight=1.0)]


def make(things=(1, 2), **more):
    section = dict(type="interior", losses=LOSSES, **more)
    return lookup.build(
        "tasks", section, where="config.task", for_takers={"things": things}, num_classes=3
    )


def batch_of(whole, shapes, *, most=9, void=None):
    """Return a batch of one image with the objects `(class, crowd, bool [*space])`."""
    found = [
        (masks.trim(inside), masks.About(number, crowd=crowd)) for number, crowd, inside in shapes
    ]
    fields = masks.fields(masks.make(found, dims=len(whole)), whole, most=most)
    label = np.zeros(whole, np.int32)
    label[void if void is not None else np.zeros(whole, bool)] = IGNORE_LABEL
    fields = {"label": label, **fields}
    return {name: jnp.asarray(x)[None] for name, x in fields.items()}


def blobs(whole, count, seed):
    """Return random objects that may overlap and touch the image's edges."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, whole), indexing="ij"), -1)
    return [
        (
            int(rng.integers(1, 3)),
            bool(rng.random() < 0.2),
            np.linalg.norm(grid - rng.uniform(0, whole), axis=-1) < rng.uniform(1, 6),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("whole", [(90,), (24, 31), (9, 16, 18)])
def test_interiors_are_eroded_masks_and_what_is_thin_and_void_keeps_away_from_objects(whole, width):
    """Against SciPy's morphology of each object by itself, for one to three axes."""
    shapes = blobs(whole, 9, seed=len(whole))
    void = np.random.default_rng(9).random(whole) < 0.3
    label = np.asarray(make(width=width).label(batch_of(whole, shapes, void=void)))[0]
    square = np.ones((2 * width + 1,) * len(whole), bool)
    wider = np.ones((2 * width + 3,) * len(whole), bool)
    single = [(number, inside) for number, crowd, inside in shapes if not crowd and inside.any()]
    objects = np.any([inside for _, inside in single], axis=0)
    expected = np.where(void & ~ndimage.binary_dilation(objects, wider), IGNORE_LABEL, 0)
    for _, crowd, inside in shapes:
        expected[inside & crowd] = IGNORE_LABEL
    expected[objects] = 3
    for k in (1, 2):
        for number, inside in single:
            core = ndimage.binary_erosion(inside, square, border_value=1)
            thin = inside & ~ndimage.binary_dilation(core, square)
            if number == k:
                expected[core | thin] = k
    np.testing.assert_array_equal(label, expected)
    assert {0, 3, IGNORE_LABEL} <= set(label.ravel().tolist())


def probabilities_of(label, classes):
    """Return a sure answer for every pixel."""
    return (label[..., None] == np.arange(classes)).astype(np.float32)


@pytest.mark.parametrize("whole", [(36,), (36, 24), (36, 16, 18)])
def test_objects_that_touch_come_back_as_they_were(whole):
    """Two boxes side by side and one alone: of each the class, the box and every pixel."""
    shapes = []
    for number, low, high in ((1, 2, 10), (2, 10, 20), (1, 24, 33)):
        inside = np.zeros(whole, bool)
        inside[low:high, *[slice(3, 14)] * (len(whole) - 1)] = True
        shapes.append((number, False, inside))
    label = np.asarray(make().label(batch_of(whole, shapes)))[0]
    found = make(smallest=1).group(probabilities_of(label, 4))
    assert sorted(mask.corner[0] for mask in found.masks) == [2, 10, 24]
    for number, _, inside in shapes:
        mask = masks.trim(inside)
        at = [each.corner for each in found.masks].index(mask.corner)
        np.testing.assert_array_equal(found.masks[at].inside, mask.inside)
        assert found.classes[at] == number and found.scores[at] == 1
        assert tuple(found.boxes[at]) == (*mask.corner, *np.add(mask.corner, mask.inside.shape))


def test_what_is_small_unsure_or_far_is_no_object():
    """Scores are the mean probability of the class over the interior, the highest first."""
    pixels = np.zeros((20, 30, 4), np.float32)
    pixels[..., 0] = 1
    pixels[2:6, 2:8] = (0, 0.25, 0.75, 0)  # of class 2
    pixels[10:16, 2:8] = (0, 0.875, 0.125, 0)
    pixels[10:16, 8:14] = (0, 0, 0, 1)  # a boundary, which reaches farther than one can be wide
    pixels[18, 20:22] = (0, 1, 0, 0)  # two pixels
    pixels[3:6, 20:25] = (0.6, 0.4, 0, 0)
    found = make(smallest=3).group(pixels)
    assert found.scores.tolist() == [0.875, 0.75] and found.classes.tolist() == [1, 2]
    assert found.boxes.tolist() == [[10, 2, 16, 11], [2, 2, 6, 8]]
    assert isinstance(found.masks[0], Mask) and not found.crowd.any()
    nothing = make().group(probabilities_of(np.zeros((9, 9)), 4))
    assert nothing.boxes.shape == (0, 4) and nothing.masks == () and nothing.scores.shape == (0,)


def test_the_loss_is_that_of_the_label_and_an_image_without_objects_is_background():
    batch = batch_of((16, 16), [])
    np.testing.assert_array_equal(make().label(batch), 0)
    batch = batch_of((16, 16), blobs((16, 16), 3, seed=4))
    task, label = make(), np.asarray(make().label(batch))
    assert float(task.weights(batch)["cross_entropy"]) == (label != IGNORE_LABEL).sum()


def test_data_that_counts_no_objects_is_refused():
    with pytest.raises(ConfigError, match="counts none"):
        make(things=())
    assert interior.Task.needs.keys() - core.object_schema(8).keys() == {"label"}


def test_things_of_two_classes_never_grow_together():
    """Side by side without a boundary between them, as a network may see them."""
    pixels = np.zeros((12, 20, 4), np.float32)
    pixels[..., 0] = 1
    pixels[2:8, 2:10] = (0, 1, 0, 0)
    pixels[2:8, 10:16] = (0, 0, 1, 0)
    found = make().group(pixels)
    assert found.classes.tolist() == [1, 2]
    assert found.boxes.tolist() == [[2, 2, 8, 10], [2, 10, 8, 16]]


def test_a_watershed_tells_objects_apart_by_their_shape():
    """Two discs that a network sees as one interior; where its boundary parts them both agree."""
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(60), indexing="ij"), -1)
    discs = [np.linalg.norm(grid - centre, axis=-1) < 10 for centre in ([20, 20], [20, 37])]
    one = probabilities_of((discs[0] | discs[1]).astype(int), 3)  # of the only thing's interior
    assert len(make((1,), interior=0.5).group(one).masks) == 1
    found = make((1,), touching="watershed", apart=5).group(one)
    assert (
        len(found.masks) == 2 and sum(int(m.inside.sum()) for m in found.masks) == one[..., 1].sum()
    )
    overlaps = [
        max(int((discs[n][masks.place_of(mask)] & mask.inside).sum()) for mask in found.masks)
        for n in (0, 1)
    ]
    assert min(overlaps) > 0.9 * discs[0].sum()

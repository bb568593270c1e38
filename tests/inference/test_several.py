"""Several images together are predicted as each alone, in few compiled shapes."""

import numpy as np
import pytest

from segjax.data import intensity
from segjax.errors import DataError
from segjax.inference import several
from segjax.inference.grouping import Grouping
from segjax.inference.postprocess import Postprocessed, State
from segjax.inference.predictor import FunctionPredictor, Prediction
from segjax.inference.scaling import Scaling
from tests.inference.test_network import Many, convolution, sizes_of_caches

SIZES = ((32, 40), (50, 70), (20, 30), (97, 33), (33, 128), (8, 8), (64, 80), (1, 1), (200, 3))


def images(dtype="uint8"):
    random = np.random.default_rng(3)
    return [random.integers(0, 255, (*size, 3)).astype(dtype) for size in SIZES]


def assert_as_alone(predictor, together, seen):
    """Check that predictions are those of each image alone, bit for bit."""
    assert len(together) == len(seen)
    for found, image in zip(together, seen, strict=True):
        alone = predictor(image)
        np.testing.assert_array_equal(found.classes, alone.classes)
        assert found.classes.shape == image.shape[:-1] and found.classes.dtype == np.uint8
        np.testing.assert_array_equal(found.probabilities(), alone.probabilities())


WAYS = {
    "resize": ("resize", {}),
    "pad": ("pad", {}),
    "gaussian": ("pad", dict(blend="gaussian", overlap=0.6)),
    "turned": ("resize", dict(flips=(0, 1))),
    "sides": ("pad", dict(short_side=48, long_side=90, blend="flat", flips=(1,))),
}


@pytest.mark.parametrize("most", [1, 3, 8])
@pytest.mark.parametrize("way", WAYS)
def test_together_is_as_alone(way, most):
    how, options = WAYS[way]
    network, seen = convolution((32, 40), how, 0, **options), images()
    together = network.several(seen, probabilities=range(0, len(seen), 2), most=most)
    assert_as_alone(network, together, seen)


@pytest.mark.slow
@pytest.mark.parametrize("data", [1, 2, 8])
@pytest.mark.parametrize("way", ["pad", "gaussian"])
def test_together_is_as_alone_on_several_devices(way, data):
    how, options = WAYS[way]
    network, seen = convolution((32, 40), how, data, **options), images()
    assert_as_alone(network, network.several(seen, probabilities={1}, most=16), seen)


def test_few_shapes_are_compiled():
    network = convolution((32, 40), "pad", 0)
    random = np.random.default_rng(0)
    for count in range(1, 8):
        network.several([random.choice(255, (30, 9, 3)).astype(np.uint8)] * count, most=8)
    assert several.shapes(rows=1, most=8) == [1, 2, 4, 8]
    assert sizes_of_caches(network.forward)["outputs"] == 4
    network.several(images(), most=8)  # more windows than fit one batch
    assert sizes_of_caches(network.forward)["outputs"] == 4


@pytest.mark.parametrize(
    ("count", "rows", "most", "expected"),
    [(1, 1, 8, 1), (3, 1, 8, 4), (9, 1, 8, 8), (5, 1, 6, 4), (1, 8, 4, 8), (9, 8, 16, 16)],
)
def test_the_shape_of_a_batch(count, rows, most, expected):
    assert several.shape_of(count, rows=rows, most=most) == expected
    assert expected in several.shapes(rows=rows, most=most)


def test_images_of_different_types_are_not_mixed():
    network = convolution((32, 40), "pad", 0)
    seen = [*images()[:2], *images("float32")[:2], images("uint16")[2], images()[3]]
    assert_as_alone(network, network.several(seen, probabilities={0, 2, 5}), seen)


def test_an_image_with_other_axes_is_an_error():
    network = convolution((32, 40), "pad", 0)
    with pytest.raises(DataError, match="3 axes in space"):
        network.several([images()[0], np.zeros((4, 5, 6, 3), np.uint8)])


def test_whatever_wraps_a_network_predicts_several():
    network, seen = convolution((32, 40), "pad", 0), images()[:4]

    def other_way(state: State) -> State:
        return state._replace(classes=state.probabilities.argmin(-1).astype(np.uint8))

    halved = [lambda image: intensity.Scale(0.0, 255.0, 0.0, 0.5)]
    wrapped = Postprocessed(Scaling(network, halved), [other_way])
    assert_as_alone(wrapped, several.several(wrapped, seen), seen)
    grouping = Grouping(network, lambda p: p.argmax(-1))
    for found, image in zip(several.several(grouping, seen), seen, strict=True):
        np.testing.assert_array_equal(found.objects, network(image).classes)
        assert found.size == image.shape[:-1]


def test_what_has_no_way_of_its_own_is_asked_one_by_one():
    stand_in = FunctionPredictor(lambda image: image[..., 0] % 6, num_classes=6)
    assert not isinstance(stand_in, several.Batching)
    found = several.several(stand_in, images(), probabilities={0}, most=4)
    assert all(isinstance(each, Prediction) for each in found)
    np.testing.assert_array_equal(found[1].classes, images()[1][..., 0] % 6)


def test_the_network_is_asked_once_for_classes_and_probabilities(monkeypatch):
    network, calls = convolution((32, 40), "pad", 0), []
    plain = network.forward.outputs
    monkeypatch.setattr(network.forward, "outputs", lambda *given: calls.append(1) or plain(*given))
    found = network.several([Many()[5]["image"]], probabilities={0})
    found[0].probabilities()
    assert len(calls) == 1
    network.several([Many()[5]["image"]])[0].probabilities()
    assert len(calls) == 3

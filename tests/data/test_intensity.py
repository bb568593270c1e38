"""Images are brought to one scale by what all of an image says, whole or in parts, in and out.

The rule for every step: float32 [*space c] comes out, each channel by itself; of an image that is
read in parts a part is that of the whole; what trains and what predicts do the same.
"""

import numpy as np
import pytest

from segjax.assemble import parts
from segjax.data import core, intensity
from segjax.data.lazy import Lazy
from segjax.errors import ConfigError
from segjax.inference import scaling
from segjax.inference.predictor import FunctionPredictor
from segjax.views import colour

RNG = np.random.default_rng(0)
IMAGE = RNG.normal([100, -500], [20, 300], (12, 30, 2)).astype(np.int16)
STEPS = {
    "per_image": dict(type="per_image"),
    "percentile": dict(type="percentile", low=5, high=95),
    "window": dict(type="window", centre=-500, width=400),
    "fixed": dict(type="fixed", mean=[100, -500], std=[20, 300], low=-600, high=130),
}


def build(*names: str):
    return parts.make_intensity([STEPS[name] for name in names], 2)


def wanted(name: str) -> np.ndarray:
    """Return the same by a line of NumPy each."""
    x = IMAGE.astype(np.float64)
    flat = x.reshape(-1, 2)
    if name == "per_image":
        return (x - flat.mean(0)) / flat.std(0)
    if name == "percentile":
        low, high = (np.array([np.percentile(flat[:, c], q) for c in (0, 1)]) for q in (5, 95))
        return (np.clip(x, low, high) - low) / (high - low)
    if name == "window":
        return np.clip((x + 700) / 400, 0, 1)
    return (np.clip(x, -600, 130) - [100, -500]) / [20, 300]


@pytest.mark.parametrize("name", STEPS)
def test_each_is_its_formula(name):
    found = intensity.apply(build(name), IMAGE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted(name), rtol=1e-5, atol=1e-5)


def test_steps_follow_each_other():
    both = intensity.apply(build("window", "per_image"), IMAGE)
    once = intensity.apply(build("window"), IMAGE)
    np.testing.assert_array_equal(both, intensity.apply(build("per_image"), once))
    assert intensity.apply((), IMAGE) is IMAGE


@pytest.mark.parametrize("name", STEPS)
def test_a_part_is_that_of_the_whole(name):
    lazily = Lazy(IMAGE.shape, IMAGE.dtype, lambda region: IMAGE[region], name="x")
    found = intensity.apply(build(name), lazily)
    assert isinstance(found, Lazy) and found.dtype == np.float32
    region = (slice(2, 7), slice(5, 30))
    np.testing.assert_array_equal(found[region], intensity.apply(build(name), IMAGE)[region])


def test_a_large_image_is_scaled_by_some_of_its_pixels(monkeypatch):
    monkeypatch.setattr(intensity, "SAMPLE", 50)
    read = []

    def part(region):
        read.append(region)
        return IMAGE[region]

    intensity.apply(build("per_image"), Lazy(IMAGE.shape, IMAGE.dtype, part, name="x"))
    assert len(read) == 4, "every third row of twelve"


@pytest.mark.parametrize("name", ["per_image", "percentile"])
def test_zeros_do_not_count_where_nothing_was_measured(name):
    image = np.zeros((20, 20, 2), np.int16)
    image[5:15, 5:15] = RNG.integers(1, 900, (10, 10, 2))
    steps = parts.make_intensity([STEPS[name] | {"nonzero": True}], 2)
    inside = intensity.apply(build(name), image[5:15, 5:15])
    np.testing.assert_allclose(intensity.apply(steps, image)[5:15, 5:15], inside, rtol=1e-5)
    blank = np.zeros((4, 4, 2), np.int16)
    assert np.isfinite(intensity.apply(steps, blank)).all()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (dict(type="percentile", low=90, high=10), "expected low < high"),
        (dict(type="window", centre=0, width=0), "width=0"),
        (dict(type="fixed", mean=0, std=0), "std=0.*above 0"),
        (dict(type="fixed", mean=[1, 2, 3], std=1), "mean=.*2 channels"),
        (dict(type="percentil"), "Did you mean 'percentile'"),
        (dict(type="apply"), "another kind"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(section, said):
    with pytest.raises(ConfigError, match=said):
        parts.make_intensity([section], 2)


class Two:
    class_names, palette = ("a", "b"), colour.voc_palette(2)
    schema = core.semantic_schema(2, dtype="int16")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"image": IMAGE + index, "label": np.zeros((12, 30), np.uint8), "name": str(index)}


def test_what_trains_is_what_predicts():
    """A predictor is given images in their own units, and sees what training saw."""
    steps, seen = build("percentile"), []

    def look(image):
        seen.append(np.asarray(image))
        return np.zeros(image.shape[:-1], np.uint8)

    predictor = scaling.wrap(FunctionPredictor(look, num_classes=2), steps)
    source = intensity.view(Two(), steps)
    assert source.schema["image"].dtype == "float32"
    for index in range(3):
        predictor(Two()[index]["image"])
        np.testing.assert_array_equal(seen[-1], source[index]["image"])
    list(predictor.tiles(IMAGE))
    np.testing.assert_array_equal(seen[-1], source[0]["image"])
    assert len(list(predictor.measure(Two(), batch_size=1, threads=0))) == 3
    for index in range(3):
        np.testing.assert_array_equal(seen[index + 4], source[index]["image"])
    plain = FunctionPredictor(look, num_classes=2)
    assert scaling.wrap(plain, ()) is plain and isinstance(intensity.view(Two(), ()), Two)

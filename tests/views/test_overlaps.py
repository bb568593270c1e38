"""Multi-label maps are drawn as class maps that differ exactly where an answer is wrong."""

import numpy as np
import pytest

from segjax.views import colour, examples, overlaps
from tests.views.png import near, read_png

NAMES = ("a", "b", "c")
PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def scene(size, k=3, seed=0):
    random = np.random.default_rng(seed)
    label = random.choice(np.array([0, 0, 1, 255], np.uint8), (*size, k))
    label.reshape(-1, k)[:5] = 255
    pred = np.where(random.random(label.shape) < 0.7, label == 1, label == 0).astype(np.uint8)
    return label, pred


@pytest.mark.parametrize(("k", "most"), [(1, 3), (3, 9), (90, 255)])
@pytest.mark.parametrize("size", [(60,), (12, 15), (4, 6, 8)])
def test_maps_differ_exactly_where_an_answer_of_what_is_known_is_wrong(size, k, most):
    """Of up to 62 classes and 254 combinations; more than that still draws."""
    pairs = [scene(size, k, seed) for seed in range(3)]
    names, palette = [f"c{i}" for i in range(k)], [(i, 255 - i, 7) for i in range(k)]
    flat, colours, legend = overlaps.flatten(pairs, palette, names)
    assert len(colours) <= most and legend["none"] == overlaps.NOTHING
    for (label, pred), (truth, said) in zip(pairs, flat, strict=True):
        known = label < 2
        void = ~known.any(-1)
        assert truth.dtype == said.dtype == np.uint8 and truth.shape == size
        if k <= 3:
            wrong = (known & (label != pred)).any(-1)
            np.testing.assert_array_equal((truth != said), wrong & ~void)
            np.testing.assert_array_equal(truth == 255, void)
        colour.colourise(truth, colours)
        colour.colourise(said, colours)


def test_a_combination_has_the_mean_colour_and_the_legend_names_classes_alone():
    label = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [255, 255, 255], [0, 0, 0]], np.uint8)
    pred = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.uint8)
    ((truth, said),), colours, legend = overlaps.flatten([(label, pred)], PALETTE, NAMES)
    np.testing.assert_array_equal(truth, said)
    shown = [tuple(c) for c in colour.colourise(truth, colours, void=(9, 9, 9))]
    nothing = overlaps.NOTHING
    assert shown == [nothing, (200, 0, 0), (100, 100, 0), (9, 9, 9), nothing]
    assert legend == {
        "none": nothing, "a": (200, 0, 0), "b": (0, 200, 0), "several: mixed": (100, 100, 0),
    }  # fmt: skip
    assert overlaps.flatten([], PALETTE, NAMES) == ([], [nothing], {"none": nothing})


@pytest.mark.parametrize("size", [(200,), (30, 40), (8, 24, 30)])
def test_they_are_drawn_as_other_examples_are(tmp_path, size):
    label, pred = scene(size)
    (pair,), colours, legend = overlaps.flatten([(label, pred)], PALETTE, NAMES)
    row = examples.Row(
        title="best", image=np.zeros((*size, 1), np.uint8), label=pair[0], pred=pair[1], miou=0.5
    )
    examples.draw(tmp_path / "a.png", [row], palette=colours, legend=legend)
    pixels = read_png(tmp_path / "a.png")
    for shade in (colour.WRONG, colour.CORRECT, (200, 0, 0)):
        assert near(pixels, [c / 255 for c in shade]) > 50

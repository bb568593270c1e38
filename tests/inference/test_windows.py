"""Windows put every pixel where it was, in any number of dimensions."""

import itertools

import numpy as np
import pytest

from segjax.inference import resize, windows


def nearest_class(canvases):
    """Stand in for a network: the class of a pixel is its first channel, sharply."""
    for canvas in canvases:
        yield 10.0 * (canvas[..., :1] == np.arange(6)).astype(np.float32)


@pytest.mark.parametrize(
    "size", [(32, 32), (40, 100), (97, 33), (200, 170), (300,), (10,), (40, 33, 50)]
)
def test_every_pixel_is_decided_once_by_a_window_that_saw_it(size):
    """A network that looks at single pixels must not notice that it saw windows."""
    image = np.random.default_rng(0).integers(0, 5, (*size, 3), np.uint8)
    canvas = (32, 40, 32)[: len(size)]
    classes, decided = np.full(size, 99), np.zeros(size, int)
    for part, scores in windows.scored(image, nearest_class, size=canvas, pad_value=5):
        classes[part] = scores.argmax(-1)
        decided[part] += 1
    np.testing.assert_array_equal(classes, image[..., 0])
    assert (decided == 1).all()


@pytest.mark.parametrize("length", [10, 64, 65, 100, 1000])
def test_spans_cover_once_with_context(length):
    spans = windows.spans(length, 64)
    covered = [i for _, kept in spans for i in range(kept.start, kept.stop)]
    assert covered == list(range(length))
    for start, kept in spans:
        assert start >= 0 and (start + 64 <= length or length <= 64)
        assert kept.start - start >= 8 or kept.start == 0
        assert start + 64 - kept.stop >= 8 or kept.stop == length


def test_logits_are_interpolated_before_the_class_is_chosen():
    logits = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(resize.argmax_at_size(logits, (4, 5)), logits.argmax(-1))
    two = np.array([[[0.0, 1.0], [4.0, 0.0]]], np.float32)  # crosses over nearer the left pixel
    assert resize.argmax_at_size(two, (1, 20))[0].tolist().count(0) > 10


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_scores_keep_a_plane_in_any_dimension(dims):
    """Linear interpolation leaves a linear function as it is, away from the border."""
    size, to = (8, 6, 5)[:dims], (16, 18, 10)[:dims]
    slopes = np.array([1.0, -2.0, 0.5])[:dims]

    def plane(shape, scale):
        centres = [(np.arange(n) + 0.5) * s for n, s in zip(shape, scale, strict=True)]
        grid = np.meshgrid(*centres, indexing="ij")
        return sum(slope * axis for slope, axis in zip(slopes, grid, strict=True))

    scores = plane(size, [1] * dims).astype(np.float32)[..., None]
    scale = [n / m for n, m in zip(size, to, strict=True)]
    found = resize.at_size(scores, to)[..., 0]
    inner = tuple(slice(m // n, -(m // n)) for n, m in zip(size, to, strict=True))
    np.testing.assert_allclose(found[inner], plane(to, scale)[inner], rtol=1e-5, atol=1e-4)


def test_windows_of_one_row_go_together():
    rows = list(windows.rows((100, 100), (40, 40)))
    assert len(rows) == len(windows.spans(100, 40))
    starts = [window.start for row in rows for window in row]
    expected = [start for start, _ in windows.spans(100, 40)]
    assert starts == list(itertools.product(expected, expected))

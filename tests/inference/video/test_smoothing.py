"""The vote of neighbouring frames: what flickers stands still, what moves is not smeared."""

import numpy as np
import pytest

from segjax.inference.video import smoothing


def check(images, labels, smoothed, count):
    """Compare pixel by pixel with what the docstrings say."""
    greys = [smoothing._grey(image) for image in images]
    for place in np.ndindex(labels.shape):
        number, y, x = place[:3]
        low, high = max(0, number - count // 2), min(len(images), number + count // 2 + 1)
        votes = [
            labels[(other, *place[1:])]
            for other in range(low, high)
            if abs(greys[other][y, x] - greys[number][y, x]) <= smoothing.ALIKE
        ]
        most = max(votes.count(each) for each in votes)
        best = {each for each in votes if votes.count(each) == most}
        own = labels[place]
        assert smoothed[place] == own if own in best else smoothed[place] in best


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_the_vote_is_that_of_the_definition(count, length, shape):
    random = np.random.default_rng(length)
    images = random.integers(0, 40, (length, 6, 7, 3)).astype(np.uint8)
    images[length // 2 :, :, 4:] += 150
    labels = random.integers(0, 2 if shape else 3, (length, 6, 7, *shape)).astype(np.uint8)
    given = list(smoothing.vote(zip(range(length), images, labels, strict=True), count))
    assert [item for item, _ in given] == list(range(length))
    smoothed = np.array([classes for _, classes in given])
    assert smoothed.dtype == np.uint8
    check(images, labels, smoothed, count)


def test_what_flickers_in_one_frame_stands_still_and_what_moves_is_kept():
    images = np.full((8, 32, 80, 3), 40, np.uint8)
    truth = np.zeros((8, 32, 80), np.uint8)
    for number in range(8):
        left = 9 * number
        images[number, 8:20, left : left + 8], truth[number, 8:20, left : left + 8] = 220, 1
    wrong = truth.copy()
    wrong[3, 25:30, 30:38] = 1
    found = np.array([c for _, c in smoothing.vote(zip(range(8), images, wrong, strict=True), 3)])
    np.testing.assert_array_equal(found[3, 25:30, 30:38], 0)
    blurred = smoothing.BLUR // 2  # where both sides of an edge are in the square compared
    assert (found != truth).sum() <= 8 * 12 * 2 * blurred
    still = np.array(
        [c for _, c in smoothing.vote(zip(range(8), images * 0, truth, strict=True), 3)]
    )
    assert (still != truth).sum() > 4 * (found != truth).sum(), "the gate is what keeps it"


def test_at_most_the_window_is_held():
    held = []

    def items():
        for number in range(20):
            held.append(number)
            yield number, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)

    for number, _ in smoothing.vote(items(), 7):
        assert len(held) - number <= 4

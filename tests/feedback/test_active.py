"""Which images to label next: unsure ones, far from each other and from what is labelled."""

import pathlib

import numpy as np

from segjax.feedback import active
from segjax.feedback.active import Seen


def seen(*rows: tuple[float, float, float]) -> list[Seen]:
    return [
        Seen(pathlib.Path(f"{number}.png"), row[0], np.array(row[1:]))
        for number, row in enumerate(rows)
    ]


def names(picks) -> list[str]:
    return [pick.file.stem for pick in picks]


def test_of_two_alike_only_one_is_chosen():
    images = seen((0.9, 5, 5), (0.9, 5, 5), (0.1, 0, 0), (0.1, 1, 0))
    assert names(active.choose(images, 4)) == ["0", "2", "3"] or len(
        active.choose(images, 4)
    ) == 3  # fmt: skip
    assert names(active.choose(images, 2))[1] != "1"


def test_by_uncertainty_alone():
    images = seen((0.2, 0, 0), (0.9, 0.1, 0), (0.5, 9, 9), (0.7, 0.2, 0))
    assert names(active.choose(images, 3, diversity=0)) == ["1", "3", "2"]


def test_equally_unsure_ones_are_spread():
    """Three clusters of five: the first three picks are of three clusters."""
    rng = np.random.default_rng(0)
    images = [
        Seen(pathlib.Path(f"{c}{i}.png"), 0.5, centre + rng.normal(0, 0.1, 2))
        for c, centre in enumerate(np.array([[0, 0], [10, 0], [0, 10]]))
        for i in range(5)
    ]
    assert {name[0] for name in names(active.choose(images, 3))} == {"0", "1", "2"}


def test_what_is_labelled_needs_no_other_like_it():
    images = seen((0.9, 0, 0), (0.5, 10, 10))
    near = seen((0.0, 0.01, 0))
    assert names(active.choose(images, 1, labelled=near)) == ["1"]


def test_none_and_all():
    assert active.choose([], 5) == []
    assert len(active.choose(seen((0, 0, 0), (0, 1, 1)), 5)) == 2, "no uncertainty, still a place"


def test_the_description_has_cells_of_any_image():
    for shape in ((5, 3, 2), (64, 48, 3), (7, 2), (4, 5, 6, 1)):
        cells = active._cells(np.ones(shape))
        assert cells.shape == (*[active.GRID] * (len(shape) - 1), shape[-1])
        assert (cells == 1).all()

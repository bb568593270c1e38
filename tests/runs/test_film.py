"""The same examples at every evaluation, and a film of them at the end."""

import copy

import numpy as np
import pytest
from PIL import Image

from segjax.evaluators import report
from segjax.runs import film
from tests.report import subjects


@pytest.mark.parametrize("kind", ["instances"])
def test_a_film_has_a_frame_for_each_evaluation(kind, tmp_path):
    evaluator, predictor = subjects.evaluator_and_predictor(kind, 0.1)
    for step in (10, 200):
        frame = film.add(tmp_path, evaluator, predictor, step=step, examples=2)
        assert frame is not None and frame.exists()
    (tmp_path / film.FRAMES / "000003000.png").write_bytes(b"of a run that went on further")
    assert film.finish(tmp_path, until=200) == tmp_path / film.FILM
    with Image.open(tmp_path / film.FILM) as shown:
        assert shown.n_frames == 2 and shown.size[0] <= film.motion.WIDEST
    assert not (tmp_path / film.FRAMES).exists()
    assert film.finish(tmp_path, until=200) is None


def test_the_evaluation_that_is_made_most_often_is_filmed():
    known = {"test": 0, "train": 10, "val": 10, "rare": 20}
    evaluators = []
    for split, every in known.items():
        evaluator = copy.copy(subjects.evaluator_and_predictor("classes", 0.1)[0])
        evaluator.name = evaluator.split = split
        evaluator.every_steps = every
        evaluators.append(evaluator)
    found = report.most_often(evaluators, trained="train")
    assert found is not None and found.split == "val"
    assert report.most_often(evaluators[:2], trained="train") is evaluators[1]
    assert report.most_often([], trained="train") is None
    assert report.gap(evaluators, trained="train") == ("train", "val")
    assert report.gap(evaluators[:1], trained="train") == ("", "")


def test_frames_of_different_sizes_become_one(tmp_path):
    paths = []
    for number, size in enumerate([(30, 20), (24, 28)]):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", size, (200, 0, 0)).save(paths[-1])
    film.motion.write(tmp_path / "a.gif", paths)
    with Image.open(tmp_path / "a.gif") as shown:
        assert shown.size == (30, 28) and shown.n_frames == 2
        shown.seek(1)
        pixels = np.asarray(shown.convert("RGB"))
    assert (pixels[:, 24:] > 250).all() and (pixels[:28, :24, 0] > 190).all()


def test_nothing_is_drawn_where_nothing_was_asked_for(tmp_path):
    evaluator, predictor = subjects.evaluator_and_predictor("classes", 0.1)
    assert film.add(tmp_path, evaluator, predictor, step=1, examples=0) is None
    assert not list(tmp_path.iterdir())

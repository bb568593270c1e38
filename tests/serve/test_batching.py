"""What waits is predicted together, in time, and one bad image spoils no other."""

import threading
import time

import pytest

from segjax.errors import DataError
from segjax.serve.batching import Batcher, Job
from segjax.serve.limits import Refused


def job(image, *, windows=1, probabilities=False, left=60.0):
    return Job(image, windows, probabilities, time.monotonic() + left)


class Predictor:
    """Answers with twice the number; holds its first batch until it is let go."""

    def __init__(self):
        self.batches, self.go, self.begun = [], threading.Event(), threading.Event()

    def __call__(self, images, probabilities):
        self.batches.append((list(images), list(probabilities)))
        self.begun.set()
        self.go.wait(10)
        if "bad" in images:
            raise DataError("bad is bad")
        if "worse" in images:
            raise RuntimeError("/secret/path")
        return [2 * image for image in images]


@pytest.fixture
def predictor():
    return Predictor()


@pytest.fixture
def make(predictor):
    made = []

    def make(**options):
        made.append(Batcher(predictor, **{"most": 4, "wait": 0.0} | options))
        return made[-1]

    yield make
    predictor.go.set()
    for each in made:
        each.close()


def held(make, predictor, **options):
    """Return a batcher that is busy with a first image."""
    batcher = make(**options)
    first = batcher.submit(job(0))
    assert predictor.begun.wait(10)
    return batcher, first


def test_what_gathers_while_one_is_predicted_goes_together(make, predictor):
    batcher, first = held(make, predictor)
    futures = [batcher.submit(job(n, probabilities=n == 2)) for n in range(1, 7)]
    assert batcher.waiting == 6
    predictor.go.set()
    assert first.result(10) == 0 and [f.result(10) for f in futures] == [2, 4, 6, 8, 10, 12]
    assert predictor.batches == [([0], []), ([1, 2, 3, 4], [1]), ([5, 6], [])]


def test_windows_are_counted_not_images(make, predictor):
    batcher, _ = held(make, predictor)
    futures = [batcher.submit(job(n, windows=w)) for n, w in ((1, 3), (2, 2), (3, 9), (4, 1))]
    predictor.go.set()
    assert [f.result(10) for f in futures] == [2, 4, 6, 8]
    assert [images for images, _ in predictor.batches] == [[0], [1], [2], [3], [4]]


def test_a_batch_waits_for_others_but_not_for_ever(make, predictor):
    predictor.go.set()
    batcher = make(wait=30.0, most=2)
    first = batcher.submit(job(1))
    assert not predictor.begun.wait(0.1)
    second = batcher.submit(job(2))
    assert (first.result(10), second.result(10)) == (2, 4)
    assert make(wait=0.01).submit(job(3)).result(10) == 6


def test_one_that_fails_fails_alone(make, predictor):
    batcher, _ = held(make, predictor)
    futures = [batcher.submit(job(each)) for each in (1, "bad", 2, "worse")]
    predictor.go.set()
    assert futures[0].result(10) == 2 and futures[2].result(10) == 4
    with pytest.raises(Refused, match="bad is bad") as error:
        futures[1].result(10)
    assert error.value.status == 422
    with pytest.raises(RuntimeError):
        futures[3].result(10)
    assert batcher.submit(job(5)).result(10) == 10


def test_nobody_waits_for_what_is_not_predicted(make, predictor):
    batcher, _ = held(make, predictor)
    gone, late = batcher.submit(job("gone")), batcher.submit(job("late", left=-1.0))
    last = batcher.submit(job(7))
    assert gone.cancel()
    predictor.go.set()
    assert last.result(10) == 14
    with pytest.raises(Refused, match="no answer in time") as error:
        late.result(10)
    assert error.value.status == 503
    assert [images for images, _ in predictor.batches] == [[0], [7]]


def test_closing_answers_what_was_taken(make, predictor):
    batcher, first = held(make, predictor)
    futures = [batcher.submit(job(n)) for n in range(9)]
    threading.Timer(0.05, predictor.go.set).start()
    batcher.wait = 30.0  # nobody waits for others at the end
    batcher.close()
    assert first.done() and [f.result(0) for f in futures] == [2 * n for n in range(9)]
    with pytest.raises(Refused, match="about to end"):
        batcher.submit(job(1))

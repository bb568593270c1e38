"""Threads beside the network: in order, bounded, and their errors arrive."""

import threading
import time

import pytest

from segjax.inference.video import stages


def test_items_come_in_order_and_few_are_made_ahead():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    for number in stages.ahead(items(), 3):
        time.sleep(0.001)
        assert len(made) <= number + 1 + 3
    assert number == 49
    assert list(stages.ahead(iter(()), 3)) == []


def test_an_error_ahead_arrives_after_what_was_good():
    def items():
        yield 1
        raise ValueError("broken")

    found = stages.ahead(items(), 4)
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_all_is_done_in_order_behind_and_few_wait():
    done, given = [], 0
    with stages.behind(done.append, 2) as give:
        for given in range(30):
            give(given)
            assert given - len(done) <= 3
    assert done == list(range(30))


@pytest.mark.parametrize("count", [1, 50])
def test_an_error_behind_arrives_and_nothing_hangs(count):
    def work(item):
        raise ValueError(f"cannot write {item}")

    before = threading.active_count()
    with pytest.raises(ValueError, match="cannot write 0"):
        with stages.behind(work, 2) as give:
            for number in range(count):
                give(number)
    assert threading.active_count() == before


def test_what_is_given_up_ends_its_thread():
    before = threading.active_count()
    found = stages.ahead(iter(range(100)), 2)
    next(found)
    found.close()
    with pytest.raises(KeyError), stages.behind(print, 2):
        raise KeyError
    assert threading.active_count() == before

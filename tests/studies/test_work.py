"""Work that several processes share: done once, whatever becomes of them."""

import json
import multiprocessing
import os
import re
import signal

import pytest

from segjax.errors import UserError
from segjax.studies import work


def item_of(folder, name, do=None):
    """Return an item that is done once `folder/name/done` is there; its log has a line a begin."""

    def doing():
        with (folder / name / "log").open("a") as log:
            log.write(f"{os.getpid()}\n")
        code = do() if do else 0
        if not code:
            (folder / name / "done").touch()
        return code

    return work.Item(name, folder / name, (folder / name / "done").exists, doing)


def begun(folder, name):
    path = folder / name / "log"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_all_are_done_once_and_a_second_process_finds_them_done(tmp_path):
    items = [item_of(tmp_path, f"row{i}") for i in range(3)]
    said = []
    tally = work.share(items, say=said.append)
    assert tally == work.Tally(3, done=3, failed={})
    assert said[0] == "row0 (1 of 3)" and len(said) == 3
    assert all(re.fullmatch(rf"row{i} \({i + 1} of 3, .+ left\)", said[i]) for i in (1, 2))
    again = work.share(items, say=said.append)
    assert again == work.Tally(3, already=3, failed={}) and len(said) == 3
    assert again.line() == "3 found, 3 finished before, 0 done now"
    assert [begun(tmp_path, f"row{i}") for i in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    "error, reason",
    [
        (UserError("config.x: wrong. Mend it."), "config.x: wrong. Mend it."),
        (ValueError("odd"), "ValueError: odd"),
        (MemoryError("too much"), "MemoryError: too much"),
    ],
)
def test_one_that_fails_is_reported_does_not_stop_the_rest_and_is_tried_again(
    tmp_path, error, reason
):
    def fail():
        raise error

    items = [item_of(tmp_path, "a", fail), item_of(tmp_path, "b")]
    said = []
    tally = work.share(items, say=said.append)
    assert tally.failed == {"a": reason} and tally.done == 1
    assert tally.line() == "2 found, 0 finished before, 1 done now, 1 failed"
    assert f"a: failed: {reason}" in said
    kept = json.loads((tmp_path / "a" / work.FAILURE).read_text())
    assert kept["reason"] == reason
    assert bool(kept["traceback"]) == (not isinstance(error, UserError))
    mended = [item_of(tmp_path, "a"), item_of(tmp_path, "b")]
    assert work.share(mended, say=said.append).done == 1
    assert not (tmp_path / "a" / work.FAILURE).exists()


def test_a_signal_in_one_ends_all_with_its_exit_code(tmp_path):
    items = [item_of(tmp_path, "a", lambda: 75), item_of(tmp_path, "b")]
    tally = work.share(items, say=lambda line: None)
    assert tally.code == 75 and tally.done == 0 and begun(tmp_path, "b") == 0
    assert tally.line() == "2 found, 0 finished before, 0 done now, 2 left"


def test_what_another_claims_is_waited_for_and_counted_as_its(tmp_path, monkeypatch):
    one = item_of(tmp_path, "a")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        (tmp_path / "a" / "done").touch()
        claim.close()

    monkeypatch.setattr(work.time, "sleep", sleep)
    stack = work.contextlib.ExitStack()
    assert stack.enter_context(work.claimed(tmp_path / "a"))
    claim = stack
    tally = work.share([one], say=lambda line: None)
    assert tally == work.Tally(1, elsewhere=1, failed={}) and looks and begun(tmp_path, "a") == 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_had_claimed_is_anybodys_again(tmp_path):
    killed = multiprocessing.get_context("fork").Process(
        target=lambda: work.share([item_of(tmp_path, "a", die)], say=lambda line: None)
    )
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL and begun(tmp_path, "a") == 1
    assert work.share([item_of(tmp_path, "a")], say=lambda line: None).done == 1

import time

import pytest

from segjax.errors import ConfigError
from segjax.runs import train
from segjax.runtime import watchdog


def watched(patience=1.0):
    ended = []
    return watchdog.Watchdog(patience=patience, end=lambda *said: ended.append(said)), ended


def forward(dog, seconds):
    """As if `seconds` had passed since the phase began."""
    dog.since -= seconds
    dog.check()


def test_a_first_step_may_compile_for_long(capfd):
    dog, ended = watched()
    dog.now("step", 1)
    forward(dog, 0.5)
    assert not ended and capfd.readouterr().err == ""


def test_a_hang_is_named_then_said_less_often_then_ended(capfd):
    dog, ended = watched()
    for step in (1, 2, 3):
        dog.now("data wait", step)
        dog.now("step", step)
    dog.now("data wait", 4)
    forward(dog, 0.05)
    assert capfd.readouterr().err == ""
    forward(dog, 0.1)
    assert "no progress: step 4 in 'data wait'" in capfd.readouterr().err
    forward(dog, 0.05)
    assert capfd.readouterr().err == "", "again only when the wait has doubled"
    forward(dog, 0.2)
    assert "no progress" in capfd.readouterr().err
    assert not ended
    forward(dog, 1.0)
    ((code, text),) = ended
    assert code == 1 and "stalled: step 4 in 'data wait'" in text
    assert "test_watchdog.py" in capfd.readouterr().err, "the stacks are printed"


def test_what_usually_takes_long_may_take_longer():
    dog, ended = watched(patience=0.1)
    dog.now("step", 1)
    dog.since -= 2.0
    dog.now("step", 2)
    usual, limit = dog.limit()
    assert usual == pytest.approx(2.0, abs=0.1) and limit == pytest.approx(100, rel=0.1)
    forward(dog, 5.0)
    assert not ended


def test_the_thread_notices_by_itself_and_stops_at_the_end():
    dog, ended = watched(patience=0.05)
    with dog:
        dog.now("step", 1)
        dog.now("step", 2)
        deadline = time.monotonic() + 10
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ended
    dog.thread.join(timeout=5)
    assert not dog.thread.is_alive()


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "inf", "²"])
def test_a_word_for_the_seconds_is_named(text, monkeypatch, tmp_path, tiny_config):
    """By the dog itself, and before training writes anything."""
    monkeypatch.setenv("SEGJAX_STALL_SECONDS", text)
    with pytest.raises(ConfigError, match=f"SEGJAX_STALL_SECONDS='{text}': expected seconds"):
        watchdog.Watchdog()
    with pytest.raises(ConfigError, match="SEGJAX_STALL_SECONDS"):
        train.run(tmp_path / "run", tiny_config())
    assert not (tmp_path / "run").exists()


def test_seconds_of_the_environment_count(monkeypatch):
    for text, seconds in (("5", 5.0), ("1e3", 1000.0), ("", 600.0)):
        monkeypatch.setenv("SEGJAX_STALL_SECONDS", text)
        assert watchdog.Watchdog().patience == seconds

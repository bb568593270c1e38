"""Signals: at once where nothing is to be saved, noted where something is, never lost.

The rule: no handler raises, so nothing can swallow it; what is at once does not wait for Python.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import types

import jax
import pytest
from jax._src.distributed import global_state
from orbax.checkpoint import multihost

from segjax.runtime import distributed, interrupt
from tests import program

AT_ONCE = """
import pathlib, sys, time
from segjax.runtime import files, interrupt
with interrupt.ending(), files.replacing(pathlib.Path(sys.argv[1]) / "whole.json") as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.fixture(autouse=True)
def not_ignored():
    """Have no signal ignored, as Ctrl-C is in what a script starts in the background."""
    before = {number: signal.getsignal(number) for number in interrupt.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in set(interrupt.SIGNALS) - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", interrupt.SIGNALS)
def test_a_process_ends_at_once_in_one_line_and_leaves_nothing(tmp_path, number):
    """Whatever it is at, be it a callback that swallows all that is raised."""
    command = [sys.executable, "-c", AT_ONCE, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=program.ROOT, text=True, **pipes)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said == f"ended by {number.name}\n"
    assert not list(tmp_path.iterdir())


def test_what_was_to_be_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt.stopping() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)]
)
def test_a_training_notes_the_first_signal_and_goes_on(number, code):
    handlers = [signal.getsignal(each) for each in interrupt.SIGNALS]
    with interrupt.stopping() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop() and stop.code() == code
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.code() == code  # the first one counts
    assert [signal.getsignal(each) for each in interrupt.SIGNALS] == handlers


def test_a_second_ctrl_c_is_at_once(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(distributed, "end", lambda code, text: code == 130 and ended.set())
    with interrupt.stopping():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        assert not ended.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert ended.wait(5)


def test_outside_the_main_thread_nothing_is_handled():
    found = []
    thread = threading.Thread(target=lambda: found.append(enter()))

    def enter():
        with interrupt.stopping() as stop:
            return stop()

    thread.start()
    thread.join()
    assert found == [False]


def test_only_our_calls_count_for_the_step_that_all_stop_at(monkeypatch):
    """Orbax asks with the step for a number, up to thousands more than our calls since a restart.

    What was agreed on then came after as many steps: SIGTERM took minutes.
    """
    asked = []
    service = types.SimpleNamespace(reached_sync_point=lambda n: asked.append(n) or n == 2)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(global_state, "client", object())
    monkeypatch.setattr(global_state, "preemption_sync_manager", service)
    with interrupt.stopping() as preempted:
        said = []
        for step in range(769, 774):
            said.append(preempted())
            assert not multihost.reached_preemption(step)  # what Orbax's save calls
    assert said == [False, False, True, True, True] and asked == [0, 1, 2]
    assert global_state.preemption_sync_manager is service  # for JAX to shut down

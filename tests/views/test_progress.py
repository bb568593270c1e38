"""Time left is right after a resume; a terminal gets a bar, a file gets lines."""

import contextlib
import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from segjax.views import progress
from segjax.views.progress import Progress


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def lines(stream):
    return stream.getvalue().splitlines()


def test_a_log_prints_one_line_with_everything(clock):
    stream = io.StringIO()
    with Progress(2000, stream=stream, clock=clock) as bar:
        clock.now += 60  # compilation
        bar.update(1)
        clock.now += 99 * 0.5
        bar.update(100, {"train/loss": 0.5123, "train/lr": 0.1, "time/images_per_s": 12.34})
        bar.update(101)
    assert lines(stream)[-1] == "step 100/2000  loss 0.512  12.3 images/s  15 min 50 s left"


def test_time_left_counts_only_the_steps_of_this_process(clock):
    bar = Progress(1000, start=900, stream=io.StringIO(), clock=clock)
    assert "left" not in bar.text()
    clock.now += 300  # restore and compile
    bar.update(901)
    clock.now += 2 * 9
    bar.update(910)
    assert bar.rate() == pytest.approx(0.5)
    assert bar.text() == "step 910/1000  3 min 0 s left"


def test_lines_without_a_log_keep_their_distance(clock):
    stream = io.StringIO()
    bar = Progress(100, unit="images", title="val", stream=stream, interval=10, clock=clock)
    for count in range(4, 101, 4):
        clock.now += 1
        bar.update(count)
    assert lines(stream) == [
        "val images 40/100  4.0 images/s  15 s left",
        "val images 80/100  4.0 images/s  5 s left",
        "val images 100/100  4.0 images/s  done in 25 s",
    ]


def test_last_known_scalars_stay_on_the_line(clock):
    bar = Progress(10, stream=io.StringIO(), clock=clock, shown=("loss", "miou"))
    bar.update(1, {"train/loss": 2.0, "val/miou": 0.25})
    bar.update(2, {"train/loss": 1e-5})
    assert bar.text() == "step 2/10  loss 1e-05  val miou 0.250"


def test_other_processes_show_nothing(clock):
    stream = io.StringIO()
    with Progress(2, stream=stream, clock=clock, enabled=False) as bar:
        bar.update(2, {"train/loss": 1.0})
        bar.message("hello")
    assert stream.getvalue() == ""


def terminal_output(columns):
    """What a run of three steps with a message writes to a terminal of this width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(slave, "w") as stream, Progress(3, stream=stream) as bar:
        bar.update(1, {"train/loss": 0.5})
        bar.message("saved a checkpoint")
        bar.update(3, {"train/loss": 0.25})
    text = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(master, 100_000):
            text += part
    os.close(master)
    return text.decode()


def test_a_terminal_gets_a_bar_and_messages_above_it():
    redraws = terminal_output(100).replace("\n", "\r").split("\r")
    assert "saved a checkpoint" in redraws
    last = [text for text in redraws if text.strip()][-1]
    assert last.startswith("100% |") and "step 3/3  loss 0.250" in last and len(last) <= 100


def test_a_terminal_without_a_width_gets_lines():
    text = terminal_output(0)
    assert "|" not in text and "step 1/3  loss 0.500" in text and "step 3/3  loss 0.250" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_read_like_speech(seconds, text):
    assert progress.duration(seconds) == text


def test_what_is_soon_over_says_nothing_in_a_file(clock):
    stream = io.StringIO()
    with Progress(3, leave=False, stream=stream, interval=10, clock=clock) as bar:
        bar.update(3)
    assert stream.getvalue() == ""
    with Progress(4, leave=False, stream=stream, interval=10, clock=clock) as bar:
        for count in range(1, 5):
            clock.now += 6
            bar.update(count)
    assert lines(stream) == ["step 2/4  12 s left", "step 4/4  done in 24 s"]


def test_items_are_gone_through_as_they_come(capsys):
    seen = list(progress.over(iter("abc"), total=3, unit="images", title="x"))
    assert seen == ["a", "b", "c"] and capsys.readouterr().err == ""


def test_a_stage_is_a_line_of_a_terminal_until_it_is_over():
    stream = io.StringIO()
    with progress.stage("compiling", stream=stream):
        pass
    assert stream.getvalue() == ""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(slave, "w") as terminal:
        with pytest.raises(ValueError), progress.stage("compiling\x1b[2J", stream=terminal):
            raise ValueError
        text = os.read(master, 1000).decode()
    os.close(master)
    assert text.startswith("\rcompiling") and text.endswith(progress.CLEAR)
    assert "\x1b[2J" not in text and "0 s" in text

"""The log survives kills, restarts, NaN and a full disk."""

import errno
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from segjax.errors import ConfigError, DataError, NonFiniteError, UserError
from segjax.runs import writer
from segjax.runs.writer import Writer
from segjax.runtime import files


def events(workdir):
    """Every event of a workdir in the order TensorBoard reads the files, check sums verified."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            head, (size, crc) = data[:8], struct.unpack("<QI", data[:12])
            body, (body_crc,) = (
                data[12 : 12 + size],
                struct.unpack("<I", data[12 + size : 16 + size]),
            )
            assert (crc, body_crc) == (masked_crc32c(head), masked_crc32c(body))
            found.append(Event.FromString(body))
            data = data[16 + size :]
    return found


def steps(workdir):
    return [record["step"] for record in writer.read(workdir)]


def log(workdir, logged, **kwargs):
    with Writer(workdir, **kwargs) as log:
        for step in logged:
            log.write(step, {"train/loss": 1 / step})


def test_a_line_is_strict_json_with_step_and_values(tmp_path):
    with Writer(tmp_path, resume_step=None) as log:
        log.write(7, {"train/loss": 0.25, "val/iou/Sky": 1})
        text = (tmp_path / "metrics.jsonl").read_text()  # before the writer is closed
    assert text == '{"step": 7, "train/loss": 0.25, "val/iou/Sky": 1.0}\n'
    assert writer.read(tmp_path) == [{"step": 7, "train/loss": 0.25, "val/iou/Sky": 1.0}]


def test_tensorboard_file_holds_the_same_numbers(tmp_path):
    with Writer(tmp_path, resume_step=None) as log:
        log.write(3, {"train/loss": 0.5, "train/lr": 0.125})
    version, start, scalars = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert start.session_log.status == SessionLog.START
    assert scalars.step == 3
    got = {value.tag: value.simple_value for value in scalars.summary.value}
    assert got == {"train/loss": 0.5, "train/lr": 0.125}


@pytest.mark.parametrize("torn", [b'{"step": 40, "train/lo', b"\0\0\0", b"{}", b"\xff{", b"["])
def test_resume_drops_later_steps_and_a_torn_line(tmp_path, torn):
    log(tmp_path, [10, 20, 21, 30], resume_step=None)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(torn)
    assert steps(tmp_path) == [10, 20, 21, 30]
    log(tmp_path, [21, 30, 40], resume_step=20)
    assert steps(tmp_path) == [10, 20, 21, 30, 40]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_resume_keeps_a_last_line_that_only_lacks_its_end(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "train/loss": 0.5}')
    log(tmp_path, [3], resume_step=2)
    assert steps(tmp_path) == [1, 2, 3]


def test_nothing_restored_starts_an_empty_log(tmp_path):
    log(tmp_path, [0.5, 10], resume_step=None)
    log(tmp_path, [10], resume_step=None)
    assert steps(tmp_path) == [10]


def test_each_start_tells_tensorboard_which_steps_to_hide(tmp_path):
    for resume_step in (None, 20, 40):  # within one second: no file may replace another
        log(tmp_path, [50], resume_step=resume_step)
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [0, 21, 41]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 3


def test_kill_9_loses_no_written_line(tmp_path):
    code = (
        "import os, signal, sys\nfrom segjax.runs.writer import Writer\n"
        "log = Writer(sys.argv[1], resume_step=None)\n"
        "for step in range(1, 21):\n    log.write(step, {'train/loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = pathlib.Path(writer.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert steps(tmp_path) == list(range(1, 21))
    assert len([event for event in events(tmp_path) if event.HasField("summary")]) == 20


def test_read_without_a_log_is_empty(tmp_path):
    assert writer.read(tmp_path) == []


def test_a_broken_line_before_the_last_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nhello\n{"step": 3}\n')
    for act in (lambda: writer.read(tmp_path), lambda: Writer(tmp_path, resume_step=3)):
        with pytest.raises(DataError, match=r"metrics.jsonl, line 2: .*'hello'"):
            act()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite_stops_with_name_and_step_after_the_line_is_written(tmp_path, value):
    with Writer(tmp_path, resume_step=None) as log, pytest.raises(NonFiniteError) as caught:
        log.write(120, {"train/loss": 0.5, "train/grad_norm": value})
    message = str(caught.value)
    assert f"train/grad_norm is {value} at step 120" in message
    assert "learning rate" in message and "last good checkpoint stays" in message
    assert "train/loss" not in message
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line) == {"step": 120, "train/loss": 0.5, "train/grad_norm": None}


def test_other_processes_write_nothing_and_stop_at_nan_too(tmp_path):
    with Writer(tmp_path / "run", resume_step=None, enabled=False) as log:
        log.write(1, {"train/loss": 0.5})
        with pytest.raises(NonFiniteError):
            log.write(2, {"train/loss": float("nan")})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["loss", "train/", "/loss", "train//loss", "val/my class", "step"])
def test_a_name_outside_a_group_is_an_error(tmp_path, name):
    with Writer(tmp_path, resume_step=None) as log, pytest.raises(ConfigError, match="group/name"):
        log.write(1, {name: 1.0})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
def test_full_disk_is_one_clear_line(tmp_path):
    with Writer(tmp_path, resume_step=None) as log:
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
        with pytest.raises(UserError, match=r"Cannot write .*No space left.*Free some space"):
            log.write(1, {"train/loss": 1.0})


def test_full_disk_under_tensorboard_is_one_clear_line(tmp_path, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = Writer(tmp_path, resume_step=None)
    ((shown, _),) = log._shown
    monkeypatch.setattr(shown.events, "flush", full)
    with pytest.raises(UserError, match=r"Cannot write .*tensorboard: No space left"):
        log.write(1, {"train/loss": 1.0})


def test_a_workdir_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        Writer(tmp_path / "run", resume_step=None)


def test_replacing_leaves_the_old_file_when_the_new_one_fails(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(KeyError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and path.read_text() == "old"
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and path.read_text() == "new"


@pytest.mark.parametrize(
    "line", ['{"step": 1, "a": NaN}', '{"step": 1, "a": 1e999}', '{"step": 1, "step": 2}',
             '{"step": 1, "a": ' + "[" * 90 + "]" * 90 + "}", '{"step": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_a_line_that_is_no_json_of_ours_is_named(tmp_path, line):
    """The rule: a log holds finite numbers of bounded size; the last line alone may be torn."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    for read in (lambda: writer.read(tmp_path), lambda: writer.drop_lines(path, from_step=2)):
        with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: ") as error:
            read()
        assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert path.read_text().count("\n") == 3


def test_a_log_too_long_to_be_read_is_still_gone_on_with(tmp_path, monkeypatch):
    log(tmp_path, [1, 2, 3], resume_step=None)
    monkeypatch.setattr(writer, "READ_BYTES", 50)
    with pytest.raises(DataError, match="at most 50 are read"):
        writer.read(tmp_path)
    log(tmp_path, [2], resume_step=1)
    monkeypatch.undo()
    assert steps(tmp_path) == [1, 2]

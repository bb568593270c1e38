"""Log scalars to `metrics.jsonl` and TensorBoard, stop at the first NaN, lose nothing to a kill.

`metrics.jsonl` is the record: one JSON object a line, in the file before `write` returns. The event
files hold the same numbers for TensorBoard. They are written in the calling thread, because
tensorboardX.SummaryWriter leaves them to another, where a full disk goes unseen until its queue
fills and the training loop blocks for ever.
"""

import json
import math
import os
import pathlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

from segjax.errors import ConfigError, DataError, NonFiniteError
from segjax.runtime import files, reading

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIR = "tensorboard"
READ_BYTES = 256 << 20
"""Of a log that is read into memory."""
NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+")
"""What a metric may be called: `group/name`, as in `train/loss`."""


class Writer:
    """Append scalars to the log of a run, from the one process that is `enabled`.

    Args:
        workdir: The run's folder, made if it is not there.
        resume_step: The step that was restored: later lines are dropped, because those steps are
            about to run again. None when nothing was restored: the log starts empty.
        enabled: False on every process but the first: checks the values, writes nothing.

    Raises:
        DataError: A line before the last of an existing log is not one this class writes.
        UserError: The disk is full or cannot be written; also from every method.
    """

    def __init__(
        self, workdir: str | os.PathLike[str], *, resume_step: int | None, enabled: bool = True
    ) -> None:
        self.path = pathlib.Path(workdir) / METRICS_FILE
        self._events: EventsWriter | None = None
        self._enabled = enabled
        if not enabled:
            return
        folder = self.path.parent / TENSORBOARD_DIR
        first_step = 0 if resume_step is None else resume_step + 1
        with files.explain_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        drop_lines(self.path, from_step=first_step if resume_step is not None else None)
        with files.explain_os_errors(folder):
            self._events = open_events(folder, purge_step=first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append one line to the log; it is on its way to disk when this returns.

        Args:
            step: The number of updates done when the scalars were measured.
            scalars: `group/name` to a number or a 0-d array.

        Raises:
            ConfigError: A name is not of the form `group/name`.
            NonFiniteError: A value is NaN or infinite. The line is written first, with null for it.
        """
        for name in scalars:
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"Metric name {name!r}: expected 'group/name' of letters, digits, '_', '.' and "
                    "'-', such as 'train/loss'. Rename the split, evaluator or loss it comes from."
                )
        values = {name: float(value) for name, value in scalars.items()}
        if self._enabled:
            self._append(int(step), values)
        check_finite(int(step), values, folder=self.path.parent)

    def close(self) -> None:
        """Close the event file; a second call does nothing."""
        events, self._events = self._events, None
        if events is not None:
            with files.explain_os_errors(self.path.parent / TENSORBOARD_DIR):
                events.close()

    def _append(self, step: int, values: dict[str, float]) -> None:
        finite = {name: x if math.isfinite(x) else None for name, x in values.items()}
        line = json.dumps({"step": step, **finite}, allow_nan=False) + "\n"
        # Opened for each line: a reader on another machine sees it at once, also over NFS.
        with files.explain_os_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(line)
        if self._events is None:
            raise ValueError(f"Writer for {self.path.parent} is closed.")
        summary = Summary(value=[Summary.Value(tag=n, simple_value=x) for n, x in values.items()])
        with files.explain_os_errors(self.path.parent / TENSORBOARD_DIR):
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._events.flush()


def read(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of a run's `metrics.jsonl` in file order, [] if it has none yet.

    A quantity that was NaN or infinite is None. A last line that a kill cut short is left out.

    Raises:
        DataError: Another line is no JSON object with an integer `step`; the file is longer than
            `READ_BYTES`, or none that can be read.
    """
    path = pathlib.Path(workdir) / METRICS_FILE
    return [record for _, record in parse(path, limit=READ_BYTES)]


def parse(path: pathlib.Path, *, limit: float = math.inf) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield each whole line of a metrics file and its record, without a torn last line."""
    if not reading.is_file(path):
        return
    torn = ""  # a power failure may leave anything at the end, and only there
    for number, line in enumerate(reading.raw_lines(path, limit=limit), start=1):
        if torn:
            raise DataError(torn)
        try:
            record = reading.parse_json(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield line, record
        else:
            torn = (
                f"{path}, line {number}: expected a JSON object with an integer 'step', "
                f"got {line[:60].decode(errors='replace')!r}. Delete the line, or move the file "
                "away."
            )


def drop_lines(path: pathlib.Path, *, from_step: int | None) -> None:
    """Drop a torn last line and all lines at `from_step` or later (all with None), atomically."""
    if not reading.is_file(path):
        return
    first = -math.inf if from_step is None else from_step
    records = parse(path) if from_step is not None else ()
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        file.writelines(line + b"\n" for line, record in records if record["step"] < first)
        file.flush()
        os.fsync(file.fileno())  # else a power failure can leave the new name on an empty file


def open_events(folder: pathlib.Path, *, purge_step: int) -> EventsWriter:
    """Open a new event file that has TensorBoard hide what older ones hold from `purge_step` on.

    TensorBoard takes the first session start of a folder for the run's own and heeds the second, so
    one is written on a fresh start too.
    """
    # The name has whole seconds: a quick restart would truncate the file of the run before it.
    events = EventsWriter(os.fspath(folder / "events"), f".{time.time_ns()}")
    start = SessionLog(status=SessionLog.START)
    events.write_event(Event(wall_time=time.time(), step=purge_step, session_log=start))
    events.flush()
    return events


def check_finite(
    step: int, values: Mapping[str, float], *, folder: pathlib.Path | None = None
) -> None:
    """Raise NonFiniteError naming the step and every value that is NaN or infinite."""
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if bad:
        listed = ", ".join(f"{name} is {value}" for name, value in bad.items())
        raise NonFiniteError(
            f"{listed} at step {step}; expected finite numbers. Lower the learning rate, "
            "clip the gradients, or check the images and labels; the last good checkpoint stays."
        ).at(step, bad, folder)

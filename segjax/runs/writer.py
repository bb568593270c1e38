"""Log scalars to `metrics.jsonl`, show them, stop at the first NaN, lose nothing to a kill.

`metrics.jsonl` is the record: one JSON object a line, in the file before `write` returns. What
shows the same numbers, `config.writers`, gets each of them once, however often a run is killed.
"""

import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

from segjax.config import schema
from segjax.errors import ConfigError, DataError, NonFiniteError, UserError
from segjax.runs import writers
from segjax.runtime import files, reading

METRICS_FILE = "metrics.jsonl"
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
        config: Of the run; its `writers` show it. None: the default's do.

    Raises:
        DataError: A line before the last of an existing log is not one this class writes.
        UserError: The disk is full or cannot be written; also from every method.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        resume_step: int | None,
        enabled: bool = True,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = pathlib.Path(workdir) / METRICS_FILE
        self._enabled, self._open = enabled, enabled
        self._shown: list[tuple[writers.Shown, set[tuple[int, str]]]] = []
        if not enabled:
            return
        with files.explain_os_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        first_step = 0 if resume_step is None else resume_step + 1
        logged = records_before(self.path)
        drop_lines(self.path, from_step=first_step if resume_step is not None else None)
        config = schema.fill({} if config is None else config)
        about = writers.About(self.path.parent, config, first_step)
        self._show(config["writers"], about, logged)

    def _show(
        self, sections: list[dict[str, Any]], about: writers.About, logged: list[dict[str, Any]]
    ) -> None:
        """Open what shows the run; to what is new of it, tell what was logged before.

        What an earlier process has told of steps that are about to run again is not told twice.
        TensorBoard hides it.
        """
        again = {(r["step"], name) for r in logged if r["step"] >= about.first_step for name in r}
        before = [writers.is_known(about.workdir, section) for section in sections]
        opened = writers.open_all(sections, about)
        for shown, section, known in zip(opened, sections, before, strict=True):
            outside = section["type"] in writers.EXTRAS
            self._shown.append((shown, again if outside and known else set()))
            for record in logged if outside and not known else ():
                if record["step"] < about.first_step:
                    values = {k: x for k, x in record.items() if k != "step" and x is not None}
                    shown.write(record["step"], values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(0 if kind is None else 2 if issubclass(kind, UserError) else 1)

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

    def figure(self, name: str, path: pathlib.Path) -> None:
        """Show a PNG that was drawn, as of the step written last."""
        for shown, _ in self._shown:
            shown.figure(name, path)

    def close(self, code: int = 0) -> None:
        """Close what shows the run, with its exit code; a second call does nothing."""
        found, self._shown, self._open = self._shown, [], False
        for shown, _ in found:
            shown.close(code)

    def _append(self, step: int, values: dict[str, float]) -> None:
        if not self._open:
            raise ValueError(f"Writer for {self.path.parent} is closed.")
        finite = {name: x if math.isfinite(x) else None for name, x in values.items()}
        line = json.dumps({"step": step, **finite}, allow_nan=False) + "\n"
        # Opened for each line: a reader on another machine sees it at once, also over NFS.
        with files.explain_os_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(line)
        for shown, told in self._shown:
            new = {name: x for name, x in values.items() if (step, name) not in told}
            if new:
                shown.write(step, new)


def records_before(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the records of a log that is about to be gone on with; none of one that is broken."""
    try:
        return [record for _, record in parse(path, limit=READ_BYTES)]
    except DataError:
        return []


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

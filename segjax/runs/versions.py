"""Versions of a run: those that it was trained on to, which of them is in use, and why.

    <workdir>/versions.json       which is in use, and all that was done
    <workdir>/versions/v0001/     a run, with `gate.json`: why it was promoted or refused

Version 0 is the run itself. Never imports jax.
"""

import datetime
import pathlib
from typing import Any

from segjax.config import lookup
from segjax.errors import DataError
from segjax.runtime import files, reading

INDEX, FOLDER, GATE = "versions.json", "versions", "gate.json"
FIRST = "v0000"
"""The run itself."""


def name_of(number: int) -> str:
    """Return the name of a version."""
    return f"v{number:04d}"


def known(workdir: pathlib.Path) -> list[str]:
    """Return the names of all versions, the run itself first."""
    found = [path.name for path in (workdir / FOLDER).glob("v[0-9]*") if path.is_dir()]
    return [FIRST, *sorted(found)]


def folder_of(workdir: pathlib.Path, version: str) -> pathlib.Path:
    """Return the folder of a version."""
    return workdir if version == FIRST else workdir / FOLDER / version


def load(workdir: pathlib.Path) -> dict[str, Any]:
    """Return `{"current": …, "history": […]}` of a run; of one without versions, itself.

    Raises:
        DataError: The file that says so is not one, or names a version that is not there.
    """
    path = workdir / INDEX
    if not reading.is_file(path):
        return {"current": FIRST, "history": []}
    found = reading.read_json(path)
    current = found.get("current") if isinstance(found, dict) else None
    if not isinstance(current, str) or not isinstance(found.get("history"), list):
        raise DataError(f"{path}: is not what --mode=retrain writes. Move it away.")
    if current not in known(workdir):
        raise DataError(
            f"{path}: names {current[:80]!r}, which is not there. Put it back from a copy, or: "
            "--mode=retrain --rollback=v0000"
        )
    return found


def current(workdir: pathlib.Path) -> pathlib.Path:
    """Return the folder of the version in use.

    Raises:
        DataError: As `load`.
    """
    return folder_of(workdir, load(workdir)["current"])


def record(workdir: pathlib.Path, version: str, action: str, reason: str) -> None:
    """Note that a version was 'promoted', 'refused' or 'rolled back' to.

    All but a refused one is then in use.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    try:
        found = load(workdir)
    except DataError:
        found = {"current": FIRST, "history": []}  # it could not be used: rolling back mends it
    event = {
        "version": version, "action": action, "reason": reason, "before": found["current"],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    now = found["current"] if action == "refused" else version
    content = {"current": now, "history": [*found["history"], event]}
    files.write_json(workdir / INDEX, content)


def roll_back(workdir: pathlib.Path, version: str) -> str:
    """Put a version in use again, and return its name.

    `version`: its name, or 'previous': what was in use before the present one.

    Raises:
        UserError: There is no such version, or none before.
    """
    names = known(workdir)
    if version == "previous":
        events = load(workdir)["history"]
        befores = [
            event.get("before") for event in events
            if isinstance(event, dict) and event.get("action") != "refused"
        ]  # fmt: skip
        if not befores:
            raise DataError(f"{workdir}: there is no version before. It has: {', '.join(names)}.")
        version = str(befores[-1])
    lookup.choose(version, names, what="--rollback")
    record(workdir, version, "rolled back", "--rollback")
    return version

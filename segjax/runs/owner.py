"""Whose a folder of checkpoints is: one outside the workdir belongs to a single run."""

import json
import pathlib
import uuid
from typing import Any

from segjax.errors import ConfigError, DataError
from segjax.runs.damage import Folder
from segjax.runs.workdir import steps_in
from segjax.runtime import distributed, files, reading

OWNER = "owner.json"
IDENTITY = ".run_id"


def check(workdir: pathlib.Path, folder: Folder) -> None:
    """Refuse checkpoints of another run; nothing is written.

    Raises:
        ConfigError: `folder` belongs to another workdir, or holds checkpoints and `workdir` is new.
    """
    where = f"config.checkpoint.root={folder}"
    advice = "Give each run a root of its own."
    try:
        owner = _read(folder / OWNER)
    except FileNotFoundError:
        if steps_in(folder) and not (workdir / "config.json").exists():
            raise ConfigError(f"{where} holds checkpoints of another run. {advice}") from None
        return
    except (OSError, ValueError, RecursionError, DataError) as error:
        raise ConfigError(f"{where}: {OWNER} cannot be read: {error} Remove that file.") from None
    if not isinstance(owner, dict) or owner.get("id") != identity(workdir):
        whose = owner.get("workdir", "?") if isinstance(owner, dict) else "?"
        raise ConfigError(f"{where} belongs to the run in {whose}, not {workdir}. {advice}")


def claim(workdir: pathlib.Path, folder: Folder) -> None:
    """Check that checkpoints in `folder` may be this run's, and make it so.

    Raises:
        ConfigError: As `check`.
        UserError: A folder cannot be written.
    """
    check(workdir, folder)
    if not distributed.is_first() or (folder / OWNER).exists():
        return
    if not identity(workdir):
        with files.replacing(workdir / IDENTITY) as temporary:
            temporary.write_text(uuid.uuid4().hex)
    with files.explain_os_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"id": identity(workdir), "workdir": str(workdir.absolute())})
        (folder / OWNER).write_text(text)


def _read(path: Folder) -> Any:
    local = isinstance(path, pathlib.Path)
    return reading.read_json(path) if local else json.loads(path.read_text())


def identity(workdir: pathlib.Path) -> str:
    """Return what tells a run from all others, wherever its folder lies; empty: it has none yet."""
    path = workdir / IDENTITY
    return reading.text(path, limit=reading.LINE_BYTES).strip() if reading.is_file(path) else ""

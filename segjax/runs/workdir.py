"""The run's folder: which config made it, and on what. Never imports jax."""

import contextlib
import importlib.metadata
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from segjax.config import load, rules, schema, sections
from segjax.errors import ConfigError, DataError, UserError
from segjax.runtime import distributed, files, reading

LOCK = ".lock"
POSTPROCESS = "postprocess.json"
"""What `--mode=tune` chose for the run, and why."""
REPORT = "report.html"
"""The page of the run."""
FOLDS = "folds.json"
"""In the folder of a cross-validation: which example is in which fold."""


def check(workdir: pathlib.Path, config: Mapping[str, Any], *, allow_change: bool) -> None:
    """Refuse a workdir that holds a run of another config; nothing is written.

    Where nothing was trained yet (no log line, no checkpoint), any config may take it.

    Raises:
        ConfigError: The keys that differ, and what to do.
    """
    if allow_change or not has_trained(workdir):
        return
    if not (workdir / "config.json").exists():
        raise ConfigError(
            f"{workdir} holds a run, and no config.json that says of which config. Put it back "
            "from a copy, use another --workdir, or --allow_config_change to go on with this one."
        )
    old, new = (sections.flatten(c) for c in (load_config(workdir), schema.fill(config)))
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        shown = "; ".join(
            f"{key}: {old.get(key, 'absent')!r} there, {new.get(key, 'absent')!r} now"
            for key in changed[:3]
        )
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise ConfigError(
            f"{workdir} holds a run of another config: {shown}{more}. Use another --workdir, or "
            "--allow_config_change to go on with the new config."
        )


def has_trained(workdir: pathlib.Path) -> bool:
    """Return whether a run, or a trial of it, has logged or saved anything."""
    folders = [workdir, *workdir.glob("trial*")]
    logs = [folder / "metrics.jsonl" for folder in folders]
    return any(log.exists() and log.stat().st_size for log in logs) or any(
        steps_in(folder / "checkpoints") for folder in folders
    )


def steps_in(folder: Any) -> list[int]:
    """Return the steps whose checkpoints are in a folder, local or `epath`, in order."""
    return sorted(int(path.name) for path in folder.glob("*") if is_step(path.name))


def is_step(name: str) -> bool:
    """Return whether a folder of this name is the checkpoint of a step, as `20` is; `²` is not."""
    return name.isascii() and name.isdigit()


def record(workdir: pathlib.Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write `config.json` and `run.json`: config and its fingerprint, packages, command, `facts`.

    A config that was there and says something else is kept as `config.<n>.json`.
    """
    path, text = workdir / "config.json", sections.plain(config)
    if path.exists() and load_config(workdir) != schema.fill(text):
        old = reading.read_json(path)
        number = 1 + sum(1 for _ in workdir.glob("config.*.json"))
        files.write_json(workdir / f"config.{number}.json", old)
    files.write_json(path, text)
    run = {
        "fingerprint": schema.fingerprint(config),
        "git_revision": git_revision(),
        "command": sys.argv,
        "python": python_version(),
        "packages": packages(),
        **facts,
        "config": text,
    }
    files.write_json(workdir / "run.json", run)


def check_free(workdir: pathlib.Path) -> None:
    """Refuse a workdir that another process writes into; nothing is written.

    Raises:
        UserError: Which process it is.
    """
    if (workdir / LOCK).is_file() and distributed.is_first():
        with locked(workdir):
            pass


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Be the only one who writes into a workdir; the lock ends with the process, however it ends.

    The first process of a job has the lock for all.

    Raises:
        UserError: Another process has it.
    """
    if not distributed.is_first():
        yield
        return
    with files.locked(workdir / LOCK, what=f"--workdir={workdir}"):
        yield


def load_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Return the resolved config of the run in `workdir`; what it is too old to have, by default.

    Raises:
        UserError: There is no run, or its `config.json` holds no config.
    """
    path = workdir / "config.json"
    if not reading.is_file(path):
        raise UserError(f"--workdir={workdir}: no config.json there. Expected a run's folder.")
    return schema.fill(load.recorded(path))


def fold_folder(root: pathlib.Path, fold: int) -> pathlib.Path:
    """Return the folder of a fold's run in that of a cross-validation."""
    return root / f"fold{fold}"


def load_folds(root: pathlib.Path) -> dict[str, Any] | None:
    """Return what `folds.json` says of the cross-validation in `root`; None: it holds none.

    Raises:
        DataError: The file is not one.
    """
    path = root / FOLDS
    if not reading.is_file(path) or (root / "config.json").exists():
        return None
    found = reading.read_json(path)
    settings = found.get("settings") if isinstance(found, dict) else None
    number = settings.get("folds") if isinstance(settings, dict) else None
    whole = isinstance(found, dict) and found.keys() >= {"names", "fold", "data", "fingerprint"}
    if not whole or not rules.whole(2, 1000).holds(number):
        raise DataError(f"{path}: is not what --mode=crossval writes. Move it away.")
    return found


def folds_in(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders of all runs of the cross-validation in `root`; empty: it holds none.

    Raises:
        DataError: As `load_folds`.
    """
    found = load_folds(root)
    return [fold_folder(root, i) for i in range(found["settings"]["folds"])] if found else []


def load_facts(workdir: pathlib.Path) -> dict[str, Any]:
    """Return what `run.json` says of the run; empty where there is none."""
    try:
        found = reading.read_json(workdir / "run.json")
    except (OSError, DataError):
        return {}
    return found if isinstance(found, dict) else {}


def load_postprocess(workdir: pathlib.Path) -> Any:
    """Return the post-processing that was chosen for the run, not checked; None: none was.

    Raises:
        DataError: The file that says so is not one.
    """
    path = workdir / POSTPROCESS
    try:
        found = reading.read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(found, dict) or "postprocess" not in found:
        raise DataError(
            f"{path}: is not what --mode=tune writes. Run that again, or move the file away."
        )
    return found["postprocess"]


def image_scales(facts: Mapping[str, Any]) -> list[float]:
    """Return the least and the largest factor that brought training images to the canvas.

    Empty: not known.
    """
    scales = facts.get("image_scales")
    two = rules.each(rules.number(0), "two factors", least=2, most=2)
    return scales if isinstance(scales, list) and two.holds(scales) else []


def python_version() -> str:
    """Return Python's version."""
    return sys.version.split()[0]


def packages() -> dict[str, str]:
    """Return the version of every installed package."""
    return {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}


def git_revision() -> str:
    """Return the revision of the code, `-dirty` where files of it were changed since."""
    root = pathlib.Path(__file__).parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

"""What a search has found, from its files alone: tables, the best config, figures."""

import collections
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.config import searches
from segjax.config.searches import Search
from segjax.errors import DataError, UserError
from segjax.runs import workdir, writer
from segjax.runtime import files, reading
from segjax.studies import suggest
from segjax.studies.suggest import COMPLETE, FAILED, PRUNED, RUNNING, Known
from segjax.views import search_figures

SETTINGS, NOTE = "settings.json", "trial.json"
FOLDER = re.compile(r"trial\d+")


def settings(search: Search) -> dict[str, Any]:
    """Return what a search's folder records of it."""
    own = {"fingerprint": search.fingerprint(), "trials": search.trials}
    return own | searches.comparable(search.settings, search.base)


def read_settings(root: pathlib.Path) -> dict[str, Any]:
    """Return what the folder of a search says of it.

    Raises:
        UserError: It is none.
    """
    path = root / SETTINGS
    if not reading.is_file(path):
        raise UserError(f"--workdir={root}: no {SETTINGS} there. Expected the folder of a search.")
    found = reading.read_json(path)
    keys = {"fingerprint": str, "trials": int, "search": dict, "config": dict}
    if not isinstance(found, dict) or any(
        not isinstance(found.get(key), kind) for key, kind in keys.items()
    ):
        raise DataError(f"{path}: is not what --mode=search writes. Put it back from a copy.")
    return found


def note(
    folder: pathlib.Path,
    number: int,
    known: Known,
    settings: Mapping[str, Any],
    *,
    reason: str = "",
) -> None:
    """Write into a trial's folder with which values it is tried, and what became of it."""
    step, value = known.best(settings) or (0, None)
    steps = max([step, *known.scores, *(record["step"] for record in writer.read(folder))])
    found = {
        "number": number,
        "state": known.state,
        "value": value if known.state != FAILED else None,
        "step": step,
        "steps": steps,
        "parameters": known.parameters,
    }
    if known.state == PRUNED:
        reason = f"{settings['pruner']['type']} pruner, after step {max(known.scores)}"
    files.write_json(folder / NOTE, found | ({"reason": reason} if reason else {}))


def read_note(folder: pathlib.Path) -> dict[str, Any]:
    """Return what is known of a trial; nothing before it has begun.

    Raises:
        DataError: The file was not written by `note`.
    """
    path = folder / NOTE
    if not reading.is_file(path):
        return {}
    found = reading.read_json(path)
    whole = isinstance(found, dict) and isinstance(found.get("parameters"), dict)
    if not whole or found.get("state") not in suggest.STATES.values():
        raise DataError(f"{path}: is not what --mode=search writes. Put it back from a copy.")
    return found


def ended(found: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return in words how a trial ended."""
    words = found["state"]
    if found["value"] is not None:
        words += f", {settings['metric']} {found['value']:.4f} at step {found['step']:,}"
    return f"{words}: {found['reason']}" if "reason" in found else words


def scores(folder: pathlib.Path, metric: str) -> dict[int, float]:
    """Return what the run in a folder has logged of a metric, by step."""
    records = writer.read(folder)
    found = {record["step"]: record.get(metric) for record in records}
    return {step: value for step, value in found.items() if value is not None}


def is_finished(folder: pathlib.Path) -> bool:
    """Return whether a trial has ended, well or not."""
    return read_note(folder).get("state", RUNNING) != RUNNING


def notes(root: pathlib.Path) -> list[dict[str, Any]]:
    """Return what is known of each trial that has begun, by number."""
    folders = [path for path in root.glob("trial*") if FOLDER.fullmatch(path.name)]
    found = filter(None, map(read_note, folders))
    return sorted(found, key=lambda each: each["number"])


def collect(root: pathlib.Path) -> dict[str, Any]:
    """Return all that a search has found: what `search.json` holds.

    Raises:
        UserError: The folder is not that of a search.
    """
    there, trials = read_settings(root), notes(root)
    mode = there["search"]["mode"]
    complete = [each for each in trials if each["state"] == COMPLETE]
    choose = max if mode == "max" else min
    best = choose(complete, key=lambda each: each["value"]) if complete else None
    whole = [whole_steps(root / f"trial{each['number']}", each) for each in trials]
    states = collections.Counter(each["state"] for each in trials)
    return {
        **there,
        "wanted": there["trials"],
        "states": {state: states[state] for state in suggest.STATES.values()},
        "best": best,
        "budget": {"steps": sum(each["steps"] for each in trials), "whole": sum(whole)},
        "importance": suggest.importance(there["search"]["space"], complete, mode),
        "trials": trials,
    }


def whole_steps(folder: pathlib.Path, found: Mapping[str, Any]) -> int:
    """Return how many steps a trial would have had without pruner and failure."""
    if not (folder / "config.json").exists():
        return found["steps"]
    return workdir.load_config(folder)["resolved"]["total_steps"]


def write(root: pathlib.Path) -> list[str]:
    """Write what a search has found into its folder; return what to say of it.

    `search.json`, `search.csv`, `best.json` (a config that trains as it stands) and figures.

    Raises:
        UserError: The folder is not that of a search, or no trial of it is complete.
    """
    found = collect(root)
    files.write_json(root / "search.json", found)
    files.write_csv(root / "search.csv", table(found))
    best = found["best"]
    if best is None:
        reasons = [each["reason"] for each in found["trials"] if "reason" in each]
        tail = f" The first that failed: {reasons[0]}" if reasons else ""
        raise UserError(
            f"{root}: no trial is complete ({states(found)}), so there is no best one.{tail}"
        )
    written = ["search.json", "search.csv", *write_best(root, found)]
    written += search_figures.draw(root / "figures", found)
    return [*describe(found), f"written to {root}: {', '.join(written)}"]


def write_best(root: pathlib.Path, found: Mapping[str, Any]) -> list[str]:
    """Write the config of the best trial, with the checkpoints' place that all had; its name."""
    folder = root / f"trial{found['best']['number']}"
    if not (folder / "config.json").exists():
        return []
    config = workdir.load_config(folder)
    del config["resolved"]
    config["checkpoint"]["root"] = found["config"]["checkpoint"]["root"]
    files.write_json(root / "best.json", config)
    return ["best.json"]


def table(found: Mapping[str, Any]) -> list[list[Any]]:
    """Return the trials as a table."""
    leaves = list(found["search"]["space"])
    rows: list[list[Any]] = [["trial", "state", "value", "step", "steps", *leaves, "reason"]]
    for each in found["trials"]:
        own = [each["number"], each["state"], each["value"], each["step"], each["steps"]]
        rows.append(
            [*own, *map(shown, (each["parameters"][k] for k in leaves)), each.get("reason")]
        )
    return rows


def describe(found: Mapping[str, Any]) -> Sequence[str]:
    """Return the lines that say what was found."""
    best, budget = found["best"], found["budget"]
    values = ", ".join(f"{leaf}={shown(value)}" for leaf, value in best["parameters"].items())
    saved = 100 * (1 - budget["steps"] / budget["whole"]) if budget["whole"] else 0
    return [
        f"{found['wanted']} trials: {states(found)}; {budget['steps']:,} of {budget['whole']:,} "
        f"steps trained ({saved:.0f} % saved)",
        f"best: trial{best['number']}, {found['search']['metric']} {best['value']:.4f} at step "
        f"{best['step']:,} with {values}",
    ]


def states(found: Mapping[str, Any]) -> str:
    """Return how many trials ended how."""
    begun = [f"{number} {state}" for state, number in found["states"].items() if number]
    left = found["wanted"] - sum(found["states"].values())
    return ", ".join(begun + ([f"{left} not begun"] if left > 0 else []))


def shown(value: Any) -> str:
    """Return a value as tables show it: as JSON, numbers with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)

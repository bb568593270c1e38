"""Whether what a run's folder says of itself goes together, and with this machine.

No step is taken: see `replay` for that.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jax.sharding import Mesh

from segjax.assemble import parts as parts_lib
from segjax.config import load, rules, schema, sections
from segjax.data import hashes
from segjax.errors import DataError, UserError
from segjax.runs import damage, data_record, place, saved, workdir, writer
from segjax.runs.checkpoint import locate
from segjax.runs.findings import Finding, compare, differs, note, ok
from segjax.runs.workdir import steps_in
from segjax.runtime import reading

TOLERANCE = 1e-3
"""How far a score in `eval/<name>.json`, which another machine may have written since, may lie from
the logged one."""
SAME = ("processor", "cores")
"""What decides bits where a CPU computes, and there alone."""


def config_that_made(path: pathlib.Path) -> tuple[dict[str, Any], list[Finding]]:
    """Return the config that made the run in `path`, and whether `config.json` is still that one.

    Where that was edited and `run.json` kept the one before, it is that one.

    Raises:
        UserError: `config.json` is none.
    """
    facts, now = workdir.load_facts(path), load.recorded(path / "config.json")
    kept, mark = facts.get("config"), facts.get("fingerprint")
    if not mark:
        return now, [note("config", "run.json has no fingerprint of it: not compared")]
    if schema.is_made_from(str(mark), now):
        found = [ok("config", f"fingerprint {mark}")]
        if isinstance(kept, dict) and not schema.is_made_from(str(mark), kept):
            found.append(differs("config", "run.json was edited: its config has another mark"))
        return now, found
    if not isinstance(kept, dict) or not schema.is_made_from(str(mark), kept):
        return now, [differs("config", "config.json was edited since the run was trained")]
    old, new = (sections.flatten(schema.fill(each)) for each in (kept, now))
    found = [each for each in compare("config", old, new) if each.kind == "differs"]
    return kept, found or [differs("config", "config.json was edited since the run was trained")]


def packages(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield each package of another version than the run had; one that is new is only said."""
    before, now = facts.get("packages"), workdir.packages()
    if not isinstance(before, dict):
        yield note("packages", "run.json does not say which: not compared")
        return
    python = {"python": facts.get("python")}, {"python": workdir.python_version()}
    before, now = before | python[0], now | python[1]
    yield from compare("package", before, {name: now[name] for name in before if name in now})
    if more := sorted(now.keys() - before.keys()):
        yield note("packages", f"installed since: {rules.cut(', '.join(more))}")


def revision(facts: Mapping[str, Any]) -> Finding:
    """Return whether the code is that which the run had."""
    then, now = facts.get("git_revision"), workdir.git_revision()
    if "unknown" in (then, now) or not isinstance(then, str):
        return note("code", f"revision {then} then, {now} now: not compared")
    if then != now:
        return differs("code", f"revision {then} then, {now} now")
    if now.endswith("-dirty"):
        return note("code", f"revision {now}: files were changed beyond it, then and now")
    return ok("code", f"revision {now}")


def machine(facts: Mapping[str, Any], mesh: Mesh) -> list[Finding]:
    """Return how this machine, and the devices of `mesh` on it, differ from the run's."""
    now = place.of_mesh(mesh)
    keys = [key for key in now if key not in SAME or "cpu" in now["devices"]]
    unknown = [key for key in keys if key not in facts]
    before = {key: facts[key] for key in keys if key in facts}
    found = [*compare("machine", before, {key: now[key] for key in before})]
    return found + [note(f"machine {key}", "not recorded: not compared") for key in unknown]


def data(path: pathlib.Path, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield of each split whether its data is what the run in `path` was made from."""
    before, listed = workdir.load_facts(path).get("data"), data_record.load_files(path)
    splits = [config["input"]["split"], *(each["split"] for each in config["evals"].values())]
    for split in dict.fromkeys(splits):
        about = f"data {split}"
        if not isinstance(before, dict) or not isinstance(before.get(split), dict):
            yield note(about, "run.json does not say what it was: not compared")
            continue
        try:
            source = parts_lib.make_source(config, split)
            now, files = hashes.of_source(source), hashes.files_of(source)
        except (UserError, OSError) as error:
            yield differs(about, str(error))
            continue
        yield from _data_of_split(about, before[split], now, listed.get(split, {}), files)


def _data_of_split(
    about: str,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    listed: Mapping[str, Any],
    files: Mapping[str, Any],
) -> Iterator[Finding]:
    lines, certain = hashes.differing(listed, files) if listed and files else ([], False)
    if lines and (certain or before.get("hash") != now["hash"]):
        yield differs(about, hashes.listed(lines))
    elif before.get("hash") != now["hash"] or before.get("examples") != now["examples"]:
        counts = f"{before.get('examples')} examples then, {now['examples']} now"
        yield differs(about, f"{counts}; which files, was not recorded")
    elif lines or (before.get("times") != now["times"] and not (listed and files)):
        yield note(about, "the same names and sizes, written again; whether they hold the same, "
                   "the replay tells")  # fmt: skip
    elif not now["hash"]:
        yield ok(about, f"{now['examples']} examples, which are no files")
    else:
        known = bool(files) and all(each[2] is not None for each in files.values())
        how = "and content" if known else "by name, size and time"
        yield ok(about, f"{now['examples']} examples, the same files {how}")


def checkpoints(path: pathlib.Path, root: str) -> Iterator[Finding]:
    """Yield of each checkpoint whether it is what was saved, every bit."""
    folder, noted = locate(path, root), saved.load(path)
    steps = steps_in(folder)
    if not steps:
        yield differs("checkpoints", f"{folder} holds none")
    for step in steps:
        about = f"checkpoint {step}"
        try:
            tree = damage.read(folder / str(step), lambda _: None)
        except damage.Damaged as error:
            yield differs(about, _named(folder / str(step)) or str(error))
            continue
        inside = damage.digests_in(folder / str(step))
        if int(tree["step"]) != step:
            yield differs(about, f"holds the state after step {int(tree['step'])}")
        elif step not in noted:
            yield note(about, f"whole; {saved.FILE} does not say what was saved")
        elif wrong := [name for name, value in noted[step].digests.items()
                       if inside.get(name) != value]:  # fmt: skip
            yield differs(about, f"another state than was saved: {', '.join(wrong)} differ")
        else:
            yield ok(about, "every bit as it was saved")


def _named(folder: damage.Folder) -> str:
    """Return which arrays of a checkpoint have other bits than were saved; empty: not known."""
    wrong = damage.changed_branches(folder)
    return f"bytes of {', '.join(wrong)} have changed" if wrong else ""


def ranks(path: pathlib.Path, section: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield of each checkpoint that is ranked whether it is by what was logged of it."""
    name = section["keep_best"]
    logged = {r["step"]: r[name] for r in writer.read(path) if r.get(name) is not None}
    folder = locate(path, section["root"])
    for step in steps_in(folder):
        value = damage.rank_in(folder / str(step))
        if value is not None and value != logged.get(step, value):
            text = f"is kept as the best by {name} {value}, logged {logged[step]}"
            yield differs(f"checkpoint {step}", text)


def scores(path: pathlib.Path, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield whether what `eval/<name>.json` says is what was logged, and how the run predicts."""
    records = writer.read(path)
    for name in config["evals"]:
        file = path / "eval" / f"{name}.json"
        try:
            found = reading.read_json(file)
        except FileNotFoundError:
            yield note(f"eval/{name}.json", "is not there")
            continue
        except DataError as error:
            yield differs(f"eval/{name}.json", str(error))
            continue
        found = found if isinstance(found, dict) else {}
        yield _scores(path, name, found, config, records)


def _scores(
    path: pathlib.Path,
    name: str,
    found: Mapping[str, Any],
    config: Mapping[str, Any],
    records: list[dict[str, Any]],
) -> Finding:
    about, now = f"eval/{name}.json", config["inference"]["postprocess"]
    chosen = workdir.load_postprocess(path)
    now = now if chosen is None else chosen
    inference = found.get("inference")
    then = inference.get("postprocess", []) if isinstance(inference, dict) else []
    if then != now:
        shown = json.dumps(then), json.dumps(now)
        return differs(about, f"post-processing {shown[0]} then, {shown[1]} now")
    if now or found.get("overrides"):
        return note(about, "scored in another way than training does: not compared with the log")
    step = found.get("step")
    logged = {k: v for r in records if r["step"] == step for k, v in r.items() if v is not None}
    off = [
        f"{key} {value:.6g}, logged {logged[f'{name}/{key}']:.6g}"
        for key, value in found.items()
        if isinstance(value, float) and f"{name}/{key}" in logged
        and not abs(value - logged[f"{name}/{key}"]) <= TOLERANCE
    ]  # fmt: skip
    if off:
        return differs(about, f"at step {step}: {hashes.listed(off)}")
    compared = sum(f"{name}/{key}" in logged for key in found)
    if not compared:
        return note(about, f"of step {step}, of which nothing is logged")
    return ok(about, f"{compared} scores as logged at step {step}")

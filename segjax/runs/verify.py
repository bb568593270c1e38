"""Whether a run is what its folder says: records against each other, and steps taken again.

Nothing is written into the run.
"""

import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from segjax.baselines import base as baselines
from segjax.config import trials
from segjax.errors import ConfigError, UserError
from segjax.runs import (
    agreement,
    diagnosis,
    failure,
    fitting,
    records,
    replay,
    run,
    saved,
    workdir,
    writer,
)
from segjax.runs.checkpoint import locate
from segjax.runs.findings import Finding, differs, note
from segjax.runs.live import Values
from segjax.runs.replay import Replay
from segjax.runs.workdir import steps_in
from segjax.views import progress

NUMERIC = ("differs: package", "differs: machine")
"""How lines begin that may move bits."""


class Window(NamedTuple):
    """Which steps are taken again.

    Attributes:
        start: The steps done before the first; 0, or those of a checkpoint that is kept.
        end: Those done after the last.
    """

    start: int
    end: int


def verify(
    path: pathlib.Path, *, steps: int = 0, step: int = 0, trust_code: bool = False
) -> Iterator[Finding]:
    """Yield what agrees and what differs in the run in `path`.

    Args:
        path: Its folder.
        steps: Take at most so many steps again; 0: all from a checkpoint to the next.
        step: Take steps again up to this one, and look into it; 0: the last window.
        trust_code: Run code outside of segjax that its config names.

    Raises:
        UserError: No run, or none that can be taken again: a config that is wrong, no such step.
    """
    config = run.read_config(path, trust_code=trust_code)
    if number := trials.count(config):
        raise ConfigError(
            f"--workdir={path} holds {number} trials, each a run of its own. Name one of them: "
            f"--workdir={path / 'trial0'}."
        )
    config, found = records.config_that_made(path)
    run.check_config(config, path / "run.json", trust_code=trust_code)
    fitted = baselines.is_method(config["model"])
    if fitted and (step or steps):
        raise ConfigError(
            f"--step={step}, --steps={steps}: {config['model']['type']!r} is fitted at once, and "
            "has no steps to take again. Leave them out: the fit is made again."
        )
    window = Window(0, 0) if fitted else choose(path, config, steps=steps, step=step)
    facts = workdir.load_facts(path)
    found += [*records.packages(facts), records.revision(facts)]
    mesh = replay.make_mesh(config, facts)
    found += records.machine(facts, mesh)
    yield from found
    yield from records.data(path, config)
    yield from records.checkpoints(path, config["checkpoint"]["root"])
    yield from records.ranks(path, config["checkpoint"])
    yield from records.scores(path, config)
    if fitted:
        yield fitting.again(path, config)
        return
    why = why_not_bits(found, config, facts, mesh)
    try:
        made = replay.prepare(path, config, facts)
        yield from take_again(made, window, why=why, look=step)
    except (UserError, OSError) as error:
        yield differs(
            f"steps {window.start + 1} to {window.end}", f"cannot be taken again: {error}"
        )


def choose(path: pathlib.Path, config: Mapping[str, Any], *, steps: int, step: int) -> Window:
    """Return which steps are taken again, see `verify`.

    Raises:
        ConfigError: There are none, or nothing would tell whether they went as they had.
    """
    kept = [0, *steps_in(locate(path, config["checkpoint"]["root"]))]
    logged = [r["step"] for r in writer.read(path) if "train/lr" in r]
    known = sorted({*kept[1:], *saved.load(path), *logged})
    if not known:
        raise ConfigError(f"--workdir={path}: nothing is saved or logged. Train first.")
    if step and steps:
        raise ConfigError(f"--step={step} and --steps={steps}: give one of them.")
    last = max(kept[-1], logged[-1] if logged else 0, failure.load(path).get("step", 0))
    if step > last:
        raise ConfigError(f"--step={step}: the run in {path} ended after step {last}. Name that.")
    if step:
        return Window(max(s for s in kept if s < step), step)
    start = max(s for s in kept if s < kept[-1]) if kept[-1] else 0
    end = kept[-1] or known[-1]
    window = Window(start, min(end, start + steps) if steps else end)
    if not any(window.start < each <= window.end for each in known):
        raise ConfigError(
            f"--steps={steps}: nothing is saved or logged between steps {window.start + 1} and "
            f"{window.end}. Take {min(s for s in known if s > start) - start} or more."
        )
    return window


def why_not_bits(
    found: Sequence[Finding], config: Mapping[str, Any], facts: Mapping[str, Any], now: Mesh
) -> str:
    """Return why a replay need not have the run's bits; empty: it has to have them.

    Args:
        found: About packages and machine.
        config: The run's.
        facts: Its `run.json`.
        now: The devices that it is taken again on.
    """
    mesh, flags = facts.get("mesh") or {}, str(facts.get("xla_flags", ""))
    other = [each for each in found if each.line().startswith(NUMERIC)]
    kinds, here = set(facts.get("devices", ())), {each.device_kind for each in now.devices.flat}
    # Devices that a CPU stands in for share its threads, whose number moves its sums.
    alike = kinds == here and (here != {"cpu"} or len(facts["devices"]) == jax.device_count())
    if config["deterministic_reduction"] and alike and math.prod(mesh.values()) > 1 < now.size:
        # Any number of devices but one gives the same bits, see `training.fixed_order`.
        free = ("machine devices", "machine mesh", "machine processes")
        other = [each for each in other if each.about not in free]
    if other:
        return f"{other[0].about} differs"
    if any(each.about.startswith("machine") and each.kind == "note" for each in found):
        return "run.json does not say all of the machine"
    if mesh.get("trial"):
        return "it was a trial, in one program with others"
    if any(kind != "cpu" for kind in facts.get("devices", ())) and "deterministic" not in flags:
        return "XLA was not told to be deterministic on these devices"
    return ""


def take_again(made: Replay, window: Window, *, why: str, look: int) -> Iterator[Finding]:
    """Yield what replayed steps show: their logged numbers, the states that were saved.

    Args:
        made: The run's program.
        window: Which steps.
        why: Why bits cannot be expected; empty: they have to be those of the run.
        look: The step to look into; 0: none.
    """
    path, noted = made.path, saved.load(made.path)
    kept = steps_in(locate(path, made.run.config["checkpoint"]["root"]))
    about = f"steps {window.start + 1} to {window.end}"
    how = f"within bounds, as {why}" if why else "bit for bit"
    begin = f"checkpoint {window.start}" if window.start else "the initial parameters"
    yield note(about, f"taken again from {begin}, to be compared {how}")
    values: dict[int, Values] = {}
    hashes: dict[int, int] = {}
    state = made.state_at(window.start)
    begun = replay.host_tree(state)
    if look == window.start + 1:
        yield from diagnosis.look(made, look, state)
    steps = made.steps(state, window.start, window.end)
    total = window.end - window.start
    for each in progress.over(steps, total=total, unit="step", title="verify"):
        values[each.number], hashes[each.number] = each.values, each.batch_hash
        if each.number in kept:
            yield agreement.compare_states(made, each.number, begun, each.state, why=why)
        elif each.number in noted:
            saved_then = noted[each.number]
            yield agreement.compare_digests(each.number, saved_then, each.state, why=why)
        if each.number == look - 1:
            yield from diagnosis.look(made, look, each.state)
    after = [*noted, *kept]
    yield from agreement.compare_logs(made, window.start, values, hashes, after, why=why)

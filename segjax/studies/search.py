"""A hyperparameter search: trials of one config that differ in a few leaves, each a run.

Trial n is the run in `trial<n>` of the search's folder, and its `trial.json` says with which values
and what became of it. The folder also has `settings.json`, which search it is, and the storage of
Optuna, which knows no more than these files but decides what comes next. Any number of processes
go through the same trials, see `work.share`.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from segjax.assemble import setup as setup_lib
from segjax.config import rules, schedule, searches, sections
from segjax.config.searches import Search
from segjax.errors import ConfigError, NonFiniteError, UserError
from segjax.runs import train
from segjax.runtime import files, reading
from segjax.studies import beside, outcome, suggest, work
from segjax.studies.suggest import Suggester


class Trial(NamedTuple):
    """A trial that is to be done.

    Attributes:
        number: From 0.
        folder: Its own.
        parameters: The value of each leaf.
        report: Takes all its scores so far by step, and whether the trial has come to its end;
            returns whether it is to end here.
    """

    number: int
    folder: pathlib.Path
    parameters: dict[str, Any]
    report: Callable[[Mapping[int, float], bool], bool]


Objective = Callable[[Trial], int]
"""Does a trial, or goes on with it, reports its scores, and returns the exit code of its run."""


def run(root: pathlib.Path, search: Search, *, say: Callable[[str], None] = print) -> int:
    """Go on with the search in the folder `root` until all its trials are done.

    Returns:
        The exit code: 0 when done; that of the run which a signal ended.

    Raises:
        UserError: Bad config, data or folder (before anything is written); no trial was complete;
            or some could not be done on this machine, and the same command tries them again.
    """
    root = root.absolute()
    warmup, total = prepare(root, search)
    suggester = Suggester(root, search, warmup_steps=warmup, total_steps=total)
    objective = training(search)
    items = trials(root, suggester, objective, say=say)
    if several := search.settings["side_by_side"]:
        items = beside.join(root, search, suggester, items, several)
    tally = work.share(items, say=say)
    if tally.code:
        return tally.code
    say(f"{'groups' if several else 'trials'}: {tally.line()}")
    if tally.failed:
        name, reason = next(iter(tally.failed.items()))
        raise UserError(f"{name}: {reason} The same command goes on from there.")
    for line in outcome.write(root):
        say(line)
    return 0


def prepare(root: pathlib.Path, search: Search) -> tuple[int, int]:
    """Check all that a search can get wrong, then write which one it is into its folder.

    Returns:
        The steps before which no trial is pruned, and those of a whole one.

    Raises:
        UserError: What is wrong; nothing was written.
    """
    suggest.check_installed(search.settings["method"])
    new = check_folder(root, search)
    config = search.config({}, "trial0")
    if several := search.settings["side_by_side"]:
        config["trials"] = config["trials"] | {"seed": [*range(several)]}
    if new:
        setup = train.check(root / "trial0", config)
        for leaf, value in searches.probes(search):
            check_leaf(search, leaf, value)
    else:
        setup, _ = setup_lib.make_setup(config)
    pruner = schedule.in_steps(search.settings["pruner"], ("warmup",), setup.clock, "search.pruner")
    check_pruner(search, setup)
    with suggest.turn(root):
        check_folder(root, search)
        files.write_json(root / outcome.SETTINGS, outcome.settings(search))
    return pruner["warmup_steps"], setup.clock.total_steps


def check_folder(root: pathlib.Path, search: Search) -> bool:
    """Return whether a folder is a new one; refuse that of a run or of another search.

    Raises:
        UserError: What it holds.
    """
    path = root / outcome.SETTINGS
    if not reading.is_file(path):
        if held := [name for name in ("config.json", "trial0") if (root / name).exists()]:
            raise ConfigError(
                f"--workdir={root}: has {held[0]} and no {outcome.SETTINGS}, so it is no search's. "
                "Expected a new folder or that of a search."
            )
        return True
    old, new = (
        sections.flatten(searches.comparable(each["search"], each["config"]))
        for each in (outcome.read_settings(root), outcome.settings(search))
    )
    if changed := [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]:
        key = changed[0]
        raise ConfigError(
            f"--workdir={root}: holds another search: {key}={old.get(key, 'absent')!r} there, "
            f"{new.get(key, 'absent')!r} now. Use another folder; only trials may change."
        )
    stored = root / suggest.STORED[search.settings["storage"]]
    if outcome.notes(root) and not stored.exists():
        raise UserError(f"{stored}: is not there any more. Put it back, or use another folder.")
    return False


def check_leaf(search: Search, leaf: str, value: Any) -> None:
    """Refuse a value that what is built of the config does not take.

    Raises:
        ConfigError: Which leaf, and what was expected.
    """
    try:
        setup_lib.make_setup(search.config({leaf: value}, "trial0"))
    except UserError as error:
        raise ConfigError(f"search.space[{leaf!r}]: {error}") from None


def check_pruner(search: Search, setup: setup_lib.Setup) -> None:
    """Refuse to prune trials that are scored at their end alone.

    Raises:
        ConfigError: How to score them before.
    """
    name = search.settings["metric"].partition("/")[0]
    every = schedule.in_steps(
        setup.config["evals"][name], ("every",), setup.clock, f"config.evals.{name}"
    )["every_steps"]
    if search.settings["pruner"]["type"] != "none" and not 0 < every < setup.clock.total_steps:
        raise ConfigError(
            f"search.pruner: trials are scored at their end alone, so none can end before. Add "
            f"'evals.{name}.every_percent=10' to search.overrides, or use no pruner."
        )


def trials(
    root: pathlib.Path,
    suggester: Suggester,
    objective: Objective,
    *,
    say: Callable[[str], None] = print,
) -> list[work.Item]:
    """Return all trials of a search as work that several processes share."""

    def item(number: int) -> work.Item:
        folder = root / f"trial{number}"
        return work.Item(
            folder.name,
            folder,
            lambda: outcome.is_finished(folder),
            lambda: do(Trial(number, folder, {}, lambda *_: False), suggester, objective, say),
        )

    return [item(number) for number in range(suggester.search.trials)]


def do(trial: Trial, suggester: Suggester, objective: Objective, say: Callable[[str], None]) -> int:
    """Do a trial, or go on with it; return the exit code of its run.

    Raises:
        Exception: What is not the trial's fault, such as a full disk; it is not over then.
    """
    number, folder = trial.number, trial.folder
    known, reason = suggester.take(number), ""

    def report(scores: Mapping[int, float], ended: bool) -> bool:
        ends = suggester.report(number, scores, judge=not ended)
        if ends:  # said at once: what kills the process now cannot revive the trial
            outcome.note(folder, number, suggester.take(number), suggester.search.settings)
        return ends

    if known.state == suggest.RUNNING:
        outcome.note(folder, number, known, suggester.search.settings)
        try:
            code = objective(trial._replace(parameters=known.parameters, report=report))
            if code:
                return code
        except Exception as error:
            if is_of_the_machine(error):
                raise
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            reason = rules.cut(" ".join(f"{kind}{error}".split()), 400)
        known = suggester.tell(number, failed=bool(reason))
        if known.state == suggest.FAILED:
            reason = reason or f"{suggester.search.settings['metric']} was never logged"
    outcome.note(folder, number, known, suggester.search.settings, reason=reason)
    say(f"{folder.name}: {outcome.ended(outcome.read_note(folder), suggester.search.settings)}")
    return 0


def is_of_the_machine(error: Exception) -> bool:
    """Say whether the same trial may go well at another time: a full disk, data that is not there.

    What a trial's config or its numbers bring about happens again. Data is that of all trials: were
    they failed for it, nothing would be left of the search.
    """
    if isinstance(error, UserError):
        return not isinstance(error, (ConfigError, NonFiniteError))
    return isinstance(error, OSError)


def training(search: Search) -> Objective:
    """Return what trains a trial's config in its folder."""
    metric = search.settings["metric"]

    def objective(trial: Trial) -> int:
        def on_score(live: Any, step: int, scalars: Mapping[str, float]) -> bool:
            ended = step == live.config["resolved"]["total_steps"]
            return metric in scalars and trial.report(outcome.scores(trial.folder, metric), ended)

        jax.clear_caches()
        config = search.config(trial.parameters, trial.folder.name)
        code = train.run(trial.folder, config, on_score=on_score)
        if code == train.DONE:
            trial.report(outcome.scores(trial.folder, metric), True)
        return code

    return objective

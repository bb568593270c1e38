"""What is tried next: ask Optuna for a trial's values, report its scores, tell how it ended.

Any number of processes may do so at once. Each holds a lock while it does, and nobody waits long.
Nothing random is kept between two trials: what the method draws for a trial is decided by the
search's seed, the trial's number and what is known of the others, in whichever process.
"""

import contextlib
import json
import math
import pathlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from segjax.config.searches import Search
from segjax.errors import LockedError, extra
from segjax.runtime import files

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

NAME = "search"
"""Of the study in Optuna's storage."""
NUMBER = "number"
"""Of a trial, as its folder has it. Optuna's own counts what a killed process had begun as well."""
STORED = {"sqlite": "search.db", "journal": "search.log"}
TURN = ".turn"
"""The file whose lock a process holds while it reads and writes the storage."""
PATIENCE = 0.02
"""Seconds between two tries to get that lock."""
RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
STATES = {"RUNNING": RUNNING, "COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED}
"""Our words for Optuna's states."""
LEAST = 5
"""Complete trials below which importance says nothing."""


class Known(NamedTuple):
    """What is known of a trial.

    Attributes:
        state: One of `STATES`.
        parameters: The value of each leaf.
        scores: What was reported, by step.
    """

    state: str
    parameters: dict[str, Any]
    scores: dict[int, float]

    def best(self, settings: Mapping[str, Any]) -> tuple[int, float] | None:
        """Return the step and the score that a search counts as the value; None: none yet."""
        if not self.scores:
            return None
        steps = sorted(self.scores)
        if settings["value"] == "last":
            return steps[-1], self.scores[steps[-1]]
        choose = max if settings["mode"] == "max" else min
        step = choose(steps, key=lambda each: self.scores[each])
        return step, self.scores[step]


class Suggester:
    """The trials of a search as one process sees them.

    Args:
        root: The search's folder, where the storage and its lock lie.
        search: What is searched.
        warmup_steps: Of a trial, before it may be pruned.
        total_steps: Of a trial.
        storage: Another one than in the folder.

    Raises:
        ConfigError: What the method needs is not installed.
    """

    def __init__(
        self,
        root: pathlib.Path,
        search: Search,
        *,
        warmup_steps: int = 0,
        total_steps: int = 1,
        storage: "BaseStorage | None" = None,
    ):
        check_installed(search.settings["method"])
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.root, self.search = root, search
        self.distributions = distributions(search.space)
        with turn(root):
            self.storage = storage or open_storage(root, search.settings["storage"])
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=NAME,
                direction=direction(search.settings["mode"]),
                pruner=make_pruner(search.settings["pruner"], warmup_steps, total_steps),
                load_if_exists=True,
            )

    def take(self, number: int) -> Known:
        """Return what is known of a trial, having asked for its values if it is new."""
        with turn(self.root):
            found = self._find(number)
            if found is None:
                self._give_up_the_nameless()
                self._ask(number)
                found = self._find(number)
            return self._known(found)

    def report(self, number: int, scores: Mapping[int, float], *, judge: bool) -> bool:
        """Report a trial's scores by step, old ones too; return whether the pruner ends it.

        Not asked with `judge` False.
        """
        from optuna.trial import TrialState

        with turn(self.root):
            found = self._find(number)
            if found.state != TrialState.RUNNING:
                return found.state == TrialState.PRUNED
            for step, value in scores.items():
                if step not in found.intermediate_values and math.isfinite(value):
                    self.storage.set_trial_intermediate_value(self._id(found), step, value)
            found = self._find(number)
            ends = judge and self.study.pruner.prune(self.study, found)
            if ends:
                self.study.tell(found.number, state=TrialState.PRUNED)
            return ends

    def tell(self, number: int, *, failed: bool = False) -> Known:
        """Tell that a trial has ended, unless it was told before; return what is known of it.

        One without any score has failed.
        """
        from optuna.trial import TrialState

        with turn(self.root):
            found = self._find(number)
            if found.state == TrialState.RUNNING:
                best = None if failed else self._known(found).best(self.search.settings)
                if best is None:
                    self.study.tell(found.number, state=TrialState.FAIL)
                else:
                    self.study.tell(found.number, best[1])
            return self._known(self._find(number))

    def _ask(self, number: int) -> None:
        """Begin a trial."""
        from optuna import trial as trial_lib

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental parts; numbers that GP fits badly
            if self.search.settings["method"] == "grid":
                point = self.search.grid()[number]
                values = {leaf: self._encoded(leaf, value) for leaf, value in point.items()}
                begun = trial_lib.create_trial(
                    state=trial_lib.TrialState.RUNNING,
                    params=values,
                    distributions=self.distributions,
                    user_attrs={NUMBER: number},
                )
                return self.study.add_trial(begun)
            self.study.sampler = make_sampler(self.search.settings, number)
            self.study.ask(self.distributions).set_user_attr(NUMBER, number)

    def _give_up_the_nameless(self) -> None:
        """Fail what a process began that was killed before it could say for which trial."""
        from optuna.trial import TrialState

        for each in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if NUMBER not in each.user_attrs:
                self.study.tell(each.number, state=TrialState.FAIL)

    def _find(self, number: int) -> Any:
        trials = self.study.get_trials(deepcopy=False)
        return next((each for each in trials if each.user_attrs.get(NUMBER) == number), None)

    def _id(self, found: "FrozenTrial") -> int:
        study = self.storage.get_study_id_from_name(NAME)
        return self.storage.get_trial_id_from_study_id_trial_number(study, found.number)

    def _known(self, found: "FrozenTrial") -> Known:
        values = {leaf: self._decoded(leaf, found.params[leaf]) for leaf in self.search.space}
        return Known(STATES[found.state.name], values, dict(found.intermediate_values))

    def _encoded(self, leaf: str, value: Any) -> Any:
        return as_text(value) if "choices" in self.search.space[leaf] else value

    def _decoded(self, leaf: str, value: Any) -> Any:
        choices = self.search.space[leaf].get("choices")
        return value if choices is None else {as_text(each): each for each in choices}[value]


@contextlib.contextmanager
def turn(root: pathlib.Path) -> Iterator[None]:
    """Be the only process that reads or writes what a search's processes share."""
    with contextlib.ExitStack() as stack:
        waiting = True
        while waiting:
            try:
                stack.enter_context(files.locked(root / TURN, what=str(root)))
                waiting = False
            except LockedError:
                time.sleep(PATIENCE)
        yield


def check_installed(method: str) -> None:
    """Raise `ConfigError` unless what the method needs is installed."""
    with extra("search", what="--mode=search"):
        import optuna  # noqa: F401
    if method == "cmaes":
        with extra("search", what="search.method='cmaes'"):
            import cmaes  # noqa: F401
    if method == "gp":
        with extra("gp", what="search.method='gp'"):
            import torch  # noqa: F401  # pyright: ignore[reportMissingImports]


def open_storage(root: pathlib.Path, kind: str) -> "BaseStorage":
    """Open where the trials are kept, made if it is not there."""
    from optuna import storages

    path = root.absolute() / STORED[kind]
    if kind == "journal":
        from optuna.storages import journal

        return storages.JournalStorage(journal.JournalFileBackend(str(path)))
    from sqlalchemy import URL

    return storages.RDBStorage(URL.create("sqlite", database=str(path)).render_as_string())


def direction(mode: str) -> Literal["maximize", "minimize"]:
    """Return what Optuna calls it."""
    return "maximize" if mode == "max" else "minimize"


def as_text(value: Any) -> str:
    """Return a choice as Optuna keeps it: as text, whatever it is."""
    return json.dumps(value)


def distributions(space: Mapping[str, Mapping[str, Any]]) -> "dict[str, BaseDistribution]":
    """Return the values that each leaf may have, as Optuna has it."""
    from optuna import distributions as kinds

    found = {}
    for leaf, section in space.items():
        if "choices" in section:
            found[leaf] = kinds.CategoricalDistribution([*map(as_text, section["choices"])])
            continue
        low, high, log, step = (section[key] for key in ("low", "high", "log", "step"))
        if section["integer"]:
            found[leaf] = kinds.IntDistribution(low, high, log=log, step=step or 1)
        else:
            found[leaf] = kinds.FloatDistribution(low, high, log=log, step=step or None)
    return found


def make_sampler(settings: Mapping[str, Any], number: int) -> "BaseSampler":
    """Return what draws the values of one trial."""
    from optuna import samplers

    seed = int(np.random.SeedSequence([settings["seed"], number]).generate_state(1)[0])
    if settings["method"] == "cmaes":
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    kinds = {"random": samplers.RandomSampler, "tpe": samplers.TPESampler, "gp": samplers.GPSampler}
    return kinds[settings["method"]](seed=seed)


def make_pruner(settings: Mapping[str, Any], warmup_steps: int, total_steps: int) -> "BasePruner":
    """Return what ends trials early."""
    from optuna import pruners

    if settings["type"] == "median":
        return pruners.MedianPruner(
            n_startup_trials=settings["startup"], n_warmup_steps=max(warmup_steps, 0)
        )
    if settings["type"] == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=max(warmup_steps, 1),
            max_resource=total_steps,
            reduction_factor=settings["reduction"],
        )
    return pruners.NopPruner()


def importance(
    space: Mapping[str, Mapping[str, Any]], trials: Sequence[Mapping[str, Any]], mode: str
) -> dict[str, float]:
    """Return how much each leaf decides whether a trial is among the best, by PED-ANOVA.

    Watanabe, Bansal and Hutter 2023, arXiv:2304.10255. The shares add up to 1; none without at
    least `LEAST` complete trials.

    Args:
        space: Of the search.
        trials: Complete ones, each with `parameters` and `value`.
        mode: 'max' or 'min'.
    """
    if len(trials) < LEAST:
        return {}
    with extra("search", what="--mode=search"):
        import optuna
    from optuna import importance as importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction(mode))
    kinds = distributions(space)
    for each in trials:
        values = {
            leaf: as_text(value) if "choices" in space[leaf] else value
            for leaf, value in each["parameters"].items()
        }
        made = optuna.trial.create_trial(params=values, distributions=kinds, value=each["value"])
        study.add_trial(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = importances.PedAnovaImportanceEvaluator()
        found = importances.get_param_importances(study, evaluator=evaluator)
    return {leaf: float(found[leaf]) for leaf in space if leaf in found}

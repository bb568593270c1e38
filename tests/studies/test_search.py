"""Searches of a surrogate: what is tried, what survives, what is written. Trainings are slow."""

import csv
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from optuna import storages
from PIL import Image

from segjax.config import searches
from segjax.errors import ConfigError, DataError, NonFiniteError, UserError
from segjax.studies import outcome, suggest, work
from segjax.studies import search as search_lib
from segjax.studies.suggest import Suggester
from tests.studies import surrogate

RANGES = {leaf: each for leaf, each in surrogate.SPACE.items() if "low" in each}
GRID = {
    "optimizer.lr": {"low": 0.1, "high": 0.3, "step": 0.1},
    "model.widths": {"choices": [[8], [8, 16]]},
}
METHODS = {"random": surrogate.SPACE, "tpe": surrogate.SPACE, "cmaes": RANGES, "grid": GRID}


def value_of(trial):
    """Report something that any parameters decide."""
    trial.report({1: sum(map(len, map(str, trial.parameters.values())))}, True)
    return 0


def memory():
    """Return a storage that is no file, for the cases where files are not in question."""
    return storages.InMemoryStorage()


def tried(root):
    return [each["parameters"] for each in outcome.notes(root)]


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_tries_the_same_wherever_it_was_ended(tmp_path, method):
    """Seed, number and results decide a trial, not the process: a search may end and go on."""
    trials = 6 if method == "grid" else 14  # more than TPE draws at random
    search = surrogate.make(
        METHODS[method], method=method, trials=trials, storage="journal", seed=3
    )
    assert surrogate.go(tmp_path / "a", search, value_of).done == trials

    begun = []

    def ends_twice(trial):
        begun.append(trial.number)
        return 75 if begun.count(trial.number) == 1 and trial.number in (2, 12) else value_of(trial)

    kept = memory()
    for code in (75, 75, 0)[method == "grid" :]:
        assert surrogate.go(tmp_path / "b", search, ends_twice, storage=kept).code == code
    assert tried(tmp_path / "a") == tried(tmp_path / "b") and len(tried(tmp_path / "a")) == trials
    assert len({json.dumps(each) for each in tried(tmp_path / "a")}) == trials, "and no two alike"
    other = surrogate.make(METHODS[method], method=method, trials=trials, seed=4)
    surrogate.go(tmp_path / "c", other, value_of, storage=memory())
    assert (tried(tmp_path / "a") == tried(tmp_path / "c")) == (method == "grid")


def test_values_keep_to_their_range(tmp_path):
    space = {
        "a": {"low": 1e-4, "high": 1.0, "log": True},
        "b": {"low": 2, "high": 64, "log": True, "integer": True},
        "c": {"low": -1, "high": 1, "step": 0.5},
        "d": {"low": 4, "high": 12, "step": 4, "integer": True},
        "e": {"choices": [None, True, 1, 1.5, "x", [1, [2]], {"type": "y"}]},
    }
    search = surrogate.make(space, method="random", trials=60)
    surrogate.go(tmp_path, search, value_of, storage=memory())
    found = {leaf: [each[leaf] for each in tried(tmp_path)] for leaf in space}
    assert 1e-4 <= min(found["a"]) < 1e-2 < 0.1 < max(found["a"]) <= 1
    assert {type(x) for x in found["b"]} == {int} and 2 <= min(found["b"]) < 9 < max(found["b"])
    assert {*found["c"]} == {-1, -0.5, 0, 0.5, 1} and {*found["d"]} == {4, 8, 12}
    assert {repr(x) for x in found["e"]} == {repr(x) for x in space["e"]["choices"]}


def test_what_fails_is_failed_and_the_rest_goes_on(tmp_path):
    """Of the trial: NaN, its config, a bug. Not of it: what may pass, or is the same for all."""
    errors = {
        0: NonFiniteError("train/loss is nan at step 3"),
        1: ConfigError("config.model.widths=[1]: too few"),
        2: ValueError("odd"),
        3: MemoryError("too much"),
        4: UserError("disk full"),
        5: OSError("no such device"),
        6: DataError("x.png: not there"),
    }

    def objective(trial):
        if trial.number in errors:
            raise errors[trial.number]
        return surrogate.once(trial) if trial.number != 7 else 0

    search = surrogate.make(trials=9, storage="sqlite")
    tally = surrogate.go(tmp_path, search, objective)
    assert set(tally.failed) == {"trial4", "trial5", "trial6"} and tally.done == 6
    states = [each["state"] for each in outcome.notes(tmp_path)]
    assert states == ["failed"] * 4 + ["running"] * 3 + ["failed", "complete"]
    reasons = [each.get("reason") for each in outcome.notes(tmp_path)]
    assert reasons[0] == "train/loss is nan at step 3" and reasons[2] == "ValueError: odd"
    assert reasons[7] == "val/miou was never logged"
    kept = Suggester(tmp_path, search).study.get_trials()
    assert [t.state.name for t in kept] == ["FAIL"] * 4 + ["RUNNING"] * 3 + ["FAIL", "COMPLETE"]

    again = surrogate.go(tmp_path, search, surrogate.once)
    assert (again.already, again.done, again.failed) == (6, 3, {})
    assert [each["state"] for each in outcome.notes(tmp_path)][4:7] == ["complete"] * 3


def steps(trial, *, good, last=10, log=None):
    """Report a score at each step until the pruner ends it."""
    for step in range(1, last + 1):
        if log is not None:
            log.append((trial.number, step))
        found = {each: (each / 10 if good(trial) else 0.0) for each in range(1, step + 1)}
        if trial.report(found, step == last):
            return 0
    return 0


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_bad_trial_ends_early_says_so_and_counts_what_it_had(tmp_path, pruner):
    log = []
    search = surrogate.make(trials=12, pruner={"type": pruner, "startup": 3, "warmup_steps": 2})

    def objective(trial):
        return steps(trial, good=lambda t: t.number % 4 == 0 or t.number < 3, log=log)

    surrogate.go(tmp_path, search, objective, storage=memory(), warmup_steps=2, total_steps=10)
    found = outcome.notes(tmp_path)
    done = {each["number"]: each["steps"] for each in found}
    assert done == {number: max(s for n, s in log if n == number) for number in done}
    pruned = [each for each in found if each["state"] == "pruned"]
    assert pruned and all(each["number"] % 4 and each["steps"] < 10 for each in pruned)
    assert all(f"{pruner} pruner, after step {each['steps']}" == each["reason"] for each in pruned)
    assert min(done.values()) >= 2, "none before the warm-up's end"
    assert all(each["state"] == "complete" for each in found if each["number"] % 4 == 0)
    if pruner == "median":
        assert {each["number"] for each in pruned} == {5, 6, 7, 9, 10, 11, 3}


def test_what_was_pruned_stays_so_whenever_its_process_dies(tmp_path):
    """Before its checkpoint is saved, or between Optuna's note and ours."""
    pruner = {"type": "median", "startup": 1}
    search = surrogate.make(trials=2, storage="journal", pruner=pruner)

    def dies(trial):
        code = steps(trial, good=lambda t: t.number == 0)
        if trial.number == 1:
            raise KeyboardInterrupt  # passes everything, as a kill does
        return code

    with pytest.raises(KeyboardInterrupt):
        surrogate.go(tmp_path, search, dies, total_steps=10)
    assert outcome.read_note(tmp_path / "trial1")["state"] == "pruned"
    (tmp_path / "trial1" / outcome.NOTE).unlink()
    tally = surrogate.go(tmp_path, search, lambda trial: 1 / 0, total_steps=10)
    assert tally.done == 1 and not tally.failed
    again = outcome.read_note(tmp_path / "trial1")
    assert again["state"] == "pruned" and again["steps"] == 1


@pytest.mark.parametrize(("value", "expected"), [("best", (2, 0.7)), ("last", (3, 0.4))])
def test_a_value_is_the_best_score_or_the_last(tmp_path, value, expected):
    def objective(trial):
        return int(trial.report({1: 0.1, 2: 0.7, 3: 0.4}, True))

    search = surrogate.make(trials=1, value=value)
    surrogate.go(tmp_path, search, objective, storage=memory())
    (found,) = outcome.notes(tmp_path)
    assert (found["step"], found["value"]) == expected and found["steps"] == 3


def test_what_a_process_began_without_a_name_is_given_up(tmp_path):
    search = surrogate.make(trials=3, storage="journal")
    Suggester(tmp_path, search).study.ask()  # killed before it said for which trial
    assert surrogate.go(tmp_path, search, surrogate.once).done == 3
    kept = Suggester(tmp_path, search).study.get_trials()
    assert [t.state.name for t in kept] == ["FAIL"] + ["COMPLETE"] * 3
    assert [each["number"] for each in outcome.notes(tmp_path)] == [0, 1, 2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return the folder of a search with trials of every kind, put together."""
    root = tmp_path_factory.mktemp("search")
    search = surrogate.make(trials=24, pruner={"type": "median", "startup": 4}, seed=1)

    def objective(trial):
        if trial.number == 7:
            raise NonFiniteError("train/loss is nan at step 2")
        value = surrogate.score(trial.parameters)
        for step in (1, 2, 3):
            if trial.report({s: value * s / 3 for s in range(1, step + 1)}, step == 3):
                return 0
        return 0

    (root / outcome.SETTINGS).write_text(json.dumps(outcome.settings(search)))
    surrogate.go(root, search, objective, storage=memory(), total_steps=3)
    return root, outcome.write(root)


def test_tables_hold_every_trial(found):
    root, said = found
    written = json.loads((root / "search.json").read_text())
    states = [each["state"] for each in written["trials"]]
    assert len(states) == written["wanted"] == 24 and {*states} == {"complete", "pruned", "failed"}
    assert written["states"] == {s: states.count(s) for s in suggest.STATES.values()}
    complete = [each for each in written["trials"] if each["state"] == "complete"]
    assert written["best"] == max(complete, key=lambda each: each["value"])
    best = written["best"]
    assert best["value"] == pytest.approx(surrogate.score(best["parameters"]))
    assert written["budget"]["steps"] == sum(each["steps"] for each in written["trials"]) < 72
    assert sum(written["importance"].values()) == pytest.approx(1)
    assert set(written["importance"]) == set(surrogate.SPACE)
    rows = list(csv.DictReader((root / "search.csv").open()))
    assert [row["state"] for row in rows] == states and float(rows[0]["optimizer.lr"]) > 0
    assert rows[7]["reason"] == "train/loss is nan at step 2"
    assert any(
        f"best: trial{best['number']}, val/miou {best['value']:.4f}" in line for line in said
    )


def test_figures_are_drawn_from_the_tables_alone(found, tmp_path):
    root, _ = found
    copied = tmp_path / "copy"
    shutil.copytree(root, copied, ignore=shutil.ignore_patterns("figures", "search.*", ".turn"))
    outcome.write(copied)
    for name in ("history", "slices", "importance", "parallel"):
        picture = Image.open(copied / "figures" / f"{name}.png")
        assert picture.width > 700 and len(picture.getcolors(picture.width * picture.height)) > 20
    assert (copied / "search.json").read_text() == (root / "search.json").read_text()


def test_importance_is_of_what_matters():
    space = {leaf: {"low": 0.0, "high": 1.0} for leaf in ("much", "none")}
    space = surrogate.make(space).space
    points = np.random.default_rng(0).random((200, 2))
    trials = [
        {"parameters": {"much": float(a), "none": float(b)}, "value": -((float(a) - 0.3) ** 2)}
        for a, b in points
    ]
    shares = suggest.importance(space, trials, "max")
    assert shares["much"] > 0.9 and sum(shares.values()) == pytest.approx(1)
    assert suggest.importance(space, trials[: suggest.LEAST - 1], "max") == {}


def test_a_search_without_any_success_says_why(tmp_path):
    search = surrogate.make(trials=2)
    (tmp_path / outcome.SETTINGS).write_text(json.dumps(outcome.settings(search)))

    def fails(trial):
        raise NonFiniteError("train/loss is nan at step 1")

    surrogate.go(tmp_path, search, fails, storage=memory())
    with pytest.raises(UserError, match="no trial is complete .2 failed.*train/loss is nan"):
        outcome.write(tmp_path)
    assert json.loads((tmp_path / "search.json").read_text())["states"]["failed"] == 2


@pytest.mark.parametrize("name", [outcome.SETTINGS, f"trial0/{outcome.NOTE}"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"state": 3}', '{"parameters": {}}'])
def test_a_damaged_file_is_one_line(tmp_path, found, name, content):
    root = tmp_path / "copy"
    shutil.copytree(found[0], root, ignore=shutil.ignore_patterns("figures"))
    (root / name).write_text(content)
    with pytest.raises(DataError, match=name.rpartition("/")[2]) as caught:
        outcome.collect(root)
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path):
    """A run's, another search's, one that lost its storage; more trials are welcome."""
    search = searches.read("experiments/search/quickstart.py:debug")
    assert search_lib.check_folder(tmp_path, search)
    for name in ("config.json", "trial0"):
        (tmp_path / name).mkdir()
        with pytest.raises(ConfigError, match=f"has {name} and no settings.json"):
            search_lib.check_folder(tmp_path, search)
        (tmp_path / name).rmdir()
    (tmp_path / outcome.SETTINGS).write_text(json.dumps(outcome.settings(search)))
    assert not search_lib.check_folder(tmp_path, search)
    more = search._replace(settings=search.settings | {"trials": 99})
    assert not search_lib.check_folder(tmp_path, more)
    changes = {
        "seed": 1,
        "metric": "val/loss",
        "pruner": search.settings["pruner"] | {"startup": 9},
    }
    for key, value in changes.items():
        other = search._replace(settings=search.settings | {key: value})
        with pytest.raises(ConfigError, match=f"another search: search.{key}.* there, .* now"):
            search_lib.check_folder(tmp_path, other)
    base = search.base | {"seed": 5}
    with pytest.raises(ConfigError, match="holds another search: config.seed=0 there, 5 now"):
        search_lib.check_folder(tmp_path, search._replace(base=base))
    older = outcome.settings(search)
    del older["search"]["value"], older["config"]["microbatches"]
    (tmp_path / outcome.SETTINGS).write_text(json.dumps(older))
    assert not search_lib.check_folder(tmp_path, search), "made before there were these keys"
    outcome.note(tmp_path / "trial0", 0, suggest.Known("running", {}, {}), search.settings)
    with pytest.raises(UserError, match="search.db: is not there any more"):
        search_lib.check_folder(tmp_path, search)


@pytest.mark.parametrize(
    ("method", "module", "extra"),
    [("tpe", "optuna", "search"), ("cmaes", "cmaes", "search"), ("gp", "torch", "gp")],
)
def test_what_is_not_installed_is_named(method, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs the module {module}.*'segjax\[{extra}\]'"):
        suggest.check_installed(method)


@pytest.mark.slow
def test_tpe_beats_chance_on_the_surrogate(tmp_path):
    """With 40 trials each, in at least 7 of 10 seeds; and so does CMA-ES on its ranges."""
    for method, space in (("tpe", surrogate.SPACE), ("cmaes", RANGES)):
        wins = 0
        for seed in range(10):
            found = {
                each: surrogate.best_after(
                    tmp_path, surrogate.make(space, method=each, trials=40, seed=seed), [40]
                )[0]
                for each in (method, "random")
            }
            wins += found[method] > found["random"]
        assert wins >= 7, method


@pytest.mark.slow
def test_gp_beats_chance_on_the_surrogate(tmp_path):
    pytest.importorskip("torch")
    wins = 0
    for seed in range(5):
        found = {
            each: surrogate.best_after(
                tmp_path, surrogate.make(method=each, trials=25, seed=seed), [25]
            )[0]
            for each in ("gp", "random")
        }
        wins += found["gp"] > found["random"]
    assert wins >= 4


def lasting(trial):
    """Take a while in pieces that are kept, as checkpoints are; log each begin and each end."""
    log, kept = trial.folder / "log", trial.folder / "kept"
    with log.open("a") as file:
        file.write("begun\n")
    for piece in range(int(kept.read_text()) if kept.exists() else 0, 4):
        time.sleep(0.03)
        temporary = trial.folder / f"kept.{os.getpid()}"
        temporary.write_text(str(piece + 1))
        os.replace(temporary, kept)
        trial.report({piece + 1: surrogate.score(trial.parameters)}, piece == 3)
    with log.open("a") as file:
        file.write("ended\n")
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_workers_that_are_killed_lose_nothing_and_count_nothing_twice(tmp_path, storage):
    """Three at once, one of them killed again and again at a random moment."""
    search = surrogate.make(trials=40, storage=storage)
    context, chance = multiprocessing.get_context("spawn"), random.Random(0)
    kills = 0

    def start():
        process = context.Process(target=surrogate.go, args=(tmp_path, search, lasting))
        process.start()
        return process

    workers = [start() for _ in range(3)]
    deadline = time.monotonic() + 240
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.5, 1.5))
        victim = chance.randrange(3)
        if workers[victim].is_alive() and kills < 12 and (tmp_path / "trial0").exists():
            os.kill(workers[victim].pid, signal.SIGKILL)
            workers[victim].join()
            workers[victim] = start()
            kills += 1
    assert [worker.exitcode for worker in workers] == [0, 0, 0] and kills >= 6
    logs = [(tmp_path / f"trial{n}" / "log").read_text().splitlines() for n in range(40)]
    assert all(log[0] == "begun" and log[-1] == "ended" for log in logs)
    assert sum(log.count("begun") - 1 for log in logs) <= kills, "again only what was killed"
    found = outcome.notes(tmp_path)
    assert [(each["number"], each["state"]) for each in found] == [
        (n, "complete") for n in range(40)
    ]
    kept = Suggester(tmp_path, search).study.get_trials()
    named = [t for t in kept if suggest.NUMBER in t.user_attrs]
    assert sorted(t.user_attrs[suggest.NUMBER] for t in named) == list(range(40))
    assert all(t.state.name == "COMPLETE" for t in named)
    assert {t.state.name for t in kept if suggest.NUMBER not in t.user_attrs} <= {"FAIL"}
    assert {work.FAILURE}.isdisjoint(path.name for path in tmp_path.rglob("*"))
    assert all(math.isfinite(each["value"]) for each in found)

"""How many steps does pruning save in a search for the learning rate, and is the best one kept?

python -m experiments.search.study --workdir=runs/search_study

The quickstart is trained for 200 steps with each of eleven learning rates, in an order drawn from
the seed, twice: to the end, and with the median pruner. The seed is also that of the runs. With
--replay the second search is given the scores that the first one logged, as a run repeats to the
bit. One line a seed goes to results.jsonl; the same command goes on where it was ended.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import random
import sys
import tempfile
from typing import Any

HERE = pathlib.Path(__file__).parent
RATES = [float(f"{10 ** (-5 + i / 2):.3g}") for i in range(11)]
"""From 1e-5 to 1, at half decades."""
STEPS = 200
PRUNERS: dict[str, dict[str, Any]] = {
    "none": {"type": "none"},
    "median": {"type": "median", "startup": 2, "warmup_percent": 20},
}


def settings(seed: int, pruner: str) -> dict[str, Any]:
    """Return a search as its file would."""
    rates = [*RATES]
    random.Random(seed).shuffle(rates)
    return {
        "config": "configs/quickstart.py",
        "overrides": [
            f"seed={seed}", f"total_steps={STEPS}", "evals.val.every_percent=10",
            "log_steps=50", "checkpoint.save_percent=100", "report.page=False",
            "model.compute_dtype=bfloat16",
        ],
        "method": "grid",
        "pruner": PRUNERS[pruner],
        "space": {"optimizer.lr": {"choices": rates}},
    }  # fmt: skip


def searched(root: pathlib.Path, seed: int, pruner: str) -> dict[str, Any]:
    """Search by training, and return what was found."""
    from segjax.config import searches
    from segjax.studies import outcome
    from segjax.studies import search as search_lib

    folder = root / f"seed{seed}_{pruner}"
    if code := search_lib.run(folder, searches.make(settings(seed, pruner))):
        sys.exit(code)
    return outcome.collect(folder)


def replayed(root: pathlib.Path, seed: int) -> dict[str, Any]:
    """Search with the pruner among the scores of the trials that were trained to their end."""
    from segjax.config import searches
    from segjax.runtime import files
    from segjax.studies import outcome, suggest, work
    from segjax.studies import search as search_lib

    search, whole = searches.make(settings(seed, "median")), root / f"seed{seed}_none"

    def objective(trial: search_lib.Trial) -> int:
        scores = outcome.scores(whole / trial.folder.name, search.settings["metric"])
        for step in sorted(scores):
            so_far = {each: scores[each] for each in scores if each <= step}
            if trial.report(so_far, step == STEPS):
                break
        return 0

    with tempfile.TemporaryDirectory() as folder:
        there = pathlib.Path(folder)
        files.write_json(there / outcome.SETTINGS, outcome.settings(search))
        warmup = STEPS * search.settings["pruner"]["warmup_percent"] // 100
        suggester = suggest.Suggester(there, search, warmup_steps=warmup, total_steps=STEPS)
        work.share(search_lib.trials(there, suggester, objective))
        return outcome.collect(there)


def measure(root: pathlib.Path, seed: int, *, replay: bool) -> dict[str, Any]:
    """Search with and without pruner, and compare."""
    found = {"none": searched(root, seed, "none")}
    found["median"] = replayed(root, seed) if replay else searched(root, seed, "median")
    whole, pruned = found["none"], found["median"]
    best = {name: each["best"] for name, each in found.items()}
    return {
        "seed": seed,
        "pruner": PRUNERS["median"],
        "pruned_trials": "replayed" if replay else "trained",
        "trials": len(RATES),
        "steps_whole": whole["budget"]["steps"],
        "steps_pruned": pruned["budget"]["steps"],
        "saved_percent": round(100 * (1 - pruned["budget"]["steps"] / whole["budget"]["steps"]), 1),
        "states": pruned["states"],
        "best_lr": {name: each["parameters"]["optimizer.lr"] for name, each in best.items()},
        "best_value": {name: each["value"] for name, each in best.items()},
        "same_best": best["none"]["number"] == best["median"]["number"],
        "values": {
            f"{each['parameters']['optimizer.lr']:g}": each["value"] for each in whole["trials"]
        },
    }


def main() -> None:
    """Measure each seed that results.jsonl does not have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", default="runs/search_study", help="where the searches are")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="which, by comma")
    parser.add_argument("--replay", action="store_true", help="do not train what is pruned")
    options = parser.parse_args()
    results = HERE / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    done = {json.loads(line)["seed"] for line in lines}

    from segjax.runtime import xla

    xla.prepare()
    names = ("jax", "optuna")
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": "python -m experiments.search.study",
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }
    root = pathlib.Path(options.workdir)
    for seed in map(int, options.seeds.split(",")):
        if seed not in done:
            line = json.dumps(measure(root, seed, replay=options.replay) | facts)
            print(line, flush=True)
            with results.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()

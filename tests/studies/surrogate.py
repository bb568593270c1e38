"""A loss surface that costs nothing: five parameters that act on each other, a narrow optimum."""

import math
import pathlib

from optuna import storages

from segjax.config import knobs, searches, sections
from segjax.config.searches import Search
from segjax.studies import search as search_lib
from segjax.studies import work
from segjax.studies.suggest import Suggester

SPACE = {
    "optimizer.lr": {"low": 1e-5, "high": 1.0, "log": True},
    "optimizer.weight_decay": {"low": 1e-6, "high": 1.0, "log": True},
    "model.width": {"low": 8, "high": 256, "log": True, "integer": True},
    "model.dropout": {"low": 0.0, "high": 0.8},
    "model.norm": {"choices": ["batch", "group", "none"]},
}
BEST = 0.88


def score(parameters) -> float:
    """Return what a run with these parameters would reach, at most `BEST`.

    The best rate falls with the width and is higher under another norm; above it training breaks
    down much faster than below. Decay acts through its product with the rate. Wider is better up to
    a point, and needs more dropout. A tenth is won in a corner that a random point hits once in
    some hundreds.
    """
    rate, decay, width, dropout, norm = (parameters[leaf] for leaf in SPACE)
    off = math.log10(rate) + 2.5 + 0.5 * math.log10(width / 32) - 0.3 * (norm == "group")
    shrink, wide = math.log10(rate * decay) + 6, math.log2(width / 128)
    loss = (0.6 if off > 0 else 0.1) * off**2 + 0.02 * shrink**2 + 0.01 * wide**2
    loss += 0.15 * (dropout - 0.2 - 0.05 * wide) ** 2
    loss += {"batch": 0.0, "group": 0.02, "none": 0.06}[norm]
    corner = math.exp(-((off / 0.2) ** 2) - (shrink / 0.6) ** 2 - (wide / 0.8) ** 2)
    return BEST - 0.08 + 0.08 * corner - min(loss, 0.7)


def make(space=SPACE, **settings) -> Search:
    """Return a search over what no config has, so that nothing but its own parts is checked."""
    given = {"config": "none", "trials": 10, "space": space} | settings
    filled = sections.section(knobs.fill(searches.SEARCH, given))
    knobs.check_table(searches.SEARCH, filled, "search")
    own = {leaf: searches.check_values(leaf, each) for leaf, each in space.items()}
    search = Search(filled | {"space": own}, {"checkpoint": {"root": ""}})
    searches.check_method(search)
    return search._replace(settings=search.settings | {"trials": searches.number_of(search)})


def go(root: pathlib.Path, search: Search, objective, **given) -> work.Tally:
    """Search with an objective of one's own instead of a training."""
    suggester = Suggester(root, search, **given)
    items = search_lib.trials(root, suggester, objective, say=lambda line: None)
    return work.share(items, say=lambda line: None)


def once(trial: search_lib.Trial) -> int:
    """Report the surrogate's score of a trial."""
    trial.report({1: score(trial.parameters)}, True)
    return 0


def best_after(root: pathlib.Path, search: Search, numbers) -> list[float]:
    """Return the best score of the surrogate after so many trials each, without a storage."""
    suggester, found = Suggester(root, search, storage=storages.InMemoryStorage()), []
    for number in range(search.trials):
        found.append(score({"model.norm": "batch"} | suggester.take(number).parameters))
        suggester.report(number, {1: found[-1]}, judge=False)
        suggester.tell(number)
    return [max(found[:count]) for count in numbers]

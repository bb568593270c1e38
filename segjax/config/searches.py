"""A hyperparameter search from its file: which leaves of which config vary. Never imports jax."""

import hashlib
import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from segjax.config import knobs, load, rules, schema, sections
from segjax.config.knobs import REQUIRED, Duration, Knob, Table
from segjax.errors import ConfigError, UserError
from segjax.runtime import reading

HERE = "segjax/config/searches.py"
EXPECTED = "Expected a file such as experiments/search/quickstart.py, with a get_search."
MIDDLE = 0.381966
"""Where between its ends a range is tried: no grid of steps and no integer lies there."""
NUMBERS = rules.number(-rules.LARGE)

PRUNER: Table = {
    "type": Knob(
        "none",
        rules.one_of("none", "median", "hyperband"),
        "What ends a trial early: nothing, a score below the median of the others at its step, or "
        "the rungs of Hyperband.",
    ),
    "startup": Knob(
        5, rules.whole(1, 10_000), "How many trials have to be complete before the median prunes."
    ),
    "warmup": Duration(
        0, "percent", "How long no trial is pruned; of Hyperband the length of the first rung."
    ),
    "reduction": Knob(
        3, rules.whole(2, 16), "At each rung of Hyperband one of so many trials goes on."
    ),
}
"""When a trial ends before its time."""

SEARCH: Table = {
    "config": Knob(REQUIRED, rules.NAME, "What all trials share: configs/<file>.py[:argument,…]."),
    "overrides": Knob(
        (),
        rules.each(rules.NAME, "a list of assignments, such as ['total_steps=200']"),
        "Changes to that config.",
    ),
    "metric": Knob(
        "val/miou", rules.NAME, "The logged score that is searched for; trials keep its best."
    ),
    "mode": Knob("max", rules.one_of("max", "min"), "Which value of the metric is the best."),
    "value": Knob(
        "best", rules.one_of("best", "last"), "Which score of a trial counts as its value."
    ),
    "method": Knob(
        "tpe",
        rules.one_of("grid", "random", "tpe", "gp", "cmaes"),
        "How values are chosen: all of a grid, at random, or by what is known of those before.",
    ),
    "trials": Knob(0, rules.whole(0, 100_000), "How many trials; 0: all points of a grid."),
    "pruner": PRUNER,
    "seed": Knob(0, schema.SEED, "Decides, with the results so far, what is tried next."),
    "storage": Knob(
        "sqlite",
        rules.one_of("sqlite", "journal"),
        "What Optuna keeps the trials in: search.db, or search.log for a disk on a network.",
    ),
    "side_by_side": Knob(
        0,
        rules.whole(0, 4096),
        "Trials in one program, on a share of the devices each; 0: one after the other.",
    ),
    "space": Knob(
        REQUIRED,
        rules.Rule(
            "a section that is not empty, such as {'optimizer.lr': {'low': 1e-4, 'high': 1e-1, "
            "'log': True}}",
            lambda value: isinstance(value, Mapping) and 0 < len(value) <= rules.ITEMS,
        ),
        "The leaves of the config that vary, as --config.<leaf> spells them.",
    ),
}
"""What a search file says."""

RANGE: Table = {
    "low": Knob(REQUIRED, NUMBERS, "The least value."),
    "high": Knob(REQUIRED, NUMBERS, "The greatest value, which is one of them."),
    "log": Knob(False, rules.FLAG, "Equal factors count alike instead of equal differences."),
    "step": Knob(0, rules.number(0), "Distance of neighbours; 0: any value, of integers each."),
    "integer": Knob(False, rules.FLAG, "Whole numbers alone."),
}
CHOICES: Table = {
    "choices": Knob(
        REQUIRED,
        rules.Rule(
            f"a list of 2 to {rules.ITEMS} different values",
            lambda value: (
                isinstance(value, list)
                and 2 <= len(value) <= rules.ITEMS
                and len({json.dumps(each, sort_keys=True) for each in value}) == len(value)
            ),
        ),
        "The values.",
    )
}


class Search(NamedTuple):
    """A checked search.

    Attributes:
        settings: What its file says, every key there.
        base: The config that all trials share, every key there.
    """

    settings: dict[str, Any]
    base: dict[str, Any]

    @property
    def space(self) -> dict[str, dict[str, Any]]:
        """What varies, by leaf: a filled section of `RANGE` or `CHOICES`."""
        return self.settings["space"]

    @property
    def trials(self) -> int:
        """How many there are."""
        return self.settings["trials"]

    def config(self, parameters: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Return the config of a trial, which keeps its best checkpoint by the search's metric.

        Args:
            parameters: The value of each leaf.
            folder: The name of its folder; its checkpoints are of that name in a common root.

        Raises:
            ConfigError: A leaf that is not there, or takes no such value.
        """
        config = assign(self.base, parameters)
        best = {"keep_best": self.settings["metric"], "mode": self.settings["mode"]}
        if root := config["checkpoint"]["root"]:
            best["root"] = f"{root.rstrip('/')}/{folder}"
        return config | {"checkpoint": config["checkpoint"] | best}

    def fingerprint(self) -> str:
        """Return twelve hex digits of what is `comparable`."""
        same = comparable(self.settings, self.base)
        canonical = json.dumps(same, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def grid(self) -> list[dict[str, Any]]:
        """Return all points of the grid, the last leaf's values next to each other."""
        points = itertools.product(*map(values_of, self.space.values()))
        return [dict(zip(self.space, point, strict=True)) for point in points]


def comparable(settings: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two searches of one folder share; more trials go on where fewer were.

    A key that is not there, as in a folder of before there was one, has its default.
    """
    filled = sections.section(knobs.fill(SEARCH, settings))
    own = ("config", "overrides", "trials")
    return {
        "search": {key: value for key, value in filled.items() if key not in own},
        "config": schema.fill(base),
    }


def read(name: str, *, trust_code: bool = False) -> Search:
    """Return the search that a file describes.

    Args:
        name: `<file>.py` or `<file>.py:argument,…`.
        trust_code: As `load.load` takes it, for the config.

    Raises:
        ConfigError: The file is not there or cannot be run, or something in it is wrong.
    """
    path, _, argument = name.partition(":")
    file = pathlib.Path(path).expanduser()
    if not reading.is_file(file):
        what = "a folder" if file.is_dir() else "no such file"
        raise ConfigError(f"--search={rules.cut(name)}: {what}. {EXPECTED}")
    found = load.from_python(file, argument, function="get_search", expected=EXPECTED)
    try:
        return make(found, trust_code=trust_code)
    except UserError as error:
        raise ConfigError(f"{file}: {error}") from None


def make(given: Mapping[str, Any], *, trust_code: bool = False) -> Search:
    """Return a checked search from what a file says of it.

    Raises:
        ConfigError: A wrong key or value, a leaf that the config does not have or that cannot take
            the values, or parts that do not go together.
    """
    settings = sections.section(knobs.fill(SEARCH, sections.section(given)))
    knobs.check_table(SEARCH, settings, "search", documented=HERE)
    space = {leaf: check_values(leaf, each) for leaf, each in settings["space"].items()}
    base = load.load(settings["config"], settings["overrides"], trust_code=trust_code)
    schema.check(base)
    search = Search(settings | {"space": space}, base)
    if any(base["trials"].values()):
        raise ConfigError(
            "search.config: has config.trials, and a search makes its own. Leave them empty; "
            "side_by_side trains several at once."
        )
    check_apart(space)
    for leaf, value in probes(search):
        check_leaf(search, leaf, value)
    check_method(search)
    return search._replace(settings=search.settings | {"trials": number_of(search)})


def check_values(leaf: str, given: Any) -> dict[str, Any]:
    """Return what a leaf may be, filled.

    Raises:
        ConfigError: It is neither a range nor choices, or one that has no values.
    """
    where = f"search.space[{rules.shown(leaf)}]"
    table = CHOICES if isinstance(given, Mapping) and "choices" in given else RANGE
    filled = knobs.fill(table, given)
    if table is RANGE and isinstance(given, Mapping) and not given:
        raise ConfigError(f"{where}: is empty. Give it 'low' and 'high', or 'choices'.")
    knobs.check_table(table, filled, where, documented=HERE)
    if table is RANGE and (fault := fault_of(filled)):
        raise ConfigError(f"{where}: {fault}")
    return filled


def fault_of(section: Mapping[str, Any]) -> str:
    """Return what is wrong with a range; empty: nothing."""
    low, high, step = section["low"], section["high"], section["step"]
    ends = f"low={low} and high={high}"
    if not low < high:
        return f"{ends}. Expected low below high."
    if section["log"] and low <= 0:
        return f"{ends} with log. Expected low above 0."
    if section["log"] and step:
        return f"step={step} with log. Leave one out, or list the values as 'choices'."
    if section["integer"] and not all(map(rules.is_int, (low, high, step))):
        return f"{ends}, step={step} with integer. Expected whole numbers."
    if step and step > high - low:
        return f"step={step} is more than lies between {ends}. Lower it."
    if step and abs(round((high - low) / step) * step - (high - low)) > 1e-9 * step:
        last = low + int((high - low) / step) * step
        return f"no whole number of step={step} leads from {ends}. Set high={last:g}."
    return ""


def check_apart(space: Mapping[str, Any]) -> None:
    """Refuse two leaves of which one lies in the other.

    Raises:
        ConfigError: Which.
    """
    for leaf, other in itertools.permutations(space, 2):
        if other.startswith((f"{leaf}.", f"{leaf}[")):
            raise ConfigError(
                f"search.space: {rules.shown(other)} lies in {rules.shown(leaf)}. Keep one of them."
            )


def check_leaf(search: Search, leaf: str, value: Any) -> None:
    """Refuse a leaf that the config does not have, or a value that it does not take.

    Raises:
        ConfigError: Which, and what was expected.
    """
    try:
        schema.check(assign(search.base, {leaf: value}))
    except ConfigError as error:
        section, whole = search.space[leaf], ""
        if "low" in section and not section["integer"] and value != round(value):
            whole = " Where it takes whole numbers alone, add 'integer': True."
        raise ConfigError(f"search.space[{rules.shown(leaf)}]: {error}{whole}") from None


def check_method(search: Search) -> None:
    """Refuse what does not go together.

    Raises:
        ConfigError: A method that cannot take the space or the number of trials, or trials side by
            side that do not share a program.
    """
    settings, space = search.settings, search.space
    method, several = settings["method"], settings["side_by_side"]
    endless = [leaf for leaf, each in space.items() if "low" in each and not countable(each)]
    if method == "grid" and endless:
        raise ConfigError(
            f"search.space[{endless[0]!r}]: has no step, and method='grid' takes every value. Add "
            "a 'step', or list 'choices'."
        )
    listed = [leaf for leaf, each in space.items() if "choices" in each]
    if method == "cmaes" and (listed or len(space) < 2):
        what = f"{listed[0]!r} lists choices" if listed else "it has a single leaf"
        raise ConfigError(
            f"search.method='cmaes' searches two or more ranges, and {what}. Use method='tpe'."
        )
    apart = [leaf for leaf in space if leaf not in ("optimizer.lr", "seed")]
    wrong = {
        f"space has {apart[0]!r}" if apart else "": bool(apart),
        f"method={method!r} asks for one after the other": method not in ("grid", "random"),
        "a pruner would end all of them": settings["pruner"]["type"] != "none",
        "config.checkpoint.root is set": bool(search.base["checkpoint"]["root"]),
        "one is not beside another": several == 1,
    }
    if several and (reasons := [reason for reason, is_so in wrong.items() if is_so]):
        raise ConfigError(
            f"search.side_by_side={several}: {reasons[0]}. Expected a grid or random search over "
            "'optimizer.lr' and 'seed' without pruner; 0 trains one after the other."
        )


def number_of(search: Search) -> int:
    """Return how many trials there are.

    Raises:
        ConfigError: None, or not as many as the grid has points.
    """
    number, grid = search.settings["trials"], search.settings["method"] == "grid"
    if not grid and not number:
        raise ConfigError("search.trials=0: expected how many, at least 1.")
    if not grid:
        return number
    points = 1
    for section in search.space.values():
        points *= len(values_of(section))
    if points > 100_000 or number not in (0, points):
        raise ConfigError(
            f"search.trials={number}: the grid has {points} points. Expected 0 or as many, at most "
            "100000; method='random' tries some of them."
        )
    return points


def assign(config: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with some leaves set.

    Raises:
        ConfigError: See `sections.override`.
    """
    assignments = [f"{leaf}={value!r}" for leaf, value in parameters.items()]
    return schema.fill(sections.override(dict(config), assignments))


def countable(section: Mapping[str, Any]) -> bool:
    """Return whether what a leaf may be can be counted: choices, steps, integers side by side."""
    return "choices" in section or (
        not section["log"] and bool(section["step"] or section["integer"])
    )


def values_of(section: Mapping[str, Any]) -> list[Any]:
    """Return all values of what is `countable`."""
    if "choices" in section:
        return section["choices"]
    low, high = section["low"], section["high"]
    step = section["step"] or 1
    found = [low + i * step for i in range(round((high - low) / step) + 1)]
    return found if section["integer"] else [float(f"{value:.12g}") for value in found]


def probes(search: Search) -> list[tuple[str, Any]]:
    """Return leaves with values to check: every choice; of a range the ends and one in between."""
    found = []
    for leaf, section in search.space.items():
        values = section.get("choices")
        if values is None:
            low, high = section["low"], section["high"]
            values = [low, high]
            if not (section["step"] or section["integer"]):
                values.append(low + MIDDLE * (high - low))
            elif section["step"]:
                values.append(low + section["step"])
        found += [(leaf, value) for value in values]
    return found

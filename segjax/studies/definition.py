"""A study as data: the rows of a table, each a config, and the seeds that each is trained with."""

import os
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from segjax.config import knobs, load, rules, schema, sections
from segjax.config.knobs import REQUIRED, Knob, Table
from segjax.errors import ConfigError
from segjax.runtime import reading

EXPECTED = "Expected experiments/<question>/study.py[:argument,…] with a get_study."
TEXTS = rules.each(rules.NAME, "a list of texts")
NOT_EMPTY = rules.each(rules.NAME, "a list of 1 to 1000 texts", least=1)

ROW: Table = {
    "name": Knob(REQUIRED, rules.NAME, "What the table calls the row."),
    "config": Knob("", rules.TEXT, "configs/<file>.py[:argument,…]; '': that of the study."),
    "overrides": Knob((), TEXTS, "Changes to it after those of the study, such as 'seed=1'."),
}
"""A row of a study."""

STUDY: Table = {
    "title": Knob(REQUIRED, rules.NAME, "What is asked, as the heading of its table."),
    "config": Knob("", rules.TEXT, "The config of rows that name none."),
    "overrides": Knob((), TEXTS, "Changes to the config of every row."),
    "seeds": Knob(
        (0, 1, 2), rules.each(schema.SEED, "a list of seeds", least=1), "Each row is run with each."
    ),
    "metrics": Knob(
        REQUIRED, NOT_EMPTY, "Scores by their logged names, such as 'test/miou': the columns."
    ),
    "baseline": Knob("", rules.TEXT, "The row that the others are compared with; '': none."),
    "rows": Knob(
        REQUIRED,
        rules.Rule("a list of 1 to 1000 rows", lambda rows: 1 <= len(rows) <= rules.ITEMS),
        "The rows, in the order of the table.",
    ),
}
"""What `get_study` returns."""


class Cell(NamedTuple):
    """A run of a study.

    Attributes:
        row: The name of its row.
        config: What it trains, every key there, its seed too.
        command: What trains it alone, without a workdir.
    """

    row: str
    config: dict[str, Any]
    command: str

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config["seed"]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.row}, seed {self.seed}"


class Study(NamedTuple):
    """A study, checked.

    Attributes:
        path: Of its file.
        title: Heading of its table.
        metrics: Logged names.
        baseline: A row's name; empty: none.
        rows: The names, in order.
        seeds: Of each row.
        cells: All runs, a seed of every row before the next seed: what stops early has all rows.
    """

    path: pathlib.Path
    title: str
    metrics: list[str]
    baseline: str
    rows: list[str]
    seeds: list[int]
    cells: list[Cell]


def read(name: str) -> Study:
    """Return the study of a file.

    Args:
        name: `experiments/<question>/study.py`, or `….py:argument,…`.

    Raises:
        ConfigError: There is none, a wrong key or value, two rows of one name, or a row whose
            config cannot be loaded.
    """
    path, _, argument = name.partition(":")
    file = pathlib.Path(os.path.expanduser(path))
    if not reading.is_file(file):
        what = "a folder" if file.is_dir() else "no such file"
        raise ConfigError(f"--study={rules.cut(name)}: {what}. {EXPECTED}")
    given = load.from_python(file, argument, function="get_study", expected=EXPECTED)
    found = sections.section(knobs.fill(STUDY, given))
    knobs.check_table(STUDY, found, "study")
    rows = [_row(row, number, found) for number, row in enumerate(found["rows"])]
    names = [row["name"] for row in rows]
    _check_names(names, found["baseline"])
    if len(set(found["seeds"])) < len(found["seeds"]):
        raise ConfigError(f"study.seeds={found['seeds']}: a seed twice. Name each once.")
    cells = [_cell(row, seed) for seed in found["seeds"] for row in rows]
    return Study(
        file, found["title"], found["metrics"], found["baseline"], names, found["seeds"], cells
    )


def _row(given: Any, number: int, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row, filled and checked, with what it has of the study."""
    row = sections.section(knobs.fill(ROW, given)) if isinstance(given, Mapping) else given
    knobs.check_table(ROW, row, f"study.rows[{number}]")
    config = row["config"] or study["config"]
    if not config:
        raise ConfigError(
            f"study.rows[{number}]: no config, and the study has none either. Name "
            "configs/<file>.py in one of them."
        )
    return row | {"config": config, "overrides": [*study["overrides"], *row["overrides"]]}


def _check_names(names: list[str], baseline: str) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"study.rows: {rules.shown(twice[0])} is the name of two. Rename one.")
    if baseline and baseline not in names:
        raise ConfigError(
            f"study.baseline={rules.shown(baseline)}: no row has that name. Rows: "
            f"{rules.cut(', '.join(names), 300)}."
        )


def _cell(row: Mapping[str, Any], seed: int) -> Cell:
    overrides = [*row["overrides"], f"seed={seed}"]
    try:
        config = load.load(row["config"], overrides)
        schema.check(config)
    except ConfigError as error:
        raise ConfigError(f"study row {rules.shown(row['name'])}: {error}") from None
    words = [f"--config={row['config']}", *(f"--config.{override}" for override in overrides)]
    return Cell(row["name"], config, f"python run.py {shlex.join(words)}")

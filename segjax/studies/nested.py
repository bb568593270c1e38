"""A search inside each fold of a cross-validation: what it chooses has not seen the held part."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from segjax.assemble import setup as setup_lib
from segjax.config import schema, sections
from segjax.config.searches import Search
from segjax.runs import checks
from segjax.studies import outcome
from segjax.studies import search as search_lib

FOLDER = "search"
"""Of the search, in that of the fold."""


def inside(search: Search, config: Mapping[str, Any]) -> Search:
    """Return a search over the trials of a fold's inner config, with the search's overrides."""
    base = schema.fill(sections.override(dict(config), search.settings["overrides"]))
    return search._replace(base=base)


def check(search: Search, config: Mapping[str, Any]) -> None:
    """Find what a search inside folds can get wrong; nothing is written.

    Raises:
        UserError: What is wrong.
    """
    own = inside(search, config).config({}, "trial0")
    schema.check(own)
    setup, _ = setup_lib.make_setup(own)
    evaluators = setup_lib.make_evaluators(setup.config, setup.parts, setup.clock)
    checks.check_saving(setup, evaluators)


def best(
    folder: pathlib.Path,
    search: Search,
    config: Mapping[str, Any],
    *,
    say: Callable[[str], None],
) -> tuple[int, dict[str, Any]]:
    """Search in a folder, going on with what is there.

    Args:
        folder: Of the search.
        search: Its leaves and how they are chosen.
        config: Of the trials.
        say: Takes a line for whoever watches.

    Returns:
        The exit code, and where that is 0 the best value of each leaf.

    Raises:
        UserError: As `search.run`.
    """
    if code := search_lib.run(folder, inside(search, config), say=say):
        return code, {}
    return 0, outcome.collect(folder)["best"]["parameters"]


def fingerprint(search: Search | None) -> str:
    """Return twelve hex digits of what a search does, whatever its config is; empty of none."""
    if search is None:
        return ""
    own = {key: value for key, value in search.settings.items() if key != "config"}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]

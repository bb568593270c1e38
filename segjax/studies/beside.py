"""Trials of a search side by side in one program, where they differ in seed or learning rate."""

import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax

from segjax.config.searches import Search
from segjax.errors import NonFiniteError
from segjax.runs import train
from segjax.studies import outcome, work
from segjax.studies.suggest import Suggester

APART = "apart"
"""A file of a group's folder: one of the group failed, and each is to be trained by itself."""
DONE = "done"
"""Another: all are trained, and on their way to their places."""
KEYS = ("seed", "optimizer.lr")
"""The leaves that trials in one program may differ in."""


def join(
    root: pathlib.Path,
    search: Search,
    suggester: Suggester,
    trials: Sequence[work.Item],
    several: int,
) -> list[work.Item]:
    """Return the same trials in groups of `several`; what is left over stays by itself.

    A group trains in `group<i>`, whose trials are then moved to where they would have been.
    """
    whole = len(trials) // several * several
    groups = [trials[start : start + several] for start in range(0, whole, several)]

    def item(index: int, members: Sequence[work.Item]) -> work.Item:
        folder, first = root / f"group{index}", index * several
        return work.Item(
            f"{members[0].name} to {members[-1].name}",
            folder,
            lambda: all(member.finished() for member in members),
            lambda: do(folder, search, suggester, members, first),
        )

    return [*(item(i, group) for i, group in enumerate(groups)), *trials[whole:]]


def do(
    folder: pathlib.Path,
    search: Search,
    suggester: Suggester,
    members: Sequence[work.Item],
    first: int,
) -> int:
    """Train a group, or each of it by itself where one had failed; return the exit code."""
    apart, done = folder / APART, folder / DONE
    if not apart.exists() and not done.exists():
        known = [suggester.take(first + i) for i in range(len(members))]
        try:
            jax.clear_caches()
            code = train.run(folder, joined(search, [each.parameters for each in known]))
        except NonFiniteError:
            code = 0
            apart.touch()
        if code:
            return code
        if not apart.exists():
            done.touch()
    for i, member in enumerate(members):
        trained = folder / f"trial{i}"
        if apart.exists():
            shutil.rmtree(trained, ignore_errors=True)
            if not member.finished() and (code := member.do()):
                return code
            continue
        if trained.exists():
            os.replace(trained, member.folder)
        if not member.finished():
            found = outcome.scores(member.folder, search.settings["metric"])
            suggester.report(first + i, found, judge=False)
            outcome.note(member.folder, first + i, suggester.tell(first + i), search.settings)
    return 0


def joined(search: Search, parameters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the config of several trials in one program."""
    config = search.config(parameters[0], "")
    seeds, rates = ([each[key] for each in parameters if key in each] for key in KEYS)
    return config | {"trials": {"seed": seeds, "lr": rates}}

"""Write how several runs differ as one page: curves, tests, the examples they disagree on."""

import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup

from segjax.config import rules
from segjax.errors import ConfigError
from segjax.evaluators.report import Evaluator
from segjax.report import plots, record, seen, tables
from segjax.report.page import EYES, KEYS, PICTURE_BYTES, Written, drawn
from segjax.report.record import Subject, is_real
from segjax.report.seen import Eye, Seen
from segjax.report.show import JUDGED, SIDE
from segjax.views.page import pages

TEMPLATE = pathlib.Path(__file__).with_name("several.html")


class Apart(NamedTuple):
    """One example as all runs see it.

    Attributes:
        seen: By each run.
        share: Of its pixels on which not all agree; NaN: not known.
    """

    seen: Sequence[Seen]
    share: float


def write(
    path: pathlib.Path,
    subjects: Sequence[Subject],
    *,
    examples: int | None,
    pictures: int,
    tell: Callable[[int], None],
    first: bool = True,
) -> Written:
    """Write the page of several runs; all processes must call it.

    The evaluations are those that all runs have by name. Arguments and errors are those of
    `page.write`.

    Raises:
        ConfigError: The runs are of other classes.
    """
    for other in subjects[1:]:
        mine, its = (each.config["resolved"]["class_names"] for each in (subjects[0], other))
        if list(mine) != list(its):
            raise ConfigError(
                f"{other.path}: has other classes than {subjects[0].path}, {rules.shown(its)} "
                f"instead of {rules.shown(mine)}. Compare runs on the same classes."
            )
    splits, done, shown, notes = [], 0, 0, []
    common = _common(subjects)
    left = sum(len(each.evaluators) - len(common) for each in subjects)
    if left:
        notes.append(f"{left} evaluations that not all runs have are left out")
    for evaluator in common:
        eye = seen.eye_of(evaluator, EYES)
        found: list[list[Seen]] = [[] for _ in subjects]
        if eye is not None:
            found = seen.look(
                evaluator.source,
                [each.predictor for each in subjects],
                [eye] * len(subjects),
                examples=examples,
                tell=lambda number, before=done: tell(before + number),
            )
            done += len(found[0])
        if first:
            own = _split(evaluator, eye, subjects, found, pictures, PICTURE_BYTES // len(common))
            splits.append(own)
            shown += len(own["cards"])
    if not first:
        return Written(0, len(common), done, 0, notes)
    logs = {each.name: each.records() for each in subjects}
    size = pages.write(
        path,
        TEMPLATE,
        title=" · ".join(each.name for each in subjects),
        made=time.strftime("%F %T"),
        runs=_overview(subjects, logs),
        curves=_curves(common, logs),
        splits=splits,
        commands=[(each.name, record.command(each.facts()) or "not recorded") for each in subjects],
        configs=_configs(subjects),
    )
    return Written(size, len(common), done, shown, notes)


def _common(subjects: Sequence[Subject]) -> list[Evaluator]:
    """Return the first's evaluators whose names, kinds and splits all runs have."""

    def about(evaluator: Evaluator) -> tuple[Any, ...]:
        return evaluator.name, evaluator.split, type(evaluator), len(evaluator.source)

    others = [{about(each) for each in subject.evaluators} for subject in subjects[1:]]
    return [each for each in subjects[0].evaluators if all(about(each) in own for own in others)]


def _overview(subjects: Sequence[Subject], logs: Mapping[str, plots.Records]) -> tables.Table:
    """Return the headlines of all runs, a row each."""
    rows = [
        {what: value for value, what in record.headline(each, logs[each.name])} for each in subjects
    ]
    head = list(dict.fromkeys(name for row in rows for name in row))
    return tables.Table(
        ["run", *head],
        [
            [s.name, *(row.get(name) for name in head)]
            for s, row in zip(subjects, rows, strict=True)
        ],
    )


def _curves(common: Sequence[Evaluator], logs: Mapping[str, plots.Records]) -> list[Markup]:
    wanted = [
        ("train/loss", "Training loss", "loss"),
        ("train/lr", "Learning rate", "learning rate"),
    ]
    for each in common:
        metric, title = each.headline
        wanted.insert(-1, (f"{each.name}/{metric}", f"{title}, {each.name}", f"{title}, 0 to 1"))
        wanted.insert(-1, (f"{each.name}/loss", f"Loss, {each.name}", "loss"))
    made = [plots.several(logs, name, title=title, unit=unit) for name, title, unit in wanted]
    return [each for each in made if each is not None]


def _split(
    evaluator: Evaluator,
    eye: Eye | None,
    subjects: Sequence[Subject],
    found: Sequence[Sequence[Seen]],
    most: int,
    budget: int,
) -> dict[str, Any]:
    """Return what the template shows of an evaluation."""
    results = [each.result(evaluator.name) for each in subjects]
    tested = []
    for subject, own in zip(subjects[1:], found[1:], strict=True):
        if eye is not None and len(own) > 1:
            tested.append((subject.name, tables.differences(eye, found[0], own)))
    names = [each.name for each in subjects]
    return {
        "name": evaluator.name,
        "split": evaluator.split,
        "images": len(evaluator.source),
        "looked": len(found[0]),
        "drawn": drawn(found[0]),
        "score": "" if eye is None else eye.score,
        "first": names[0],
        "tested": tested,
        "classes": _classes(results, names, "" if eye is None else eye.score),
        "cards": _cards(found, names, most=most, budget=budget),
    }


def _classes(
    results: Sequence[Mapping[str, Any] | None], names: Sequence[str], score: str
) -> tables.Table | None:
    """Return the score of each class by each run, and by how much they differ."""
    key = KEYS.get(score, "")
    known = [each for each in results if each is not None]
    if not key or len(known) < len(names):
        return None
    rows = []
    for name in known[0].get("per_class", {}):
        values = [each.get("per_class", {}).get(name, {}).get(key) for each in known]
        cells = [float(value) if is_real(value) else None for value in values]
        there = [value for value in cells if value is not None]
        rows.append([name, *cells, max(there) - min(there) if there else None])
    return tables.Table(["class", *(f"{score}, {name}" for name in names), "apart"], rows)


def _cards(
    found: Sequence[Sequence[Seen]], names: Sequence[str], *, most: int, budget: int
) -> list[dict[str, Any]]:
    """Return the examples on which the runs disagree most."""
    every = [Apart(own, _disagreement(own)) for own in zip(*found, strict=True)]
    every.sort(key=lambda each: -np.nan_to_num(each.share, nan=-1))
    cards: list[dict[str, Any]] = []
    for each in every[:most]:
        pictures = _pictures(each.seen, names)
        plots_ = [(name, one.plot) for name, one in zip(names, each.seen, strict=True) if one.plot]
        budget -= sum(len(data) for _, data in pictures) + sum(len(plot) for _, plot in plots_)
        if budget < 0 and cards:
            break
        scores = [
            (name, tables.three(one.score)) for name, one in zip(names, each.seen, strict=True)
        ]
        cards.append({
            "name": each.seen[0].name, "share": each.share, "scores": scores,
            "pictures": pictures, "plots": plots_,
        })  # fmt: skip
    return cards


def _pictures(every: Sequence[Seen], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return image and truth, what each run says, and where they disagree."""
    shown = list(every[0].pictures[:2])
    for name, one in zip(names, every, strict=True):
        shown += [(name, data) for _, data in one.pictures[2:3]]
    apart = _apart(every)
    if apart is not None and apart.ndim == 2:
        shown.append(("disagreement", pages.label_map(apart, JUDGED, side=SIDE)))
    return shown


def _disagreement(every: Sequence[Seen]) -> float:
    apart = _apart(every)
    return float("nan") if apart is None else float(apart.mean())


def _apart(every: Sequence[Seen]) -> UInt8[np.ndarray, "*space"] | None:
    """Return where not all runs give the same answer, uint8; None: it is not known."""
    answers = [one.answers for one in every]
    if any(own is None or own.shape != answers[0].shape for own in answers):  # pyright: ignore
        return None
    return np.any([own != answers[0] for own in answers[1:]], axis=0).astype(np.uint8)


def _configs(subjects: Sequence[Subject]) -> tables.Table:
    """Return the keys of the configs that differ, a column for each run."""
    flat = [record.flat(each.config) for each in subjects]
    keys = list(dict.fromkeys(key for own in flat for key in own))
    rows = [
        [key, *(own.get(key, "–") for own in flat)]
        for key in keys
        if len({own.get(key, "–") for own in flat}) > 1
    ]
    return tables.Table(["key", *(each.name for each in subjects)], rows)

"""Write what a run is like as one HTML page that needs nothing else."""

import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.evaluators import instance, multilabel, panoptic, report, semantic
from segjax.evaluators.report import Evaluator
from segjax.report import dense, objects, plots, record, seen, tables
from segjax.report.record import Subject
from segjax.report.seen import Eye, Seen
from segjax.views import colour
from segjax.views.page import pages

TEMPLATE = pathlib.Path(__file__).with_name("page.html")
PICTURE_BYTES = 11 << 20
"""Of all pictures of a page, which is then below 15 MB."""
EYES: Mapping[type, Callable[[Any], Eye]] = {
    semantic.Evaluator: dense.ClassEye,
    multilabel.Evaluator: dense.LabelEye,
    instance.Evaluator: objects.ObjectEye,
    panoptic.Evaluator: objects.SegmentEye,
}
KEYS = {"IoU": "iou", "AP": "AP", "PQ": "PQ"}
"""What the score of an eye is called in `per_class`."""


class Written(NamedTuple):
    """What was written.

    Attributes:
        size: Of the page, in bytes.
        evaluations: How many of those that the config has are on the page.
        examples: How many were looked at.
        pictures: How many of them are shown.
        notes: What else is to be said, a line each.
    """

    size: int
    evaluations: int
    examples: int
    pictures: int
    notes: Sequence[str]

    def lines(self, path: pathlib.Path) -> list[str]:
        """Return what to print."""
        return [
            f"{self.evaluations} evaluation{'s' * (self.evaluations != 1)}, {self.examples} "
            f"example{'s' * (self.examples != 1)} looked at, "
            f"{self.pictures} shown; {self.size / 1e6:.1f} MB written to {path}",
            *self.notes,
        ]


def count(subject: Subject, examples: int | None) -> int:
    """Return how many examples `write` will look at, at most `examples` of each evaluation."""
    known = [e for e in subject.evaluators if seen.eye_of(e, EYES) is not None]
    return sum(len(seen.places(len(each.source), examples)) for each in known)


def write(
    path: pathlib.Path,
    subject: Subject,
    *,
    examples: int | None,
    pictures: int,
    tell: Callable[[int], None],
    first: bool = True,
) -> Written:
    """Write the page of a run; all processes must call it.

    Args:
        path: Of the page.
        subject: The run.
        examples: Of each evaluation, at most, that are predicted once more; None: all.
        pictures: Examples of each evaluation that are shown, at most.
        tell: Is told how many examples have been looked at.
        first: Write it: on the first process alone.

    Raises:
        UserError: Data that cannot be read, or the disk is full or cannot be written.
    """
    splits, done, notes = [], 0, []
    budget = PICTURE_BYTES // max(1, len(subject.evaluators))
    for evaluator in subject.evaluators:
        eye = seen.eye_of(evaluator, EYES)
        found: list[Seen] = []
        if eye is not None:
            (found,) = seen.look(
                evaluator.source, [subject.predictor], [eye], examples=examples,
                tell=lambda number, before=done: tell(before + number),
            )  # fmt: skip
            done += len(found)
        result = subject.result(evaluator.name)
        if result is None:
            notes.append(f"{evaluator.name}: no eval/{evaluator.name}.json; run --mode=eval")
        if first:
            splits.append(_split(evaluator, eye, result, found, pictures, budget))
    shown = sum(len(each["cards"]) for each in splits)
    if not first:
        return Written(0, 0, done, 0, notes)
    facts, records = subject.facts(), subject.records()
    resolved = subject.config["resolved"]
    size = pages.write(
        path,
        TEMPLATE,
        title=subject.name,
        made=time.strftime("%F %T"),
        folder=str(subject.path),
        step=subject.step,
        headline=record.headline(subject, records),
        settings=record.settings(subject.config),
        data=record.data(facts),
        classes=tables.swatches(resolved["class_names"], resolved["palette"]),
        curves=plots.curves(
            records,
            _headlines(subject.evaluators),
            report.gap(subject.evaluators, trained=subject.config["input"]["split"]),
        ),
        splits=splits,
        costs=record.costs(facts, records),
        environment=record.environment(facts),
        command=record.command(facts),
        differs=record.differs(subject.config),
    )
    return Written(size, len(splits), done, shown, notes)


def _headlines(evaluators: Sequence[Evaluator]) -> dict[str, str]:
    return dict(each.headline for each in evaluators)


def _split(
    evaluator: Evaluator,
    eye: Eye | None,
    result: Mapping[str, Any] | None,
    found: Sequence[Seen],
    most: int,
    budget: int,
) -> dict[str, Any]:
    """Return what the template shows of an evaluation."""
    whole = len(found) == len(evaluator.source)
    ends = eye.intervals(found) if eye is not None and whole and len(found) > 1 else {}
    score = eye.score if eye is not None else ""
    cards = choose(found, eye, most=most, budget=budget)
    levels = sum((one.levels for one in found), seen.no_levels())
    regions = [region for one in found for region in one.regions]
    part = isinstance(eye, dense.ClassEye)
    sizes = plots.by_size(
        regions,
        what="share of its pixels found" if part else "share found",
        unit="pixels",
    )
    return {
        "name": evaluator.name,
        "split": evaluator.split,
        "images": len(evaluator.source),
        "looked": len(found),
        "score": score,
        "step": None if result is None else result.get("step"),
        "headline": [] if result is None else _logged(result),
        "title": evaluator.headline[1],
        "drawn": drawn(found),
        "interval": eye.whole(found) if eye is not None and ends else None,
        "table": _class_table(result, ends, score),
        "confusion": None if result is None else tables.confusion(result),
        "reliability": plots.reliability(levels) if levels.any() else None,
        "sizes": sizes,
        "cards": cards,
        "chances": [] if eye is None else list(eye.class_names),
        "colours": colours(eye),
        "legend": [] if eye is None else eye.legend(),
    }


def drawn(found: Sequence[Seen]) -> str:
    """Return what intervals and tests draw, and how many there are."""
    number = len(np.unique(seen.groups(found)))
    return f"{number} {'cases' if all(one.case for one in found) else 'examples'}"


def _class_table(
    result: Mapping[str, Any] | None, ends: Mapping[str, Sequence[float | None]], score: str
) -> tables.Table | None:
    if result is None or not isinstance(result.get("per_class"), dict):
        return None
    return tables.classes(result, ends, of=KEYS.get(score, ""))


def _logged(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the scores of a whole split that were logged, but those of single classes."""
    logged = result.get("logged")
    return [
        (str(name).partition("/")[2], tables.three(value))
        for name, value in (logged.items() if isinstance(logged, dict) else ())
        if str(name).count("/") == 1
    ]


def colours(eye: Eye | None) -> str:
    """Return the colours of class maps for the page's script; empty: it cannot judge one class."""
    if not isinstance(eye, dense.ClassEye) or not eye.exact:
        return ""
    return json.dumps({"classes": eye.palette, "void": colour.spare(eye.palette)})


def choose(
    found: Sequence[Seen], eye: Eye | None, *, most: int, budget: int
) -> list[dict[str, Any]]:
    """Return the examples that are shown, until their pictures have so many bytes."""
    cards: list[dict[str, Any]] = []
    if eye is None:
        return cards
    for one, why in seen.order(found, most=most, class_names=eye.class_names):
        budget -= sum(len(data) for _, data in [*one.pictures, *one.parts]) + len(one.plot)
        if budget < 0 and cards:
            break
        cards.append(card(one, why))
    return cards


def card(one: Seen, why: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of an example."""
    scores = [None if math.isnan(value) else round(float(value), 4) for value in one.per_class]
    return {
        "name": one.name,
        "why": ", ".join(why[:4]),
        "score": one.score,
        "uncertainty": one.uncertainty,
        "scores": json.dumps(scores),
        "pictures": one.pictures,
        "parts": one.parts,
        "plot": one.plot,
        "nan": not np.isfinite(one.score),
    }

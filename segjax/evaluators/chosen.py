"""The metrics that a config chooses: built by name, fed with examples, put into a report."""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from segjax.config import lookup, rules
from segjax.data import core, resample
from segjax.errors import ConfigError
from segjax.inference.predictor import Predictor
from segjax.metrics import base, confusion, intervals, matrix, objects, segments
from segjax.metrics.base import Metric, PerExample, Seen


class Sort(NamedTuple):
    """A sort of metrics: those that one kind of evaluator takes.

    Attributes:
        takes: The positional arguments that one is called with.
        has: What each has beside that.
        file: Which says what one is.
        every: The names that `ALL` stands for; empty: it stands for none.
    """

    takes: tuple[str, ...]
    has: tuple[str, ...]
    file: str
    every: tuple[str, ...] = ()


ALL = "all"
MAPS = Sort(("seen",), ("added", "summarize"), "segjax/metrics/base.py")
OBJECTS = Sort(
    ("scene", "number"), ("called", "names", "summarize", "resampled"),
    "segjax/metrics/objects.py", objects.EVERY,
)  # fmt: skip
SEGMENTS = Sort(
    ("maps",), ("called", "names", "of_class", "summarize", "resampled"),
    "segjax/metrics/segments.py", segments.EVERY,
)  # fmt: skip


def build(
    chosen: Sequence[str | Mapping[str, Any]], *, where: str, source: core.Source
) -> dict[str, Metric]:
    """Return the metrics of class maps of a list, by the names of their results.

    Two of one type are called `surface_dice` and `surface_dice-2`.

    Args:
        chosen: Each a name such as 'hd95', or a section with a `type` and arguments.
        where: The list's place in the config.
        source: What is scored.

    Raises:
        ConfigError: One that cannot be built, stands twice, has the name of another result, or does
            not go with the data.
    """
    if chosen and source.schema["label"].kind != "classes":
        raise ConfigError(
            f"{where}={rules.shown([*chosen])}: are of class maps, with one class for every pixel; "
            "the labels here are multi-label, and each class of them is scored by itself. Leave "
            "metrics empty."
        )
    found: dict[str, Metric] = {}
    seen: list[str] = []
    for place, type_, metric in built(chosen, where=where, sort=MAPS):
        seen.append(type_)
        name = lookup.snake_case(type_.rpartition(":")[2])
        if name in reserved():
            raise ConfigError(f"{place}: {name!r} is in every report. Name the metric otherwise.")
        same = seen.count(type_)
        name = f"{name}-{same}" if same > 1 else name
        if name in found:
            raise ConfigError(f"{place}: two metrics are called {name!r}. Rename one.")
        _check_axes(metric, source, where=place)
        found[name] = metric
    return found


def built_once(
    chosen: Sequence[str | Mapping[str, Any]],
    *,
    where: str,
    sort: Sort,
    always: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metrics of objects or segments of a list, by what they are called.

    Args:
        chosen: See `build`; `ALL` stands for all that segjax has of the sort.
        where: The list's place in the config.
        sort: That of the evaluator.
        always: Those that are there in any case, first.

    Raises:
        ConfigError: One that cannot be built, stands twice, or logs what another one logs.
    """
    found: dict[str, Any] = {}
    for place, _, metric in built(chosen, where=where, sort=sort):
        if metric.called in found:
            raise ConfigError(f"{place}: {metric.called!r} stands twice. Leave one out.")
        for name, other in {**always, **found}.items():
            if name != metric.called and (same := sorted({*other.names} & {*metric.names})):
                raise ConfigError(f"{place}: {same[0]!r} is what {name!r} logs. Rename one.")
        found[metric.called] = metric
    return {**always, **found}


def built(
    chosen: Sequence[str | Mapping[str, Any]], *, where: str, sort: Sort
) -> Iterator[tuple[str, str, Any]]:
    """Yield the place, the type and what is built of each item of a list of metrics of a sort.

    Raises:
        ConfigError: One cannot be built, is of another sort, or stands twice.
    """
    seen: list[dict[str, Any]] = []
    items = [
        (f"{where}[{i}]", each)
        for i, item in enumerate(chosen)
        for each in (sort.every if item == ALL and sort.every else [item])
    ]
    for place, item in items:
        section = section_of(item, where=place, sort=sort)
        if section in seen:
            raise ConfigError(f"{place}: {section['type']!r} stands twice. Leave one out.")
        seen.append(section)
        metric = lookup.build("metrics", section, where=place, takes=sort.takes)
        if not all(hasattr(metric, name) for name in sort.has):
            *names, last = map(repr, sort.has)
            raise ConfigError(
                f"{place}.type={section['type']!r}: has no {', '.join(names)} or {last}. Name a "
                f"metric: {sort.file} says what one is."
            )
        yield place, section["type"], metric


def section_of(item: str | Mapping[str, Any], *, where: str, sort: Sort = MAPS) -> dict[str, Any]:
    """Return the section that a name, or a section with a short `type`, stands for.

    Raises:
        ConfigError: A name that stands for no metric of the sort.
    """
    section = {"type": item} if isinstance(item, str) else dict(item)
    type_ = section.get("type")
    if isinstance(item, str) and lookup.is_outside(item):
        raise ConfigError(
            f"{where}={rules.shown(item)}: code of your own. Write dict(type={rules.shown(item)})."
        )
    if isinstance(type_, str) and ":" not in type_:
        known = short_names(sort)
        if type_ not in known:
            listed = lookup.suggest(type_, [*known, *[ALL] * bool(sort.every)])
            raise ConfigError(f"{where}={rules.shown(type_)}: no such metric.{listed}")
        section["type"] = known[type_]
    return section


@functools.cache
def short_names(sort: Sort = MAPS) -> dict[str, str]:
    """Return the type of each metric of segjax by its short name: `hd95` is `surface:hd95`.

    That of objects or segments is what it is `called`: `boundary_AP` is `objects:boundary_ap`.
    """
    found = {}
    for module in lookup.modules("metrics"):
        here = importlib.import_module(f"segjax.metrics.{module}")
        for symbol in lookup.symbols(here):
            name = lookup.snake_case(symbol)
            type_, own = f"{module}:{name}", getattr(here, symbol)
            if inspect.isclass(own) and _is_metric(type_, sort):
                found[getattr(own, "called", name)] = type_
    return found


def _is_metric(type_: str, sort: Sort) -> bool:
    try:
        symbol = lookup.check("metrics", {"type": type_}, where="", takes=sort.takes)
    except ConfigError:
        return False
    return hasattr(symbol, "summarize")


@functools.cache
def reserved() -> frozenset[str]:
    """Return the names that every report has, which no metric may have."""
    one = np.ones((1, 1), np.int64)
    made = confusion.summarize(one, class_names=("",)) | confusion.image_means(
        np.ones((3, 1, 1), int)
    )
    more = ("loss", "num_examples", "num_pixels", "split", "step", "checkpoint", "canvas")
    return frozenset({*made, *more, "overrides", "metrics", "per_example", "intervals", "iou"})


def _check_axes(metric: Metric, source: core.Source, *, where: str) -> None:
    """Raise `ConfigError` for a spacing of another number of axes than the data has."""
    spacing = getattr(metric, "spacing", ())
    if spacing and len(source) and len(spacing) != (axes := len(source[0]["label"].shape)):
        raise ConfigError(
            f"{where}.spacing={rules.shown(spacing)}: expected {axes} numbers, one for each axis "
            "of the data. Change it, or leave it out for the example's own."
        )


class Gathered(NamedTuple):
    """What was learned of a split.

    Attributes:
        found: The statistics of each metric, in the order of examples; of one that is added up
            their sum alone.
        names: Of the examples, where single ones are kept.
        cases: Of the examples, where single ones are kept and the data has a field 'case'.
    """

    found: dict[str, list[Any]]
    names: list[str]
    cases: list[tuple[Any, ...]]


def gather(
    metrics: Mapping[str, Metric],
    source: core.Source,
    predictor: Predictor,
    counts: Int64[np.ndarray, "parts n k"],
    *,
    keep: bool,
    tell: Callable[[int], None],
) -> Gathered:
    """Return the statistics of all metrics; all processes must call it.

    Examples are read once more where single ones are kept or a metric asks for it, and predicted
    once more where one asks for that.

    Args:
        metrics: By name.
        source: The split.
        predictor: Predicts its images.
        counts: The margins of each example.
        keep: Keep the names and cases of the examples.
        tell: Called with the number of examples that are done, after each.
    """

    def predict(image: np.ndarray) -> base.Predicted:
        found = predictor(image)
        return found.classes, found.probabilities

    gathered = Gathered({name: [] for name in metrics}, [], [])
    for number in range(len(source)):
        read = functools.partial(_read, source, number)
        seen = Seen(counts[: len(confusion.MARGINS), number], read, predict)
        for name, metric in metrics.items():
            kept = gathered.found[name]
            kept.append(metric(seen))
            if metric.added and len(kept) == 2:
                kept[:] = [kept[0] + kept[1]]
        if keep:
            example: Mapping[str, Any] = seen.example
            gathered.names.append(example["name"])
            if "case" in example:
                gathered.cases.append(tuple(np.ravel(example["case"]).tolist()))
        tell(number + 1)
    return gathered


def _read(source: core.Source, number: int) -> Any:
    return resample.with_spacing(source[number])


def per_example(gathered: Gathered, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what is kept of single examples, ready for JSON, each list in their order.

    `name`; `group`, the number of the example's case, where there are cases; `values`, those of
    each metric and class, null where undefined or infinite.
    """
    table: dict[str, Any] = {"name": gathered.names}
    if gathered.cases:
        order = {case: place for place, case in enumerate(dict.fromkeys(gathered.cases))}
        table["group"] = [order[case] for case in gathered.cases]
    rows = {n: [[base.number(x) for x in row] for row in each] for n, each in values.items()}
    return table | {"values": rows}


def values_of(
    metrics: Mapping[str, Metric], found: Mapping[str, Sequence[Any]], num_classes: int
) -> dict[str, np.ndarray]:
    """Return the values [n k] of the metrics that have some for each example."""
    return {
        name: metric.table(found[name], num_classes)
        for name, metric in metrics.items()
        if isinstance(metric, PerExample)
    }


def make_intervals(
    metrics: Mapping[str, Metric],
    table: Mapping[str, Any],
    counts: np.ndarray,
    values: Mapping[str, np.ndarray],
    *,
    resamples: int,
    logged: Sequence[str],
) -> dict[str, Any]:
    """Return the intervals of what is logged and of the chosen metrics that allow it."""
    own = intervals.scores_of_margins(binary="known" in table)
    of_counts: dict[str, Callable[[np.ndarray], float | None]] = {n: own[n] for n in logged}
    of_counts |= {n: m.score for n, m in metrics.items() if isinstance(m, matrix.OfMargins)}
    scores = {n: intervals.of_margins(counts, score=score) for n, score in of_counts.items()}
    scores |= {name: intervals.of_values(each) for name, each in values.items()}
    return bootstrap(scores, table, resamples=resamples)


def bootstrap(
    scores: Mapping[str, intervals.Score], table: Mapping[str, Any], *, resamples: int
) -> dict[str, Any]:
    """Return the intervals of scores, and how they were made.

    Args:
        scores: By name.
        table: See `per_example`: its groups are drawn where it has some, else its examples.
        resamples: How many times.
    """
    groups = np.asarray(table.get("group", range(len(table["name"]))), np.int64)
    about = {"resamples": resamples, "level": intervals.LEVEL, "seed": 0}
    about["unit"] = "case" if "group" in table else "example"
    return about | intervals.bootstrap(scores, groups, resamples=resamples)

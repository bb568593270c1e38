"""Predict the examples of an evaluation once more, and keep of each what a page says of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int64
from markupsafe import Markup

from segjax.data import core, resample
from segjax.evaluators.report import Evaluator, Scored
from segjax.metrics.base import LEVELS


class Region(NamedTuple):
    """An object of the truth, or a connected region of a class.

    Attributes:
        size: Its pixels.
        found: The share of them that was predicted as its class.
    """

    size: int
    found: float


@dataclasses.dataclass(frozen=True)
class Seen:
    """One example as a run sees it.

    Attributes:
        place: Its number in the evaluation.
        name: What it is called.
        score: Of this example alone, 0 to 1; NaN: it has none.
        per_class: The score of each class in it; NaN: it has none.
        uncertainty: 0, sure of all, to 1; NaN: not known.
        kept: What the scores of the whole are made of, as the evaluation wants it.
        levels: How many answers were wrong (row 0) and right (row 1) by how sure they were, in
            multiples of 1 / `LEVELS`.
        regions: Of the truth.
        answers: Of every pixel, thinned, to compare runs; None: it has none.
        pictures: What it looks like, each with what it is.
        plot: A signal, drawn; empty: it is shown by pictures.
        parts: Pictures of single objects, each with what became of it.
        case: Whose it is, a patient's number say; empty: the data does not say.
    """

    place: int
    name: str
    score: float
    per_class: Float[np.ndarray, " k"]
    uncertainty: float
    kept: Any
    levels: Int64[np.ndarray, "2 levels"]
    regions: Sequence[Region]
    answers: np.ndarray | None
    pictures: Sequence[tuple[str, str]]
    plot: Markup = Markup("")
    parts: Sequence[tuple[str, str]] = ()
    case: tuple[Any, ...] = ()


class Eye(Protocol):
    """Looks at the examples of one kind of task.

    Attributes:
        score: What an example's score is called, such as 'IoU'.
        class_names: Of the classes that have scores.
    """

    score: str
    class_names: Sequence[str]

    def __call__(self, place: int, example: Mapping[str, Any], predictor: Scored, /) -> Seen:
        """Return what there is to say of an example and of what is predicted of it."""
        ...

    def intervals(self, seen: Sequence[Seen], /) -> dict[str, list[float | None]]:
        """Return the 95 % interval of the score of each class, by its name."""
        ...

    def whole(self, seen: Sequence[Seen], /) -> list[float | None]:
        """Return the 95 % interval of the evaluation's headline."""
        ...

    def legend(self) -> list[tuple[str, str]]:
        """Return what the colours of its pictures mean, each with the colour as a page has it."""
        ...

    def table(self, seen: Sequence[Seen], /) -> Mapping[str, Any]:
        """Return a report's content of single examples, for `intervals.compare`."""
        ...

    def compared(self) -> Sequence[str]:
        """Return the metrics that `intervals.compare` finds in `table`, the first the headline."""
        ...


def look(
    source: core.Source,
    predictors: Sequence[Scored],
    eyes: Sequence[Eye],
    *,
    examples: int | None,
    tell: Callable[[int], None],
) -> list[list[Seen]]:
    """Return what each predictor makes of the examples of a source.

    All processes must call it.

    Args:
        source: The split.
        predictors: Of runs on the same classes.
        eyes: One for each predictor.
        examples: The most that are looked at, spread evenly over the split; None: all.
        tell: Is told after each how many are done.
    """
    found: list[list[Seen]] = [[] for _ in predictors]
    for done, place in enumerate(places(len(source), examples), start=1):
        example = resample.with_spacing(source[place])
        for predictor, eye, own in zip(predictors, eyes, found, strict=True):
            own.append(eye(place, example, predictor))
        tell(done)
    return found


def places(number: int, most: int | None) -> list[int]:
    """Return at most so many places, spread evenly over `number`; None: all."""
    if most is None or most >= number:
        return list(range(number))
    return [place * number // most for place in range(most)]


def no_levels() -> Int64[np.ndarray, "2 levels"]:
    """Return counts of nothing."""
    return np.zeros((2, LEVELS + 1), np.int64)


def about(seen: Sequence[Seen]) -> dict[str, Any]:
    """Return names and cases of examples as a report's content of single ones has them."""
    names: dict[str, Any] = {"name": [one.name for one in seen]}
    return names | ({"group": groups(seen).tolist()} if all(one.case for one in seen) else {})


def case_of(example: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return an example's field 'case'; empty: it has none."""
    return tuple(np.ravel(example["case"]).tolist()) if "case" in example else ()


def groups(seen: Sequence[Seen]) -> Int64[np.ndarray, " n"]:
    """Return the number of the case of each example; without cases each is one.

    Examples of one case are not independent: intervals and tests draw whole cases.
    """
    if not all(one.case for one in seen):
        return np.arange(len(seen))
    order = {case: place for place, case in enumerate(dict.fromkeys(one.case for one in seen))}
    return np.array([order[one.case] for one in seen], np.int64)


def order(
    seen: Sequence[Seen], *, most: int, class_names: Sequence[str]
) -> list[tuple[Seen, list[str]]]:
    """Return the examples that are worth a look, and why, the most telling first.

    In turn the one with the worst score, the one that is least sure, and of each class the worst.
    """
    lists: dict[str, list[Seen]] = {
        "worst": sorted(_having(seen, lambda one: one.score), key=lambda one: one.score),
        "least sure": sorted(
            _having(seen, lambda one: one.uncertainty), key=lambda one: -one.uncertainty
        ),
    }
    for k, name in enumerate(class_names):
        own = _having(seen, lambda one, k=k: one.per_class[k])
        lists[f"worst {name}"] = sorted(own, key=lambda one, k=k: one.per_class[k])[:2]
    chosen: dict[int, list[str]] = {}
    known = {one.place: one for one in seen}
    for turn in range(max(map(len, lists.values()), default=0)):
        for why, own in lists.items():
            if turn >= len(own):
                continue
            if own[turn].place in chosen:
                if turn < 3:
                    chosen[own[turn].place].append(why)
            elif len(chosen) < most:
                chosen[own[turn].place] = [why] if turn < 3 else []
    return [(known[place], why) for place, why in chosen.items()]


def _having(seen: Sequence[Seen], value: Callable[[Seen], float]) -> list[Seen]:
    return [one for one in seen if np.isfinite(value(one))]


def eye_of(evaluator: Evaluator, eyes: Mapping[type, Callable[[Any], Eye]]) -> Eye | None:
    """Return what looks at the examples of an evaluator; None: it is of another kind."""
    for kind in type(evaluator).__mro__:
        if kind in eyes:
            return eyes[kind](evaluator)
    return None

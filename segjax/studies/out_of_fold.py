"""The folds of a cross-validation as one predictor: each example by the fold that held it out.

Evaluators take it for any other, so scores are those of the joined predictions, by the same code:
counts are added up, objects of all examples ranked together, and nothing is a mean of folds.
"""

import functools
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segjax.assemble import setup as setup_lib
from segjax.config import schedule, schema
from segjax.data import core, folds
from segjax.data.lazy import Region
from segjax.evaluators import report
from segjax.evaluators.report import Report, Scored
from segjax.inference import folder, paths
from segjax.inference.outputs import kinds
from segjax.inference.outputs.found import Found
from segjax.inference.predictor import Detected, Measured
from segjax.runs.run import Run
from segjax.runtime import files
from segjax.structs import Example
from segjax.views.progress import Progress

PREDICTIONS = "predictions"
RECORD = "out_of_fold.json"
"""In the folder of predictions: which file is of which example, and which fold predicted it."""


class Ordered(core.Subset):
    """All examples; it knows which of them each thread has read last.

    Args:
        source: The examples.
        dealt: The fold of each.
        by_fold: Fold by fold, so that those who go through them need one fold at a time; else in
            their own order, by which equal scores of objects are ranked.
    """

    def __init__(self, source: core.Source, dealt: Sequence[int], *, by_fold: bool = True):
        order = [*range(len(dealt))]
        if by_fold:
            order.sort(key=dealt.__getitem__)
        super().__init__(source, order)
        self.dealt = [dealt[place] for place in order]
        self.names = core.names_of(source, "")
        self._last = threading.local()

    def __getitem__(self, index: int) -> Example:
        self._last.index = index
        return super().__getitem__(index)

    @property
    def last(self) -> int:
        """The fold of the example that this thread has read last."""
        return self.dealt[self._last.index]


class OutOfFold:
    """Predict each example by the fold that it was held out of.

    A `Predictor` of the examples of `source` alone, or where its members are such an
    `ObjectPredictor`. What is predicted by itself must be read from there just before.

    Args:
        source: All examples.
        members: The run of each fold. One is in memory at a time.
    """

    def __init__(self, source: Ordered, members: Sequence[Run]):
        self.source, self.members = source, members
        self.of_fold = functools.lru_cache(maxsize=1)(self._of_fold)

    def __call__(self, image: Any, /) -> Any:
        """Return what is predicted of the image of the example that was read last."""
        return self.of_fold(self.source.last)(image)

    def tiles(self, image: Any, /, *, probabilities: bool = False) -> Iterator[tuple[Region, Any]]:
        """Yield parts of that prediction."""
        return self.of_fold(self.source.last).tiles(image, probabilities=probabilities)

    def measure(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Measured]:
        """Yield what each fold measures of its own examples."""
        for predictor, own, places in self._each(source):
            for counts, loss in predictor.measure(own, batch_size=batch_size, threads=threads):
                yield Measured({places[n]: count for n, count in counts.items()}, loss)

    def detect(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Detected]:
        """Yield what each fold finds in its own examples."""
        for predictor, own, places in self._each(source):
            for found, loss in predictor.detect(own, batch_size=batch_size, threads=threads):
                yield Detected({places[n]: one for n, one in found.items()}, loss)

    def _each(self, source: core.Source) -> Iterator[tuple[Scored, core.Source, list[int]]]:
        for fold in range(len(self.members)):
            places = [n for n, own in enumerate(self.source.dealt) if own == fold]
            yield self.of_fold(fold), core.Subset(source, places), places

    def _of_fold(self, fold: int) -> Scored:
        """Return what predicts with a fold's checkpoint; alike folds share what is compiled."""
        member, first = self.members[fold], self.members[0]
        alike = _without_fold(member.config) == _without_fold(first.config)
        return (first if alike else member).parts.predictor(member.variables)


def _without_fold(config: Mapping[str, Any]) -> str:
    """Return what tells configs apart, but which fold they are of and how long an epoch is."""
    inputs = config["input"]
    source = {key: value for key, value in inputs["source"].items() if key != "fold"}
    plain = {key: value for key, value in config.items() if key != "resolved"}
    return schema.fingerprint({**plain, "input": {**inputs, "source": source}})


def score(joined: core.Source, dealt: Sequence[int], members: Sequence[Run]) -> list[Report]:
    """Return the report of each evaluation that scores what folds hold out.

    Args:
        joined: All examples.
        dealt: The fold of each.
        members: The run of each fold.
    """
    first = members[0]
    ordered = Ordered(joined, dealt, by_fold=not kinds.finds_of(first.parts.task))
    predictor = OutOfFold(ordered, members)
    clock = schedule.Clock(*(first.config["resolved"][key] for key in schedule.Clock._fields))
    steps, found = [member.find() for member in members], []
    about = first.parts.about_scores(max(steps)) | {"checkpoint": steps}
    for name, section in first.config["evals"].items():
        if section["split"] == folds.HELD:
            evaluator = setup_lib.make_evaluator(first.config, name, first.parts, clock, ordered)
            found.append(
                report.run(
                    evaluator, predictor, step=max(steps), shown=True, draw=True, about=about
                )
            )
    return found


def write_predictions(
    root: pathlib.Path, joined: core.Source, dealt: Sequence[int], members: Sequence[Run]
) -> int:
    """Write what is predicted of each example, and say whose it is last; return how many there are.

    A class map as `--mode=predict` writes it, PNG or NumPy, and of runs that find objects their
    numbers too.

    Args:
        root: Of the cross-validation; files go to `<root>/predictions`.
        joined: All examples.
        dealt: The fold of each.
        members: The run of each fold.
    """
    ordered, first = Ordered(joined, dealt), members[0]
    predictor, parts = OutOfFold(ordered, members), first.parts
    dims, finds = len(parts.canvas.size), kinds.finds_of(parts.task)
    names = ["label", "instances"] if finds else ["label"]
    chosen = kinds.choose(names, dims=dims, multilabel=parts.multilabel, finds=finds)
    output, record = root / PREDICTIONS, {}
    titles = [pathlib.Path(ordered.names[place]) for place in ordered.indices]
    stems = paths.output_names(titles)
    with Progress(len(ordered), unit="images", title=PREDICTIONS) as bar:
        for number, title in enumerate(titles):
            example = ordered[number]
            one = Found(
                title, title.as_posix(), classes=parts.classes,
                **folder.answer(predictor, example["image"], parts.classes, least_score=0.5),
            )  # fmt: skip
            written = []
            for kind in chosen.each:
                ending = kind.picture if dims == 2 else kind.array or ""
                written.append(stems[title] + kind.tail + ending)
                kind.write(output / written[-1], one)
            record[title.as_posix()] = {"fold": ordered.dealt[number], "files": written}
            bar.update(number + 1)
    files.write_json(output / RECORD, record)
    return len(record)

"""What an evaluation says, whatever it is of: shown, written and drawn by neutral code."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from segjax.data import core
from segjax.runtime import files
from segjax.views.progress import Progress

Scored: TypeAlias = Any
"""What an evaluator scores: a `Predictor`, or of one that scores objects an `ObjectPredictor`."""


@dataclasses.dataclass(frozen=True)
class Report:
    """One evaluation.

    Attributes:
        name: Its key in `config.evals`.
        step: The training step of what was evaluated.
        headline: The few scores that a person wants to see, by their names in prose.
        scalars: What goes to the log, `<name>/miou`, ….
        result: The content of `eval/<name>.json`; `run` adds the scalars to it, as `logged`.
        notes: What else should be said, a line each.
        figures: Draw one picture each at a given path, by the end of its name.
    """

    name: str
    step: int
    headline: Mapping[str, float]
    scalars: Mapping[str, float]
    result: Mapping[str, Any]
    notes: Sequence[str] = ()
    figures: Mapping[str, Callable[[pathlib.Path], None]] = dataclasses.field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what to show: the headline, then the notes."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in self.headline.items())
        return [f"step {self.step}  {self.name}: {shown}", *self.notes]

    def write(self, path: pathlib.Path, *, variant: str = "") -> pathlib.Path:
        """Write `eval/<name>.json` and `figures/<name>_*.png` below the run's folder.

        Args:
            path: The folder.
            variant: Follows the name where the run was scored in another way than it is by itself.

        Returns:
            The JSON file.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        name = f"{self.name}.{variant}" if variant else self.name
        written = path / "eval" / f"{name}.json"
        files.write_json(written, dict(self.result))
        for ending, draw in self.figures.items():
            draw(path / "figures" / f"{name}_{ending}.png")
        return written


class Evaluator(Protocol):
    """Scores any predictor on one split.

    Attributes:
        name: Its key in `config.evals`: prefix of its scalars and name of its file.
        split: The split that it scores.
        source: Its examples.
        every_steps: How often training calls it; 0: only at the end.
        headline: The metric that its learning curve shows, and what it is called in prose.
    """

    name: str
    split: str
    source: core.Source
    every_steps: int
    headline: tuple[str, str]

    def __len__(self) -> int:
        """Return how many examples it scores."""
        ...

    def metrics(self) -> list[str]:
        """Return the names of what it logs."""
        ...

    def evaluate(self, predictor: Scored, *, step: int, progress: Progress, draw: bool) -> Report:
        """Score a predictor, reporting to `progress` after every batch.

        All processes must call it. With `draw` the report has figures.
        """
        ...


@runtime_checkable
class Drawing(Protocol):
    """An evaluator that can draw any of its examples."""

    def drawn(
        self, predictor: Scored, picks: Sequence[tuple[str, int]], /
    ) -> Callable[[pathlib.Path], None]:
        """Return what draws some examples as they are predicted, by titles and numbers."""
        ...


def most_often(evaluators: Sequence[Evaluator], *, trained: str) -> Evaluator | None:
    """Return the evaluation that a training makes most often; None: there are none.

    Of several the first that is not of the split that is trained on.

    Args:
        evaluators: Of `config.evals`.
        trained: That split.
    """

    def rarely(each: Evaluator) -> tuple[float, bool]:
        return each.every_steps or math.inf, each.split == trained

    return min(evaluators, key=rarely, default=None)


def gap(evaluators: Sequence[Evaluator], *, trained: str) -> tuple[str, str]:
    """Return an evaluation of the split `trained` and what it is compared with, or two empty names.

    That is the one of another split that is made most often.
    """
    own = [each for each in evaluators if each.split == trained]
    others = [each for each in evaluators if each.split != trained]
    first, second = (most_often(each, trained=trained) for each in (own, others))
    return (first.name, second.name) if first and second else ("", "")


def run(
    evaluator: Evaluator,
    predictor: Scored,
    *,
    step: int,
    shown: bool,
    draw: bool,
    heartbeat: Callable[[], None] = lambda: None,
    about: Mapping[str, Any] | None = None,
) -> Report:
    """Return an evaluator's report, with a progress bar where it is `shown`.

    `heartbeat` is called after every batch; what it raises ends the evaluation. `about` is added to
    the result: what else decided the scores.
    """
    with Progress(
        len(evaluator),
        unit="images",
        title=evaluator.name,
        leave=False,
        enabled=shown,
        heartbeat=heartbeat,
    ) as bar:
        found = evaluator.evaluate(predictor, step=step, progress=bar, draw=draw)
    logged = {name: float(value) for name, value in found.scalars.items()}
    return dataclasses.replace(found, result={**found.result, **(about or {}), "logged": logged})

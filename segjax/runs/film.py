"""The same few examples at every evaluation of a training, one picture each, and at last a film."""

import pathlib
import shutil
from collections.abc import Sequence

from segjax.evaluators.report import Drawing, Evaluator, Scored
from segjax.runtime import distributed, files
from segjax.views import motion

FRAMES = "figures/progress"
FILM = "figures/progress.gif"
"""Both below the run's folder."""


def add(
    path: pathlib.Path, evaluator: Evaluator, predictor: Scored, *, step: int, examples: int
) -> pathlib.Path | None:
    """Draw the examples as they are predicted now; all processes must call it.

    Args:
        path: The run's folder.
        evaluator: Has the examples.
        predictor: Predicts.
        step: Of the training.
        examples: How many, spread evenly over the split; 0: none.

    Returns:
        The picture; None: the evaluator cannot draw any, or none was asked for.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    number = len(evaluator.source)
    count = min(examples, number)
    if not count or not isinstance(evaluator, Drawing):
        return None
    picks = [(f"step {step:,}", place * number // count) for place in range(count)]
    draw, frame = evaluator.drawn(predictor, picks), path / FRAMES / f"{step:09d}.png"
    if distributed.is_first():
        draw(frame)
    return frame


def frames(path: pathlib.Path, *, until: int) -> list[pathlib.Path]:
    """Return the pictures that are there, in their order, up to a step."""
    found = (path / FRAMES).glob("*.png")
    return sorted(each for each in found if each.stem.isdecimal() and int(each.stem) <= until)


def finish(path: pathlib.Path, *, until: int) -> pathlib.Path | None:
    """Make the film of the pictures up to a step, and drop them; None: there are none.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    shown: Sequence[pathlib.Path] = frames(path, until=until)
    if not shown:
        return None
    motion.write(path / FILM, shown)
    with files.explain_os_errors(path / FRAMES):
        shutil.rmtree(path / FRAMES)
    return path / FILM

"""Training examples as a training is given them: the same batches, augmented with the same keys."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.assemble import program
from segjax.assemble.setup import Setup
from segjax.data import core
from segjax.views import sheet


class Sample(NamedTuple):
    """One example of a batch.

    Attributes:
        step: That it is of, from 0.
        index: Its global position.
        image: As the network is given it, before it is normalised.
        label: Its classes, 255 void.
    """

    step: int
    index: int
    image: np.ndarray
    label: np.ndarray


def can_be_shown(setup: Setup) -> bool:
    """Return whether every pixel of an example has one class, and so one colour."""
    return "label" in setup.parts.schema and not setup.parts.multilabel


def of_training(
    setup: Setup,
    source: core.Source,
    *,
    step: int,
    count: int,
    augment: bool = True,
    tell: Callable[[int], None] = lambda done: None,
) -> list[Sample]:
    """Return `count` examples of a training from `step` on.

    Args:
        setup: The config and what it describes.
        source: The training data.
        step: The first whose batch is shown.
        count: How many.
        augment: As they are augmented; False: as the data has them, on the canvas.
        tell: Is told how many are there.
    """
    change = jax.jit(setup.parts.augment)
    key = jax.random.split(jax.random.key(setup.config["seed"]))[1]
    found: list[Sample] = []
    with contextlib.closing(program.make_batches(setup, source, step)) as every:
        for number, batch in enumerate(every, start=step):
            if augment:  # the key that the train step takes for it
                batch = change(jax.random.split(jax.random.fold_in(key, number))[0], batch)
            fields: Any = jax.device_get(batch)
            rows = zip(fields["index"].tolist(), fields["image"], fields["label"], strict=True)
            found += [Sample(number, index, image, label) for index, image, label in rows]
            tell(min(count, len(found)))
            if len(found) >= count:
                return found[:count]
    return found


def shown(samples: Sequence[Sample]) -> list[sheet.Shown]:
    """Return examples as a sheet of them shows them."""
    return [
        sheet.Shown(f"step {each.step}, example {each.index}", each.image, each.label)
        for each in samples
    ]

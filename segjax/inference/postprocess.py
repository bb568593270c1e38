"""What is done to a prediction before it is scored and written, by `config.inference.postprocess`.

A step is a function here, which takes a `State` and returns a new one; its other arguments are
those of its section. Whatever it does, void stays void.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from segjax.config import kinds, lookup, rules
from segjax.data import components, core, resample
from segjax.data.lazy import Lazy, Region
from segjax.errors import ConfigError, DataError
from segjax.inference import crf as crf_lib
from segjax.inference import preview
from segjax.inference import several as several_lib
from segjax.inference.predictor import ClassMap, Image, Measured, Prediction, Predictor
from segjax.metrics import confusion
from segjax.structs import IGNORE_LABEL

Names: TypeAlias = Annotated[Sequence[Annotated[str, rules.NAME]], rules.length(0, 255)]
"""Names of classes."""
Connectivity: TypeAlias = Annotated[int, rules.whole(1, 3)]
"""See `components.find`."""
Threshold: TypeAlias = Annotated[kinds.Real, rules.number(0.001, 0.999)]
Reach: TypeAlias = Annotated[int, rules.whole(1, 16)]
Spread: TypeAlias = Annotated[kinds.Real, rules.number(0.001, 1e6)]
Pull: TypeAlias = Annotated[kinds.Real, rules.number(0, 1000)]
ORDER = {"crf": 0, "thresholds": 1}
"""Steps that decide every pixel anew, and so come before those that change what was decided."""


class State(NamedTuple):
    """One image's prediction on its way through the steps.

    Attributes:
        image: Its values.
        classes: What is decided.
        probabilities: Of each class.
    """

    image: Image
    classes: ClassMap
    probabilities: Float[np.ndarray, "*space k"]


Step = Callable[[State], State]


def largest_component(
    state: State,
    *,
    class_names: Sequence[str],
    classes: Names = (),
    connectivity: Connectivity = 1,
) -> State:
    """Keep the largest component of each class, the first of equal ones.

    What is removed takes the most probable other class, which other components may have too.

    Args:
        state: Of an image with one to three axes.
        class_names: Of all classes.
        classes: Those that have one component; empty: all.
        connectivity: Which neighbours are connected, 1 to 3: those that share a side, an edge (of
            pixels: a corner), a corner.
    """
    removed = np.zeros(state.classes.shape, bool)
    for mask in _masks(state.classes, class_names, classes):
        numbers, counts = components.find(mask, connectivity=connectivity)
        if len(counts) > 2:
            removed |= mask & (numbers != 1 + counts[1:].argmax())
    return _with_next_class(state, removed)


def minimum_area(
    state: State,
    *,
    class_names: Sequence[str],
    pixels: Annotated[int, rules.whole(1)],
    classes: Names = (),
    connectivity: Connectivity = 1,
) -> State:
    """Remove components of fewer pixels (voxels, samples); see `largest_component`.

    Args:
        state: Of an image with one to three axes.
        class_names: Of all classes.
        pixels: What a component has at least.
        classes: Those whose components are looked at; empty: all.
        connectivity: Which neighbours are connected.
    """
    removed = np.zeros(state.classes.shape, bool)
    for mask in _masks(state.classes, class_names, classes):
        numbers, counts = components.find(mask, connectivity=connectivity)
        small = counts < pixels
        small[0] = False
        removed |= small[numbers]
    return _with_next_class(state, removed)


def fill_holes(
    state: State,
    *,
    class_names: Sequence[str],
    classes: Names = (),
    pixels: kinds.Count = 0,
    connectivity: Connectivity = 1,
) -> State:
    """Give holes in a class that class, one class after the other.

    A hole is a component of other classes that does not reach the border of the image.

    Args:
        state: Of an image with one to three axes.
        class_names: Of all classes.
        classes: Those whose holes are filled, in this order; empty: all but the first class.
        pixels: The largest hole that is filled; 0: any.
        connectivity: Which neighbours in a hole are connected.
    """
    decided = state.classes.copy()
    for name in classes or class_names[1:]:
        mask = decided == class_names.index(name)
        if not mask.any():
            continue
        numbers, counts = components.find(~mask, connectivity=connectivity)
        is_hole = (counts <= pixels) if pixels else np.ones(len(counts), bool)
        is_hole[0] = False
        for axis in range(mask.ndim):
            is_hole[numbers.take((0, -1), axis)] = False
        decided[is_hole[numbers]] = class_names.index(name)
    return state._replace(classes=decided)


def thresholds(
    state: State,
    *,
    class_names: Sequence[str],
    values: Sequence[tuple[str, Threshold]],
) -> State:
    """Decide for the largest of p (1 - t) / t, which of two classes means: where p is above t.

    Args:
        state: Of an image.
        class_names: Of all classes.
        values: Pairs of a class and its threshold t; that of others is 0.5. A class with a lower
            one is found more often.
    """
    factors = np.ones(len(class_names), np.float32)
    for name, value in values:
        factors[class_names.index(name)] = (1 - value) / value
    if (factors == 1).all():
        return state
    decided = (state.probabilities * factors).argmax(axis=-1).astype(np.uint8)
    return state._replace(classes=decided)


def crf(
    state: State,
    *,
    class_names: Sequence[str],
    smooth_weight: Pull = 1.0,
    smooth_std: Spread = 2.0,
    colour_weight: Pull = 4.0,
    position_std: Spread = 8.0,
    colour_std: Spread = 0.3,
    radius: Reach = 5,
    dilation: Reach = 1,
    iterations: Annotated[int, rules.whole(1, 100)] = 5,
) -> State:
    """Let neighbours decide together, above all those of like colour: mean field, see `crf`.

    Args:
        state: Of an image with one to three axes.
        class_names: Of all classes.
        smooth_weight: Of positions alone.
        smooth_std: How far it reaches, in pixels.
        colour_weight: Of positions and colours.
        position_std: How far it reaches, in pixels.
        colour_std: How unlike colours may be, in standard deviations of the image's values.
        radius: A window has 2 radius + 1 pixels along each axis.
        dilation: They are so far apart.
        iterations: Rounds of messages.
    """
    del class_names  # every class is treated alike
    field = crf_lib.Field(smooth_weight, smooth_std, colour_weight, position_std, colour_std)
    probabilities = crf_lib.mean_field(
        state.probabilities, state.image, state.classes != IGNORE_LABEL, field=field,
        radius=radius, dilation=dilation, iterations=iterations,
    )  # fmt: skip
    return State(state.image, probabilities.argmax(axis=-1).astype(np.uint8), probabilities)


def _masks(
    decided: ClassMap, class_names: Sequence[str], classes: Sequence[str]
) -> Iterator[Bool[np.ndarray, "*space"]]:
    """Yield where each of these classes is, of those that occur; none named: of all."""
    for name in classes or class_names:
        mask = decided == class_names.index(name)
        if mask.any():
            yield mask


def _with_next_class(state: State, removed: Bool[np.ndarray, "*space"]) -> State:
    """Return a state in which some pixels have the most probable class but that which they had."""
    if not removed.any() or state.probabilities.shape[-1] < 2:
        return state
    shares, decided = state.probabilities[removed], state.classes.copy()
    shares[np.arange(len(shares)), decided[removed]] = -1
    decided[removed] = shares.argmax(axis=-1)
    return state._replace(classes=decided)


def make_steps(
    sections: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> tuple[Step, ...]:
    """Return the steps of `config.inference.postprocess`.

    Raises:
        ConfigError: One that cannot be built, a class that there is not, or a step that would undo
            those before it.
    """
    steps, last = [], ""
    for i, section in enumerate(sections):
        where = f"config.inference.postprocess[{i}]"
        step = lookup.build(
            "inference.postprocess", section, where=where, takes=("state",),
            class_names=tuple(class_names),
        )  # fmt: skip
        steps.append(step)
        pairs = section.get("values", ()) if section["type"] == "thresholds" else ()
        for name in (*section.get("classes", ()), *(pair[0] for pair in pairs)):
            if name not in class_names:
                raise ConfigError(
                    f"{where}: no class {rules.shown(name)}."
                    f"{lookup.suggest(str(name), list(class_names))}"
                )
        if ORDER.get(section["type"], 2) < ORDER.get(last, 2) and last:
            raise ConfigError(
                f"{where}.type={section['type']!r}: decides every pixel anew and would undo "
                f"{last!r} before it. Put 'crf' first, 'thresholds' next, then the others."
            )
        last = section["type"]
    return tuple(steps)


def apply(steps: Sequence[Step], state: State) -> State:
    """Return what the steps make of a prediction, one after the other; void stays void."""
    void = state.classes == IGNORE_LABEL
    for step in steps:
        state = step(state)
    if void.any():
        state = state._replace(classes=np.where(void, np.uint8(IGNORE_LABEL), state.classes))
    return state


def predict(predictor: Predictor, image: Image) -> State:
    """Return what a predictor says of an image before any step.

    Raises:
        DataError: The image is too large: a step sees all of it.
    """
    return _state(image, predictor(_held(image)))


def _held(image: Image) -> Image:
    """Return an image as a predictor gets it; of one that is too large see `predict`."""
    pixels = math.prod(image.shape[:-1])
    if pixels > preview.LARGE:
        name = image.name if isinstance(image, Lazy) else "an image"
        raise DataError(
            f"{name}: {pixels:,} pixels, and post-processing sees all of an image at once; "
            f"expected at most {preview.LARGE:,}. Cut it, or leave the steps out: "
            "--override=inference.postprocess=[]"
        )
    return image if resample.spacing_of(image) else np.asarray(image)


def _state(image: Image, found: Prediction) -> State:
    return State(np.asarray(image), found.classes, found.probabilities())


class Postprocessed:
    """Any predictor, and what is done to its predictions, as a `Predictor`.

    Needs the probabilities of an image at once, k numbers for each pixel.

    Args:
        predictor: Predicts.
        steps: What is done to a prediction; see `make_steps`.
    """

    def __init__(self, predictor: Predictor, steps: Sequence[Step]):
        self.predictor, self.steps = predictor, steps

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction after all steps; its probabilities are those that `crf` made.

        Raises:
            DataError: An image that is too large: a step sees all of it.
        """
        return self._finished(predict(self.predictor, image))

    def several(
        self, images: Sequence[Image], *, probabilities: Collection[int] = (), most: int = 8
    ) -> list[Prediction]:
        """Return the predictions of several images after all steps, see `several.several`.

        Raises:
            DataError: As `__call__`, of any of them.
        """
        del probabilities  # of all: steps are decided by them
        found = several_lib.several(
            self.predictor, list(map(_held, images)), probabilities=range(len(images)), most=most
        )
        return [
            self._finished(_state(image, each)) for image, each in zip(images, found, strict=True)
        ]

    def _finished(self, before: State) -> Prediction:
        state = apply(self.steps, before)
        return Prediction(state.classes, lambda: state.probabilities)

    def tiles(
        self, image: Image, /, *, probabilities: bool = False
    ) -> Iterator[tuple[Region, np.ndarray]]:
        """Yield the whole as one part: a step sees all of an image."""
        found = self(image)
        everywhere = tuple(slice(0, side) for side in image.shape[:-1])
        yield everywhere, found.probabilities() if probabilities else found.classes

    def measure(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Measured]:
        """Yield counts of its own class maps, and the loss of the predictor without any step."""
        for found in self.predictor.measure(source, batch_size=batch_size, threads=threads):
            counts = {}
            for number, matrix in found.counts.items():
                example = resample.with_spacing(source[number])
                pred, label = self(example["image"]).classes, np.asarray(example["label"])
                counts[number] = confusion.counts_of(pred, label, num_classes=len(matrix))
            yield Measured(counts, found.loss)


def wrap(predictor: Predictor, steps: Sequence[Step]) -> Predictor:
    """Return a predictor with these steps; itself where there are none."""
    return Postprocessed(predictor, steps) if steps else predictor

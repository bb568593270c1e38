"""Several images predicted together, by whatever predicts: each as it is predicted alone."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol, runtime_checkable

from segjax.inference.predictor import Detection, Image, ObjectPredictor, Prediction, Predictor

Answer = Prediction | Detection


@runtime_checkable
class Batching(Protocol):
    """A predictor that has a quicker way for several images than one after the other."""

    def several(
        self, images: Sequence[Image], *, probabilities: Collection[int] = (), most: int = 8
    ) -> Sequence[Answer]:
        """Return the prediction of each, see `several`."""
        ...


def several(
    predictor: Predictor | ObjectPredictor,
    images: Sequence[Image],
    *,
    probabilities: Collection[int] = (),
    most: int = 8,
) -> list[Any]:
    """Return what is predicted of each image, exactly as each is predicted alone.

    Args:
        predictor: Any; without a way of its own for several, they are predicted one by one.
        images: Of any sizes.
        probabilities: The numbers of those whose probabilities will be asked for.
        most: Windows that go through a network at once.

    Raises:
        DataError: One of them cannot be predicted; of none the prediction is then known.
    """
    if isinstance(predictor, Batching):
        return list(predictor.several(images, probabilities=probabilities, most=most))
    return [predictor(image) for image in images]


def by_type(
    predictor: Batching,
    images: Sequence[Image],
    *,
    probabilities: Collection[int],
    most: int,
) -> list[Any]:
    """Return the predictions of images of different types, those of one type together."""
    found: dict[int, Answer] = {}
    for kind in {image.dtype for image in images}:
        numbers = [number for number, image in enumerate(images) if image.dtype == kind]
        chosen = [at for at, number in enumerate(numbers) if number in probabilities]
        same = [images[number] for number in numbers]
        answers = predictor.several(same, probabilities=chosen, most=most)
        found |= dict(zip(numbers, answers, strict=True))
    return [found[number] for number in range(len(images))]


def shape_of(count: int, *, rows: int, most: int) -> int:
    """Return the rows of batches for `count` windows: `rows` times a power of two, at most `most`.

    Args:
        count: Windows in all.
        rows: The fewest that a batch has.
        most: The most, where it is not less than `rows`.
    """
    size = rows
    while size < count and 2 * size <= most:
        size *= 2
    return size


def shapes(*, rows: int, most: int) -> list[int]:
    """Return all that `shape_of` can return."""
    found = [rows]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found

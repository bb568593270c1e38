"""Objects grouped of what any predictor says of pixels, as an `ObjectPredictor`."""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from segjax.data import core, resample
from segjax.inference import several as several_lib
from segjax.inference.predictor import Detected, Detection, Image, Predictor
from segjax.runtime import quirks
from segjax.structs import Objects


class Grouping:
    """A predictor of pixels whose probabilities are grouped to objects.

    An image may have any size: windows are joined before anything is grouped.

    Args:
        predictor: Predicts the probabilities of an image.
        group: Makes objects of them, see `GroupingTask`.
    """

    def __init__(
        self, predictor: Predictor, group: Callable[[Float[np.ndarray, "*space k"]], Objects]
    ):
        self.predictor, self.group = predictor, group

    def __call__(self, image: Image, /) -> Detection:
        """Return what is found in one image [*space c], on its own grid."""
        return self._grouped(self.predictor(image).probabilities())

    def several(
        self, images: Sequence[Image], *, probabilities: Collection[int] = (), most: int = 8
    ) -> list[Detection]:
        """Return what is found in each of several images, see `several.several`."""
        del probabilities  # of all: objects are grouped of them
        found = several_lib.several(
            self.predictor, images, probabilities=range(len(images)), most=most
        )
        return [self._grouped(each.probabilities()) for each in found]

    def detect(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Detected]:
        """Yield what is found in every so manyth example, a process's own; without a loss.

        All processes predict each image together, in batches of its windows.
        """
        del batch_size, threads
        _, me, processes = quirks.job_client()
        for start in range(0, len(source), processes):
            found = {}
            for number in range(start, min(start + processes, len(source))):
                example = resample.with_spacing(source[number])
                probabilities = self.predictor(example["image"]).probabilities()
                if number - start == me:
                    found[number] = self._grouped(probabilities)
            yield Detected(found, {})

    def _grouped(self, probabilities: Float[np.ndarray, "*space k"]) -> Detection:
        return Detection(self.group(probabilities), probabilities.shape[:-1])

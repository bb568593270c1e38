"""What methods share that divide a grey image in two: a foreground and the rest."""

import abc
import dataclasses
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int32

from segjax.baselines import base
from segjax.baselines.base import Method, Numbers, Seen
from segjax.errors import ConfigError
from segjax.inference.predictor import Image
from segjax.structs import IGNORE_LABEL

GREY = (1, 3)
"""Channels of what can be seen as grey."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoSided(Method):
    """A method that divides a grey image in two, of which training says which is the foreground."""

    channels: ClassVar[Sequence[int]] = GREY

    @abc.abstractmethod
    def side(self, values: np.ndarray) -> Bool[np.ndarray, "*space"]:
        """Return the bright side of grey values that are not all alike, or what is inside of edges.

        Where the foreground is dark, the values are those of the negative.
        """

    def check(self, *, dims: int, channels: int) -> None:
        """Refuse images that the method cannot see, and more or fewer than two classes."""
        super().check(dims=dims, channels=channels)
        if self.num_classes != 2:
            raise ConfigError(
                f"config.model.type={base.title(self)!r}: tells a foreground from the background, "
                f"and the data has {self.num_classes} classes. Use 'classical:multi_otsu', "
                "'classical:kmeans', 'classical:slic' or 'classical:random_forest', which take any "
                "number."
            )

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of a single bit."""
        del channels
        return {"dark": ()}

    def fit(self, examples: Iterable[Seen], *, seed: int) -> dict[str, np.ndarray]:
        """Return whether the foreground is dark: which of both has the higher Dice over all."""
        del seed  # nothing is drawn
        met, pixels, true = np.zeros(2), np.zeros(2), 0
        for image, label in examples:
            valid, inside = label != IGNORE_LABEL, label == 1
            true += int(inside.sum())
            for dark in (False, True):
                found = self._foreground(image, dark=dark) & valid
                met[int(dark)] += (found & inside).sum()
                pixels[int(dark)] += found.sum()
        dice = 2 * met / np.maximum(1, pixels + true)
        return {"dark": np.asarray(dice[1] > dice[0], np.float32)}

    def predict(self, numbers: Numbers, image: Image) -> Float[np.ndarray, "*space k"]:
        """Return 1 for the side of each pixel and 0 for the other."""
        found = self._foreground(image, dark=bool(numbers["dark"]))
        return np.stack([~found, found], axis=-1).astype(np.float32)

    def _foreground(self, image: Image, *, dark: bool) -> Bool[np.ndarray, "*space"]:
        """Return the foreground; an image of one value has none."""
        values = grey(image)
        low, high = values.min(), values.max()
        if low == high:
            return np.zeros(values.shape, bool)
        return self.side(high - (values - low) if dark else values)


def grey(image: Image) -> np.ndarray:
    """Return the values of a grey image [*space] in their own type, or the luminance of RGB."""
    from skimage import color

    return image[..., 0] if image.shape[-1] == 1 else color.rgb2gray(image)


def scaled(values: np.ndarray) -> Float[np.ndarray, "*space"]:
    """Return values from 0 to 1."""
    low, high = float(values.min()), float(values.max())
    return (values.astype(np.float64) - low) / (high - low or 1.0)


def sure(values: np.ndarray) -> Int32[np.ndarray, "*space"]:
    """Return 1 where values are at most the mean of those below Otsu's threshold, 2 where above."""
    from skimage import filters

    bright = values > filters.threshold_otsu(values)
    low, high = values[~bright].mean(), values[bright].mean()
    return np.where(values >= high, 2, np.where(values <= low, 1, 0)).astype(np.int32)

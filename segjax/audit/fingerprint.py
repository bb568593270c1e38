"""What a training split is like, in the few numbers from which a recipe can be derived.

nnU-Net calls it the fingerprint (Isensee et al. 2021): sizes, spacing, values, classes. Here also
how wide the regions of each class are, and where in the images they lie: whether an image that is
mirrored could be one of the set.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from segjax.data import core, resample
from segjax.data.lazy import Region

EXAMPLES, FEWEST = 64, 8
"""How many examples are looked at, spread evenly over the split, and how few of large ones."""
PIXELS = 1 << 29
"""Of all these together, where they are large."""
SIDE = 2048
"""What is looked at of a picture is at most so long: its middle. Of volumes planes of this side."""
VALUES = 20_000
"""Of each image, evenly over it, for what is said of values."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What a training split is like. Lists by axis are in the order of the array.

    Attributes:
        examples: In the split.
        seen: How many of them were looked at.
        channels: Of each image.
        dtype: Of its values.
        class_names: Of the data.
        multilabel: Whether classes overlap.
        size: The median of each side.
        smallest: The least of each side.
        largest: The 95th percentile of each side.
        spacing: The median size of a pixel along each axis; empty: the files say none.
        spacings: Along each axis the least, the 10th percentile and the largest.
        mean: Of each channel, over all images alike; of `uint8` and `uint16` from 0 to 1.
        std: Likewise.
        low: The 0.5 percentile of all values of all channels, in the data's own units.
        high: The 99.5 percentile.
        own_scale: How far images differ in contrast: the 90th percentile of their own standard
            deviations over the 10th. 1: all alike.
        share: Of the valid pixels, those of each class.
        images: Of those looked at, the share that has some pixel of each class.
        width: Of each class, the typical width of its regions in pixels: twice their area over the
            length of their borders, which is the width of a long strip and half that of a disc. 0:
            it has no border.
        place: Of each class and axis, where it lies on average: from 0, the first pixel, to 1.
        spread: The standard deviation of that from image to image.
    """

    examples: int
    seen: int
    channels: int
    dtype: str
    class_names: tuple[str, ...]
    multilabel: bool
    size: tuple[int, ...]
    smallest: tuple[int, ...]
    largest: tuple[int, ...]
    spacing: tuple[float, ...]
    spacings: tuple[tuple[float, float, float], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float
    high: float
    own_scale: float
    share: tuple[float, ...]
    images: tuple[float, ...]
    width: tuple[float, ...]
    place: tuple[tuple[float, ...], ...]
    spread: tuple[tuple[float, ...], ...]

    @property
    def dims(self) -> int:
        """Axes in space."""
        return len(self.size)

    @property
    def same_size(self) -> bool:
        """Whether nearly all images have one size."""
        return self.smallest == self.largest == self.size


class _Seen(NamedTuple):
    """What is kept of an example; of `k` classes and `d` axes."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    values: np.ndarray
    pixels: np.ndarray
    borders: np.ndarray
    place: np.ndarray


def take(source: core.Source, *, tell: Callable[[int], None] = lambda done: None) -> Fingerprint:
    """Return the fingerprint of a split; the same whenever the data is.

    Args:
        source: The split.
        tell: Is told how many examples have been looked at.

    Raises:
        DataError: An example that is looked at cannot be used.
    """
    first: Any = source[0]
    pixels = math.prod(first["label"].shape[: len(first["image"].shape) - 1])
    count = min(EXAMPLES, len(source), max(FEWEST, PIXELS // max(1, pixels)))
    chosen = core.spread(source, count)
    every = []
    for number in range(len(chosen)):
        every.append(_see(chosen[number], chosen))
        tell(number + 1)
    return _summary(source, every)


def _see(example: Any, source: core.Source) -> _Seen:
    image, label = example["image"], example["label"]
    size = tuple(map(int, image.shape[:-1]))
    middle = _middle(size)
    part = np.asarray(label[middle])
    values = np.asarray(image[middle]).reshape(-1, image.shape[-1])
    values = values[:: -(-len(values) // VALUES)].astype(np.float64)
    spacing = example.get(resample.FIELD, ())
    multilabel = source.schema["label"].kind == "labels"
    inside = [
        part[..., k] == 1 if multilabel else part == k for k in range(len(source.class_names))
    ]
    return _Seen(
        size,
        tuple(float(each) for each in spacing),
        values,
        np.array([int(each.sum()) for each in inside]),
        np.array([borders(each) for each in inside]),
        np.array([_place(each) for each in inside]),
    )


def _middle(size: Sequence[int]) -> Region:
    """Return the part of an image that is looked at: all of it, unless a side is too long."""
    spare = [max(0, length - SIDE) // 2 for length in size]
    return tuple(
        slice(low, low + min(length, SIDE)) for low, length in zip(spare, size, strict=True)
    )


def borders(mask: Bool[np.ndarray, "*space"]) -> int:
    """Return how many sides of pixels lie between a mask and what is not of it."""
    return sum(int(np.count_nonzero(np.diff(mask, axis=axis))) for axis in range(mask.ndim))


def _place(mask: Bool[np.ndarray, "*space"]) -> np.ndarray:
    """Return the mean place of a mask's pixels along each axis, from 0 to 1; NaN: it has none."""
    found = []
    for axis, length in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        counts = mask.sum(axis=others) if others else mask.astype(np.int64)
        total = counts.sum()
        at = (np.arange(length) + 0.5) / length
        found.append(float((counts * at).sum() / total) if total else np.nan)
    return np.array(found)


def _summary(source: core.Source, every: Sequence[_Seen]) -> Fingerprint:
    sizes = np.array([each.size for each in every])
    spacings = np.array([each.spacing for each in every if each.spacing])
    pixels = np.array([each.pixels for each in every])
    edges = sum(each.borders for each in every)
    places = np.array([each.place for each in every])
    field = source.schema["image"]
    values = np.concatenate([each.values for each in every])
    unit = float(np.iinfo(field.dtype).max) if np.dtype(field.dtype).kind == "u" else 1.0
    own = np.array([each.values.std(0) for each in every])
    few, many = np.percentile(own, [10, 90], axis=0)
    std = np.maximum(values.std(0), 1e-6)
    low, high = np.percentile(values, [0.5, 99.5])
    areas, lengths = pixels.sum(0), np.asarray(edges)
    return Fingerprint(
        examples=len(source),
        seen=len(every),
        channels=field.shape[0],
        dtype=field.dtype,
        class_names=tuple(source.class_names),
        multilabel=source.schema["label"].kind == "labels",
        size=_whole(np.median(sizes, axis=0)),
        smallest=_whole(sizes.min(0)),
        largest=_whole(np.percentile(sizes, 95, axis=0)),
        spacing=_short(np.median(spacings, axis=0)) if len(spacings) else (),
        spacings=_of_axes(np.percentile(spacings, [0, 10, 100], axis=0)) if len(spacings) else (),
        mean=_short(values.mean(0) / unit),
        std=_short(std / unit),
        low=_short([low])[0],
        high=_short([high])[0],
        own_scale=_short([np.max(many / np.maximum(few, 1e-6 * many + 1e-12))])[0],
        share=_short(areas / max(1, areas.sum())),
        images=_short((pixels > 0).mean(0)),
        width=_short(np.where(lengths > 0, 2 * areas / np.maximum(lengths, 1), 0)),
        place=tuple(_short(_over_images(places[:, k], np.mean)) for k in range(places.shape[1])),
        spread=tuple(_short(_over_images(places[:, k], np.std)) for k in range(places.shape[1])),
    )


def _of_axes(table: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    """Return three rows of numbers by axis."""
    return tuple((low, fine, high) for low, fine, high in map(_short, table.T))


def _over_images(places: np.ndarray, what: Any) -> np.ndarray:
    """Return the mean or deviation of places [n d] over the images that have any; 0.5 of none."""
    known = places[np.isfinite(places).all(axis=1)]
    return what(known, axis=0) if len(known) else np.full(places.shape[1], 0.5)


def _whole(values: Any) -> tuple[int, ...]:
    return tuple(round(float(value)) for value in values)


def _short(values: Any) -> tuple[float, ...]:
    """Return numbers in three digits: enough to decide by, and the same on every machine."""
    return tuple(float(f"{float(value):.3g}") for value in values)

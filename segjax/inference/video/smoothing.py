"""Class maps of a video made steady: pixels vote with those of the frames before and after.

Flow-free: a pixel is compared with the same place in other frames, which have a vote only where
the picture is alike there. So what moves is not smeared, and what stands still does not flicker.
"""

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Num, UInt8
from scipy import ndimage

from segjax.views import colour

T = TypeVar("T")
BLUR = 5
"""The side of the square over which pictures are compared, in pixels."""
ALIKE = 12.0
"""The largest difference of two alike places, of 0..255; twice the noise of a good camera."""


class Seen(NamedTuple):
    """A frame that waits for its vote, or has one.

    Attributes:
        item: What it is returned with.
        classes: Its class map [h w], or of a multi-label task [h w k].
        grey: Its blurred brightness, float32 [h w].
    """

    item: Any
    classes: UInt8[np.ndarray, "h w ..."]
    grey: np.ndarray


def vote(
    items: Iterable[tuple[T, Num[np.ndarray, "h w c"], UInt8[np.ndarray, "h w ..."]]], count: int
) -> Iterator[tuple[T, UInt8[np.ndarray, "h w ..."]]]:
    """Yield each item with its class map after the vote of `count` frames, itself in the middle.

    At most `count` frames are held; one is yielded when half of the others have followed it.

    Args:
        items: Anything, an image of 8 bits and its class map, in order.
        count: An odd number of frames.
    """
    half = count // 2
    seen = (Seen(item, classes, _grey(image)) for item, image, classes in items)
    window = collections.deque[Seen | None]([None] * half, maxlen=count)
    for each in itertools.chain(seen, [None] * half):
        window.append(each)
        if len(window) == count and (middle := window[half]) is not None:
            yield middle.item, _voted(middle, [other for other in window if other is not None])


def _voted(middle: Seen, window: Sequence[Seen]) -> UInt8[np.ndarray, "h w ..."]:
    others = [each for each in window if each is not middle]
    maps = [middle.classes, *(each.classes for each in others)]
    alike = [np.abs(each.grey - middle.grey) <= ALIKE for each in others]
    return most(maps, [np.ones(middle.grey.shape, bool), *alike])


def most(
    maps: list[UInt8[np.ndarray, "h w ..."]], has_vote: list[Bool[np.ndarray, "h w"]]
) -> UInt8[np.ndarray, "h w ..."]:
    """Return the class that most maps with a vote have in each pixel; of several the first map's.

    Args:
        maps: Class maps, or multi-label maps, whose classes are voted on one by one.
        has_vote: Where each of them has a vote.
    """
    votes = [each.reshape(*each.shape, *[1] * (maps[0].ndim - 2)) for each in has_vote]
    found, highest = maps[0], np.zeros(maps[0].shape, np.uint8)
    for candidate, allowed in zip(maps, votes, strict=True):
        count = np.zeros(maps[0].shape, np.uint8)
        for other, has in zip(maps, votes, strict=True):
            count += (other == candidate) & has
        better = (count > highest) & allowed
        found, highest = np.where(better, candidate, found), np.where(better, count, highest)
    return found


def _grey(image: np.ndarray) -> np.ndarray:
    shown = colour.displayable(image).astype(np.float32).mean(axis=-1)
    return ndimage.uniform_filter(shown, BLUR, mode="nearest")

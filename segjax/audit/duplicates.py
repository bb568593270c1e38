"""Images that show the same: exactly, or resized, encoded anew, brightened or mirrored.

Each image is known by a thumbnail without its mean and its contrast, which scaling, compression and
brightness hardly change. Pairs whose thumbnails agree are compared again by finer details: frames
of a film agree in the large, and only true copies in the small.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

COARSE, FINE = 16, 128
"""Sides of the two thumbnails."""
ALIKE, SAME = 0.97, 0.8
"""Correlations of thumbnails and of details from which on a pair is compared, and found."""
BLOCK = 2048
"""Thumbnails that are compared with all others at once."""
MOST = 64
"""Pairs of one image that are compared by their details."""
BLOCK_SIDE, FLAT, WORST = 16, 6.0, 3
"""Of the blocks whose details are compared, the deviation below which one is flat, and how many of
those that agree the least count."""
MIRRORS = ((), (1,), (0,), (0, 1))
"""Axes along which the second image of a pair is turned round."""


class Thumbnail(NamedTuple):
    """What is kept of an image.

    Attributes:
        digest: Of its pixels, type and shape.
        small: uint8 [128 128], the image's mean over channels, from its darkest to its brightest.
    """

    digest: str
    small: UInt8[np.ndarray, "h w"]


class Pair(NamedTuple):
    """Two images that show the same.

    Attributes:
        first: Its number.
        second: Its number, larger.
        score: How well details agree, at most 1; of exact copies 1.
        exact: Whether all pixels are equal.
    """

    first: int
    second: int
    score: float
    exact: bool


def shrink(gray: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "128 128"]:
    """Return an image as a small one, averaged over what each pixel covers."""
    picture = Image.fromarray(gray.astype(np.float32))
    small = np.asarray(picture.resize((FINE, FINE), Image.Resampling.BOX))
    low, high = float(small.min()), float(small.max())
    return np.round((small - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def find(images: Sequence[Thumbnail]) -> list[Pair]:
    """Return all pairs of images that show the same, the surest first."""
    found: dict[tuple[int, int], Pair] = {}
    by_digest: dict[str, int] = {}
    for number, image in enumerate(images):
        first = by_digest.setdefault(image.digest, number)
        if first != number:
            found[first, number] = Pair(first, number, 1.0, True)
    firsts = sorted(by_digest.values())
    if len(firsts) > 1:
        fine = np.stack([images[number].small for number in firsts])
        for one, other, score in _near(fine):
            pair = firsts[one], firsts[other]
            if score > found.get(pair, Pair(*pair, -1.0, False)).score:
                found[pair] = Pair(*pair, score, False)
    return sorted(found.values(), key=lambda pair: (-pair.score, pair.first, pair.second))


def _near(fine: UInt8[np.ndarray, "n h w"]) -> Iterator[tuple[int, int, float]]:
    """Yield pairs, the lower number first, and how well their details agree."""
    step = FINE // COARSE
    shape = (len(fine), COARSE, step, COARSE, step)
    coarse = np.empty((len(fine), COARSE, COARSE), np.float32)
    for start in range(0, len(fine), BLOCK):
        part = fine[start : start + BLOCK].astype(np.float32)
        coarse[start : start + BLOCK] = part.reshape(-1, *shape[1:]).mean((2, 4))
    known = _standard(coarse)
    for axes in MIRRORS:
        turned = _standard(np.flip(coarse, tuple(axis + 1 for axis in axes)))
        for start in range(0, len(fine), BLOCK):
            alike = known[start : start + BLOCK] @ turned.T
            for row, values in enumerate(alike):
                one = start + row
                values[: one + 1] = 0  # each pair once
                near = np.flatnonzero(values >= ALIKE)
                near = near[np.argsort(-values[near], kind="stable")[:MOST]]
                for other in near.tolist():
                    score = _details(fine[one], np.flip(fine[other], axes))
                    if score >= SAME:
                        yield one, other, score


def _standard(images: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n d"]:
    """Return images as vectors without mean and of length 1; a flat one is 0."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(1, keepdims=True)
    length = np.sqrt((flat * flat).sum(1, keepdims=True))
    return np.where(length > 1.0, flat / np.maximum(length, 1e-12), 0).astype(np.float32)


def _details(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of the blocks of two images that agree the least.

    Blocks that are flat in either image say nothing. Of a scene that stands still something has
    moved in one of them; a copy agrees in all.
    """
    first, second = (_blocks(image.astype(np.float32)) for image in (one, other))
    spread = np.sqrt((first * first).mean(1) * (second * second).mean(1))
    textured = np.minimum((first * first).mean(1), (second * second).mean(1)) > FLAT**2
    if not textured.any():
        return 0.0
    agree = (first * second).mean(1)[textured] / spread[textured]
    return float(np.sort(agree)[:WORST].mean())


def _blocks(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "n d"]:
    """Return blocks of an image as vectors without mean."""
    count = FINE // BLOCK_SIDE
    blocks = image.reshape(count, BLOCK_SIDE, count, BLOCK_SIDE).swapaxes(1, 2)
    flat = blocks.reshape(count * count, -1)
    return flat - flat.mean(1, keepdims=True)

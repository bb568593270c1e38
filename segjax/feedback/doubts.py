"""Are corrections wrong in a way that can be learned? The model in use is asked.

A version that is trained on masks which all are moved, or call two classes by each other's names,
fits held corrections that are wrong in the same way. What is in use knows where things lie and what
they are called, even where it is not good: it agrees better with such masks once they are moved
back, or named otherwise.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8
from scipy import fft, optimize

from segjax.structs import IGNORE_LABEL

REACH = 24
"""How far a mask is moved along each axis, in pixels of what is looked at."""
SIDE = 256
"""Of longer images every so manyth pixel is looked at."""
NEAR = 2
"""Moves that outlines make up for."""
BETTER = 0.02
"""Of the pixels, by which a moved mask must agree better to count as moved."""


class Doubts(NamedTuple):
    """What the model in use says of corrections.

    Attributes:
        classes: How many classes their masks have, all together.
        moved: The share of masks that fit what is predicted better elsewhere, all of them about
            `move` away; NaN: none can tell.
        move: How far those lie from where they fit, in pixels down and right.
        renamed: When classes change their names with each other so that most agrees: by how much
            more of each one's pixels do then, in the mean over them, 0 to 1.
        names: Which ones do, as (in the masks, as predicted).
    """

    classes: int
    moved: float
    move: tuple[int, int]
    renamed: float
    names: tuple[tuple[str, str], ...]


Map = UInt8[np.ndarray, "h w"]


def doubt(pairs: Iterable[tuple[Map, Map]], class_names: Sequence[str]) -> Doubts:
    """Return what predictions say of masks.

    Args:
        pairs: Mask and prediction of each correction, of the same size; void is not judged.
        class_names: Of the run.
    """
    k = len(class_names)
    counts, moves = np.zeros((k, k), np.int64), []
    for label, pred in pairs:
        judged = (label < k) & (pred < k)
        both = k * label[judged].astype(np.int64) + pred[judged]
        counts += np.bincount(both, minlength=k * k).reshape(k, k)
        if len(np.unique(label[judged])) > 1 and len(np.unique(pred[judged])) > 1:
            moves.append(best_move(label, pred, k))
    far = [move for move, gain in moves if max(map(abs, move)) > NEAR and gain >= BETTER]
    middle = np.median(far, axis=0).round().astype(int) if far else np.zeros(2, int)
    together = sum(int(np.abs(np.subtract(move, middle)).max()) <= NEAR for move in far)
    renamed, names = rename(counts)
    return Doubts(
        int(np.count_nonzero(counts.sum(1))),
        together / len(moves) if moves else float("nan"),
        (-int(middle[0]), -int(middle[1])),
        renamed,
        tuple((class_names[own], class_names[other]) for own, other in names),
    )


def rename(counts: Int64[np.ndarray, "k k"]) -> tuple[float, list[tuple[int, int]]]:
    """Return by how much more of their pixels some classes agree under other names, and which.

    Names go round among classes: where all is taken for ground, the ground itself would have to
    be another class, and loses. Classes count alike, however large they are.

    Args:
        counts: Pixels by their class in the mask and the predicted one.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows, columns = optimize.linear_sum_assignment(shares, maximize=True)
    gains = shares[rows, columns] - np.diag(shares)
    best, found, left = 0.0, [], {*range(len(counts))}
    while left:
        ring = [min(left)]
        while (following := int(columns[ring[-1]])) != ring[0]:
            ring.append(following)
        left -= {*ring}
        if (gain := float(gains[ring].mean())) > best:
            best, found = gain, [(own, int(columns[own])) for own in ring]
    return best, found


def best_move(label: Map, pred: Map, k: int) -> tuple[tuple[int, int], float]:
    """Return by which move a mask agrees best with a prediction, and how much better than unmoved.

    Agreement is the share of the pixels that both have after the move, counted for all moves at
    once as products of Fourier transforms.
    """
    step = max(1, -(-max(label.shape) // SIDE))
    label, pred = label[::step, ::step], pred[::step, ::step]
    reach = [max(1, min(REACH, side // 4)) for side in label.shape]
    sides = [side + far for side, far in zip(label.shape, reach, strict=True)]
    shape = [fft.next_fast_len(side, real=True) for side in sides]

    def met(own: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "moves moves"]:
        one: Any = fft.rfft2(own.astype(np.float32), shape)
        two: Any = fft.rfft2(other.astype(np.float32), shape)
        every: Any = fft.irfft2(np.conj(one) * two, shape)
        return np.roll(every, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]

    known = label != IGNORE_LABEL
    classes = [c for c in np.unique(label[known]).tolist() if c < k]
    equal = sum(met(label == c, pred == c) for c in classes)
    share = equal / np.maximum(met(known, np.ones(pred.shape)), 1.0)
    y, x = np.unravel_index(int(np.argmax(share)), share.shape)
    gain = float(share[y, x] - share[reach[0], reach[1]])
    if y in (0, 2 * reach[0]) or x in (0, 2 * reach[1]):
        gain = 0.0  # it grows on: less and less overlaps
    return (step * (int(y) - reach[0]), step * (int(x) - reach[1])), gain

"""Suppression of boxes that a better one overlaps, in fixed shapes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from segjax.layers import boxes as boxes_lib


def survivors(
    boxes: Float[Array, "n 4"],
    valid: Bool[Array, " n"],
    *,
    threshold: float,
    groups: Int[Array, " n"] | None = None,
) -> Bool[Array, " n"]:
    """Return which boxes no surviving one before them overlaps by more than `threshold`.

    What greedy suppression keeps solves `keep[i] = no j < i with keep[j] overlaps i`, and nothing
    else does: its right side is applied until nothing changes. After as many rounds as the longest
    chain of boxes that suppress each other is long, which are a few, every box has its answer.

    Args:
        boxes: The best first.
        valid: False: not there at all.
        threshold: Intersection over union.
        groups: Boxes of different groups, such as classes, leave each other alone.
    """
    before = jnp.tri(len(boxes), k=-1, dtype=bool)  # [i j]: j stands before i
    over = before & (boxes_lib.iou(boxes, boxes) > threshold)
    if groups is not None:
        over &= groups[:, None] == groups

    def answer(keep: Array) -> Array:
        return valid & ~(over & keep).any(-1)

    def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = state
        new = answer(keep)
        return new, (new != keep).any()

    first = answer(valid)
    return jax.lax.while_loop(lambda state: state[1], again, (first, (first != valid).any()))[0]

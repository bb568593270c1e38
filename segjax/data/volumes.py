"""Procedural volumes: four kinds of solids on a cloudy ground, in one channel.

A kind is a shape and a texture, as in `scenes`. The two tones of every solid come from one
distribution, whatever its kind, so brightness says nothing.
"""

import math
from collections.abc import Callable

import numpy as np

from segjax.data import core
from segjax.data.scenes import GLASS, TAU, Drawn, Rng, paint, sharpen, smooth_weights

Block = np.ndarray  # float32 [d h w]
Size = tuple[int, ...]  # depth, height, width

RADII = (0.24, 0.42)
"""Outer radii of solids, in parts of the volume's shortest side."""

RIM = (-0.5, 0.5)
"""Between these signed distances to a surface, in voxels, a voxel is void: it is part both."""


def render(
    rng: Rng, size: Size, *, overlap: bool = False, drawn: list[Drawn] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one volume: image uint8 `[d h w 1]`, label uint8 `[d h w]`, instance uint8 `[d h w]`.

    With `overlap` the label is multi-label, uint8 `[d h w k]`, as in `scenes.render`.
    """
    tones = rng.uniform(0.1, 0.9) + np.array([0, rng.uniform(-0.3, 0.3)])
    image = tones[0] + (tones[1] - tones[0]) * clouds(rng, size)
    label = np.zeros((*size, len(KINDS)) if overlap else size, np.uint8)
    instance = np.zeros(size, np.uint8)
    things = _arrange(rng, size, overlap=overlap)
    for number, (kind, centre, radius) in enumerate(things, start=1):
        box, u, v, w = _frame(rng, size, centre, radius)
        distance, pattern = KINDS[kind](rng, u, v, w, radius)
        first, second = _two_tones(rng, tones)
        opacity = np.clip(0.5 - distance, 0, 1)
        if overlap:
            opacity *= GLASS
        image[box] += opacity * (first + (second - first) * pattern - image[box])
        inside, rim = distance < RIM[0], (distance >= RIM[0]) & (distance < RIM[1])
        paint(label, instance, box, inside, rim, kind=kind, number=number, drawn=drawn)
    return _scan(rng, image), label, instance


def _arrange(rng: Rng, size: Size, *, overlap: bool) -> list[tuple[int, np.ndarray, float]]:
    """Choose kind, centre and radius of each solid; the later ones hide the earlier.

    With `overlap` at the first place that is drawn, otherwise at the least crowded of eight.
    """
    count = rng.integers(4, 8)
    radii = np.sort(rng.uniform(*RADII, count))[::-1] * min(size)
    centres = np.empty((count, 3))
    for i, radius in enumerate(radii):
        tries = rng.uniform(0.1, 0.9, (8, 3)) * size
        apart = np.linalg.norm(tries[:, None] - centres[:i], axis=-1) - radius - radii[:i]
        centres[i] = tries[0 if overlap else np.argmax(apart.min(axis=1, initial=np.inf))]
    kinds = rng.integers(len(KINDS), size=count)
    return list(zip(kinds.tolist(), centres, radii.tolist(), strict=True))


def _frame(
    rng: Rng, size: Size, centre: np.ndarray, radius: float
) -> tuple[tuple[slice, ...], Block, Block, Block]:
    """Return the box around a solid and its voxels' coordinates on axes turned at random."""
    reach = math.sqrt(2) * radius + RIM[1]  # the corners of a box reach farther out
    low = np.maximum(0, np.floor(centre - reach)).astype(int)
    high = np.minimum(size, np.ceil(centre + reach) + 1).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    grid = np.mgrid[box].astype(np.float32) - centre.astype(np.float32)[:, None, None, None]
    u, v, w = np.tensordot(turn.astype(np.float32), grid, 1)
    return box, u, v, w


def _two_tones(rng: Rng, ground: np.ndarray) -> np.ndarray:
    """Draw two tones that differ from each other and the ground's: the best of twelve pairs."""
    pairs = rng.random((12, 2))
    within = np.abs(pairs[:, 0] - pairs[:, 1])
    from_ground = np.abs(pairs[:, :, None] - ground).min(axis=(1, 2))
    return pairs[np.argmax(np.minimum(within, 2 * from_ground))]


def _scan(rng: Rng, image: Block) -> np.ndarray:
    """Shade the volume unevenly, add noise and return uint8 `[d h w 1]`."""
    image = image * (1 + rng.uniform(0, 0.4) * (noise(rng, image.shape, 2) - 0.5))
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(0.01, 0.05)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None]


# Kinds of solids: signed distance to the surface in voxels (negative inside, a lower bound beyond
# edges) and pattern in 0..1, at u, v, w from the centre of a solid that reaches as far as `radius`.


def ball(rng: Rng, u: Block, v: Block, w: Block, radius: float) -> tuple[Block, Block]:
    """Draw a ball of concentric shells."""
    rho = np.sqrt(u * u + v * v + w * w)
    turns = TAU / rng.uniform(5, 6)
    return rho - radius, sharpen(np.sin(rho * turns + rng.uniform(0, TAU)), turns)


def box(rng: Rng, u: Block, v: Block, w: Block, radius: float) -> tuple[Block, Block]:
    """Draw a box with a checkerboard."""
    sides = radius * rng.uniform(0.6, 0.8, 3)
    outside = [np.abs(x) - side for x, side in zip((u, v, w), sides, strict=True)]
    turns = TAU / rng.uniform(7, 9)
    return np.maximum.reduce(outside), sharpen(
        np.sin(u * turns) * np.sin(v * turns) * np.sin(w * turns), turns
    )


def rod(rng: Rng, u: Block, v: Block, w: Block, radius: float) -> tuple[Block, Block]:
    """Draw a long rod, banded along its axis."""
    half = rng.uniform(0.25, 0.35) * radius
    distance = np.maximum(np.sqrt(v * v + w * w) - half, np.abs(u) - 1.3 * radius)
    turns = TAU / rng.uniform(5, 6)
    return distance, sharpen(np.sin(u * turns + rng.uniform(0, TAU)), turns)


def ring(rng: Rng, u: Block, v: Block, w: Block, radius: float) -> tuple[Block, Block]:
    """Draw a ring of alternating segments."""
    half = rng.uniform(0.22, 0.28) * radius
    middle = radius - half
    distance = np.hypot(np.hypot(u, v) - middle, w) - half
    segments = max(4, round(TAU * middle / rng.uniform(8, 10)))
    return distance, sharpen(np.sin(segments * np.arctan2(v, u)), segments / middle)


def clouds(rng: Rng, size: Size) -> Block:
    """Fill with soft blobs of several sizes, in 0..1."""
    return 0.5 * noise(rng, size, 4) + 0.3 * noise(rng, size, 9) + 0.2 * noise(rng, size, 16)


def noise(rng: Rng, size: tuple[int, ...], knots: int) -> np.ndarray:
    """Draw random values on a coarse grid, `knots` a side, and enlarge them smoothly to `size`."""
    field = rng.random((knots,) * len(size), np.float32)
    for side in size:  # the first axis is enlarged and goes to the end: after all, in order again
        field = np.tensordot(field, smooth_weights(side, knots), (0, 1))
    return field


Kind = Callable[[Rng, Block, Block, Block, float], tuple[Block, Block]]
KINDS: tuple[Kind, ...] = (ball, box, rod, ring)
CLASS_NAMES = ("background", *(kind.__name__ for kind in KINDS))
PALETTE: core.Palette = (
    (38, 40, 51),
    (230, 75, 60),
    (58, 124, 235),
    (241, 196, 15),
    (46, 204, 113),
)

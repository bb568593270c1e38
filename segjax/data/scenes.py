"""Procedural scenes: pictures of seven kinds of things on textured grounds.

A kind is a shape and a texture. The two colours of every thing come from one distribution, whatever
its kind, so colour says nothing: a model must look at patterns and outlines.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from segjax.data import core
from segjax.structs import IGNORE_LABEL

SMALL, LARGE = (10.0, 15.0), (18.0, 36.0)
"""Outer radii of small and large things, in 128ths of the image's shorter side."""

RIM = (-0.6, 1.0)
"""Between these signed distances to an outline, in pixels, a pixel is void: its colour is mixed."""

GLASS = 0.6
"""How much of what lies below a thing hides where things overlap."""

TAU = 2 * math.pi

Field = np.ndarray  # float32 [h w]
Rng = np.random.Generator
Size = tuple[int, ...]  # height, width


class Drawn(NamedTuple):
    """A thing as it was drawn, whatever later ones hide of it.

    Attributes:
        kind: Its number.
        box: The part of the image that it was drawn in.
        inside: bool [*box]: its pixels, without its rim.
    """

    kind: int
    box: tuple[slice, ...]
    inside: np.ndarray


def render(
    rng: Rng,
    size: Size,
    *,
    overlap: bool = False,
    drawn: list[Drawn] | None = None,
    ground: str = "",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one scene: image uint8 `[h w 3]`, label uint8 `[h w]`, instance uint8 `[h w]`.

    With `overlap` things lie anywhere and shine through each other, and the label is multi-label,
    uint8 `[h w k]` of the k kinds, each with all pixels of its things. Each thing is added to
    `drawn`. `ground` names one of `OTHER_GROUNDS` in place of the usual ones.
    """
    shades = rng.random((2, 3), np.float32)
    shades[1] = shades[0] + (shades[1] - shades[0]) * np.float32(rng.uniform(0.4, 0.8))
    texture = GROUNDS[rng.integers(len(GROUNDS))]
    texture = OTHER_GROUNDS[ground] if ground else texture
    image = _mix(shades[0], shades[1], texture(rng, size))
    label = np.zeros((*size, len(KINDS)) if overlap else size, np.uint8)
    instance = np.zeros(size, np.uint8)
    things = _arrange(rng, size, overlap=overlap)
    for number, (kind, centre, radius) in enumerate(things, start=1):
        box, u, v = _frame(rng, size, centre, radius)
        distance, pattern = KINDS[kind](rng, u, v, radius)
        first, second = _colours(rng, shades)
        opacity = np.clip(0.5 - distance, 0, 1)
        if overlap:
            opacity *= GLASS
        image[:, *box] += opacity * (_mix(first, second, pattern) - image[:, *box])
        inside, rim = distance < RIM[0], (distance >= RIM[0]) & (distance < RIM[1])
        paint(label, instance, box, inside, rim, kind=kind, number=number, drawn=drawn)
    return _photograph(rng, image), label, instance


def paint(
    label: np.ndarray,
    instance: np.ndarray,
    box: tuple[slice, ...],
    inside: np.ndarray,
    rim: np.ndarray,
    *,
    kind: int,
    number: int,
    drawn: list[Drawn] | None = None,
) -> None:
    """Write a thing into the maps of its scene, its rim as void: it is part both.

    In a class map and the instances it hides what is there; in a multi-label map it changes its own
    kind's alone, where other things of that kind stay whole. What is drawn is added to `drawn`.
    """
    if drawn is not None:
        drawn.append(Drawn(kind, box, inside))
    if label.ndim > len(box):
        own = label[(*box, kind)]
        own[rim & (own != 1)] = IGNORE_LABEL
        own[inside] = 1
    else:
        label[box][inside] = kind + 1
        label[box][rim] = IGNORE_LABEL
    instance[box][inside] = number
    instance[box][rim] = 0


def _arrange(rng: Rng, size: Size, *, overlap: bool) -> list[tuple[int, np.ndarray, float]]:
    """Choose kind, centre and radius of each thing, the large ones first: they lie below.

    With `overlap` at the first place that is drawn, otherwise at the least crowded of eight.
    """
    count = rng.integers(4, 8)
    small = rng.random(count) < 0.25
    radii = np.where(small, rng.uniform(*SMALL, count), rng.uniform(*LARGE, count))
    radii = np.sort(radii)[::-1] * (min(size) / 128)
    centres = np.empty((count, 2))
    for i, radius in enumerate(radii):
        tries = rng.uniform(0.1, 0.9, (8, 2)) * size
        apart = np.hypot(*(tries[:, None] - centres[:i]).transpose(2, 0, 1)) - radius - radii[:i]
        centres[i] = tries[0 if overlap else np.argmax(apart.min(axis=1, initial=np.inf))]
    kinds = rng.integers(len(KINDS), size=count)
    radii = np.where(kinds == KINDS.index(wire), 1.5 * radii, radii)  # long, because thin
    return list(zip(kinds.tolist(), centres, radii.tolist(), strict=True))


def _frame(
    rng: Rng, size: Size, centre: np.ndarray, radius: float
) -> tuple[tuple[slice, slice], Field, Field]:
    """Return the box around a thing and its pixels' coordinates u, v on axes turned at random."""
    reach = radius + 2 + RIM[1]  # the rim of a sharp corner reaches farther out
    low = np.maximum(0, np.floor(centre - reach)).astype(int)
    high = np.minimum(size, np.ceil(centre + reach) + 1).astype(int)
    y = np.arange(low[0], high[0], dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(low[1], high[1], dtype=np.float32) - np.float32(centre[1])
    turn = rng.uniform(0, TAU)
    cos, sin = math.cos(turn), math.sin(turn)
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    return box, x * cos + y * sin, y * cos - x * sin


def _colours(rng: Rng, ground: np.ndarray) -> np.ndarray:
    """Draw two colours that differ from each other and the ground's: the best of twelve pairs."""
    pairs = rng.random((12, 2, 3), np.float32)
    within = np.abs(pairs[:, 0] - pairs[:, 1]).max(axis=-1)
    from_ground = np.abs(pairs[:, :, None] - ground).max(axis=-1).min(axis=(1, 2))
    return pairs[np.argmax(np.minimum(within, from_ground))]


def _mix(first: np.ndarray, second: np.ndarray, t: Field) -> np.ndarray:
    """Blend two colours by `t` in 0..1 to an image `[3 h w]`."""
    return first[:, None, None] + (second - first)[:, None, None] * t


def _photograph(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Light the scene `[3 h w]` unevenly, blur it, add sensor noise and return uint8 `[h w 3]`."""
    size = image.shape[1:]
    light = 1 + rng.uniform(0, 0.5) * (_noise(rng, size, (2, 2)) - 0.5)
    cast = rng.uniform(0.9, 1.1, (3, 1, 1)).astype(np.float32)
    image = image * (light * cast)
    blur = rng.uniform(0, 0.5)
    for axis in (1, 2):
        inner = np.moveaxis(image, axis, 0)
        around = 0.5 * (inner[:-2] + inner[2:]) - inner[1:-1]
        inner[1:-1] += blur * around
    grain = rng.uniform(0.01, 0.045)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(grain)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()


# Kinds of things: signed distance to the outline in pixels (negative inside, a lower bound beyond
# corners) and pattern in 0..1, at u, v from the centre of a thing that reaches as far as `radius`.


def disc(rng: Rng, u: Field, v: Field, radius: float) -> tuple[Field, Field]:
    """Draw a disc with concentric rings."""
    rho = np.sqrt(u * u + v * v)
    return rho - radius, _stripes(rng, rho, rng.uniform(7, 9))


def square(rng: Rng, u: Field, v: Field, radius: float) -> tuple[Field, Field]:
    """Draw a rectangle with a checkerboard."""
    side = 0.7 * radius
    distance = np.maximum(np.abs(u) - side, np.abs(v) - side * rng.uniform(0.75, 1))
    turns = TAU / rng.uniform(10, 13)
    return distance, sharpen(np.sin(u * turns) * np.sin(v * turns), turns)


def triangle(rng: Rng, u: Field, v: Field, radius: float) -> tuple[Field, Field]:
    """Draw a triangle with stripes along its base."""
    slope = math.sqrt(3) / 2
    distance = np.maximum(slope * np.abs(u) + 0.5 * v, -v) - 0.5 * radius
    return distance, _stripes(rng, v, rng.uniform(4.5, 5.5))


def star(rng: Rng, u: Field, v: Field, radius: float) -> tuple[Field, Field]:
    """Draw a five-pointed star, each point light on one side and dark on the other."""
    fold = TAU / 5
    angle = np.arctan2(v, u)
    angle -= fold * np.rint(angle / fold)  # from the nearest point's axis
    rho = np.sqrt(u * u + v * v)
    along, across = rho * np.cos(angle), rho * np.sin(angle)
    depth = rng.uniform(0.45, 0.55) * radius  # of the notches between two points
    dx, dy = depth * math.cos(fold / 2) - radius, depth * math.sin(fold / 2)
    distance = (np.abs(across) * -dx + (along - radius) * dy) / math.hypot(dx, dy)
    return distance, np.clip(0.5 + across, 0, 1)


def ring(rng: Rng, u: Field, v: Field, radius: float) -> tuple[Field, Field]:
    """Draw a ring of alternating segments."""
    half = rng.uniform(0.18, 0.24) * radius
    middle = radius - half
    rho = np.sqrt(u * u + v * v)
    segments = max(4, round(TAU * middle / rng.uniform(13, 17)))
    wave = np.sin(segments * np.arctan2(v, u))
    return np.abs(rho - middle) - half, sharpen(wave, segments / middle)


def cross(rng: Rng, u: Field, v: Field, radius: float) -> tuple[Field, Field]:
    """Draw a cross with dots."""
    half = rng.uniform(0.3, 0.36) * radius
    u, v = np.abs(u), np.abs(v)
    length = 0.92 * radius
    distance = np.minimum(np.maximum(u - length, v - half), np.maximum(u - half, v - length))
    turns = TAU / rng.uniform(6.5, 8)
    return distance, sharpen(np.cos(u * turns) + np.cos(v * turns) - 0.7, turns)


def wire(rng: Rng, u: Field, v: Field, radius: float) -> tuple[Field, Field]:
    """Draw a thin wavy wire, banded like a rope."""
    half = rng.uniform(2.0, 2.7)
    swing = rng.uniform(0.15, 0.3) * radius
    turns = rng.uniform(0.8, 1.6) * TAU / (2 * radius)
    phase = u * turns + rng.uniform(0, TAU)
    steep = swing * turns * np.cos(phase)
    off = np.abs(v - swing * np.sin(phase)) / np.sqrt(1 + steep * steep)
    distance = np.maximum(off - half, np.abs(u) - 0.92 * radius)
    return distance, _stripes(rng, u + v, 6.0)


def _stripes(rng: Rng, x: Field, period: float) -> Field:
    turns = TAU / period
    return sharpen(np.sin(x * turns + rng.uniform(0, TAU)), turns)


def sharpen(wave: Field, turns: float) -> Field:
    """Turn a wave of `turns` radians per pixel to flat tops with edges one pixel wide."""
    return np.clip(0.5 + wave * (1 / turns), 0, 1)


# Grounds: patterns in 0..1 that fill the image.


def clouds(rng: Rng, size: Size) -> Field:
    """Fill with soft blobs of several sizes."""
    coarse, middle, fine = (_noise(rng, size, (knots, knots)) for knots in (4, 9, 20))
    return 0.6 * coarse + 0.3 * middle + 0.1 * fine


def gravel(rng: Rng, size: Size) -> Field:
    """Fill with fine grains."""
    fine = (2 * size[0] // 5, 2 * size[1] // 5)
    return 0.3 * _noise(rng, size, (6, 6)) + 0.7 * _noise(rng, size, fine)


def wood(rng: Rng, size: Size) -> Field:
    """Fill with long grain, upright or lying."""
    grids = [(3, size[1] // 3), (5, 6)]
    if rng.random() < 0.5:
        grids = [(size[0] // 3, 3), (6, 5)]
    return 0.6 * _noise(rng, size, grids[0]) + 0.4 * _noise(rng, size, grids[1])


def bricks(rng: Rng, size: Size) -> Field:
    """Fill with bricks, each of its own tone, between dark joints."""
    height = rng.uniform(12, 18)
    width = height * rng.uniform(1.8, 2.4)
    turn = rng.uniform(-0.4, 0.4)
    y, x = np.ogrid[: size[0], : size[1]]
    y, x = y.astype(np.float32), x.astype(np.float32)
    cos, sin = math.cos(turn), math.sin(turn)
    down = (y * cos - x * sin) / height + 64
    row = np.floor(down)
    along = (x * cos + y * sin) / width + 64 + 0.5 * (row % 2)
    column = np.floor(along)
    down, along = (down - row) * height, (along - column) * width
    tones = rng.random((16, 16), np.float32)
    tone = tones[row.astype(np.intp) % 16, column.astype(np.intp) % 16]
    joint = np.minimum(np.minimum(down, height - down), np.minimum(along, width - along))
    return (0.4 + 0.6 * tone) * np.clip(joint - 0.5, 0, 1)


def pebbles(rng: Rng, size: Size) -> Field:
    """Fill with rounded cells."""
    half = (size[0] // 2, size[1] // 2)  # a quarter of the distances, enlarged afterwards
    pitch = np.float32(math.sqrt(half[0] * half[1]) / 7)
    cells = np.indices((int(half[0] / pitch) + 2, int(half[1] / pitch) + 2)).reshape(2, -1, 1, 1)
    y, x = (cells + rng.uniform(-0.8, 0, cells.shape)).astype(np.float32) * pitch
    dy = (np.arange(half[0], dtype=np.float32)[:, None] - y) ** 2
    dx = (np.arange(half[1], dtype=np.float32) - x) ** 2
    nearest = np.min(dy + dx, axis=0)
    return _enlarge(np.clip(1.1 - 2 * nearest / pitch**2, 0, 1), size)


def weave(rng: Rng, size: Size) -> Field:
    """Fill with threads that go over and under each other, sharp as the patterns of things."""
    turn, turns = rng.uniform(0, TAU), TAU / rng.uniform(6, 10)
    y, x = (each.astype(np.float32) for each in np.ogrid[: size[0], : size[1]])
    cos, sin = math.cos(turn), math.sin(turn)
    u, v = x * cos + y * sin, y * cos - x * sin
    over = np.sin(u * turns / 2) * np.sin(v * turns / 2) > 0
    return np.where(over, sharpen(np.sin(u * turns), turns), sharpen(np.sin(v * turns), turns))


def _noise(rng: Rng, size: Size, grid: Size) -> Field:
    """Draw random values on a coarse grid and enlarge them smoothly to `size`."""
    return _enlarge(rng.random(grid, np.float32), size)


def _enlarge(field: Field, size: Size) -> Field:
    return (
        smooth_weights(size[0], field.shape[0]) @ field @ smooth_weights(size[1], field.shape[1]).T
    )


@functools.lru_cache(maxsize=64)
def smooth_weights(length: int, knots: int) -> np.ndarray:
    """Return the matrix that interpolates `knots` values smoothly to `length` pixels."""
    position = np.linspace(0, knots - 1, length)
    near = np.clip(1 - np.abs(position[:, None] - np.arange(knots)), 0, 1)
    return (near * near * (3 - 2 * near)).astype(np.float32)


Kind = Callable[[Rng, Field, Field, float], tuple[Field, Field]]
KINDS: tuple[Kind, ...] = (disc, square, triangle, star, ring, cross, wire)
GROUNDS: tuple[Callable[[Rng, Size], Field], ...] = (clouds, gravel, wood, bricks, pebbles)
OTHER_GROUNDS = {"weave": weave}
"""What no scene has unless it is asked for."""
PALETTE: core.Palette = (
    (38, 40, 51),
    (230, 75, 60),
    (58, 124, 235),
    (241, 196, 15),
    (155, 89, 182),
    (46, 204, 113),
    (243, 139, 168),
    (120, 220, 232),
)
CLASS_NAMES = ("background", *(kind.__name__ for kind in KINDS))

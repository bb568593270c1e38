"""Procedural signals: four kinds of events on a noisy, drifting line, in one channel.

An event is a shape. Heights and signs come from one distribution, whatever its kind, so the value
of a sample says nothing: a model must look at the course around it.
"""

from collections.abc import Callable

import numpy as np

from segjax.data import core
from segjax.data.scenes import TAU, Drawn, Rng, paint
from segjax.data.volumes import noise

Line = np.ndarray  # float32 [n]

HALVES = (9, 24)
"""Half the length of an event, in samples."""

GAP = 4
"""The fewest samples between two events."""


def render(
    rng: Rng, size: tuple[int, ...], *, overlap: bool = False, drawn: list[Drawn] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one signal: image uint16 `[n 1]`, label uint8 `[n]`, instance uint8 `[n]`.

    The first and the last sample of an event are void: where it begins is a matter of taste. With
    `overlap` there are two rows of events, added up, and the label is multi-label, uint8 `[n k]`.
    """
    (length,) = size
    line = 0.5 + 0.3 * (noise(rng, size, max(3, length // 80)) - 0.5)
    label = np.zeros((length, len(KINDS)) if overlap else length, np.uint8)
    instance = np.zeros(length, np.uint8)
    events = [event for _ in range(1 + overlap) for event in _arrange(rng, length)]
    for number, (start, stop) in enumerate(events, start=1):
        kind = int(rng.integers(len(KINDS)))
        height = rng.choice((-1, 1)) * rng.uniform(0.12, 0.3)
        line[start:stop] += height * KINDS[kind](rng, stop - start)
        rim = np.zeros(stop - start, bool)
        rim[[0, -1]] = True
        paint(
            label, instance, (slice(start, stop),), ~rim, rim, kind=kind, number=number, drawn=drawn
        )
    line += rng.standard_normal(length, np.float32) * rng.uniform(0.01, 0.04)
    image = (np.clip(line, 0, 1) * 65535 + 0.5).astype(np.uint16)
    return image[:, None], label, instance


def _arrange(rng: Rng, length: int) -> list[tuple[int, int]]:
    """Choose where events begin and end, from left to right; none overlap."""
    found, start = [], int(rng.integers(GAP, 2 * HALVES[1]))
    while True:
        stop = start + 2 * int(rng.integers(*HALVES))
        if stop > length - GAP:
            return found
        found.append((start, stop))
        start = stop + int(rng.integers(GAP, 3 * HALVES[1]))


# Kinds of events: `count` samples of a course that reaches 1 at its highest.


def pulse(rng: Rng, count: int) -> Line:
    """Jump up, stay, and jump back."""
    return np.full(count, rng.uniform(0.9, 1), np.float32)


def bump(rng: Rng, count: int) -> Line:
    """Rise and fall smoothly."""
    return np.sin(np.linspace(0, TAU / 2, count, dtype=np.float32)) ** 2 * rng.uniform(0.95, 1)


def burst(rng: Rng, count: int) -> Line:
    """Swing back and forth, most in the middle."""
    turns = TAU / rng.uniform(6, 9)
    return bump(rng, count) * np.sin(turns * np.arange(count, dtype=np.float32))


def decay(rng: Rng, count: int) -> Line:
    """Jump up and fall back slowly, in one direction or the other."""
    course = np.exp(-np.linspace(0, rng.uniform(2.5, 4), count, dtype=np.float32))
    return course if rng.random() < 0.5 else course[::-1]


Kind = Callable[[Rng, int], Line]
KINDS: tuple[Kind, ...] = (pulse, bump, burst, decay)
CLASS_NAMES = ("background", *(kind.__name__ for kind in KINDS))
PALETTE: core.Palette = (
    (214, 217, 223),
    (230, 75, 60),
    (58, 124, 235),
    (241, 180, 15),
    (46, 184, 103),
)

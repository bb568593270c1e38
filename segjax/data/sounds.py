"""Procedural sounds: tones, chirps and bursts of noise in a noisy room, one channel at 8 kHz.

All have one loudness, whatever their kind: a model must look at how the samples go on.
"""

import numpy as np

from segjax.data import core
from segjax.data.scenes import TAU, Drawn, Rng, paint
from segjax.data.volumes import noise

RATE = 8000
"""Samples a second."""
LENGTHS = (160, 700)
"""Of an event, in samples."""
GAP = 60
"""The fewest samples between two events."""
PITCH = (300.0, 1800.0)
"""Of tones, and where chirps begin and end, in hertz."""


def render(
    rng: Rng, size: tuple[int, ...], *, overlap: bool = False, drawn: list[Drawn] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one sound: image int16 `[n 1]`, label uint8 `[n]`, instance uint8 `[n]`.

    With `overlap` there are two rows of events, added up, and the label is multi-label, uint8
    `[n k]`.
    """
    (length,) = size
    room = noise(rng, size, max(3, length // 16)) - 0.5  # what is heard of a room is low
    line = (0.15 * room + 0.02 * rng.standard_normal(length)).astype(np.float32)
    label = np.zeros((length, len(KINDS)) if overlap else length, np.uint8)
    instance = np.zeros(length, np.uint8)
    number = 0
    for _ in range(1 + overlap):
        start = int(rng.integers(GAP, LENGTHS[1]))
        while (stop := start + int(rng.integers(*LENGTHS))) <= length - GAP:
            kind, number = int(rng.integers(len(KINDS))), number + 1
            sound = KINDS[kind](rng, stop - start)
            sound = sound / np.sqrt(np.mean(sound**2)) * rng.uniform(0.1, 0.2)
            line[start:stop] += sound * np.minimum(1, np.hanning(stop - start) * 4)
            rim = np.zeros(stop - start, bool)
            rim[:8] = rim[-8:] = True  # it swells and fades: where it begins is a matter of taste
            paint(
                label,
                instance,
                (slice(start, stop),),
                ~rim,
                rim,
                kind=kind,
                number=number,
                drawn=drawn,
            )
            start = stop + int(rng.integers(GAP, LENGTHS[1]))
    image = np.clip(line * 32767, -32768, 32767).astype(np.int16)
    return image[:, None], label, instance


def tone(rng: Rng, count: int) -> np.ndarray:
    """Draw a steady pitch."""
    return np.sin(TAU * rng.uniform(*PITCH) / RATE * np.arange(count) + rng.uniform(0, TAU))


def chirp(rng: Rng, count: int) -> np.ndarray:
    """Draw a pitch that rises or falls by a half at least."""
    first = rng.uniform(*PITCH)
    last = first * rng.uniform(1.5, 2.2) ** rng.choice((-1, 1))
    pitch = np.linspace(first, last, count)
    return np.sin(TAU * np.cumsum(pitch) / RATE + rng.uniform(0, TAU))


def hiss(rng: Rng, count: int) -> np.ndarray:
    """Draw a burst of noise."""
    return rng.standard_normal(count)


KINDS = (tone, chirp, hiss)
CLASS_NAMES = ("background", "tone", "chirp", "noise")
PALETTE: core.Palette = ((214, 217, 223), (58, 124, 235), (230, 75, 60), (241, 180, 15))

"""Procedural texts: invented words with dates, sums of money and addresses among them."""

import numpy as np

from segjax.data import core
from segjax.data.readers import text
from segjax.data.scenes import Drawn, Rng

LETTERS = "etaoinshrdlucmfwypvbgkxqjz"
WEIGHTS = np.linspace(2, 0.2, len(LETTERS))


def render(
    rng: Rng, size: tuple[int, ...], *, overlap: bool = False, drawn: list[Drawn] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one text: image uint8 `[n 21]` (see `readers.text`), label and instance uint8 `[n]`.

    With `overlap` the label is multi-label, uint8 `[n k]`.
    """
    (length,) = size
    parts: list[tuple[str, int]] = []
    while sum(len(part) for part, _ in parts) < length:
        kind = int(rng.integers(-5, len(KINDS)))
        parts.append((KINDS[kind](rng), kind + 1) if kind >= 0 else (_word(rng), 0))
        parts.append((" " if rng.random() < 0.85 else ", ", 0))
    found = "".join(part for part, _ in parts)[:length]
    label, instance = np.zeros(length, np.uint8), np.zeros(length, np.uint8)
    at, number = 0, 0
    for part, kind in parts:
        if kind:
            number += 1
            label[at : at + len(part)], instance[at : at + len(part)] = kind, number
            if drawn is not None:
                inside = instance[at : at + len(part)] == number
                drawn.append(Drawn(kind - 1, (slice(at, at + len(inside)),), inside))
        at += len(part)
    if overlap:
        label = (label[:, None] == np.arange(1, len(CLASS_NAMES))).astype(np.uint8)
    return text.encode(found), label, instance


def _word(rng: Rng) -> str:
    """Draw a word, or a number that is none of the things."""
    if rng.random() < 0.15:
        return str(rng.integers(0, 3000))
    letters = rng.choice(list(LETTERS), int(rng.integers(2, 10)), p=WEIGHTS / WEIGHTS.sum())
    word = "".join(letters)
    return word.capitalize() if rng.random() < 0.2 else word


def date(rng: Rng) -> str:
    """Draw a date in one of three ways to write it."""
    year, month, day = rng.integers(1900, 2100), rng.integers(1, 13), rng.integers(1, 29)
    short = f"{month}/{day}/{year % 100:02d}"
    forms = (f"{year}-{month:02d}-{day:02d}", f"{day}.{month}.{year}", short)
    return forms[int(rng.integers(len(forms)))]


def money(rng: Rng) -> str:
    """Draw a sum of money."""
    amount = rng.integers(1, 10 ** rng.integers(2, 7)) / 100
    sign = "€$£"[int(rng.integers(3))]
    return f"{sign}{amount:,.2f}" if rng.random() < 0.5 else f"{amount:.2f} {sign}"


def address(rng: Rng) -> str:
    """Draw an address of mail."""
    return f"{_word(rng)}.{_word(rng)}@{_word(rng)}.{('com', 'org', 'net')[int(rng.integers(3))]}"


KINDS = (date, money, address)
CLASS_NAMES = ("text", *(kind.__name__ for kind in KINDS))
PALETTE: core.Palette = ((230, 230, 230), (58, 124, 235), (46, 184, 103), (230, 75, 60))

"""Masks as run lengths, as COCO and CVAT write them; a run that claims too much is refused."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from segjax.errors import DataError

Runs = Int[np.ndarray, " n"]
"""Lengths of runs outside and inside, in turn; the first is outside and may be 0."""
_CHARS = 13
"""Characters of the longest number that COCO's strings hold, 64 bits."""


def runs_of(flat: Bool[np.ndarray, " n"]) -> Runs:
    """Return the run lengths of a flat mask."""
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = [0, 0] if flat.size and flat[0] else [0]
    return np.diff(np.concatenate([start, changes, [flat.size]])).astype(np.int64)


def flat_of(runs: Runs, length: int, *, where: str) -> Bool[np.ndarray, " n"]:
    """Return the flat mask of run lengths.

    Raises:
        DataError: They do not add up to `length`; found before anything of that size is made.
    """
    bad = runs[(runs < 0) | (runs > length)]
    total = int(runs.sum()) if not bad.size else int(bad[0])
    if bad.size or total != length:
        raise DataError(
            f"{where}: run lengths of {total:,} pixels, expected {length:,} in all. Mend the mask."
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def coco_runs(mask: Bool[np.ndarray, "h w"]) -> Runs:
    """Return run lengths as COCO has them: down the columns, one after the other."""
    return runs_of(mask.T.ravel())


def coco_mask(runs: Runs, size: tuple[int, int], *, where: str) -> Bool[np.ndarray, "h w"]:
    """Return the mask of COCO's run lengths; errors see `flat_of`."""
    height, width = size
    return flat_of(runs, height * width, where=where).reshape(width, height).T


def compress(runs: Runs) -> str:
    """Return COCO's string: five bits a character, from the fourth run on what each adds."""
    values = runs.copy()
    values[3:] -= runs[1:-2]
    text = []
    for value in values.tolist():
        while True:
            digit, value = value & 0x1F, value >> 5
            more = value != -1 if digit & 0x10 else value != 0
            text.append(chr(digit + 0x20 * more + 48))
            if not more:
                break
    return "".join(text)


def decompress(text: str, *, where: str) -> Runs:
    """Return the run lengths of COCO's string.

    Raises:
        DataError: It is none.
    """
    digits = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    last = digits & 0x20 == 0
    whole = text.isascii() and (not digits.size or last[-1])
    if not whole or digits.min(initial=0) < 0 or digits.max(initial=0) > 63:
        raise DataError(f"{where}: a string that is no run lengths of COCO. Mend the mask.")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    if (ends - starts).max(initial=0) >= _CHARS:
        raise DataError(f"{where}: run lengths beyond 64 bits. Mend the mask.")
    place = np.arange(digits.size) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((digits & 0x1F) << (5 * place), starts) if ends.size else digits
    negative = digits[ends] & 0x10 != 0
    values = values - np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    for first in (1, 2):  # each third one and on is the difference to the last but one
        values[first::2] = np.cumsum(values[first::2])
    return values


def numbers(text: str, *, where: str, most: int) -> Runs:
    """Return run lengths written with commas between, as CVAT does.

    Raises:
        DataError: Something else is among them, or there are more than `most`.
    """
    words: Sequence[str] = text.split(",", most + 1)
    if len(words) > most:
        raise DataError(f"{where}: more than {most:,} run lengths. Mend the mask.")
    try:
        return np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: rle={text[:40]!r} is no list of run lengths. Mend it.") from None

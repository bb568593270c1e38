"""Deal the examples of a data set to folds: whole numbers alone, the same on every machine.

What is shuffled is sorted by a hash of seed and name, so no order of files and no generator of
random numbers has a say in it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from segjax.errors import ConfigError, DataError

KINDS = ("plain", "consecutive", "stratified", "grouped", "stratified_grouped")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""How an assignment is written: a digit for the fold of each example."""
LINE = 1000
"""Examples in a line of it."""
SHARE = 1 << 20
"""What all pixels of a class together count as, when folds are made alike."""
OTHERS = 256
"""Units with which a swap of each is tried."""
SWEEPS = 4


class Unit(NamedTuple):
    """Examples that go into one fold together.

    Attributes:
        name: What the seed shuffles it by.
        places: Of its examples, at least one.
    """

    name: str
    places: tuple[int, ...]


def deal(
    names: Sequence[str],
    folds: int,
    *,
    kind: str,
    seed: int,
    groups: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
    pixels: Int64[np.ndarray, "n k"] | None = None,
) -> list[int]:
    """Return the fold of each example.

    Args:
        names: Of the examples, all different.
        folds: How many there are.
        kind: One of `KINDS`. 'plain' shuffles; 'consecutive' makes blocks of what follows each
            other in natural order; 'stratified' gives each fold its share of each class, of
            examples that have it and of its pixels.
        seed: Decides what is shuffled.
        groups: What each example belongs to, for kinds that are grouped: a group is in one fold.
        order: What 'consecutive' sorts by instead of the names.
        pixels: Of each class in each example, for kinds that are stratified.

    Raises:
        DataError: Fewer examples or groups than folds.
    """
    units = _units(names, groups if kind.endswith("grouped") else None)
    if len(units) < folds:
        what = "groups" if kind.endswith("grouped") else "examples"
        raise DataError(
            f"{folds} folds of {len(units)} {what}: expected at least one of these for each fold. "
            f"Use at most {len(units)} folds, or another kind."
        )
    if kind == "consecutive":
        return _blocks(folds, names if order is None else order)
    units = sorted(units, key=lambda unit: _hash(seed, unit.name))
    dealt = _even(units, folds)
    if kind.startswith("stratified"):
        if pixels is None:
            raise ValueError("stratified folds need the pixels of each class")
        dealt = _stratified(units, folds, pixels, dealt)
    found = [0] * len(names)
    for unit, fold in zip(units, dealt, strict=True):
        for place in unit.places:
            found[place] = fold
    return found


def groups_of(names: Sequence[str], pattern: str) -> list[str]:
    """Return the group of each example: what a regular expression finds in its name.

    Where the expression has groups in parentheses, their texts.

    Raises:
        ConfigError: It finds nothing in some name, or nothing but an empty text.
    """
    found = []
    for name in names:
        match = re.search(pattern, name)
        text = "\n".join(part or "" for part in match.groups() or (match[0],)) if match else ""
        if not text.strip("\n"):
            raise ConfigError(
                f"groups={pattern!r}: finds nothing in {name!r}, expected a part of every "
                "example's name that says whose it is. Mend the expression."
            )
        found.append(text)
    return found


def written(assignment: Sequence[int]) -> list[str]:
    """Return the fold of each example as a few lines of digits."""
    text = "".join(DIGITS[fold] for fold in assignment)
    return [text[start : start + LINE] for start in range(0, len(text), LINE)]


def read(lines: Iterable[str], *, examples: int, folds: int) -> list[int]:
    """Return what `written` made lines of.

    Raises:
        DataError: Another number of examples, or no such fold.
    """
    text = "".join(lines)
    found = [DIGITS.find(digit) for digit in text]
    if len(found) != examples or not all(0 <= fold < folds for fold in found):
        raise DataError(
            f"assignment: of {len(found)} examples to folds {min(found, default=0)} to "
            f"{max(found, default=0)}, expected {examples} examples and folds 0 to {folds - 1}. "
            "The data has changed, or the text was edited: deal anew."
        )
    return found


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return what sorts texts as people do: `z9` before `z10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((0, int(part), "") if part[0] in DIGITS[:10] else (1, 0, part) for part in parts)


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode(errors="surrogateescape")).digest()


def _units(names: Sequence[str], groups: Sequence[str] | None) -> list[Unit]:
    if groups is None:
        return [Unit(name, (place,)) for place, name in enumerate(names)]
    found: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(group, []).append(place)
    return [Unit(group, tuple(places)) for group, places in found.items()]


def _blocks(folds: int, order: Sequence[str]) -> list[int]:
    """Return the fold of each example, in blocks of what is next to each other in order."""
    found = [0] * len(order)
    for number, place in enumerate(sorted(range(len(order)), key=lambda i: natural(order[i]))):
        found[place] = number * folds // len(order)
    return found


def _even(units: Sequence[Unit], folds: int) -> list[int]:
    """Return the fold of each unit: the largest first, each into the fold that has least."""
    sizes, found = [0] * folds, [0] * len(units)
    for number in sorted(range(len(units)), key=lambda number: -len(units[number].places)):
        fold = min(range(folds), key=sizes.__getitem__)
        found[number] = fold
        sizes[fold] += len(units[number].places)
    return found


def _stratified(
    units: Sequence[Unit], folds: int, pixels: Int64[np.ndarray, "n k"], even: list[int]
) -> list[int]:
    """Return the fold of each unit so that folds have like shares of every class.

    Units are dealt as by Sechidis, Tsoumakas and Vlahavas 2011, the rarest class first, each to
    the fold that lacks most of it; then pairs are swapped as long as shares get nearer. What was
    dealt evenly is improved likewise, and the better of both is taken.

    Args:
        units: Shuffled.
        folds: How many there are.
        pixels: Of each class in each example.
        even: Their folds without a look at classes.
    """
    shares = _shares(units, pixels)
    sizes = np.array([len(unit.places) for unit in units], np.int64)
    tries = [np.array(even), _iterative(shares, sizes, folds)]
    if grouped := bool(sizes.max() > 1):  # how many examples a fold has counts as a class does
        share = sizes * SHARE // sizes.sum()
        shares = np.concatenate([shares, np.stack([share, share], axis=1)], axis=1)
    improved = [_improved(shares, folds, each, grouped=grouped) for each in tries]
    return min(improved, key=lambda each: _distance(shares, folds, each)).tolist()


def _shares(
    units: Sequence[Unit], pixels: Int64[np.ndarray, "n k"]
) -> Int64[np.ndarray, "u columns"]:
    """Return what each unit has of each class, of its pixels and of the examples that have it.

    In parts of `SHARE`, which is all there is. Classes that do not occur are left out.
    """
    rows = [
        np.concatenate([own.sum(axis=0), (own > 0).sum(axis=0)])
        for own in (pixels[list(unit.places)] for unit in units)
    ]
    found = np.array(rows, np.int64)
    totals = found.sum(axis=0)
    kept = totals > 0
    parts = [  # in Python's numbers: pixels times SHARE may be beyond 64 bits
        [int(value) * SHARE // int(total) for value, total in zip(row, totals[kept], strict=True)]
        for row in found[:, kept]
    ]
    return np.array(parts, np.int64).reshape(len(units), int(kept.sum()))


def _iterative(
    shares: Int64[np.ndarray, "u columns"], sizes: Int64[np.ndarray, " u"], folds: int
) -> Int64[np.ndarray, " u"]:
    """Return the fold of each unit, dealt column by column, the one with the fewest units first."""
    found = np.full(len(shares), -1, np.int64)
    held = np.zeros((folds, shares.shape[1]), np.int64)
    filled, room = np.zeros(folds, np.int64), int(sizes.sum()) // folds
    there = shares > 0
    for column in np.argsort(there.sum(axis=0), kind="stable").tolist():
        own = np.flatnonzero(there[:, column] & (found < 0))
        for unit in own[np.argsort(-shares[own, column], kind="stable")].tolist():
            _put(unit, column, found, held, filled, shares, sizes, room)
    for unit in np.flatnonzero(found < 0).tolist():  # of void alone
        _put(unit, None, found, held, filled, shares, sizes, room)
    for fold in range(folds):  # none is empty, however unlike groups are
        if not (found == fold).any():
            many = int(np.bincount(found, minlength=folds).argmax())
            own = np.flatnonzero(found == many)
            found[own[sizes[own].argmin()]] = fold
    return found


def _put(
    unit: int,
    column: int | None,
    found: np.ndarray,
    held: np.ndarray,
    filled: np.ndarray,
    shares: np.ndarray,
    sizes: np.ndarray,
    room: int,
) -> None:
    """Put a unit into the fold that has least of a column, of those with room for it if any has."""
    fits = filled + sizes[unit] <= room
    allowed = np.flatnonzero(fits if fits.any() else filled == filled.min())
    of = filled[allowed] if column is None else held[allowed, column]
    fold = int(allowed[np.lexsort((filled[allowed], of))[0]])
    found[unit] = fold
    held[fold] += shares[unit]
    filled[fold] += sizes[unit]


def _distance(
    shares: Int64[np.ndarray, "u columns"], folds: int, dealt: Int64[np.ndarray, " u"]
) -> int:
    """Return how far folds are from equal shares: the sum of squares over folds and columns."""
    held = np.zeros((folds, shares.shape[1]), np.int64)
    np.add.at(held, dealt, shares)
    return sum(int(value) ** 2 for value in (held * folds - SHARE).ravel().tolist())


def _improved(
    shares: Int64[np.ndarray, "u columns"],
    folds: int,
    dealt: Int64[np.ndarray, " u"],
    *,
    grouped: bool,
) -> Int64[np.ndarray, " u"]:
    """Swap units between folds, and move groups, as long as that brings shares nearer."""
    dealt = dealt.copy()
    held = np.zeros((folds, shares.shape[1]), np.int64)
    np.add.at(held, dealt, shares)
    for _ in range(SWEEPS):
        before = dealt.copy()
        for unit in range(len(shares)):
            _swap(unit, shares, held, dealt)
            if grouped and (dealt == dealt[unit]).sum() > 1:
                _move(unit, shares, held, dealt)
        if (dealt == before).all():
            break
    return dealt


def _swap(unit: int, shares: np.ndarray, held: np.ndarray, dealt: np.ndarray) -> None:
    """Swap a unit with the one for which that helps most, if with any."""
    others = (unit + 1 + np.arange(min(OTHERS, len(shares) - 1))) % len(shares)
    others = others[dealt[others] != dealt[unit]]
    if not len(others):
        return
    # With d more in the other unit, (a + d)^2 + (b - d)^2 - a^2 - b^2 is 2 d (a - b + d).
    more = shares[others] - shares[unit]
    change = (more * (held[dealt[unit]] - held[dealt[others]] + more)).sum(axis=1)
    best = int(change.argmin())
    if change[best] < 0:
        other = int(others[best])
        held[dealt[unit]] += more[best]
        held[dealt[other]] -= more[best]
        dealt[unit], dealt[other] = dealt[other], dealt[unit]


def _move(unit: int, shares: np.ndarray, held: np.ndarray, dealt: np.ndarray) -> None:
    """Move a unit to the fold where it helps most, if anywhere."""
    own, fold = shares[unit], dealt[unit]
    change = (own * (held - held[fold] + own)).sum(axis=1)
    change[fold] = 0
    best = int(change.argmin())
    if change[best] < 0:
        held[fold] -= own
        held[best] += own
        dealt[unit] = best

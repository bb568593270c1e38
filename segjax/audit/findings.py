"""What an audit finds of the examples of all splits together."""

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from segjax.audit import alignment, duplicates
from segjax.audit.examples import Seen

Kind = Literal[
    "unreadable", "illegal_value", "exact_duplicate", "leakage", "near_duplicate", "shifted_mask",
    "suspect_mask", "empty_mask", "outlier",
]  # fmt: skip
KINDS: dict[str, str] = {
    "unreadable": "The image cannot be read.",
    "illegal_value": "The mask holds values that are no classes, or cannot be used otherwise.",
    "exact_duplicate": "Two images of one split have the same pixels.",
    "leakage": "Two images of different splits show the same: scores of the one know the other.",
    "near_duplicate": "Two images of one split show the same, resized, encoded anew, brightened or "
    "mirrored.",
    "shifted_mask": "Borders of the mask fit the image once they are moved.",
    "suspect_mask": "The mask does not fit its image, or the run is sure of other classes.",
    "empty_mask": "The mask has no pixel of a class, or of the first class alone.",
    "outlier": "The image is far from all others in a number that is named.",
}
"""All kinds, in the order in which they are shown."""
FITTING = 3.0
"""Of half of the masks the borders must meet edges so well that those of the others are judged."""
MOVED, GAINED = 4.1, 2.0
"""What borders must meet after a move, and how much more than before, in standard deviations."""
FAR = 8.0
"""Deviations, by the median absolute one, from which on an image stands out."""
FEW, MANY = 20, 0.02
"""Images from which on one can stand out, and the share of them that do in a number of long tails,
in which none is found."""
CONSTANT = 0.999
"""Share of one class from which on a mask is nearly constant, where most masks are far from it."""


class Finding(NamedTuple):
    """Something that a person should look at.

    Attributes:
        id: The same as long as kind and images are.
        kind: One of `KINDS`.
        images: The ids of one or two examples.
        score: The larger the surer, within its kind.
        note: What was found, in words.
    """

    id: str
    kind: Kind
    images: tuple[str, ...]
    score: float
    note: str


def make(kind: Kind, images: Sequence[str], score: float, note: str) -> Finding:
    """Return a finding with its id."""
    text = "\n".join([kind, *images]).encode("utf-8", "surrogatepass")
    own = hashlib.blake2b(text, digest_size=5).hexdigest()
    return Finding(own, kind, tuple(images), round(float(score), 4), note)


def collect(seen: Sequence[Seen], class_names: Sequence[str]) -> list[Finding]:
    """Return all findings, by kind and the surest first."""
    found = [
        *unusable(seen), *copies(seen), *misplaced(seen), *empty(seen, class_names),
        *standing_out(seen),
    ]  # fmt: skip
    return sort(found)


def sort(found: Sequence[Finding]) -> list[Finding]:
    """Return findings in the order in which they are shown."""
    order = list(KINDS)
    return sorted(found, key=lambda each: (order.index(each.kind), -each.score, each.images))


def unusable(seen: Sequence[Seen]) -> list[Finding]:
    """Return images that cannot be read, and masks that cannot be used."""
    return [
        make("illegal_value" if each.thumbnail else "unreadable", [each.id], 1.0, each.error)
        for each in seen
        if each.error
    ]


def copies(seen: Sequence[Seen]) -> list[Finding]:
    """Return pairs of images that show the same."""
    readable = [(each, each.thumbnail) for each in seen if each.thumbnail]
    found = []
    for pair in duplicates.find([thumbnail for _, thumbnail in readable]):
        one, other = readable[pair.first][0], readable[pair.second][0]
        same = "the same pixels" if pair.exact else "the same scene"
        kind: Kind = "exact_duplicate" if pair.exact else "near_duplicate"
        if one.split != other.split:
            kind, same = "leakage", f"{same} in {one.split} and {other.split}"
        found.append(make(kind, [one.id, other.id], pair.score, same))
    return found


def misplaced(seen: Sequence[Seen]) -> list[Finding]:
    """Return masks whose borders meet edges elsewhere, or nowhere.

    Nothing is found in data whose borders follow no edges: each mask is judged by what the others
    do.
    """
    judged = [(each, each.labels.aligned) for each in seen if each.labels and each.labels.aligned]
    here = [aligned.here for _, aligned in judged]
    usual = float(np.median(here)) if here else 0.0
    if usual < FITTING:
        return []
    found = []
    for each, aligned in judged:
        gain, far = aligned.there - aligned.here, max(map(abs, aligned.move)) > alignment.NEAR
        if not far:
            continue
        down, right = aligned.move
        if aligned.there >= MOVED and gain >= GAINED:
            note = f"fits where it is moved {down:+d} pixels down and {right:+d} right"
            found.append(make("shifted_mask", [each.id], gain, note))
        elif aligned.here < usual / 2:
            note = "its borders meet fewer edges than those of other masks"
            found.append(make("suspect_mask", [each.id], usual - aligned.here, note))
    return found


def empty(seen: Sequence[Seen], class_names: Sequence[str]) -> list[Finding]:
    """Return masks with nothing in them, where others have something."""
    with_labels = [(each, each.labels) for each in seen if each.labels]
    shares = [
        labels.pixels.max() / labels.pixels.sum()
        for _, labels in with_labels
        if labels.pixels.any()
    ]
    usual = float(np.median(shares)) if shares else 1.0
    found = []
    for each, labels in with_labels:
        total = int(labels.pixels.sum())
        if not total:
            found.append(make("empty_mask", [each.id], 1.0, "every pixel is void"))
            continue
        share, only = labels.pixels.max() / total, int(labels.pixels.argmax())
        if share == 1.0 and usual < 1.0:
            kind: Kind = "empty_mask" if only == 0 else "suspect_mask"
            found.append(make(kind, [each.id], 1.0, f"every pixel is {class_names[only]}"))
        elif share >= CONSTANT and usual < CONSTANT - 0.05:
            note = f"{share:.2%} of the pixels are {class_names[only]}"
            found.append(make("suspect_mask", [each.id], share, note))
    return found


def standing_out(seen: Sequence[Seen]) -> list[Finding]:
    """Return images far from the median of a number, in robust deviations (Iglewicz 1993)."""
    readable = [each for each in seen if each.numbers]
    if len(readable) < FEW:
        return []
    names = list(readable[0].numbers)
    table = np.array([[each.numbers[name] for name in names] for each in readable])
    middle = np.median(table, axis=0)
    away = np.abs(table - middle)
    spread = np.median(away, axis=0) / 0.6745
    usual = np.where(spread > 0, spread, away.mean(axis=0) * 1.2533)  # most are equal: as published
    scores = np.where(usual > 0, away / np.maximum(usual, 1e-12), 0.0)
    scores[:, (scores >= FAR).mean(axis=0) > MANY] = 0.0
    found = []
    for each, row, values in zip(readable, scores, table, strict=True):
        worst = int(row.argmax())
        if row[worst] >= FAR:
            name = names[worst]
            note = f"{name} {values[worst]:.4g}, others {middle[worst]:.4g}"
            found.append(make("outlier", [each.id], row[worst], note))
    return found

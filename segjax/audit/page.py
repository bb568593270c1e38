"""An audit as one HTML page that needs nothing else, on which a person accepts and rejects."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax.audit.agreement import SCORES
from segjax.audit.examples import plane_of
from segjax.audit.findings import KINDS, Finding
from segjax.views import colour
from segjax.views.page import pages

SIDE = 240
"""Of the pictures, the longer one."""
MOST, SAMPLES, LEAST = 300, 4, 20
"""Findings that are shown, random examples of each class, and images with the least agreement."""
TEMPLATE = pathlib.Path(__file__).with_name("page.html")
Read = Callable[[str], tuple[Any, Any]]
"""Returns image and mask of an example by its id, None where one cannot be used."""


def write(
    path: pathlib.Path,
    audit: Mapping[str, Any],
    found: Sequence[Finding],
    samples: Mapping[str, Sequence[str]],
    read: Read,
    *,
    title: str,
    palette: Sequence[colour.Colour],
    tell: Callable[[int], None],
) -> int:
    """Write the page, and return of how many findings it shows no pictures.

    Args:
        path: Of the page.
        audit: See `report.summarize`.
        found: The findings, in their order.
        samples: Ids of examples of each class.
        read: Reads an example.
        title: What was audited.
        palette: A colour for each class.
        tell: Is told how many findings and classes have been drawn.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    cards, shown = [], []
    for number, finding in enumerate(found[:MOST]):
        rows = [{"id": name, "pictures": _pictures(name, read, palette)} for name in finding.images]
        cards.append({"finding": finding, "rows": rows})
        tell(number + 1)
    for number, (name, ids) in enumerate(samples.items()):
        rows = [{"id": own, "pictures": _pictures(own, read, palette)} for own in ids]
        shown.append({"name": name, "colour": colour.code(palette[number]), "rows": rows})
        tell(len(cards) + len(shown))
    pages.write(
        path, TEMPLATE, title=title, audit=audit, cards=cards, samples=shown, kinds=KINDS,
        **_tables(audit),
    )  # fmt: skip
    return max(0, len(found) - MOST)


def _tables(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of the page's tables."""
    agreed = audit.get("agreement") or {"pairs": [], "least": []}
    return {
        "splits": [
            [split, own["examples"], own["unusable"], own["different_sizes"],
             f"{100 * own['void_share']:.1f} %"]
            for split, own in audit["splits"].items()
        ],
        "classes": {
            split: [
                [row["name"], (f"{100 * row['share']:.2f} %", row["share"]), row["images"],
                 row["objects"]]
                for row in rows
            ]
            for split, rows in audit["classes"].items()
        },
        "pairs": [
            (pair, [[row["name"], *(row[score] for score in SCORES)] for row in pair["classes"]])
            for pair in agreed["pairs"]
        ],
        "least": [[row["image"], row["dice"]] for row in agreed["least"][:LEAST]],
    }  # fmt: skip


def _pictures(name: str, read: Read, palette: Sequence[colour.Colour]) -> list[tuple[str, str]]:
    """Return image, mask and overlay as what an `img` shows, each with what it is."""
    image, mask = read(name)
    if image is None:
        return []
    dims = len(image.shape) - 1
    picture = colour.displayable(plane_of(image, dims))
    shown = [("image", pages.picture(picture, side=SIDE))]
    label = np.zeros(0) if mask is None else plane_of(mask, dims)
    if label.ndim == 2 and label.shape == picture.shape[:2]:
        shown.append(("mask", pages.label_map(label, palette, side=SIDE, void=colour.BLACK)))
        overlay = colour.overlay(picture, label, palette)
        shown.append(("overlay", pages.picture(overlay, side=SIDE)))
    return shown

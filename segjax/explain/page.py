"""Explanations as one HTML page: each image with its maps beside those of an untrained network."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.views.page import pages

TEMPLATE = pathlib.Path(__file__).with_name("page.html")
SIDE = 640
"""Of the pictures, the longer one."""


class Card(NamedTuple):
    """One image on the page.

    Attributes:
        name: Of its files.
        facts: What `explain.json` says of it.
        pictures: By what they show: the prediction, then a map each.
    """

    name: str
    facts: Mapping[str, Any]
    pictures: Mapping[str, np.ndarray]

    def lines(self) -> list[str]:
        """Return what to say of the image, a line for each method."""
        found = [f"{self.name}: {self.facts['target']}"] if "target" in self.facts else []
        for method, facts in self.facts["maps"].items():
            numbers = ", ".join(f"{key} {shown(value)}" for key, value in facts.items())
            found.append(f"{self.name} {method}: {numbers}")
        return found


def write(path: pathlib.Path, cards: Sequence[Card], *, about: Mapping[str, Any]) -> int:
    """Write the page, and return its size in bytes.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    shown_cards = [
        {
            "name": card.name,
            "target": card.facts.get("target", ""),
            "pictures": [
                (what, pages.picture(picture, side=SIDE)) for what, picture in card.pictures.items()
            ],
            "rows": [
                [method, ", ".join(f"{key} {shown(value)}" for key, value in facts.items())]
                for method, facts in card.facts["maps"].items()
            ],
        }
        for card in cards
    ]
    return pages.write(path, TEMPLATE, cards=shown_cards, about=about)


def shown(value: Any) -> str:
    """Return a number or a list as people read it."""
    if isinstance(value, list):
        return (
            "×".join(map(shown, value))
            if all(isinstance(v, int) for v in value)
            else " ".join(map(shown, value))
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""An audit as one HTML page that needs nothing else, on which a person accepts and rejects."""

import base64
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from segjax.audit.examples import plane_of
from segjax.audit.findings import KINDS, Finding
from segjax.runtime import files, reading
from segjax.views import colour

SIDE = 240
"""Of the pictures, the longer one."""
MOST, SAMPLES = 300, 4
"""Findings that are shown, and random examples of each class."""
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
    cards, drawn = [], 0
    for number, finding in enumerate(found[:MOST]):
        rows = [{"id": name, "pictures": _pictures(name, read, palette)} for name in finding.images]
        cards.append({"finding": finding, "rows": rows})
        tell(number + 1)
    classes = []
    for number, (name, ids) in enumerate(samples.items()):
        rows = [{"id": own, "pictures": _pictures(own, read, palette)} for own in ids]
        shade = colour.code(palette[number])
        classes.append({"name": name, "colour": shade, "rows": rows})
        drawn += 1
        tell(min(len(found), MOST) + drawn)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(reading.text(TEMPLATE))
    text = template.render(title=title, audit=audit, cards=cards, classes=classes, kinds=KINDS)
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return max(0, len(found) - MOST)


def _pictures(name: str, read: Read, palette: Sequence[colour.Colour]) -> list[tuple[str, str]]:
    """Return image, mask and overlay as what an `img` shows, each with what it is."""
    image, mask = read(name)
    if image is None:
        return []
    dims = len(image.shape) - 1
    shown = [("image", colour.displayable(plane_of(image, dims)))]
    label = np.zeros(0) if mask is None else plane_of(mask, dims)
    if label.ndim == 2 and label.shape == shown[0][1].shape[:2]:
        shown.append(("mask", colour.colourise(label, palette)))
        shown.append(("overlay", colour.overlay(shown[0][1], label, palette)))
    return [(what, _encoded(picture, smooth=what != "mask")) for what, picture in shown]


def _encoded(picture: np.ndarray, *, smooth: bool) -> str:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=80, method=2)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")

"""Render and write HTML pages that open from a file without a network.

A page is a Jinja template that extends `base.html`. Whatever is put into it is escaped; pictures
lie in it as data, so that one file is all.
"""

import base64
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Integer, UInt8
from markupsafe import Markup
from PIL import Image

from segjax.runtime import files, reading
from segjax.views import colour

FRAME = pathlib.Path(__file__).parent
"""Of `base.html`, which pages extend, and `pieces.html`, which they import."""
PARTS = {"look": "css", "script": "js"}
"""What the frame shows, and the ends of their files."""


def write(path: str | os.PathLike[str], template: pathlib.Path, /, **values: Any) -> int:
    """Write a page whole, and return its size in bytes.

    Args:
        path: Of the page.
        template: Its file; those beside it and the frame's can be extended, imported, included.
        **values: What it shows, each escaped where it is no `Markup`.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    text = render(template, **values).encode("utf-8", errors="backslashreplace")
    with files.replacing(path) as temporary:
        temporary.write_bytes(text)
    return len(text)


def render(template: pathlib.Path, /, **values: Any) -> str:
    """Return the text of a page, see `write`; a value that the template lacks is an error."""

    def source_of(name: str) -> str | None:
        for folder in (template.parent, FRAME):
            if reading.is_file(folder / name):
                return reading.text(folder / name)
        return None

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(source_of),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    frame = {name: Markup(reading.text(FRAME / f"page.{end}")) for name, end in PARTS.items()}
    return environment.get_template(template.name).render(**frame, **values)


SMALL = 256
"""Pictures with sides up to half of it are enlarged towards it, pixel by pixel, to be seen."""


def picture(shown: UInt8[np.ndarray, "h w 3"], *, side: int, quality: int = 80) -> str:
    """Return a photograph as data for an `img`, its longer side at most `side` pixels."""
    image = Image.fromarray(_enlarged(np.ascontiguousarray(shown), side))
    image.thumbnail((side, side), Image.Resampling.BOX)
    return _data(image, "WEBP", quality=quality, method=2)


def label_map(
    label: Integer[np.ndarray, "h w"],
    palette: Sequence[colour.Colour],
    *,
    side: int,
    void: colour.Colour = colour.VOID_DARK,
) -> str:
    """Return a label map as data for an `img`, in the exact colours of its classes.

    Args:
        label: Classes, 255 void.
        palette: A colour for each class.
        side: Its longer side has at most so many pixels.
        void: The colour of void.

    Raises:
        DataError: A label is neither a class of the palette nor 255.
    """
    colour.check_classes(label, len(palette))
    image = Image.fromarray(_enlarged(np.ascontiguousarray(label, dtype=np.uint8), side))
    image.thumbnail((side, side), Image.Resampling.NEAREST)
    image.putpalette(colour.table(palette, void=void).tobytes())
    return _data(image, "PNG", optimize=True)


def _enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    factor = max(1, min(SMALL, side) // max(1, *picture.shape[:2]))
    return picture.repeat(factor, 0).repeat(factor, 1)


def _data(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"

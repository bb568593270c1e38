"""Where a GeoTIFF lies on earth: the tags that say so, read and written again as they are."""

import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from segjax.data import tiff
from segjax.data.geometry import Geometry, spacing_of
from segjax.runtime import reading

SCALE, TIE_POINT, MATRIX, KEYS, DOUBLES, TEXT = 33550, 33922, 34264, 34735, 34736, 34737
NO_DATA = 42113
"""GDAL's: the value that stands for no pixel, as text."""
PLACE = {SCALE: "d", TIE_POINT: "d", MATRIX: "d", KEYS: "H", DOUBLES: "d", TEXT: "s"}
"""Tags that say where an image lies, and the type of their values for tifffile."""
_PROJECTED, _GEOGRAPHIC, _UNIT, _RASTER_TYPE = 3072, 2048, 3076, 1025
_POINT = 2
"""The raster type of which places are those of pixel centres."""
_METRE, _USER = 9001, 32767


class Tag(NamedTuple):
    """A tag as tifffile writes it: code, type, number of values (None: counted), and values.

    It is `once` if only the first page has it.
    """

    code: int
    dtype: str
    count: int | None
    value: Any
    once: bool = True


def geometry_of(file: pathlib.Path) -> Geometry | None:
    """Return where a TIFF file lies; None: it does not say, or is none.

    Raises:
        ValueError: The tags are broken.
    """
    tags = _tags(file, PLACE)
    if not tags:
        return None
    affine, keys = _affine(tags), _keys(tags)
    spacing = spacing_of(affine) if affine is not None else ()
    number = next((keys[key] for key in (_PROJECTED, _GEOGRAPHIC) if key in keys), _USER)
    crs = f"EPSG:{number}" if number != _USER else str(tags.get(TEXT, "")).strip("|\0")
    unit = "m" if keys.get(_UNIT) == _METRE or _PROJECTED in keys else "°" * (_GEOGRAPHIC in keys)
    return Geometry("tiff", spacing, unit, affine, crs, header={"tags": extra_tags(tags)})


def void_of(file: pathlib.Path) -> float | None:
    """Return the value that a TIFF file says stands for no pixel; None: it says nothing.

    Raises:
        ValueError: The file is broken.
    """
    text = _tags(file, {NO_DATA: "s"}).get(NO_DATA)
    try:
        return None if text is None else float(str(text).strip("\0 "))
    except ValueError:
        return None


def tags_of(geometry: Geometry | None) -> list[Tag]:
    """Return the tags that say where a GeoTIFF lies; none of another file."""
    return list(geometry.header.get("tags", ())) if geometry else []


def extra_tags(tags: dict[int, Any]) -> list[Tag]:
    """Return tags of a place as tifffile writes them."""
    found = []
    for code, value in tags.items():
        if PLACE[code] == "s":
            found.append(Tag(code, "s", None, str(value)))
        else:
            values = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,)
            found.append(Tag(code, PLACE[code], len(values), values))
    return found


def _tags(file: pathlib.Path, wanted: dict[int, str]) -> dict[int, Any]:
    with reading.open_file(file) as stream:
        if stream.read(4) not in tiff.MAGIC:
            return {}
        page = tiff.open_page(stream)[1]
        return {code: page.tags[code].value for code in wanted if code in page.tags}


def _affine(tags: dict[int, Any]) -> np.ndarray | None:
    """Return the map from (row, column, 1) of pixel corners to (y, x, 1); None: not said."""
    if MATRIX in tags:
        matrix = np.reshape(np.array(tags[MATRIX], float), (4, 4))
        affine = np.array([[matrix[1, 1], matrix[1, 0], matrix[1, 3]],
                           [matrix[0, 1], matrix[0, 0], matrix[0, 3]], [0, 0, 1]])  # fmt: skip
    elif SCALE in tags and TIE_POINT in tags:
        across, down = (float(v) for v in tags[SCALE][:2])
        column, row, _, x, y = (float(v) for v in tags[TIE_POINT][:5])
        affine = np.array([[-down, 0, y + row * down], [0, across, x - column * across], [0, 0, 1]])
    else:
        return None
    if _keys(tags).get(_RASTER_TYPE) == _POINT:
        affine[:, 2] -= affine[:, :2] @ (0.5, 0.5)
    if not all(map(math.isfinite, affine.ravel())):
        raise ValueError("a place on earth that is not finite")
    return affine


def _keys(tags: dict[int, Any]) -> dict[int, int]:
    """Return the GeoKeys that hold a number of their own."""
    numbers = list(tags.get(KEYS, ()))
    entries = [numbers[at : at + 4] for at in range(4, len(numbers) - 3, 4)]
    return {key: value for key, where, _, value in entries if where == 0}

"""TIFF files of several pages as volumes [depth height width], also with channels."""

import pathlib
from collections.abc import Sequence

import numpy as np
import tifffile

from segjax.data import tiff
from segjax.data.geometry import Geometry
from segjax.data.lazy import LARGEST, Lazy, Region
from segjax.data.readers.base import Stored, check_size
from segjax.runtime import files, reading

ENDINGS = (".tif", ".tiff")
_DEPTH, _CHANNELS = "ZQITR", "CS"
"""What tifffile calls axes that are depth here, the likeliest first, and channels."""


def open_file(file: pathlib.Path) -> Stored:
    """Return the pages of a TIFF file as a volume; the channels of ImageJ and OME are its channels.

    Of pages that are the planes of a volume only those are decoded that a region holds.

    Raises:
        ValueError: It holds something else than one volume; and whatever tifffile raises.
    """
    with reading.open_file(file, limit=LARGEST) as stream:
        tiff.check_directories(stream)
        stream.seek(0)
        opened = tifffile.TiffFile(stream)
        if len(opened.series) != 1:
            raise ValueError(f"{len(opened.series)} images of different sizes or types")
        series = opened.series[0]
        planes = [page.aspage() for page in series.pages if page is not None]
        for page in planes:
            tiff.check_segments(page, stream)
        axes, sides, dtype = series.axes, series.shape, np.dtype(series.dtype)
        order = _order(axes)
        spacing, unit = _spacing(opened)
    simple = axes[1:] in ("YX", "YXS") and len(planes) == sides[0]
    kind = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
    shape = tuple(sides[axis] for axis in order)
    check_size(shape, kind, parts=simple)

    def read(region: Region) -> np.ndarray:
        chosen = range(sides[0])[region[0]]
        with reading.open_file(file, limit=LARGEST) as stream:
            whole = tifffile.TiffFile(stream)
            if simple:
                array = np.asarray(whole.asarray(chosen, series=0, maxworkers=1))
                array = array.reshape(len(chosen), *sides[1:])[(slice(None), *region[1:])]
            else:
                array = np.asarray(whole.series[0].asarray(maxworkers=1))
                array = array.transpose(order)[region]
        return np.ascontiguousarray(array, kind)

    geometry = Geometry("tiff", spacing, unit)
    return Stored(Lazy(shape, kind, read, name=str(file)), 3, geometry, parts=simple)


def write(path: pathlib.Path, label: np.ndarray, geometry: Geometry) -> None:
    """Write a class map [depth height width] as pages, zipped; ImageJ's spacing is kept.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    with files.replacing(path) as temporary:
        tifffile.imwrite(
            temporary, label, compression="zlib", photometric="minisblack",
            metadata={"axes": "ZYX", "spacing": geometry.spacing[0] if geometry.spacing else None},
        )  # fmt: skip


def _order(axes: str) -> list[int]:
    """Return the order of axes that is [depth height width (channels)].

    Raises:
        ValueError: They are not a volume's.
    """
    depth = [axis for axis in _DEPTH if axis in axes][:1]
    channels = [axis for axis in _CHANNELS if axis in axes]
    wanted = [*depth, "Y", "X", *channels]
    if not depth or len(channels) > 1 or sorted(wanted) != sorted(axes):
        raise ValueError(f"axes {axes!r}, which are no volume's. A picture has dims=2")
    return [axes.index(axis) for axis in wanted]


def _spacing(opened: tifffile.TiffFile) -> tuple[tuple[float, ...], str]:
    """Return what ImageJ says of the distance of pixels, and its unit; empty: nothing."""
    about = opened.imagej_metadata or {}
    depth = about.get("spacing")
    if not isinstance(depth, (int, float)) or depth <= 0:
        return (), ""
    across = [_length(opened.pages[0].aspage(), code) for code in (283, 282)]
    if not all(across):
        return (), ""
    unit = str(about.get("unit", ""))
    return (float(depth), *across), {"micron": "µm", "\\u00B5m": "µm"}.get(unit, unit[:8])


def _length(page: tifffile.TiffPage, code: int) -> float:
    """Return the length of a pixel from a page's resolution; 0: not said."""
    tag = page.tags.get(code)
    value: Sequence[int] = tag.value if tag is not None else (0, 1)
    return value[1] / value[0] if value[0] else 0.0

"""DICOM: the series in a folder as a volume, files of several frames, and single pictures.

pydicom reads the files. Planes are put in the order of their places along the normal; values are
Hounsfield units or whatever the modality's rescaling makes of the stored ones.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.data import raster
from segjax.data.geometry import Geometry, spacing_of
from segjax.data.lazy import Lazy, Region
from segjax.data.readers.base import Stored, check_size
from segjax.errors import extra
from segjax.runtime import reading

ENDINGS = (".dcm", ".ima")
MOST_FILES = 20_000
DEFLATED = "1.2.840.10008.1.2.1.99"
UNEVEN = 0.02
"""Planes whose distances differ by a larger share are no grid."""
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's places are to the left, the back and the top (LPS)."""


@dataclasses.dataclass(frozen=True)
class Plane:
    """A frame of a file and where it lies.

    Attributes:
        file: The file.
        frame: Its number there.
        slope: By which stored values are multiplied.
        intercept: Added then.
        at: Its first pixel's place, LPS in mm; None: not said.
    """

    file: pathlib.Path
    frame: int
    slope: float
    intercept: float
    at: tuple[float, ...] | None


def is_series(folder: pathlib.Path) -> bool:
    """Say whether a folder holds several DICOM files, which together are a volume then."""
    if not folder.is_dir():
        return False
    found = (p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS))
    return next(found, None) is not None and next(found, None) is not None


def open_file(file: pathlib.Path) -> Stored:
    """Return the volume [depth height width (channels)] of a series in a folder, or of a file.

    A file of one frame is a picture [height width (channels)].

    Raises:
        ValueError: No DICOM files, several series in one folder, planes that are not on one grid or
            differ in size, or pixels of a kind that is not known.
        ConfigError: pydicom is not installed.
    """
    paths = [file]
    if file.is_dir():
        paths = sorted(p for p in file.iterdir() if p.name.lower().endswith(ENDINGS))[:MOST_FILES]
    return open_planes(paths, name=str(file), flat=not file.is_dir())


def open_planes(paths: Sequence[pathlib.Path], *, name: str, flat: bool = False) -> Stored:
    """Return the volume that the planes in some files are, as `open_file` does.

    Args:
        paths: The files.
        name: What to call them together.
        flat: Whether one plane is a picture [height width (channels)].

    Raises:
        ValueError: As `open_file`.
    """
    heads = [(path, read(path, pixels=False)) for path in paths]
    if not heads:
        raise ValueError("no DICOM file in it")
    without = [path.name for path, head in heads if "Rows" not in head]
    if without:
        raise ValueError(f"{without[0]} is cut short, or no image: it has no pixels")
    _check_alike([head for _, head in heads])
    first = heads[0][1]
    planes = [plane for path, head in heads for plane in planes_of(path, head)]
    planes, affine = _grid(planes, first)
    bands = int(first.get("SamplesPerPixel", 1))
    rows, columns = int(first.Rows), int(first.Columns)
    own = _type(first, planes)
    flat = flat and len(planes) == 1
    space = (rows, columns) if flat else (len(planes), rows, columns)
    shape = (*space, bands) if bands > 1 else space
    check_size(shape, own, parts=len(heads) > 1)

    def part(region: Region) -> np.ndarray:
        chosen = planes if flat else planes[region[0]]
        rest = region if flat else region[1:]
        found = np.stack([_plane(each, own)[rest] for each in _with_pixels(chosen)])
        return np.ascontiguousarray(found[0] if flat else found)

    known = {"files": [str(path) for path, _ in heads], "order": planes}
    spacing = spacing_of(affine) if affine is not None else _pixel_spacing(first, len(space))
    if flat and affine is not None:
        spacing, affine = spacing[1:], None
    geometry = Geometry("dicom", spacing, "mm" if spacing else "", affine, header=known)
    array = Lazy(shape, own, part, name=name)
    return Stored(array, len(space), geometry, parts=len(heads) > 1)


def read(path: pathlib.Path, *, pixels: bool) -> Any:
    """Return what pydicom makes of a file, with its pixels or without.

    Raises:
        ConfigError: pydicom is not installed.
        ValueError: It is deflated as a whole: pydicom would make of it whatever it unpacks to.
    """
    with extra("medical", what="DICOM"):
        import pydicom
        from pydicom.filereader import read_file_meta_info
    with reading.open_file(path, limit=raster.MAX_FILE_BYTES) as stream:
        if read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
            raise ValueError("it is deflated as a whole, which is not read")
        return pydicom.dcmread(stream, stop_before_pixels=not pixels)


def _check_alike(heads: Sequence[Any]) -> None:
    series = {str(head.get("SeriesInstanceUID", "")) for head in heads}
    if len(series) > 1:
        raise ValueError(
            f"{len(series)} series in one folder, expected one. Give each a folder of its own"
        )
    for tag in ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"):
        values = {str(head.get(tag, "")) for head in heads}
        if len(values) > 1:
            raise ValueError(f"planes whose {tag} differ: {', '.join(sorted(values)[:4])}")


def planes_of(path: pathlib.Path, head: Any) -> list[Plane]:
    """Return the frames of a file with what each says of its values and its place."""
    count = int(head.get("NumberOfFrames", 1) or 1)
    if not 1 <= count <= MOST_FILES:
        raise ValueError(f"{count:,} frames")
    shared = (head.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = head.get("PerFrameFunctionalGroupsSequence") or [None] * count
    if len(frames) < count:
        raise ValueError(f"{count} frames, but it describes {len(frames)}")
    found = []
    for number in range(count):
        scale = _group(frames[number], shared, "PixelValueTransformationSequence") or head
        place = _group(frames[number], shared, "PlanePositionSequence") or head
        at = place.get("ImagePositionPatient")
        found.append(
            Plane(
                path, number, float(scale.get("RescaleSlope", 1)),
                float(scale.get("RescaleIntercept", 0)),
                None if at is None else tuple(map(float, at)),
            )
        )  # fmt: skip
    return found


def _group(frame: Any, shared: Any, name: str) -> Any:
    for owner in (frame, shared):
        if owner is not None and owner.get(name):
            return owner[name][0]
    return None


def _grid(planes: list[Plane], head: Any) -> tuple[list[Plane], np.ndarray | None]:
    """Return planes in the order of their places, and the affine map of (plane, row, column)."""
    shared = (head.get("SharedFunctionalGroupsSequence") or [None])[0]
    frame = (head.get("PerFrameFunctionalGroupsSequence") or [None])[0]
    turn = (_group(frame, shared, "PlaneOrientationSequence") or head).get(
        "ImageOrientationPatient"
    )
    across = _pixel_spacing(head, 2)
    if turn is None or not across or any(plane.at is None for plane in planes):
        return planes, None
    along_row, along_column = np.reshape(np.array(turn, float), (2, 3))
    normal = np.cross(along_row, along_column)
    places = np.array([plane.at for plane in planes], float)
    order = np.argsort(places @ normal, kind="stable")
    planes, places = [planes[i] for i in order], places[order]
    steps = np.diff(places, axis=0)
    if len(planes) > 1:
        step = (places[-1] - places[0]) / (len(planes) - 1)
        least = np.abs(steps @ normal).min()
        if least <= 1e-4 * np.linalg.norm(step):
            raise ValueError("two planes at one place: several volumes in one series")
        if np.abs(steps - step).max() > UNEVEN * np.linalg.norm(step):
            raise ValueError(
                f"planes at uneven distances ({least:.3g} to {np.abs(steps @ normal).max():.3g} "
                "mm): some are missing, or it is no grid"
            )
    else:
        step = normal * float(head.get("SliceThickness") or 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([step, along_column * across[0], along_row * across[1]], axis=1)
    affine[:3, 3] = places[0]
    return planes, TO_RAS @ affine


def _pixel_spacing(head: Any, dims: int) -> tuple[float, ...]:
    shared = (head.get("SharedFunctionalGroupsSequence") or [None])[0]
    frame = (head.get("PerFrameFunctionalGroupsSequence") or [None])[0]
    found = (_group(frame, shared, "PixelMeasuresSequence") or head).get("PixelSpacing")
    return tuple(map(float, found)) if found is not None and dims == 2 else ()


def _type(head: Any, planes: Sequence[Plane]) -> np.dtype:
    """Return the smallest type that holds every value after rescaling."""
    if "PixelRepresentation" not in head:  # the pixels are floating-point numbers
        return np.dtype(np.float32)
    bits, signed = int(head.get("BitsStored", 8)), int(head.get("PixelRepresentation", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    scales = {(plane.slope, plane.intercept) for plane in planes}
    ends = [value * slope + add for slope, add in scales for value in (low, high)]
    if any(slope != int(slope) or add != int(add) for slope, add in scales):
        return np.dtype(np.float32)
    for kind in (np.uint8, np.uint16, np.int16, np.int32):
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float32)


def _with_pixels(planes: Sequence[Plane]) -> list[tuple[Plane, np.ndarray, Any]]:
    """Return planes with their stored values and their file; each file is read once."""
    files: dict[pathlib.Path, tuple[np.ndarray, Any]] = {}
    for plane in planes:
        if plane.file not in files:
            head = read(plane.file, pixels=True)
            files[plane.file] = (pixels_of(head), head)
    return [(plane, files[plane.file][0][plane.frame], files[plane.file][1]) for plane in planes]


def pixels_of(head: Any) -> np.ndarray:
    """Return the stored values of every frame of a file, [frame row column (band)]."""
    with extra("medical", what="DICOM"):
        import pydicom.pixels
    array = pydicom.pixels.pixel_array(head)  # pyright: ignore
    return array if int(head.get("NumberOfFrames", 1) or 1) > 1 else array[None]


def _plane(found: tuple[Plane, np.ndarray, Any], dtype: np.dtype) -> np.ndarray:
    plane, stored, head = found
    values = stored.astype(np.float64) * plane.slope + plane.intercept
    if head.get("PhotometricInterpretation") == "MONOCHROME1":  # 0 is white
        bits, signed = int(head.BitsStored), int(head.get("PixelRepresentation", 0))
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        values = (low + high) * plane.slope + 2 * plane.intercept - values
    return values.astype(dtype)

"""DICOM SEG: segments over the slices of a series, in one file or several.

A picture is a slice of the series (`--images`, or what else lies in `--input`), in the order of
its positions. A pixel is of a segment where a binary frame is 1, a fractional one half of its
maximum or more, or a label map has its number; the later segment covers the earlier. Written as
one binary segmentation of each series.
"""

import functools
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from segjax.data import decode, listing
from segjax.data.formats import images, outlines, slices
from segjax.data.formats.base import (
    BACKGROUND,
    Annotations,
    Losses,
    Object,
    Options,
    Picture,
    Pixels,
    Volume,
)
from segjax.data.geometry import Geometry
from segjax.data.lazy import Lazy
from segjax.data.readers import dicom, dicom_seg
from segjax.errors import ConfigError, DataError
from segjax.runtime import reading

SEG = "SEG"
_PREAMBLE = 128
_MAX_SEGMENTS = 1 << 12


class Series(NamedTuple):
    """A volume of slices.

    Attributes:
        name: Its first file, for messages.
        values: [depth height width (channels)].
        geometry: Where it lies; its `header` knows the file of each plane.
    """

    name: str
    values: Lazy
    geometry: Geometry

    @property
    def planes(self) -> list[dicom.Plane]:
        """The file of each slice, in order."""
        return self.geometry.header["order"]


def is_dicom(path: pathlib.Path) -> bool:
    """Say whether a file begins as one of DICOM."""
    with reading.open_file(path) as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a folder of SEG files and the series that they are of.

    Raises:
        DataError: No SEG file, a slice that is not there, a file that cannot be used.
    """
    folders = [path, *([options.images] if options.images else [])]
    segs, series = _find(folders)
    if not segs:
        raise DataError(f"{path}: no DICOM SEG in it. Name the folder that holds one.")
    names: dict[str, None] = {}
    for each in segs:
        with decode.explained(str(each)):
            names |= dict.fromkeys(_segments(dicom.read(each, pixels=False)).values())
    pictures = functools.partial(_pictures, segs, series, folders)
    return Annotations(tuple(names), pictures, notes=(slices.NOTE,))


def _find(folders: list[pathlib.Path]) -> tuple[list[pathlib.Path], list[Series]]:
    """Return all segmentations, and all series of images."""
    found = dict.fromkeys(
        each
        for folder in folders
        for each in (listing.walk(folder) if folder.is_dir() else [folder])
        if is_dicom(each)
    )
    segs: list[pathlib.Path] = []
    series: dict[str, list[pathlib.Path]] = {}
    for each in found:
        with decode.explained(str(each)):  # pydicom reads a value when it is asked for
            head = dicom.read(each, pixels=False)
            kind, uid = head.get("Modality"), str(head.get("SeriesInstanceUID", ""))
        if kind == SEG:
            segs.append(each)
        else:
            series.setdefault(uid, []).append(each)
    opened = []
    for paths in series.values():
        with decode.explained(str(paths[0])):
            stored = dicom.open_planes(paths, name=str(paths[0]))
            opened.append(Series(str(paths[0]), stored.array, stored.geometry or Geometry("")))
    return segs, opened


def _segments(head: Any) -> dict[int, str]:
    """Return the name of each segment.

    Raises:
        ValueError: There are none, or too many.
    """
    found = {int(one.SegmentNumber): str(one.SegmentLabel) for one in head.SegmentSequence}
    if not 0 < len(found) <= _MAX_SEGMENTS:
        raise ValueError(f"{len(found):,} segments, expected 1 to {_MAX_SEGMENTS:,}")
    return found


def _pictures(
    segs: list[pathlib.Path], series: list[Series], folders: list[pathlib.Path]
) -> Iterator[Picture]:
    things: dict[tuple[int, int], list[Object]] = {}
    for each in segs:
        with decode.explained(str(each)):
            for place, thing in _frames(each, series):
                things.setdefault(place, []).append(thing)
    for number in sorted({number for number, _ in things}):
        one = series[number]
        volume = Volume(pathlib.Path(one.name).stem, one.geometry)
        for depth, plane in enumerate(one.planes):
            with decode.explained(str(plane.file)):
                values = one.values[depth : depth + 1][0]
            name = images.below(plane.file, folders, where=str(plane.file)).removesuffix(".dcm")
            name += f"_{plane.frame:04d}" if plane.frame or _shared(one) else ""
            yield Picture(
                f"{name}{slices.ENDING}", slices.encode(values), values.shape[:2],
                tuple(things.get((number, depth), ())), volume=volume,
            )  # fmt: skip


def _shared(one: Series) -> bool:
    """Say whether slices lie in one file."""
    return len({plane.file for plane in one.planes}) < len(one.planes)


def _frames(file: pathlib.Path, series: list[Series]) -> Iterator[tuple[tuple[int, int], Object]]:
    """Yield series, slice and object of each frame.

    Raises:
        ValueError: Something in it cannot be used.
    """
    head = dicom.read(file, pixels=True)
    names = _segments(head)
    kind = str(head.get("SegmentationType", "BINARY"))
    most = int(head.get("MaximumFractionalValue", 255)) if kind == "FRACTIONAL" else 1
    planes = dicom.planes_of(file, head)
    size = len(planes) * int(head.Rows) * int(head.Columns)
    if size > decode.raster.MAX_BYTES:
        raise ValueError(f"{len(planes):,} frames of {head.Rows}x{head.Columns} pixels")
    for number, (plane, frame) in enumerate(zip(planes, dicom.pixels_of(head), strict=True)):
        place = _place(plane, frame.shape, series)
        if place is None:
            raise ValueError(
                f"the slice of frame {number} is not there: put the series beside it, or name its "
                "folder with --images"
            )
        if kind == "LABELMAP":
            yield from ((place, Object(name, (Pixels(frame, k),)))
                        for k, name in names.items() if (frame == k).any())  # fmt: skip
            continue
        group = head.PerFrameFunctionalGroupsSequence[number].SegmentIdentificationSequence[0]
        segment = int(group.ReferencedSegmentNumber)
        if segment not in names:
            raise ValueError(f"frame {number} is of segment {segment}, which there is not")
        yield place, Object(names[segment], (Pixels(frame * 2 >= most, True),), group=segment)


def _place(
    plane: dicom.Plane, size: tuple[int, ...], series: list[Series]
) -> tuple[int, int] | None:
    """Return the series and the slice that a frame lies on; None: on none."""
    for number, one in enumerate(series):
        if plane.at is None or one.geometry.affine is None or one.values.shape[1:3] != size:
            continue
        found = (np.linalg.inv(dicom.TO_RAS @ one.geometry.affine) @ [*plane.at, 1])[:3]
        depth = round(float(found[0]))
        near = np.abs(found - [depth, 0, 0]).max() <= dicom_seg.NEAR
        if near and 0 <= depth < len(one.planes):
            return number, depth
    return None


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write a segmentation for each series of which `--images` has the slices.

    A picture's slice is the file of its name, another ending or none aside.

    Raises:
        ConfigError: `--images` is not given, or highdicom is not installed.
        DataError: A slice that is not there, or of another size.
    """
    if options.images is None:
        raise ConfigError("--to=dicomseg needs --images, the folder of the series that are meant.")
    names = [name for name in annotations.class_names if name != annotations.background]
    _, series = _find([options.images])
    slots = {
        images.below(plane.file, [options.images], where="").removesuffix(".dcm"): (number, depth)
        for number, one in enumerate(series) if not _shared(one)
        for depth, plane in enumerate(one.planes)
    }  # fmt: skip
    masks: dict[int, np.ndarray] = {}
    for picture in annotations.pictures():
        stem = images.stem(picture.name)
        slot = slots.get(stem) or slots.get(stem.rpartition("/")[2])
        if slot is None:
            raise DataError(f"{picture.name}: no slice {stem}.dcm in {options.images}. Add it.")
        number, depth = slot
        shape = series[number].values.shape[:3]
        if shape[1:] != picture.size:
            raise DataError(
                f"{picture.name}: {picture.size[0]}x{picture.size[1]} pixels, its slice has "
                f"{shape[1]}x{shape[2]}. Name the series that is meant with --images."
            )
        mask = masks.setdefault(number, np.zeros((*shape, len(names)), bool))[depth]
        for thing, patch in outlines.instances(picture):
            if thing.label in names:
                mask[(*patch.place, names.index(thing.label))] |= patch.mask
                losses.add("{} attributes of objects are left out", bool(thing.attributes))
            else:
                losses.add("{} void objects are left out")
        losses.add("{} tags of images are left out", len(picture.tags))
    for number, mask in masks.items():
        target = folder / f"{number + 1:04d}.seg.dcm"
        with decode.explained(series[number].name), warnings.catch_warnings(action="ignore"):
            dicom_seg.write(
                target, mask, series[number].geometry, [BACKGROUND, *names], by_hand=True
            )

"""DICOM SEG: segments over the slices of a series, in one file or several.

A picture is a slice of the series (`--images`, or what else lies in `--input`), in the order of
its positions. A pixel is of a segment where a binary frame is 1, a fractional one half of its
maximum or more, or a label map has its number; the later segment covers the earlier. Written by
highdicom as one binary segmentation of each series.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from segjax import errors
from segjax.data import listing
from segjax.data.formats import images, outlines, slices
from segjax.data.formats.base import (
    Annotations,
    Losses,
    Object,
    Options,
    Picture,
    Pixels,
    Volume,
)
from segjax.errors import ConfigError, DataError, printable
from segjax.runtime import files, reading

SEG = "SEG"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_FILE = 2 << 30
_PREAMBLE = 128
_MAX_SEGMENTS = 1 << 12


class Slice(NamedTuple):
    """An image of a series."""

    path: pathlib.Path
    uid: str
    series: str
    place: tuple[float, float, float]
    facing: tuple[float, ...]
    spacing: tuple[float, float]


def is_dicom(path: pathlib.Path) -> bool:
    """Say whether a file begins as one of DICOM."""
    with reading.open_file(path) as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def load(path: pathlib.Path, *, pixels: bool = True) -> Any:
    """Return the data set of a DICOM file.

    Raises:
        ConfigError: pydicom is not installed.
        DataError: It is none, or deflated, which claims nothing of its size.
    """
    with errors.extra("medical", what=f"{path}, a DICOM file,"):
        import pydicom
        from pydicom.filereader import read_file_meta_info
    try:
        with reading.open_file(path, limit=_MAX_FILE) as file:
            meta = read_file_meta_info(path)
            if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
                raise ValueError("it is deflated as a whole, which is not read")
            return pydicom.dcmread(file, stop_before_pixels=not pixels)
    except DataError:
        raise
    except Exception as error:  # pydicom fails with nearly any type on a broken file
        reason = printable(error)[:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read: {reason}. Replace the file.") from None


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a folder of SEG files and the series that they are of.

    Raises:
        DataError: No SEG file, a slice that is not there, a file that cannot be used.
    """
    found = [each for each in listing.walk(path) if is_dicom(each)] if path.is_dir() else [path]
    segs = [each for each in found if _get(load(each, pixels=False), "Modality") == SEG]
    if not segs:
        raise DataError(f"{path}: no DICOM SEG in it. Name the folder that holds one.")
    if options.images is not None:
        found += [each for each in listing.walk(options.images) if is_dicom(each)]
    series = {one.uid: one for each in dict.fromkeys(found) if each not in segs
              for one in [_slice(each)]}  # fmt: skip
    names: dict[str, None] = {}
    for each in segs:
        names |= dict.fromkeys(_segments(load(each, pixels=False), where=str(each)).values())
    pictures = functools.partial(_pictures, segs, series, [path, options.images or path])
    return Annotations(tuple(names), pictures, notes=(slices.NOTE,))


def _get(dataset: Any, name: str, default: Any = None) -> Any:
    value = dataset.get(name)
    return default if value is None else value


def _slice(path: pathlib.Path) -> Slice:
    dataset = load(path, pixels=False)
    try:
        return Slice(
            path,
            str(dataset.SOPInstanceUID),
            str(_get(dataset, "SeriesInstanceUID", "")),
            _three(
                _get(dataset, "ImagePositionPatient", (0, 0, _get(dataset, "InstanceNumber", 0)))
            ),
            tuple(map(float, _get(dataset, "ImageOrientationPatient", (1, 0, 0, 0, 1, 0)))),
            _two(_get(dataset, "PixelSpacing", (1, 1))),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is no image of a series: {printable(error)[:200]}.") from None


def _three(values: Sequence[Any]) -> tuple[float, float, float]:
    x, y, z = map(float, values)
    return x, y, z


def _two(values: Sequence[Any]) -> tuple[float, float]:
    x, y = map(float, values)
    return x, y


def _along(one: Slice) -> float:
    """Return how far a slice lies along the normal of its plane."""
    across, down = np.array(one.facing).reshape(2, 3)
    return float(np.cross(across, down) @ np.array(one.place))


def _segments(dataset: Any, *, where: str) -> dict[int, str]:
    """Return the name of each segment."""
    found = _get(dataset, "SegmentSequence", ())
    try:
        names = {int(one.SegmentNumber): str(one.SegmentLabel) for one in found}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{where}: segments that are none: {printable(error)[:200]}.") from None
    if not 0 < len(names) <= _MAX_SEGMENTS:
        raise DataError(f"{where}: {len(names):,} segments, expected 1 to {_MAX_SEGMENTS:,}.")
    return names


def _pictures(
    segs: list[pathlib.Path], series: Mapping[str, Slice], roots: list[pathlib.Path]
) -> Iterator[Picture]:
    things: dict[str, list[Object]] = {}
    touched: set[str] = set()
    for each in segs:
        dataset = load(each)
        for uid, thing in _frames(dataset, series, where=str(each)):
            things.setdefault(uid, []).append(thing)
            touched.add(series[uid].series)
    order = sorted((one for one in series.values() if one.series in touched),
                   key=lambda one: (one.series, _along(one), str(one.path)))  # fmt: skip
    for one in order:
        values = _values(load(one.path), where=str(one.path))
        name = images.below(one.path, roots, where=str(one.path)).removesuffix(".dcm")
        across, down = np.array(one.facing).reshape(2, 3)
        rows, columns = one.spacing
        affine = np.eye(4)
        affine[:3, :3] = np.stack([across * columns, down * rows, np.cross(across, down)], axis=1)
        affine[:3, 3] = one.place
        volume = Volume(one.series, tuple(map(tuple, affine.tolist())))
        yield Picture(
            f"{name}{slices.ENDING}", slices.encode(values), values.shape[:2],
            tuple(things.get(one.uid, ())), volume=volume,
        )  # fmt: skip


def _values(dataset: Any, *, where: str) -> Num[np.ndarray, "h w *c"]:
    """Return the pixels of an image, or the frames of a segmentation."""
    try:
        shape = (int(_get(dataset, "NumberOfFrames", 1)), int(dataset.Rows), int(dataset.Columns),
                 int(_get(dataset, "SamplesPerPixel", 1)))  # fmt: skip
        slices.check(shape, max(1, int(dataset.BitsAllocated) // 8), name=where)
        return dataset.pixel_array
    except DataError:
        raise
    except Exception as error:  # decoders fail with nearly any type on a broken file
        reason = printable(error)[:200] or type(error).__name__
        raise DataError(f"{where}: cannot be read: {reason}. Replace the file.") from None


def _frames(
    dataset: Any, series: Mapping[str, Slice], *, where: str
) -> Iterator[tuple[str, Object]]:
    """Yield the slice and the object of each frame."""
    names = _segments(dataset, where=where)
    kind = str(_get(dataset, "SegmentationType", "BINARY"))
    frames = _values(dataset, where=where)
    frames = frames[None] if frames.ndim == 2 else frames
    groups = _get(dataset, "PerFrameFunctionalGroupsSequence", ())
    if len(groups) != len(frames):
        raise DataError(
            f"{where}: {len(frames)} frames, {len(groups)} descriptions. Mend the file."
        )
    places = {tuple(np.round(one.place, 2)): uid for uid, one in series.items()}
    for number, (group, frame) in enumerate(zip(groups, frames, strict=True)):
        here = f"{where}: frame {number}"
        uid = _source(group, series, places)
        if uid is None:
            raise DataError(
                f"{here}: the slice that it is of is not there. Put the series beside the SEG, or "
                "name its folder with --images."
            )
        if kind == "LABELMAP":
            yield from ((uid, Object(name, (Pixels(frame, number),)))
                        for number, name in names.items() if (frame == number).any())  # fmt: skip
            continue
        try:
            segment = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            name = names[segment]
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise DataError(f"{here}: is of no segment. Mend the file.") from None
        most = int(_get(dataset, "MaximumFractionalValue", 255)) if kind == "FRACTIONAL" else 1
        yield uid, Object(name, (Pixels(frame * 2 >= most, True),), group=segment)


def _source(
    group: Any, series: Mapping[str, Slice], places: Mapping[tuple[float, ...], str]
) -> str | None:
    """Return the slice that a frame is of, by its name or by its position."""
    try:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        uid = str(source.ReferencedSOPInstanceUID)
    except (AttributeError, IndexError, TypeError):
        uid = ""
    if uid in series:
        return uid
    try:
        position = group.PlanePositionSequence[0].ImagePositionPatient
        return places.get(tuple(np.round([float(value) for value in position], 2)))
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write `<series>.seg.dcm` for each series of which `--images` has the slices.

    A picture's slice is the file of its name, another ending or none aside.

    Raises:
        ConfigError: `--images` is not given, or highdicom is not installed.
        DataError: A slice that is not there, or of another size.
    """
    if options.images is None:
        raise ConfigError("--to=dicomseg needs --images, the folder of the series that are meant.")
    names = [name for name in annotations.class_names if name != annotations.background]
    there = {images.below(one, [options.images], where="").removesuffix(".dcm"): one
             for one in listing.walk(options.images) if is_dicom(one)}  # fmt: skip
    by_series: dict[str, list[tuple[Slice, np.ndarray]]] = {}
    for picture in annotations.pictures():
        stem = images.stem(picture.name)
        file = there.get(stem) or there.get(stem.rpartition("/")[2])
        if file is None:
            raise DataError(f"{picture.name}: no slice {stem}.dcm in {options.images}. Add it.")
        one = _slice(file)
        masks = np.zeros((*picture.size, len(names)), bool)
        for thing, patch in outlines.instances(picture):
            if thing.label in names:
                masks[(*patch.place, names.index(thing.label))] |= patch.mask
                losses.add("{} attributes of objects are left out", bool(thing.attributes))
            else:
                losses.add("{} void objects are left out")
        by_series.setdefault(one.series, []).append((one, masks))
        losses.add("{} tags of images are left out", len(picture.tags))
    for number, own in enumerate(by_series.values(), start=1):
        own.sort(key=lambda pair: _along(pair[0]))
        _write_series(folder, names, own, number)


def _write_series(
    folder: pathlib.Path, names: list[str], own: list[tuple[Slice, np.ndarray]], number: int
) -> None:
    with errors.extra("medical", what="--to=dicomseg"):
        import highdicom
        from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
        from pydicom.sr.coding import Code
    tissue = Code("85756007", "SCT", "Tissue")
    sources = [load(one.path) for one, _ in own]
    masks = np.stack([mask for _, mask in own])
    for source, (one, mask) in zip(sources, own, strict=True):
        if (source.Rows, source.Columns) != mask.shape[:2]:
            raise DataError(
                f"{one.path}: has {source.Rows}x{source.Columns} pixels, its annotations are of "
                f"{mask.shape[0]}x{mask.shape[1]}. Name the series that is meant with --images."
            )
    descriptions = [
        SegmentDescription(
            segment_number=k, segment_label=name[:64],
            segmented_property_category=tissue,
            segmented_property_type=tissue,
            algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
        )
        for k, name in enumerate(names, start=1)
    ]  # fmt: skip
    try:
        found = Segmentation(
            source_images=sources, pixel_array=masks, segmentation_type="BINARY",
            segment_descriptions=descriptions, series_instance_uid=highdicom.UID(),
            series_number=900 + number, sop_instance_uid=highdicom.UID(), instance_number=1,
            manufacturer="segjax", manufacturer_model_name="segjax", software_versions="1",
            device_serial_number="0", content_label="SEGMENTATION",
        )  # fmt: skip
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        first = own[0][0].path
        raise DataError(
            f"{first}: highdicom writes no segmentation of its series: {printable(error)[:300]}."
        ) from None
    files.make_folder(folder)
    found.save_as(folder / f"{number:04d}.seg.dcm")

"""DICOM Segmentation objects: class maps on the planes of the series that they were drawn on."""

import pathlib
from collections.abc import Sequence

import numpy as np

from segjax.data.geometry import Geometry
from segjax.data.lazy import Lazy, Region
from segjax.data.readers import dicom
from segjax.data.readers.base import Stored, check_size
from segjax.errors import extra
from segjax.runtime import files

NEAR = 0.05
"""Share of the distance of two planes within which a frame lies on one of them."""


def open_file(file: pathlib.Path, image: Geometry, shape: Sequence[int]) -> Stored:
    """Return the class map [depth height width] of a segmentation: its segments' numbers, else 0.

    Args:
        file: The file.
        image: Where the series lies that it belongs to.
        shape: The sides of that series.

    Raises:
        ValueError: It is no segmentation, lies elsewhere than the series, or its segments overlap.
    """
    if image.affine is None or len(shape) != 3:
        raise ValueError("a segmentation of planes whose places are not known")
    check_size(shape, np.dtype(np.uint8), parts=False)
    head = dicom.read(file, pixels=False)
    if head.get("Modality") != "SEG" or "SegmentSequence" not in head:
        raise ValueError("no DICOM segmentation: masks are segmentations, NIfTI or arrays")
    if (int(head.Rows), int(head.Columns)) != tuple(shape[1:]):
        raise ValueError(
            f"{head.Rows}x{head.Columns} pixels a plane, its series has {shape[1]}x{shape[2]}"
        )

    def read(region: Region) -> np.ndarray:
        return _draw(file, image, shape)[region]

    return Stored(Lazy(shape, np.uint8, read, name=str(file)), 3, image, parts=False)


def _draw(file: pathlib.Path, image: Geometry, shape: Sequence[int]) -> np.ndarray:
    head = dicom.read(file, pixels=True)
    frames = dicom.pixels_of(head)
    label = np.zeros(tuple(shape), np.uint8)
    back = np.linalg.inv(dicom.TO_RAS @ image.affine)
    label_map = head.get("SegmentationType") == "LABELMAP"
    half = int(head.get("MaximumFractionalValue", 1)) / 2
    for number, plane in enumerate(dicom.planes_of(file, head)):
        if plane.at is None:
            raise ValueError("frames whose places are not said")
        place = (back @ [*plane.at, 1])[:3]
        depth = round(float(place[0]))
        if not 0 <= depth < shape[0] or np.abs(place - [depth, 0, 0]).max() > NEAR:
            raise ValueError("frames that lie on no plane of its series")
        drawn = frames[number]
        if label_map:
            label[depth] = drawn
            continue
        group = head.PerFrameFunctionalGroupsSequence[number].SegmentIdentificationSequence[0]
        inside = drawn > half
        if label[depth][inside].any():
            raise ValueError("segments that overlap: a class map cannot hold them")
        label[depth][inside] = int(group.ReferencedSegmentNumber)
    return label


def write(
    path: pathlib.Path,
    label: np.ndarray,
    geometry: Geometry,
    class_names: Sequence[str],
    *,
    by_hand: bool = False,
) -> None:
    """Write a class map as a segmentation of the series it was made from.

    Class 0 is what lies in no segment; class k is segment k.

    Args:
        path: The file to write.
        label: [depth height width], or a mask of each segment behind these axes.
        geometry: Of the series.
        class_names: That of class 0 first.
        by_hand: Whether people drew it, and no network.

    Raises:
        UserError: highdicom is not installed, or the disk cannot be written.
        ValueError: The series lacks what a segmentation must say.
    """
    with extra("medical", what="DICOM segmentations"):
        import highdicom
        from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
        from pydicom.sr.codedict import codes
    planes: Sequence[dicom.Plane] = geometry.header["order"]
    heads = {path: dicom.read(path, pixels=False) for path in {plane.file for plane in planes}}
    sources = [heads[plane.file] for plane in planes]
    multiframe = len(heads) == 1 and len(planes) > 1
    maker = highdicom.AlgorithmIdentificationSequence(
        name="segjax", version="1", family=codes.DCM.ArtificialIntelligence
    )
    segments = [
        SegmentDescription(
            segment_number=number, segment_label=name[:64],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="MANUAL" if by_hand else "AUTOMATIC",
            algorithm_identification=None if by_hand else maker,
        )
        for number, name in enumerate(class_names)
        if number
    ]  # fmt: skip
    own = np.argsort([plane.frame for plane in planes]) if multiframe else slice(None)
    made = Segmentation(
        source_images=[sources[0]] if multiframe else sources,
        pixel_array=label[own].astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=100,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="segjax",
        manufacturer_model_name="segjax",
        software_versions="1",
        device_serial_number="0",
    )
    with files.replacing(path) as temporary:
        made.save_as(temporary)

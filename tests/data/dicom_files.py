"""DICOM files as a scanner writes them, made by pydicom."""

import pathlib
import shutil

import numpy as np

SPACING = (2.5, 0.8, 0.7)
TURN = np.array([[0.0, 1, 0], [0, 0, -1]])  # along a row, along a column: LPS
ORIGIN = np.array([-30.0, 12, 5])


def affine() -> np.ndarray:
    """Return the map from (plane, row, column) to millimetres, RAS."""
    along_row, along_column = TURN
    columns = [np.cross(along_row, along_column), along_column, along_row]
    found = np.eye(4)
    found[:3, :3] = np.stack(columns, 1) * SPACING
    found[:3, 3] = ORIGIN
    return np.diag([-1, -1, 1, 1]) @ found


def place(plane: int) -> list[float]:
    """Return where the first pixel of a plane lies, LPS."""
    return [float(v) for v in ORIGIN + plane * SPACING[0] * np.cross(*TURN)]


def dataset(rows: int, columns: int, *, slope: float = 1, intercept: float = 0):
    """Return a CT image without pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality = "A^B", "1", "CT"
    ds.PatientBirthDate, ds.PatientSex, ds.AccessionNumber = "", "", ""
    ds.StudyID, ds.StudyDate, ds.StudyTime = "1", "20260101", "000000"
    ds.ReferringPhysicianName = ""
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.FrameOfReferenceUID = "1.2.3.5"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelSpacing = [float(v) for v in SPACING[1:]]
    ds.SliceThickness = SPACING[0]
    ds.ImageOrientationPatient = [float(v) for v in TURN.ravel()]
    if (slope, intercept) == (1, -1024):  # as scanners write it: 12 bits
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    return ds


def save_series(
    folder: pathlib.Path,
    volume: np.ndarray,
    *,
    slope: float = 1,
    intercept: float = 0,
    fault: str = "",
) -> None:
    """Save a file for each plane, named in an order that is not theirs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    order = np.random.default_rng(1).permutation(len(volume))
    for number, plane in enumerate(order):
        if fault == "a plane is missing" and plane == 1:
            continue
        pixels = volume[plane]
        if fault == "another size" and plane == 1:
            pixels = pixels[:-1]
        ds = dataset(*pixels.shape, slope=slope, intercept=intercept)
        ds.ImagePositionPatient = place(1 if fault == "a plane twice" and plane == 2 else plane)
        ds.InstanceNumber = int(plane) + 1
        if fault == "two series" and plane == 1:
            ds.SeriesInstanceUID = "1.2.3.9"
        if fault == "no pixels":
            del ds.Rows, ds.Columns
        else:
            ds.PixelData = pixels.astype("<u2" if ds.PixelRepresentation == 0 else "<i2").tobytes()
        ds.save_as(folder / f"IM{number:03d}.dcm", enforce_file_format=True)


def save_frames(file: pathlib.Path, volume: np.ndarray) -> None:
    """Save one file with a frame for each plane, as an enhanced image has them."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedCTImageStorage

    ds = dataset(*volume.shape[1:])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(volume)
    turn, measures, values = Dataset(), Dataset(), Dataset()
    turn.ImageOrientationPatient = ds.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, ds.SliceThickness
    values.RescaleSlope, values.RescaleIntercept = 1, 0
    del ds.ImageOrientationPatient, ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept
    shared = Dataset()
    shared.PlaneOrientationSequence = [turn]
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [values]
    ds.SharedFunctionalGroupsSequence = [shared]
    order = np.random.default_rng(2).permutation(len(volume))
    frames = []
    for plane in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = place(plane)
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = volume[order].astype("<i2").tobytes()
    ds.save_as(file, enforce_file_format=True)

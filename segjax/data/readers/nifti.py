"""NIfTI-1 and NIfTI-2 volumes, plain or gzipped; nibabel reads what they say of themselves.

Files have the fastest axis first. Arrays here have it last, `[depth height width]`, the way they
lie in memory; a fourth axis of a file, or the fifth of vectors, is the channels.
"""

import gzip
import io
import math
import pathlib
import threading
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from isal import isal_zlib

from segjax.data import raster
from segjax.data.geometry import Geometry, spacing_of
from segjax.data.lazy import Lazy, Region
from segjax.data.readers.base import Stored, check_size
from segjax.errors import extra
from segjax.runtime import files, reading

ENDINGS = (".nii.gz", ".nii")
GZIP = b"\x1f\x8b"
HEADER_1 = 348
STEP = 4 << 20
"""Bytes that are unpacked at a time, at least."""
HEADER_BYTES = 540
"""Of NIfTI-2, which is the longer one."""
_UNITS = {"mm": "mm", "meter": "m", "micron": "µm", "sec": "s"}


def open_file(file: pathlib.Path) -> Stored:
    """Return the volume [depth height width] or [depth height width channels] of a file.

    Its values are the stored ones times the slope plus the intercept that the header has, float32
    unless these change nothing.

    Raises:
        ValueError: It is no NIfTI file, or one that holds less than it says, or no real numbers.
        UserError: nibabel is not installed.
    """
    with reading.open_file(file, limit=raster.MAX_FILE_BYTES * 32) as stream:
        zipped = stream.read(2) == GZIP
        stream.seek(0)
        start = _start_of(stream, zipped=zipped)
        header = _header(start)
        size = stream.seek(0, io.SEEK_END)
    dtype = header.get_data_dtype()
    colours = len(dtype) if dtype.names else 0  # RGB and RGBA have a name for each value
    stored = np.dtype(dtype[0] if colours else dtype).newbyteorder(header.endianness)
    space, channels = _shape([int(side) for side in header.get_data_shape()], colours)
    shape = (*space, channels) if channels > 1 else space
    check_size(shape, stored, parts=not zipped)
    offset, num_bytes = int(header.get_data_offset()), math.prod(shape) * stored.itemsize
    if offset < 0 or (not zipped and offset + num_bytes > size):
        raise ValueError(f"{size:,} bytes, its header says {offset + num_bytes:,}")
    slope, intercept = header.get_slope_inter()
    scale = (slope or 1.0, intercept or 0.0)
    own = stored.newbyteorder("=") if scale == (1, 0) else np.dtype(np.float32)

    bytes_of = _bytes_of(file, offset + num_bytes, zipped=zipped)

    def read(region: Region) -> np.ndarray:
        planes = space[0]
        if channels == max(1, colours):  # else all planes of a channel come before the next one's
            planes = max(1, region[0].stop)
        end = offset + num_bytes // space[0] * planes
        values = bytes_of(end)[offset:].view(stored)
        array = values.reshape(-1, planes, *space[1:], max(1, colours))
        array = np.moveaxis(array, 0, -2).reshape(planes, *shape[1:])[region]
        if scale != (1, 0):
            return (array.astype(np.float64) * scale[0] + scale[1]).astype(np.float32)
        return np.ascontiguousarray(array, own)

    array = Lazy(shape, own, read, name=str(file))
    return Stored(array, 3, _geometry(header), streamed=zipped)


def write(path: pathlib.Path, array: np.ndarray, geometry: Geometry) -> None:
    """Write an array of a NIfTI file's sides, and maybe channels behind, on the grid of that file.

    Its affine maps, their codes and its units are taken over; `.gz` is zipped.

    Args:
        path: The file to write.
        array: [depth height width] or with channels behind; its type becomes the file's.
        geometry: Of the other file.

    Raises:
        UserError: The disk is full or cannot be written, or nibabel is not installed.
    """
    with extra("medical", what="NIfTI"):
        import nibabel
    header = _header(geometry.header["header"])
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    kind = nibabel.Nifti1Image if len(header.binaryblock) == HEADER_1 else nibabel.Nifti2Image
    image = kind(array.transpose(2, 1, 0, *range(3, array.ndim)), None, header)
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        content = image.to_bytes()
        stream.write(gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def unplaced() -> Geometry:
    """Return the geometry of a volume of which nothing is known: steps of 1 mm from the origin."""
    with extra("medical", what="NIfTI"):
        import nibabel
    header = nibabel.Nifti1Header()
    header.set_sform(np.eye(4), code=1)
    header.set_xyzt_units("mm")
    return _geometry(header)


def to_file_order(affine: np.ndarray) -> np.ndarray:
    """Return an affine map of indices in the other order: the last first; its own inverse."""
    dims = len(affine) - 1
    return affine[:, [*range(dims - 1, -1, -1), dims]]


def _start_of(stream: IO[bytes], *, zipped: bool) -> bytes:
    if not zipped:
        return stream.read(HEADER_BYTES)
    with gzip.GzipFile(fileobj=stream) as unzipped:
        return unzipped.read(HEADER_BYTES)


def _header(start: bytes) -> Any:
    with extra("medical", what="NIfTI"):
        import nibabel
    length = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        if kind.sizeof_hdr in length and len(start) >= kind.sizeof_hdr:
            return kind(start[: kind.sizeof_hdr], check=False)
    raise ValueError("no header of NIfTI-1 or NIfTI-2 at its beginning")


def _shape(sides: list[int], colours: int) -> tuple[tuple[int, ...], int]:
    """Return the sides in space, the slowest first, and how many channels there are."""
    if not 2 <= len(sides) <= 5:
        raise ValueError(f"{len(sides)} axes")
    space = [*sides[:3], 1][:3]
    return tuple(reversed(space)), math.prod(sides[3:]) * max(1, colours)


class Unzipped:
    """The first `size` bytes of a gzipped file, unpacked as far as they have been asked for.

    Args:
        file: The file, which is read whole.
        size: How many bytes there are to be.
    """

    def __init__(self, file: pathlib.Path, size: int):
        with reading.open_file(file, limit=raster.MAX_FILE_BYTES) as stream:
            self.packed = stream.read()
        self.size, self.done = size, 0
        self.unpacked = np.empty(size, np.uint8)
        self.unpacker = isal_zlib.decompressobj(31)
        self.lock = threading.Lock()

    def __call__(self, end: int) -> np.ndarray:
        """Return the first `end` bytes.

        Raises:
            ValueError: There are fewer.
        """
        with self.lock:
            while self.done < end:
                self._unpack(min(self.size, max(end, self.done + STEP)) - self.done)
        return self.unpacked[:end]

    def _unpack(self, count: int) -> None:
        if self.unpacker.eof:  # the next of several members
            self.packed, self.unpacker = self.unpacker.unused_data, isal_zlib.decompressobj(31)
        found = self.unpacker.decompress(self.packed, count)
        self.packed = self.unpacker.unconsumed_tail
        if not found and not (self.unpacker.eof and self.unpacker.unused_data):
            raise ValueError(f"{self.done:,} bytes, its header says {self.size:,}")
        self.unpacked[self.done : self.done + len(found)] = np.frombuffer(found, np.uint8)
        self.done += len(found)


def _bytes_of(file: pathlib.Path, size: int, *, zipped: bool) -> Callable[[int], np.ndarray]:
    """Return what gives the first bytes of a file: of a plain one mapped."""
    if zipped:
        return Unzipped(file, size)
    return lambda end: np.memmap(file, np.uint8, "r", 0, (end,))


def _geometry(header: Any) -> Geometry:
    affine = to_file_order(np.asarray(header.get_best_affine(), np.float64))
    if not np.isfinite(affine).all():
        raise ValueError("an affine map that is not finite")
    units = _UNITS.get(header.get_xyzt_units()[0], "")
    own = {"header": header.binaryblock}
    return Geometry("nifti", spacing_of(affine), units, affine, header=own)

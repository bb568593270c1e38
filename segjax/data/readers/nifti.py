"""NIfTI-1 and NIfTI-2 volumes, plain or gzipped; nibabel reads what they say of themselves.

Files have the fastest axis first. Arrays here have it last, `[depth height width]`, the way they
lie in memory; a fourth axis of a file, or the fifth of vectors, is the channels.
"""

import gzip
import io
import math
import pathlib
import zlib
from typing import IO, Any

import imagecodecs
import numpy as np

from segjax.data import raster
from segjax.data.geometry import Geometry, spacing_of
from segjax.data.lazy import Lazy, Region
from segjax.data.readers.base import Stored, check_size
from segjax.errors import extra
from segjax.runtime import files, reading

ENDINGS = (".nii.gz", ".nii")
GZIP = b"\x1f\x8b"
HEADER_1 = 348
HEADER_BYTES = 1 << 20
"""The header and its extensions, which are looked at before the pixels."""
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

    def read(region: Region) -> np.ndarray:
        values = _values(file, offset, num_bytes, zipped=zipped).view(stored)
        array = values.reshape(channels // max(1, colours), *space, max(1, colours))
        array = np.moveaxis(array, 0, -2).reshape(shape)[region]
        if scale != (1, 0):
            return (array.astype(np.float64) * scale[0] + scale[1]).astype(np.float32)
        return np.ascontiguousarray(array, own)

    array = Lazy(shape, own, read, name=str(file))
    return Stored(array, 3, _geometry(header), parts=not zipped)


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
    content = stream.read(HEADER_BYTES)
    if not zipped:
        return content
    return zlib.decompressobj(31).decompress(content, HEADER_BYTES)


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


def _values(file: pathlib.Path, offset: int, size: int, *, zipped: bool) -> np.ndarray:
    """Return the bytes of the pixels: of a plain file mapped, so that only parts are read."""
    if not zipped:
        return np.memmap(file, np.uint8, "r", offset, (size,))
    with reading.open_file(file, limit=raster.MAX_FILE_BYTES) as stream:
        content = stream.read()
    try:  # many times as fast, and told how much to make
        found = imagecodecs.gzip_decode(content, out=offset + size)
    except imagecodecs.DeflateError:  # longer than it says, or in several members
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unzipped:
            found = unzipped.read(offset + size)
    if len(found) < offset + size:
        raise ValueError(f"{len(found):,} bytes, its header says {offset + size:,}")
    return np.frombuffer(found, np.uint8, size, offset)


def _geometry(header: Any) -> Geometry:
    affine = to_file_order(np.asarray(header.get_best_affine(), np.float64))
    if not np.isfinite(affine).all():
        raise ValueError("an affine map that is not finite")
    units = _UNITS.get(header.get_xyzt_units()[0], "")
    own = {"header": header.binaryblock}
    return Geometry("nifti", spacing_of(affine), units, affine, header=own)

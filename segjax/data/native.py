"""What a data set does not say of its images, its first image does."""

import dataclasses
import pathlib

import numpy as np

from segjax.data import decode, large, lazy, opening
from segjax.data.decode import Reading
from segjax.data.readers import arrays, dicom, nifti, sound, text
from segjax.errors import DataError


def as_first(
    reading: Reading, first: pathlib.Path, *, channels: int = 0, dtype: str = ""
) -> Reading:
    """Return how a data set is read that says not all of it: the rest is the first image's own.

    Args:
        reading: As far as it is said; `dims` of 0 is not.
        first: The first image.
        channels: 0: not said.
        dtype: Empty: not said.

    Raises:
        DataError: The first image cannot be used.
    """
    reading = dataclasses.replace(reading, dims=reading.dims or dims_of(first, reading.image_array))
    if not (channels and dtype):
        native_channels, own = channels_and_type(first, reading)
        channels = channels or len(reading.bands) or native_channels
        dtype = dtype or own
    return dataclasses.replace(reading, channels=channels, dtype=dtype)


def dims_of(file: pathlib.Path, array: str = "") -> int:
    """Return how many axes in space the images of such a file have, where nothing else says it.

    Args:
        file: Of an image.
        array: The name of the array, where a file has several.
    """
    name = file.name.lower()
    if name.endswith(nifti.ENDINGS) or dicom.is_series(file):
        return 3
    if name.endswith((*sound.ENDINGS, *text.ENDINGS)):
        return 1
    if name.endswith(arrays.ENDINGS):
        with decode.explained(str(file)):
            stored = arrays.open_file(file, name=array)
        return stored.dims or min(3, max(1, len(stored.array.shape) - 1))
    return 2


def channels_and_type(file: pathlib.Path, reading: Reading) -> tuple[int, str]:
    """Return the channels and the type that a file's images have, of `decode.DTYPES`.

    It is the smallest that keeps every value of this file: of pictures of at most 8 bits uint8.
    """
    name = str(file)
    if opening.is_picture(file, reading.dims):
        header = large.read_header(file, name=name, exif=reading.exif)
        channels = decode.channels_of(header)
        if header.bits <= 8 and np.dtype(header.dtype).kind in "bu":
            return channels, "uint8"
        if header.height * header.width * header.bands > lazy.LARGE:  # too much to be tried out
            return channels, header.dtype if header.dtype in decode.DTYPES else "float32"
        for dtype in decode.DTYPES:
            try:
                decode.read_image(file, name=name, channels=channels, dtype=dtype)
            except DataError:
                continue
            return channels, dtype
        return channels, "float32"
    stored = opening.read_stored(file, reading, reading.image_array)
    array, channels = opening.with_channels(stored.array, reading, name=name)
    own = array.dtype
    if own.kind in "b" or own.name in decode.DTYPES:
        return channels, "uint8" if own.kind == "b" else own.name
    if own.kind in "iu" and stored.array.nbytes <= lazy.LARGE:
        with decode.explained(name):
            whole = array[()]
        low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
        for dtype in ("uint8", "uint16", "int16"):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return channels, dtype
    return channels, "float32"


def has_spacing(file: pathlib.Path, reading: Reading) -> bool:
    """Say whether a file's format says how far pixels are apart."""
    if opening.is_picture(file, reading.dims):
        return False
    geometry = opening.read_stored(file, reading, reading.image_array).geometry
    return geometry is not None and len(geometry.spacing) == reading.dims

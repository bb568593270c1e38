"""Open an image or a mask of any format, as a data set asks for it.

Pictures are `decode`'s and `large`'s. What has more axes, other names or a place in the world has a
reader of its own in `readers`, named by how the file's name ends.
"""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from segjax.data import decode, geo, large, lazy, spans, values
from segjax.data.decode import Reading
from segjax.data.geometry import Geometry
from segjax.data.lazy import Lazy, Region
from segjax.data.readers import arrays, dicom, dicom_seg, matlab, nifti, sound, stacks, text
from segjax.data.readers.base import Stored
from segjax.errors import DataError
from segjax.structs import IGNORE_LABEL

Array = np.ndarray | Lazy
IMAGE_ENDINGS = (
    *decode.IMAGE_ENDINGS, *nifti.ENDINGS, *dicom.ENDINGS, *arrays.ENDINGS, *sound.ENDINGS,
)  # fmt: skip
LABEL_ENDINGS = (
    *decode.LABEL_ENDINGS, *nifti.ENDINGS, *dicom.ENDINGS, *arrays.ENDINGS, *matlab.ENDINGS,
)  # fmt: skip
OF_SIGNALS = {"images": text.ENDINGS, "labels": spans.ENDINGS}
"""Files that count only where images have one axis: notes lie beside pictures too."""
SERIES = dicom.ENDINGS
"""Files of which a folder of several is one volume."""


class Opened(NamedTuple):
    """An image or a mask.

    Attributes:
        array: [*space c] of an image, [*space] of a mask; of a large file one whose parts are read.
        geometry: Where it lies; None: the file says nothing.
        void: Of an image: what says of a part of it which pixels are none, [*space]; None: all are.
    """

    array: Array
    geometry: Geometry | None = None
    void: Array | None = None


def endings(kind: str, dims: int) -> tuple[str, ...]:
    """Return how the names of 'images' or 'labels' end whose images have so many axes; 0: any."""
    found = IMAGE_ENDINGS if kind == "images" else LABEL_ENDINGS
    return (*found, *OF_SIGNALS[kind]) if dims == 1 else found


def is_picture(file: pathlib.Path, dims: int) -> bool:
    """Say whether a file is a picture of two axes, which has colours and may have to be turned."""
    name = file.name.lower()
    return dims == 2 and name.endswith(decode.IMAGE_ENDINGS)


def open_image(file: pathlib.Path, reading: Reading) -> Opened:
    """Return an image [*space c] of the type and the channels that `reading` asks for.

    Raises:
        DataError: It cannot be used; of a large one maybe when a part of it is read.
    """
    name = str(file)
    if is_picture(file, reading.dims):
        return Opened(_picture(file, reading), None, _no_pixels(file, reading))
    stored = read_stored(file, reading, reading.image_array)
    array, channels = with_channels(stored.array, reading, name=name)
    chosen = _choose(reading, channels, name=name)
    space = reading.dims

    def read(region: Region) -> np.ndarray:
        with decode.explained(name):
            part = array[region[:space]][..., chosen][..., region[space]]
            return values.convert(part, reading.dtype, name=name, missing=reading.missing == "void")

    shape = (*array.shape[:-1], reading.channels)
    void = _void(array, stored, reading, name=name)
    return Opened(
        small(Lazy(shape, reading.dtype or array.dtype, read, name=name), stored),
        stored.geometry,
        void,
    )


def _picture(file: pathlib.Path, reading: Reading) -> Array:
    """Return a picture [h w c], of some of its bands where `reading` chooses them."""
    name = str(file)
    if not reading.bands:
        return large.open_image(file, name=name, reading=reading)
    header = large.read_header(file, name=name, exif=reading.exif)
    chosen = _choose(reading, header.bands, name=name)
    whole = dataclasses.replace(reading, channels=header.bands, bands=())
    image = large.open_image(file, name=name, reading=whole)
    if not isinstance(image, Lazy):
        return np.ascontiguousarray(image[..., chosen])
    shape = (*image.shape[:2], reading.channels)
    return Lazy(shape, image.dtype, lambda r: image[r[:2]][..., chosen][..., r[2]], name=name)


def _choose(reading: Reading, channels: int, *, name: str) -> slice | list[int]:
    """Return what takes the channels that `reading` chooses from so many.

    Raises:
        DataError: There are other channels than it says.
    """
    bands = reading.bands or tuple(range(channels))
    if max(bands) >= channels or len(bands) != reading.channels:
        wanted = max(bands) + 1 if reading.bands else reading.channels
        raise DataError(
            f"{name}: {channels} channel{'s' if channels > 1 else ''}, expected {wanted}. Set "
            f"channels={channels} if all images are so, or choose bands."
        )
    return slice(None) if bands == tuple(range(channels)) else list(bands)


def open_to_predict(file: pathlib.Path, reading: Reading) -> Opened:
    """Return an image as `open_image` does, with the place of a GeoTIFF.

    A NumPy array is taken in its own type.

    Raises:
        DataError: As `open_image`.
    """
    if file.name.lower().endswith(arrays.NPY):
        reading = dataclasses.replace(reading, dtype="")
    opened = open_image(file, reading)
    if is_picture(file, reading.dims) and file.name.lower().endswith(stacks.ENDINGS):
        with decode.explained(str(file)):
            opened = opened._replace(geometry=geo.geometry_of(file))
    return opened


def header_to_predict(file: pathlib.Path, reading: Reading) -> tuple[tuple[int, ...], str]:
    """Return the sides of an image and the format of its geometry, its pixels unread.

    Raises:
        DataError: As `open_to_predict`, as far as the header shows it.
    """
    name, geometry = str(file), None
    if is_picture(file, reading.dims):
        whole = large.check_header(file, name=name, reading=reading)
        if file.name.lower().endswith(stacks.ENDINGS):
            with decode.explained(name):
                geometry = geo.geometry_of(file)
    else:
        stored = read_stored(file, reading, reading.image_array)
        whole, geometry = _sides(stored, reading, name=name), stored.geometry
    return whole, geometry.format if geometry else ""


def open_label(file: pathlib.Path, reading: Reading, image: Opened) -> Opened:
    """Return a mask [*space] of whole numbers, in a type of 8 to 64 bits.

    Args:
        file: The file.
        reading: How the data set is read.
        image: The mask's: a DICOM segmentation has no planes but those with something on them.

    Raises:
        DataError: As `open_image`; or it holds other numbers.
    """
    name = str(file)
    if is_picture(file, reading.dims):
        return Opened(large.open_label(file, name=name, exif=reading.exif))
    if file.name.lower().endswith(dicom.ENDINGS):
        place = image.geometry or Geometry("")
        with decode.explained(name):
            stored = dicom_seg.open_file(file, place, image.array.shape[:-1])
    else:
        stored = read_stored(file, reading, reading.label_array)
    array = stored.array
    if len(array.shape) == reading.dims + 1 and array.shape[-1] == 1:
        own = array
        array = Lazy(own.shape[:-1], own.dtype, lambda region: own[region][..., 0], name=name)
    if len(array.shape) != reading.dims:
        raise DataError(
            f"{name}: an array of shape {array.shape}; a mask has the {reading.dims} axes of its "
            "image and no channels. Save class numbers."
        )

    def read(region: Region) -> np.ndarray:
        with decode.explained(name):
            return values.whole_numbers(array[region], name=name)

    kind = np.dtype(np.int64) if array.dtype.kind == "f" else array.dtype
    return Opened(small(Lazy(array.shape, kind, read, name=name), stored), stored.geometry)


def read_bands(file: pathlib.Path, reading: Reading, *, bands: int) -> np.ndarray:
    """Return a mask of several bands, whole numbers [*space bands].

    Raises:
        DataError: As `open_label`; or it has another number of bands.
    """
    name = str(file)
    if is_picture(file, reading.dims):
        return decode.read_bands(file, name=name, bands=bands, exif=reading.exif)
    array = read_stored(file, reading, reading.label_array).array
    array, found = with_channels(array, reading, name=name)
    if found != bands:
        raise DataError(
            f"{name}: {found} bands, expected {bands}: one for each class, in the order of "
            "class_names. Mend one of them."
        )
    with decode.explained(name):
        return values.whole_numbers(np.asarray(array), name=name)


def without_missing(label: Array, image: Opened) -> Array:
    """Return a mask that is void where its image has no pixel."""
    void = image.void
    if void is None:
        return label
    dims = len(void.shape)
    behind = len(label.shape) - dims

    def read(region: Region) -> np.ndarray:
        missing = np.asarray(void[region[:dims]])
        missing = missing.reshape(*missing.shape, *(1,) * behind)
        return np.where(missing, np.uint8(IGNORE_LABEL), label[region])

    if isinstance(label, Lazy):
        return Lazy(label.shape, np.uint8, read, name=label.name)
    return read(tuple(map(slice, label.shape)))


def spacing(image: Opened, *, name: str) -> np.ndarray:
    """Return the distance of pixels along each axis in space, float32.

    Raises:
        DataError: The file does not say it, as others of its data set do, or none above 0.
    """
    found = image.geometry.spacing if image.geometry else ()
    if len(found) != len(image.array.shape) - 1 or not all(0 < step < np.inf for step in found):
        raise DataError(
            f"{name}: its spacing is {found or 'not said'}, expected a positive distance for each "
            "axis, as the first image has. Mend its header."
        )
    return np.array(found, np.float32)


def check_alike(
    image: Opened, label: Opened, image_name: str, label_name: str, *, exif: bool
) -> None:
    """Raise `DataError` unless a mask has its image's sides, and lies on its grid."""
    whole = image.array.shape[:-1]
    decode.check_sizes(whole, label.array.shape, image_name, label_name, exif=exif)
    if image.geometry and label.geometry and not image.geometry.same_grid(label.geometry):
        raise DataError(
            f"{label_name}: lies on another grid (affine map) than its image {image_name}. "
            "Resample the mask to its image, or copy the image's header if only that is wrong."
        )


def check_header(file: pathlib.Path, reading: Reading) -> tuple[int, ...]:
    """Return an image's sides, its pixels unread.

    Raises:
        DataError: As `open_image`, as far as its header shows it.
    """
    if is_picture(file, reading.dims):
        return large.check_header(file, name=str(file), reading=reading)
    return _sides(read_stored(file, reading, reading.image_array), reading, name=str(file))


def _sides(stored: Stored, reading: Reading, *, name: str) -> tuple[int, ...]:
    return with_channels(stored.array, reading, name=name)[0].shape[:-1]


def check_label(
    file: pathlib.Path,
    reading: Reading,
    *,
    image_file: pathlib.Path,
    whole: tuple[int, ...],
    bands: int = 1,
) -> None:
    """Check by its header alone that a mask can be read, and fits its image.

    Args:
        file: The mask.
        reading: How the data set is read.
        image_file: The image.
        whole: Its sides.
        bands: Of the mask.

    Raises:
        DataError: As `open_label` and `check_alike`, where a header shows it.
    """
    name, lower = str(file), file.name.lower()
    if lower.endswith(dicom.ENDINGS) or (reading.dims == 1 and lower.endswith(spans.ENDINGS)):
        return
    if is_picture(file, reading.dims):
        header = large.read_header(file, name=name, exif=reading.exif)
        decode.check_bands(header, name=name, bands=bands)
        label = decode.shown_size(header, reading.exif)
    else:
        label = read_stored(file, reading, reading.label_array).array.shape
        label = label[:-1] if len(label) == len(whole) + 1 and label[-1] == bands else label
    decode.check_sizes(whole, label, str(image_file), name, exif=reading.exif)


def read_stored(file: pathlib.Path, reading: Reading, array: str = "") -> Stored:
    """Return what a file that is no picture stores.

    Args:
        file: The file.
        reading: For its `dims`.
        array: The name of the array, where a file has several.

    Raises:
        DataError: It cannot be read, or has other axes in space.
    """
    name, lower = str(file), file.name.lower()
    with decode.explained(name):
        if lower.endswith(nifti.ENDINGS):
            stored = nifti.open_file(file)
        elif lower.endswith(arrays.ENDINGS):
            stored = arrays.open_file(file, name=array)
        elif lower.endswith(matlab.ENDINGS):
            stored = matlab.open_file(file, name=array)
        elif lower.endswith(sound.ENDINGS):
            stored = sound.open_file(file)
        elif lower.endswith(text.ENDINGS):
            stored = text.open_file(file)
        elif lower.endswith(stacks.ENDINGS):
            stored = stacks.open_file(file)
        elif lower.endswith(dicom.ENDINGS) or file.is_dir():
            stored = dicom.open_file(file)
        else:
            raise ValueError(f"a picture, which has 2 axes and not the {reading.dims} of dims")
    if stored.dims == 3 and reading.dims == 2 and stored.array.shape[0] == 1:
        return dataclasses.replace(stored, array=_flat(stored.array), dims=2)
    if stored.dims not in (0, reading.dims):
        raise DataError(
            f"{name}: {stored.dims} axes in space, expected {reading.dims}. Set dims="
            f"{stored.dims} in the source, and as many sides in config.input.size."
        )
    return stored


def _flat(array: Lazy) -> Lazy:
    """Return a volume of one plane as a picture."""

    def read(region: Region) -> np.ndarray:
        return array[(slice(0, 1), *region)][0]

    return Lazy(array.shape[1:], array.dtype, read, name=array.name)


def with_channels(array: Lazy, reading: Reading, *, name: str) -> tuple[Lazy, int]:
    """Return an array with channels behind, and their number."""
    if len(array.shape) == reading.dims:
        return array.with_channel(), 1
    if len(array.shape) != reading.dims + 1:
        raise DataError(
            f"{name}: an array of shape {array.shape}; expected {reading.dims} axes in space, and "
            "one of channels behind if there are several. Set dims, or rearrange its axes."
        )
    return array, array.shape[-1]


def _void(array: Lazy, stored: Stored, reading: Reading, *, name: str) -> Lazy | None:
    """Return where an image has no pixel; None: everywhere it has."""
    if reading.missing != "void" or (array.dtype.kind != "f" and stored.void is None):
        return None

    def read(region: Region) -> np.ndarray:
        with decode.explained(name):
            part = array[region]
        return values.missing_pixels(part, stored.void)

    return Lazy(array.shape[:-1], bool, read, name=name)


def _no_pixels(file: pathlib.Path, reading: Reading) -> Array | None:
    """Return where a picture has no pixel; None: everywhere it has."""
    if reading.missing != "void" or not file.name.lower().endswith(stacks.ENDINGS):
        return None
    with decode.explained(str(file)):
        void = geo.void_of(file)
    return large.open_missing(file, name=str(file), reading=reading, void=void)


def small(array: Lazy, stored: Stored) -> Array:
    """Return an array, read unless it is large and has parts, or is unpacked as it is read."""
    lazily = stored.streamed or (stored.parts and array.nbytes >= lazy.LARGE)
    return array if lazily else np.asarray(array)

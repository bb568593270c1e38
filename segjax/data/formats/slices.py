"""Slices of volumes as image files, without loss: TIFF of the volume's own type."""

import io

import numpy as np
import tifffile
from jaxtyping import Num

from segjax.data import decode
from segjax.data.formats.base import Picture
from segjax.errors import DataError

ENDING = ".tif"
NOTE = "slices are TIFF files of the volume's own values: train on them with dtype='float32'"


def encode(values: Num[np.ndarray, "h w *c"]) -> bytes:
    """Return a slice as a TIFF file; more than one channel as its bands."""
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    elif values.dtype.itemsize > 4:
        raise DataError("a volume of whole numbers of 64 bits. Save it with 32 or fewer.")
    stream = io.BytesIO()
    bands = values.ndim == 3 and values.shape[-1] > 1
    values = values if bands else values.reshape(values.shape[:2])
    layout = {"planarconfig": "contig", "extrasamples": [0] * (values.shape[-1] - 1)}
    tifffile.imwrite(
        stream, np.ascontiguousarray(values), photometric="minisblack", compression="zlib",
        metadata=None, **(layout if bands else {}),
    )  # fmt: skip
    return stream.getvalue()


def decode_all(picture: Picture) -> Num[np.ndarray, "h w c"]:
    """Return the values of a picture's image, as they are stored."""
    header = decode.read_header(picture.content, name=picture.name)
    bands = 3 if header.colour in ("palette", "cmyk", "ycbcr") else header.bands - header.alpha
    values = decode.read_image(picture.content, name=picture.name, channels=bands, dtype="float32")
    return values.astype(header.dtype) if np.dtype(header.dtype).kind in "iu" else values

"""WAV files: samples [time channels] of whole numbers or float32."""

import pathlib
import warnings

import numpy as np
from scipy.io import wavfile

from segjax.data import raster
from segjax.data.geometry import Geometry
from segjax.data.lazy import Lazy, Region
from segjax.data.readers.base import Stored, check_size
from segjax.runtime import reading

ENDINGS = (".wav",)


def open_file(file: pathlib.Path) -> Stored:
    """Return the samples [time], or [time channels] of several channels.

    Those of 8 bits are uint8 around 128, of 16 int16, of 24 and 32 int32 (24 bits in the upper
    ones), and floating-point ones float32 or float64.

    Raises:
        ValueError: It is no WAV file, or one that holds less than it says.
    """

    with reading.open_file(file, limit=raster.MAX_BYTES) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks beside the samples
        rate, samples = wavfile.read(stream)
    if rate <= 0:
        raise ValueError(f"{rate} samples a second")
    check_size(samples.shape, samples.dtype, parts=False)
    geometry = Geometry("wav", (1 / rate,), "s", header={"rate": rate})

    def read(region: Region) -> np.ndarray:
        return np.ascontiguousarray(samples[region])

    return Stored(
        Lazy(samples.shape, samples.dtype, read, name=str(file)), 1, geometry, parts=False
    )

"""Look at a PNG that a figure was saved as, for the tests beside."""

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image


def read_png(path):
    """A whole picture (decoded to its last byte) of less than 1 MB, with something drawn on it."""
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        pixels = np.asarray(picture.convert("RGB"))
    assert path.stat().st_size < 1_000_000
    assert (pixels != 255).any()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return pixels


def near(pixels, shade, tolerance=6):
    """How many pixels have this colour."""
    wanted = np.array([round(255 * c) for c in mpl.colors.to_rgb(shade)])
    return int((np.abs(pixels.astype(int) - wanted).max(-1) <= tolerance).sum())

"""The rule: a file gives the values that were put into it, as image and mask, or one line."""

import numpy as np
import pytest

from segjax.data import decode
from segjax.errors import DataError
from tests.data import odd_files, odd_tiffs

FILES = [*odd_files.all_files(), *odd_tiffs.tiff_files()]


def one_line(read):
    """Return the error's text, or what was read."""
    try:
        return read()
    except DataError as error:
        assert "\n" not in str(error) and str(error).startswith("file: ")
        return str(error)


def test_there_are_300_of_every_kind():
    names = [odd.name for odd in FILES]
    assert len(names) == len(set(names)) >= 300
    for ending in ("png", "tif", "tiff", "jpeg", "webp", "bmp", "gif"):
        assert sum(name.endswith(f".{ending}") for name in names) >= 1, ending


@pytest.mark.parametrize("ending", ["png", "tif", "tiff", "jpeg", "jpg", "webp", "bmp", "gif", ""])
def test_images_have_the_stored_values_or_one_line_says_why_not(ending):
    wrong = {}
    for odd in FILES:
        if odd.name.partition(".")[2] != ending:
            continue
        channels, dtype = 3, "uint8"
        if odd.image is not None:
            channels, dtype = odd.image.shape[-1], str(odd.image.dtype)
        found = one_line(
            lambda: decode.read_image(odd.content, name="file", channels=channels, dtype=dtype)  # noqa: B023
        )
        if not matches(found, odd.image, odd.tolerance):
            wrong[odd.name] = found
    assert not wrong


@pytest.mark.parametrize("ending", ["png", "tif", "tiff", "jpeg", "jpg", "webp", "bmp", "gif", ""])
def test_masks_have_the_stored_numbers_or_one_line_says_why_not(ending):
    wrong = {}
    for odd in FILES:
        if odd.name.partition(".")[2] == ending:
            found = one_line(lambda: decode.read_label(odd.content, name="file"))  # noqa: B023
            if not matches(found, odd.label, 0):
                wrong[odd.name] = found
    assert not wrong


def matches(found, expected, tolerance):
    if expected is None or isinstance(found, str):
        return expected is None and isinstance(found, str)
    same = found.shape == expected.shape
    return same and np.abs(found.astype(float) - expected.astype(float)).mean() <= tolerance

"""Pictures one after the other, as a GIF."""

import os
import pathlib
from collections.abc import Sequence

import imagecodecs
from PIL import Image

from segjax.runtime import files, reading

SHOWN, LAST = 600, 2500
"""How long each picture is seen, and the last one, in milliseconds."""
WIDEST = 1200
"""Pixels of a picture, which a larger one is scaled to."""


def write(path: str | os.PathLike[str], pictures: Sequence[pathlib.Path]) -> None:
    """Write PNGs as the frames of one GIF, on white where one is smaller than another.

    Args:
        path: Of the GIF.
        pictures: At least one, in their order.

    Raises:
        UserError: One cannot be read, or the disk is full or cannot be written.
    """
    frames = [_read(each) for each in pictures]
    width, height = (max(side) for side in zip(*(frame.size for frame in frames), strict=True))
    canvases = []
    for frame in frames:
        canvas = Image.new("RGB", (width, height), (255, 255, 255))
        canvas.paste(frame, (0, 0))
        # Median cut, which is usual, takes seconds and moves the colours of classes that are rare.
        canvases.append(canvas.quantize(255, Image.Quantize.FASTOCTREE))
    times = [SHOWN] * (len(frames) - 1) + [LAST]
    with files.replacing(path) as temporary:
        canvases[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=canvases[1:],
            duration=times,
            loop=0,
        )


def _read(path: pathlib.Path) -> Image.Image:
    with reading.open_file(path) as file:
        pixels = imagecodecs.png_decode(file.read())
    frame = Image.fromarray(pixels).convert("RGB")
    frame.thumbnail((WIDEST, 4 * WIDEST))
    return frame

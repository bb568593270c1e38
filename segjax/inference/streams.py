"""Write what is predicted while it is predicted: label maps as TIFF, any array as Zarr or NPY."""

import contextlib
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorstore
import tifffile

from segjax.config import rules
from segjax.data.lazy import Region
from segjax.errors import UserError
from segjax.runtime import files

Tiles = Iterable[tuple[Region, np.ndarray]]
"""Parts of an array that hold each of its values once, the first axis slowest."""
SIDE = 256
"""Of a TIFF's tiles."""
CHUNK = {1: 1 << 16, 2: 256, 3: 64}
"""The side of a Zarr's chunks by the number of axes in space; they hold all classes."""


def bands(tiles: Tiles, whole: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what tiles hold as bands over all axes but the first, and where each begins.

    Args:
        tiles: Of an array with the axes `whole` in front.
        whole: The sides in space.
    """
    start, band = 0, None
    for region, tile in tiles:
        rows = region[0]
        if band is not None and rows.start != start:
            yield start, band
            band = None
        if band is None:
            behind = tile.shape[len(whole) :]
            band = np.empty((rows.stop - rows.start, *whole[1:], *behind), tile.dtype)
            start = rows.start
        band[(slice(None), *region[1:])] = tile
    if band is not None:
        yield start, band


def write_tiff(
    path: pathlib.Path,
    tiles: Tiles,
    whole: Sequence[int],
    *,
    palette: Sequence[Sequence[int]],
    tags: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Write a class map [h w] as a TIFF of tiles, compressed without loss, with a palette.

    From 4 GiB on it is a BigTIFF. `tags` are others that it has, as tifffile takes them.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    colours = np.zeros((3, 256), np.uint16)
    colours[:, : len(palette)] = np.asarray(palette, np.uint16).T * 257
    big = whole[0] * whole[1] >= 1 << 32
    with files.replacing(path) as temporary:
        with tifffile.TiffWriter(temporary, bigtiff=big) as writer:
            writer.write(
                _squares(bands(tiles, whole), whole),
                shape=tuple(whole),
                dtype=np.uint8,
                tile=(SIDE, SIDE),
                compression="zlib",
                photometric="palette",
                colormap=colours,
                metadata=None,
                extratags=tags,
            )


def _squares(found: Iterator[tuple[int, np.ndarray]], whole: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield squares of a map, row by row, padded with 0 at its far ends."""
    rest = np.empty((0, whole[1]), np.uint8)
    for start, band in found:
        rest = np.concatenate([rest, band])
        last = start + len(band) == whole[0]
        while len(rest) >= SIDE or (last and len(rest)):
            row, rest = rest[:SIDE], rest[SIDE:]
            for left in range(0, whole[1], SIDE):
                square = np.zeros((SIDE, SIDE), np.uint8)
                part = row[:, left : left + SIDE]
                square[: part.shape[0], : part.shape[1]] = part
                yield square


def write_zarr(
    path: pathlib.Path,
    tiles: Tiles,
    shape: Sequence[int],
    dtype: Any,
    *,
    dims: int,
    attributes: Mapping[str, Any] | None = None,
    shown: pathlib.Path | None = None,
) -> None:
    """Write an array as Zarr (version 3) in chunks, while its parts are made.

    Args:
        path: A folder, which is written anew.
        tiles: Its parts.
        shape: Of the array.
        dtype: Of the array.
        dims: How many of its axes lie in space.
        attributes: What else the array says of itself.
        shown: What messages call the folder; None: by its name.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    chunk = [min(side, CHUNK[dims]) for side in shape[:dims]] + list(shape[dims:])
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": {
            "shape": list(shape),
            "data_type": str(np.dtype(dtype)),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": 3}},
            ],
            "dimension_names": [*"zyx"[-dims:], *["class"] * (len(shape) - dims)],
            "attributes": dict(attributes or {}),
        },
    }
    with _explain_errors(shown or path):
        store = tensorstore.open(spec, create=True, delete_existing=True).result()
    for region, tile in tiles:
        with _explain_errors(shown or path):
            store[region].write(tile).result()


@contextlib.contextmanager
def _explain_errors(path: pathlib.Path) -> Iterator[None]:
    """Turn what TensorStore makes of the system's errors, a ValueError, into one line."""
    try:
        yield
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"Cannot write {path}: {rules.cut(reason, 300)}. Free some space, or name another "
            "folder."
        ) from error


def write_npy(path: pathlib.Path, tiles: Tiles, shape: Sequence[int], dtype: Any) -> None:
    """Write an array as NPY while its parts are made.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    with files.replacing(path) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.dtype(dtype), tuple(shape))
        for region, tile in tiles:
            array[region] = tile
        array.flush()

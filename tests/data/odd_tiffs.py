"""Odd TIFF files, made as those of `odd_files`: types, bands, byte orders, pages, layouts."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import tifffile
from PIL import Image

from tests.data.odd_files import (
    H,
    Odd,
    W,
    as_image,
    as_label,
    packed_rows,
    planes,
    spread,
    tiff,
    turned,
    values,
)

TYPES = {
    "uint8": 8, "uint16": 16, "uint32": 20, "uint64": 20, "int8": 7, "int16": 15, "int32": 20,
    "int64": 20,
}  # fmt: skip


def tiff_files() -> Iterator[Odd]:
    squeezes = ("none", "lzw", "deflate", "packbits", "zstd")
    for dtype, order, squeeze in itertools.product(TYPES, "<>", squeezes):
        if squeeze == "packbits" and dtype != "uint8":
            continue
        stored = values(TYPES[dtype], dtype=dtype)
        if dtype.startswith("int"):
            stored[2] *= -1
        content = tiff(stored, byteorder=order, compression=squeeze)
        name = f"{dtype} {squeeze} {'little' if order == '<' else 'big'} endian.tif"
        yield Odd(name, content, as_image(stored), as_label(stored))
    for dtype, order, whole in itertools.product(("float16", "float32", "float64"), "<>", (0, 1)):
        stored = (values(8) / (1 if whole else 256)).astype(dtype)
        yield Odd(
            f"{dtype} {whole} {order}.tif",
            tiff(stored, byteorder=order),
            as_image(stored),
            as_label(stored),
        )
    for dtype in ("complex64", "uint32", "int64"):
        stored = values(31).astype(dtype) if dtype != "complex64" else values(8).astype(dtype)
        yield Odd(f"{dtype} beyond float32.tif", tiff(stored), as_image(stored), as_label(stored))
    yield from tiff_bands()
    yield from tiff_sub_byte()
    yield from tiff_turned()
    yield from tiff_pages()
    yield from tiff_layouts()
    yield from by_pillow()


def tiff_bands() -> Iterator[Odd]:
    for bands, dtype, order, planar in itertools.product(
        (2, 3, 4, 5, 8), ("uint8", "uint16", "float32"), "<>", ("contig", "separate")
    ):
        stored = values(TYPES.get(dtype, 8), bands, dtype=dtype)
        written = np.moveaxis(stored, -1, 0) if planar == "separate" else stored
        photometric = "rgb" if bands in (3, 4, 5) else "minisblack"
        extras = {3: None, 4: ("unspecified",), 5: ("unspecified",) * 2}.get(
            bands, ("unspecified",) * (bands - 1)
        )
        content = tiff(
            np.ascontiguousarray(written), byteorder=order, planarconfig=planar,
            photometric=photometric, extrasamples=extras,
        )  # fmt: skip
        yield Odd(f"{bands} bands {dtype} {order} {planar}.tif", content, as_image(stored), None)


def sub_byte_tiff(array: np.ndarray, bits: int, *, white: bool, squeeze: str, order: str) -> bytes:
    rows = packed_rows(array, bits)
    size = len(rows) // H
    data = b"".join(rows[y * size + 1 : (y + 1) * size] for y in range(H))  # no byte of the filter
    data = zlib.compress(data) if squeeze == "deflate" else data
    numbers = {
        256: W, 257: H, 258: bits, 259: 8 if squeeze == "deflate" else 1, 262: 0 if white else 1,
        273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: H, 279: len(data),
    }  # fmt: skip
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, v) for tag, v in numbers.items())
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(order + "HIH", 42, 8, len(numbers)) + entries
    return head + struct.pack(order + "I", 0) + data


def tiff_sub_byte() -> Iterator[Odd]:
    for bits, squeeze, order, white in itertools.product(
        (1, 2, 4), ("none", "deflate"), "<>", (False, True)
    ):
        stored = values(bits)
        shown = spread(2**bits - 1 - stored if white else stored, bits)
        content = sub_byte_tiff(stored, bits, white=white, squeeze=squeeze, order=order)
        name = f"{bits} bits {squeeze} {order}{' white is 0' * white}.tif"
        yield Odd(name, content, shown, stored)
    for bits in (8, 16):
        stored = values(bits)
        content = tiff(stored, photometric="miniswhite")
        yield Odd(f"{bits} bits miniswhite.tif", content, planes(2**bits - 1 - stored), stored)
    colours = np.random.default_rng(3).integers(0, 256, (3, 256)).astype(np.uint16)
    stored = values(8)
    content = tiff(stored, photometric="palette", colormap=colours * 257)
    yield Odd("palette.tif", content, colours.T[stored].astype(np.uint8), stored)
    stored = values(12, dtype="uint16")
    yield Odd("12 bits packed.tif", tiff(stored, bitspersample=12), planes(stored), stored)


def tiff_turned() -> Iterator[Odd]:
    for turn, squeeze in itertools.product(range(1, 9), ("none", "lzw")):
        tags = [(274, "H", 1, turn, True)]
        for bits, bands in ((8, 1), (16, 1), (8, 4), (16, 3)):
            stored = values(bits) if bands == 1 else values(bits, bands)
            photometric = "minisblack" if bands == 1 else "rgb"
            extras = ("unassalpha",) if bands == 4 else None
            content = tiff(
                stored, extratags=tags, compression=squeeze, photometric=photometric,
                extrasamples=extras,
            )  # fmt: skip
            shown = turned(stored, turn)
            label = shown if bands == 1 else None
            yield Odd(
                f"{bits} bits {bands} bands turned {turn} {squeeze}.tif",
                content,
                planes(shown),
                label,
            )


def tiff_pages() -> Iterator[Odd]:
    stored, small = values(8), values(8)[:2, :2].copy()
    for name, kinds in {
        "two pages": (0, 0),
        "three pages": (0, 0, 0),
        "thumbnail first": (1, 0),
        "thumbnail last": (0, 1),
        "overviews": (0, 1, 1),
        "transparency mask": (0, 4),
        "thumbnail alone": (1,),
    }.items():
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            for kind in kinds:
                array = {0: stored, 1: small, 4: stored > 99}[kind]
                photometric = "mask" if kind == 4 else "minisblack"
                writer.write(array, subfiletype=kind, photometric=photometric, metadata=None)
        one = kinds.count(0) == 1
        good = (planes(stored), stored) if one else (None, None)
        yield Odd(f"{name}.tif", stream.getvalue(), *good)
    yield Odd("stack of ImageJ.tif", tiff(np.stack([stored] * 3), imagej=True), None, None)
    stack = np.stack([stored] * 3)
    for name, options in {"tifffile, one page": {"truncate": True}, "OME": {"ome": True}}.items():
        yield Odd(f"stack of {name}.tif", tiff(stack, **options), None, None)
    yield Odd(
        "volume.tif", tiff(np.stack([stored] * 16), volumetric=True, tile=(16, 16, 16)), None, None
    )


def tiff_layouts() -> Iterator[Odd]:
    for bits, order in itertools.product((8, 16), "<>"):
        stored = values(bits)
        options = {
            "tiled": {"tile": (16, 16)},
            "predictor": {"predictor": True, "compression": "deflate"},
            "strips": {"rowsperstrip": 2, "compression": "lzw"},
            "bigtiff": {"bigtiff": True},
            "tiled lzw": {"tile": (16, 16), "compression": "lzw", "predictor": True},
        }
        for name, more in options.items():
            content = tiff(stored, byteorder=order, **more)
            yield Odd(f"{name} {bits} bits {order}.tif", content, planes(stored), stored)


def by_pillow() -> Iterator[Odd]:
    for squeeze in ("group3", "group4", "tiff_ccitt", "tiff_lzw", "packbits"):
        stored, stream = values(1), io.BytesIO()
        Image.fromarray(stored.astype(bool)).save(stream, "TIFF", compression=squeeze)
        yield Odd(f"bilevel {squeeze}.tif", stream.getvalue(), spread(stored, 1), stored)
    stream = io.BytesIO()
    Image.frombytes("LAB", (W, H), values(8, 3).tobytes()).save(stream, "TIFF")
    yield Odd("CIELAB.tif", stream.getvalue(), None, None)

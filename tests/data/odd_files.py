"""Odd image files of every kind, each with the values that were put into it.

They are written here chunk by chunk (PNG, BMP), by tifffile and by Pillow; what a file must give is
known from the array that was written, never from reading it.
"""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

H, W = 5, 7  # an odd width: rows of sub-byte pixels end inside a byte


class Odd(NamedTuple):
    """A file and what it must give; None: one line that says why not.

    `image` is for as many channels and the type as it has itself, upright.
    """

    name: str
    content: bytes
    image: np.ndarray | None
    label: np.ndarray | None
    tolerance: float = 0


def values(bits: int, *bands: int, dtype: str = "", seed: int = 0) -> np.ndarray:
    """Return random numbers of `bits` bits; the first is the largest, the second 1."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 2**bits, (H, W, *bands), dtype=np.uint64)
    found.flat[:2] = 2**bits - 1, 1
    return found.astype(dtype or ("uint8" if bits <= 8 else "uint16" if bits <= 16 else "uint32"))


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return what a viewer shows: row 0 and column 0 of the file lie where the standard says."""
    h, w = array.shape[:2]
    shown = np.empty((w, h, *array.shape[2:]) if orientation > 4 else array.shape, array.dtype)
    for y, x in itertools.product(range(h), range(w)):
        place = {
            1: (y, x), 2: (y, w - 1 - x), 3: (h - 1 - y, w - 1 - x), 4: (h - 1 - y, x),
            5: (x, y), 6: (x, h - 1 - y), 7: (w - 1 - x, h - 1 - y), 8: (w - 1 - x, y),
        }[orientation]  # fmt: skip
        shown[place] = array[y, x]
    return shown


def planes(array: np.ndarray) -> np.ndarray:
    return array[..., None] if array.ndim == 2 else array


def spread(array: np.ndarray, bits: int) -> np.ndarray:
    """Return an image's values of 1, 2 or 4 bits as they are shown, 0..255."""
    return planes(array * np.uint8(255 // (2**bits - 1)) if bits < 8 else array)


# --- PNG ---


def packed_rows(array: np.ndarray, bits: int) -> bytes:
    rows = b""
    for row in array.reshape(len(array), -1):
        if bits == 16:
            data = row.astype(">u2").tobytes()
        elif bits == 8:
            data = row.tobytes()
        else:
            digits = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
            data = np.packbits(digits.astype(np.uint8)).tobytes()
        rows += b"\0" + data
    return rows


ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def png(array: np.ndarray, bits: int, colour: int, *, interlaced=False, **chunks: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    parts = [array[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [array]
    data = b"".join(packed_rows(part, bits) for part in parts if part.size)
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, colour, 0, 0, interlaced)
    more = b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more
        + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )  # fmt: skip


def png_of_size(height: int, width: int) -> bytes:
    """Return a few bytes that claim to be a large grey PNG."""
    whole = png(values(8), 8, 0)
    head = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def exif(orientation: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def png_files() -> Iterator[Odd]:
    kinds = {0: ("grey", 1), 2: ("rgb", 3), 3: ("palette", 1), 4: ("grey-alpha", 2), 6: ("rgba", 4)}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour, (kind, bands) in kinds.items():
        for bits, interlaced in itertools.product(depths[colour], (False, True)):
            stored = values(bits, *(() if bands == 1 else (bands,)), seed=bits)
            chunks, image = {}, spread(stored, bits)
            if kind == "palette":
                palette = np.random.default_rng(7).integers(0, 256, (2**bits, 3)).astype(np.uint8)
                chunks["PLTE"] = palette.tobytes()
                image = palette[stored]
            name = f"{kind} {bits} bits{' interlaced' * interlaced}.png"
            content = png(stored, bits, colour, interlaced=interlaced, **chunks)
            yield Odd(name, content, image, stored if bands == 1 else None)
    for turn, bits in itertools.product(range(1, 9), (2, 8, 16)):
        stored = values(bits)
        content = png(stored, bits, 0, eXIf=exif(turn))
        shown = turned(stored, turn)
        yield Odd(f"grey {bits} bits turned {turn}.png", content, spread(shown, bits), shown)
    for turn in range(1, 9):
        stored = values(16, 3)
        content = png(stored, 16, 2, eXIf=exif(turn))
        yield Odd(f"rgb 16 bits turned {turn}.png", content, turned(stored, turn), None)


# --- TIFF ---


def tiff(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def as_label(array: np.ndarray) -> np.ndarray | None:
    whole = array.dtype.kind in "iu" or bool(array.dtype.kind == "f" and np.all(array % 1 == 0))
    return array if array.ndim == 2 and whole else None


def as_image(array: np.ndarray) -> np.ndarray | None:
    """8 and 16 bits without a sign keep their type, the rest is float32 if that holds it."""
    if (
        array.dtype.kind == "c"
        or array.dtype.kind in "iu"
        and np.abs(array.astype(float)).max() > 2**24
    ):
        return None
    kept = array.dtype in (np.uint8, np.uint16)
    return planes(array if kept else array.astype(np.float32))


# --- Pillow's modes, BMP, GIF, WebP, JPEG ---

MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16")
LOSSLESS = ("PNG", "TIFF", "BMP", "GIF", "WEBP")
WRITTEN_AS_THEY_ARE = {
    "PNG": ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P"),
    "WEBP": ("L", "P", "RGB", "RGBA"),
}
"""Pillow writes other modes converted, or not at all; TIFF takes every one."""


def picture_of(mode: str) -> Image.Image:
    if mode in ("L", "P"):
        image = Image.fromarray(values(8))
        if mode == "P":
            image.putpalette(bytes(range(255, -1, -1)) * 3)
        return image
    if mode == "1":
        return Image.fromarray(values(1).astype(bool))
    if mode in ("I", "F", "I;16"):
        return Image.fromarray(
            values(15).astype({"I": "int32", "F": "float32"}.get(mode, "uint16"))
        )
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (W, H), values(8, bands).tobytes())


def values_of(image: Image.Image) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return what an image of Pillow must give as image and as mask."""
    mode = image.mode
    if mode == "1":
        return spread(values(1), 1), values(1)
    if mode == "P":
        return np.array(image.getpalette(), np.uint8).reshape(-1, 3)[values(8)], values(8)
    if mode == "YCbCr":
        return np.asarray(image.convert("RGB")), None
    array = np.asarray(image)
    return as_image(array), as_label(array)


def pillow_files() -> Iterator[Odd]:
    for mode, form in itertools.product(MODES, LOSSLESS):
        if mode not in WRITTEN_AS_THEY_ARE.get(form, MODES):
            continue
        image, stream = picture_of(mode), io.BytesIO()
        options = {"WEBP": {"lossless": True, "exact": True}, "GIF": {"optimize": False}}
        image.save(stream, form, **options.get(form, {}))
        shown, label = values_of(image)
        if form == "WEBP":
            shown, label = np.asarray(image.convert("RGBA" if mode == "RGBA" else "RGB")), None
        yield Odd(f"{mode} by Pillow.{form.lower()}", stream.getvalue(), shown, label)
    y, x = np.mgrid[:24, :40]
    smooth = np.stack([x * 5, y * 9, 255 - x * 5], -1).astype(np.uint8)
    for turn, (mode, form) in itertools.product(
        range(1, 9), (("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP"))
    ):
        image, stream = Image.fromarray(smooth).convert(mode), io.BytesIO()
        tag = Image.Exif()
        tag[0x0112] = turn
        image.save(stream, form, quality=95, exif=tag)
        shown = planes(turned(np.asarray(image), turn))
        yield Odd(f"{mode} turned {turn}.{form.lower()}", stream.getvalue(), shown, None, 6)


def bmp(stored: np.ndarray, bits: int, palette: np.ndarray) -> bytes:
    stride = (W * bits + 31) // 32 * 4
    rows = b"".join(packed_rows(row[None], bits)[1:].ljust(stride, b"\0") for row in stored[::-1])
    table = np.c_[palette[:, ::-1], np.zeros(len(palette), np.uint8)].astype(np.uint8).tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, W, H, 1, bits, 0, len(rows), 0, 0, len(palette), 0)
    start = 14 + 40 + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + table + rows


def other_files() -> Iterator[Odd]:
    for bits, grey in itertools.product((1, 4, 8), (False, True)):
        stored, count = values(bits), 2**bits
        palette = np.random.default_rng(bits).integers(0, 256, (count, 3))
        name = f"{bits} bits{' grey palette' * grey}.bmp"
        if grey:  # the palette says that value v looks like v/(count-1) of white
            palette = np.repeat(np.arange(count)[:, None] * (255 // (count - 1)), 3, 1)
        shown = palette[stored].astype(np.uint8)
        if grey and bits != 4:
            shown = shown[..., :1]
        yield Odd(name, bmp(stored, bits, palette), shown, stored)
    frames = [Image.fromarray(values(8, seed=seed)) for seed in range(2)]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        stream = io.BytesIO()
        frames[0].save(stream, form, save_all=True, append_images=frames[1:])
        yield Odd(f"two frames.{form.lower()}", stream.getvalue(), None, None)
    y, x = np.mgrid[:24, :40]
    first = Image.fromarray((x * 5 + y).astype(np.uint8))
    stream = io.BytesIO()
    first.save(stream, "MPO", save_all=True, append_images=[first.rotate(180)], quality=95)
    yield Odd("with a second view (MPO).jpg", stream.getvalue(), planes(np.asarray(first)), None, 4)
    stream = io.BytesIO()
    Image.fromarray(values(8)).save(stream, "TIFF", compression="jpeg")
    yield Odd("mask as JPEG in TIFF.tif", stream.getvalue(), planes(values(8)), None, 255)


def broken_files() -> Iterator[Odd]:
    whole = [
        png(values(8, seed=1), 8, 0),
        png(values(16, 3), 16, 2),
        tiff(values(8)),
        tiff(values(16), compression="lzw"),
        tiff(values(8), compression="deflate", byteorder=">"),
    ]
    for form in ("JPEG", "WEBP", "BMP"):
        stream = io.BytesIO()
        Image.fromarray(values(8, 3)).save(stream, form)
        whole.append(stream.getvalue())
    for number, content in enumerate(whole):
        yield Odd(f"cut in two {number}", content[: len(content) // 2], None, None)
        yield Odd(f"cut near its start {number}", content[:12], None, None)
    large = np.random.default_rng(0).integers(0, 2**16, (64, 64)).astype(np.uint16)
    for squeeze in ("none", "lzw", "deflate", "packbits", "zstd"):
        content = tiff(large, compression=squeeze, rowsperstrip=16, byteorder=">")
        yield Odd(f"pixels cut off {squeeze}", content[:-500], None, None)
    yield Odd("empty", b"", None, None)
    yield Odd("text", b"<html>\nnot found\n</html>", None, None)
    yield Odd("HEIC named PNG", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", None, None)
    yield Odd("gigapixels in 100 bytes", png_of_size(60000, 60000), None, None)


def all_files() -> list[Odd]:
    """Return every file but most TIFFs, which `odd_tiffs` makes; names differ."""
    makers = (png_files, pillow_files, other_files, broken_files)
    return [odd for maker in makers for odd in maker()]

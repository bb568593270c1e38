"""Small files that claim much: each must be refused in a line, in little time and memory."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from tests.data import odd_files

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def ihdr(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """Return the header of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def encoded(kind: str, **options) -> bytes:
    """Return a small image as Pillow writes it."""
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 99, 199)).save(stream, kind, **options)
    return stream.getvalue()


def zeros(megabytes: int) -> bytes:
    """Return so many zeros, compressed."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def png_notes() -> dict[str, bytes]:
    """Return PNGs whose texts and colour profiles unpack to much; they take a moment to make."""
    small, much = odd_files.png(odd_files.values(8), 8, 0), zeros(600)
    return {
        f"{kind.decode()}?": small[:33] + chunk(kind, b"x" + start + much) + small[33:]
        for kind, start in ((b"iCCP", b"\0\0"), (b"zTXt", b"\0\0"), (b"iTXt", b"\0\1\0\0\0"))
    }


def png() -> dict[str, bytes]:
    small = odd_files.png(odd_files.values(8), 8, 0)
    rest = small[8 + 25 :]
    return {
        "88 megapixels": SIGNATURE
        + ihdr(11_000, 8000)
        + chunk(b"IDAT", zlib.compress(bytes(1000))),
        "of 16 bits": SIGNATURE + ihdr(60_000, 60_000, 16) + rest,
        "a palette": SIGNATURE + ihdr(60_000, 60_000, 8, 3) + chunk(b"PLTE", bytes(6)) + rest,
        "two headers": small + ihdr(60_000, 60_000),
        "a long tag": small[:33] + struct.pack(">I4s", 2**31 - 1, b"eXIf") + rest,
        "long pixels": small[:33] + struct.pack(">I4s", 2**31 - 1, b"IDAT") + rest,
        "frames": SIGNATURE + ihdr(9, 9) + chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + rest,
    }


def jpg() -> dict[str, bytes]:
    small = encoded("JPEG")
    at = small.index(b"\xff\xc0") + 5
    return {
        "65535 x 65535": small[:at] + b"\xff\xff\xff\xff" + small[at + 4 :],
        "many scans": small[:at] + b"\x27\x10\x27\x10" + small[at + 4 : -2] + b"\xff\xda" * 99,
    }


def webp() -> dict[str, bytes]:
    small = encoded("WEBP", lossless=True)
    canvas = struct.pack("<4sIB3x", b"VP8X", 10, 0) + b"\xff" * 6
    return {
        "2**24 x 2**24": small[:8] + b"WEBP" + canvas + small[12:],
        "16384 x 16384?": small[:21] + b"\xff\xff\xff\x0f" + small[25:],
    }


def gif() -> dict[str, bytes]:
    small = encoded("GIF")
    at = small.index(b",\0\0\0\0") + 5
    return {
        "a screen": small[:6] + b"\xff\xff\xff\xff" + small[10:],
        "a frame": small[:at] + b"\xff\xff\xff\xff" + small[at + 4 :],
        "many frames": small[:-1] + small[at - 5 : -1] * 20_000 + b";",
        "no frame": small[:13] + bytes(1 << 20),
    }


def bmp() -> dict[str, bytes]:
    stream = io.BytesIO()
    Image.new("P", (7, 5)).save(stream, "BMP")
    small = stream.getvalue()
    return {
        "tall": small[:22] + struct.pack("<I", 2**30) + small[26:],
        "wide": small[:18] + struct.pack("<I", 2**29) + small[22:],
        "tall, by runs": small[:22] + struct.pack("<I", 2**28) + small[26:30]
        + struct.pack("<I", 1) + small[34:],
    }  # fmt: skip


def tif() -> dict[str, bytes]:
    """Return TIFFs whose tags or whose strips lie."""
    large = np.zeros((3000, 9000, 3), np.uint8)
    found = {}
    for squeeze, encode in {
        "jpeg": imagecodecs.jpeg_encode,
        "jpeg2000": lambda array: imagecodecs.jpeg2k_encode(array, codecformat="j2k"),
        "png": imagecodecs.png_encode,
        "webp": lambda array: imagecodecs.webp_encode(array, lossless=True),
    }.items():
        stream = io.BytesIO()
        tifffile.imwrite(
            stream, iter([encode(large)]), shape=(20, 30, 3), dtype="uint8", photometric="rgb",
            compression=squeeze, rowsperstrip=20,
        )  # fmt: skip
        found[f"a strip in {squeeze}"] = stream.getvalue()
    found["a loop of pages"] = struct.pack("<2sHI HI", b"II", 42, 8, 0, 8)
    found["a tag"] = directory((273, 4, 2**32 - 1, 8))
    found["many tags"] = struct.pack("<2sHI H", b"II", 42, 8, 65535)
    size = [(256, 3, 1, 60_000), (257, 3, 1, 60_000), (258, 3, 1, 8), (259, 3, 1, 1)]
    rest = [(262, 3, 1, 1), (277, 3, 1, 1)]
    strip = [(273, 4, 1, 8), (278, 3, 1, 60_000), (279, 4, 1, 1)]
    found["a large page"] = directory(*size, rest[0], strip[0], rest[1], *strip[1:])
    small = [(256, 3, 1, 10), (257, 3, 1, 10), *size[2:]]
    tile = [(322, 4, 1, 2**30), (323, 4, 1, 2**30), (324, 4, 1, 8), (325, 4, 1, 1)]
    long = [(273, 4, 1, 8), (278, 3, 1, 10), (279, 4, 1, 2**32 - 1)]
    found["a long strip"] = directory(*small, rest[0], long[0], rest[1], *long[1:])
    found["a large tile"] = directory(*small, *rest, *tile)
    packed = [(256, 3, 1, 10), (257, 3, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8)]
    bomb = zeros(600)
    where = len(directory(*packed, rest[0], strip[0], rest[1], *strip[1:]))
    lying = [(273, 4, 1, where), (278, 3, 1, 10), (279, 4, 1, len(bomb))]
    found["a deflated strip?"] = directory(*packed, rest[0], lying[0], rest[1], *lying[1:]) + bomb
    return found


def directory(*tags: tuple[int, int, int, int]) -> bytes:
    """Return a TIFF of one page with these tags: code, type, count, value."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHI H", b"II", 42, 8, len(tags)) + entries + bytes(4)


def npy() -> dict[str, bytes]:
    def header(text: str, version: int = 1) -> bytes:
        length = struct.pack("<H" if version == 1 else "<I", len(text))
        return b"\x93NUMPY" + bytes((version, 0)) + length + text.encode()

    def of(shape: str, dtype: str = "'|u1'") -> bytes:
        return header(
            f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n"
        ) + bytes(60)

    objects = io.BytesIO()
    np.save(objects, np.array([{}, []], object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    return {
        "10**15 elements": of("(1000000000000000,)"),
        "beyond 64 bits": of(f"({10**30}, 3)"),
        "too few": of("(5, 4, 1)"),
        "too many": of("(5, 4, 9)"),
        "negative": of("(-5, -12)"),
        "none": of("(0, 5)"),
        "objects": objects.getvalue(),
        "records": of("(2, 3)", "[('a', '<f4', (1000, 1000, 1000))]"),
        "text": of("(3,)", "'<U5'"),
        "a wide type": of("(1, 1)", "'|V2000000000'"),
        "deep": header("(" * 9000),
        "a long header": header("x" * 10**6, 2),
        "an archive": archive.getvalue(),
    }

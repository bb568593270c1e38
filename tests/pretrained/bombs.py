"""Small weight files that claim much, or do much: each must be refused in a line."""

import io
import pathlib
import struct
import warnings
import zipfile

import numpy as np

from tests.pretrained import pth

STRIDED = {
    "10**12 numbers of one": ((10**6, 10**6), (0, 0)),
    "most axes": ((2,) * 17, (0,) * 17),
    "negative": ((-4, -4), (1, 1)),
    "beyond 64 bits": ((2**70,), (0,)),
    "beyond 64 bits, none": ((0, 2**70), (0, 0)),
}


def program(body: bytes) -> bytes:
    """Return an archive of a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
    return stream.getvalue()


def programs() -> dict[str, bytes]:
    """Return pickles that do too much."""
    doubled = [b"h%ch%c" % (i, i) for i in range(60)]
    names = [b"q%c" % (i + 1) for i in range(60)]
    pairs = list(zip(doubled, names, strict=True))
    return {
        "a list doubled": b"]q\0" + b"".join(b"(%bl%b" % pair for pair in pairs),
        "a list doubled, not deep": b"]q\0" + b"".join(b"(%bl%b" % pair for pair in pairs[:30]),
        "a tuple doubled, as a key": b")q\0"
        + b"".join(b"%b\x86%b" % p for p in pairs)
        + b"}h\x3cK\1s",
        "a list in itself": b"]q\0h\0a",
        "far memory": b"]r\xff\xff\xff\xff",
        "a long text": b"X" + struct.pack("<I", 2**32 - 1),
        "longer bytes": b"\x96" + struct.pack("<Q", 10**13),
        "a long number": b"I" + b"9" * 5000 + b"\n",
        "many marks": b"(" * (1 << 20) + b"t",
        "nothing, often": b"N0" * (1 << 20) + b"]",
        "a deep list": b"]q\0" + b"]q\1h\0ah\1q\0" * 1000,
    }


def pickles() -> dict[str, bytes]:
    """Return the same without an archive around them."""
    return {name: b"\x80\x02" + body + b"." for name, body in programs().items()}


def zipped() -> dict[str, bytes]:
    """Return archives that lie, and those of `programs`."""
    found = {name: program(body) for name, body in programs().items()}
    numbers = np.zeros(8, np.float32)
    for name, (size, stride) in STRIDED.items():
        found[name] = of(pth.View(numbers, 0, size, stride))
    whole = pth.View(np.broadcast_to(np.float32(0), (150 << 20,)), 0, (150 << 20,), (1,))
    found["zeros in little"] = of(whole, packed=True)
    found["a member twice"] = twice()
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as file:
        for number in range(3000):
            file.writestr(f"{number:05}" * 1200, b"")
    found["a long directory"] = many.getvalue()
    return found


def twice() -> bytes:
    """Return an archive with two members of one name."""
    stream = io.BytesIO(of(pth.View(np.zeros(8, np.float32), 0, (8,), (1,))))
    with zipfile.ZipFile(stream, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("archive/data/0", bytes(32))
    return stream.getvalue()


def of(view: pth.View, *, packed: bool = False) -> bytes:
    """Return an archive of one tensor; `packed`: of zeros, compressed."""
    stream, storages = io.BytesIO(), []
    code = b"\x80\x02" + pth.code({"a": view}, storages) + b"."
    with zipfile.ZipFile(
        stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    ) as file:
        file.writestr("archive/data.pkl", code)
        with file.open("archive/data/0", "w") as member:
            for _ in range(view.storage.nbytes >> 20) if packed else ():
                member.write(bytes(1 << 20))
            if not packed:
                member.write(view.storage.tobytes())
    return stream.getvalue()


def legacy(folder: pathlib.Path) -> dict[str, bytes]:
    """Return files of before version 1.6 that lie."""
    pth.write(folder / "seed", {"a": np.arange(24, dtype=np.float32)}, legacy=True)
    content = (folder / "seed").read_bytes()
    at = content.rindex((24).to_bytes(8, "little"))
    big = content.replace(b"I24\n", b"I%d\n" % 2**60)
    return {
        "a count": content[:at] + (2**62).to_bytes(8, "little") + content[at + 8 :],
        "a count as its tensor's": big[: big.rindex((24).to_bytes(8, "little"))]
        + (2**60).to_bytes(8, "little") + content[at + 8 :],
        "cut short": content[:-1],
    }  # fmt: skip


def safetensors() -> dict[str, bytes]:
    """Return headers that lie."""

    def of(header: str, length: int | None = None) -> bytes:
        text = header.encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + bytes(16)

    def entry(shape: str, start: int, end: int) -> str:
        return f'{{"dtype": "F32", "shape": {shape}, "data_offsets": [{start}, {end}]}}'

    return {
        "a long header": of("{}", 2**60),
        "a header beyond the file": of("{}", 1000),
        "over each other": of(f'{{"a": {entry("[4]", 0, 16)}, "b": {entry("[4]", 0, 16)}}}'),
        "a large shape": of(f'{{"a": {entry("[1000000000000, 1000000]", 0, 16)}}}'),
        "beyond 64 bits": of(f'{{"a": {entry("[18446744073709551616]", 0, 16)}}}'),
        "many axes": of(f'{{"a": {entry(str([1] * 99), 0, 4)}}}'),
        "one name twice": of(f'{{"a": {entry("[4]", 0, 16)}, "a": {entry("[4]", 0, 16)}}}'),
        "backwards": of(f'{{"a": {entry("[4]", 16, 0)}}}'),
        "deep": of("{" + '"a": [' * 5000),
    }


def onnx() -> dict[str, bytes]:
    """Return ONNX files."""
    huge = b"\xff\xff\xff\xff\x0f"
    return {
        "a long field": b"\x08\x08\x3a" + huge,
        "many fields": b"\x08\x01" * (1 << 21),
        "a long array": b"\x08\x08\x3a\x0a\x2a\x08\x08" + huge + b"\x10\x01",
        "fields in fields": b"\x08\x08" + b"\x3a\x02\x2a\x00" * (1 << 19),
    }


def hdf5() -> dict[str, tuple[bytes, str]]:
    """Return HDF5 files made of one that h5py wrote, and what is to be said of each."""
    from tests.outside import recorded

    whole = recorded.load("hdf5")[1]["earliest"].arrays["file"].tobytes()
    leaf, node = whole.index(b"SNOD"), whole.index(b"TREE")
    entry = struct.unpack_from("<Q", whole, leaf + 16)[0]

    def changed(at: int, form: str, value: int) -> bytes:
        content = bytearray(whole)
        struct.pack_into(f"<{form}", content, at, value)
        return bytes(content)

    twice = struct.unpack_from("<Q", whole, 64)[0]  # the root's header
    tower = bytearray(whole)
    struct.pack_into("<H", tower, node + 6, 65535)
    return {
        "no addresses": (changed(13, "B", 4), "addresses of 4 bytes"),
        "another version": (changed(8, "B", 9), "HDF5 of version 9"),
        "beyond the end": (changed(64, "Q", 2**63), "beyond its end"),
        "in a circle": (changed(leaf + 16, "Q", twice), "stands twice"),
        "no header": (changed(leaf + 16, "Q", node), "no header of an object"),
        "many entries": (changed(leaf + 6, "H", 65535), "it"),
        "many children": (bytes(tower), "it"),
        "many messages": (changed(entry + 8, "I", 2**32 - 1), "it"),
        "cut": (whole[: len(whole) // 2], "beyond its end"),
    }

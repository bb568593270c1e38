"""Change small valid files at random and read them, in a process of its own with limits.

`python tests/fuzz.py <readers> <count> <seed> <folder> [bombs]` prints a JSON object of what went
wrong; a crash of a native decoder ends it, and the file that it read lies in the folder.
"""

import contextlib
import functools
import gc
import io
import json
import os
import pathlib
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

SECONDS = 2.0
"""Of the processor for a file, at most."""
MEMORY = 512 << 20
"""Bytes more than before, for the whole of the files."""
IMAGE_BYTES = 32 << 20
"""What an image may take when decoded; four times as much is the bound on reading it."""
ALIKE = {"jpg": ("jpg", "jpeg"), "tif": ("tif", "tiff")}
ROOT = pathlib.Path(__file__).parents[1]
EXTREMES = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
TOKENS = (
    b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"null",
    b'"\\ud800"', b'"\\u202e\\u001b[2J\\n"', b"\xff\xfe", b"-1", b"1.5", b"[]", b"{}", b'"x"',
    b"true",
    b"18446744073709551616", b"\0", b"[[[]]]", b'{"0": 5, "0": 6}', b"[-1, 1e30, 2]", b"9" * 19,
)  # fmt: skip


class Reader(NamedTuple):
    """What reads a kind of file.

    Attributes:
        name: The file's name below the folder.
        seeds: Makes valid files.
        read: Of the folder: reads the file in every way that there is.
        mend: Makes check sums right again after a change.
        kept: Bytes at the beginning, which say what kind of file it is.
        bombs: Makes files that must be refused, by their names; a name with '?' may be read.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[pathlib.Path], list[Callable[[], object]]]
    mend: Callable[[bytes], bytes] = lambda content: content
    kept: int = 0
    bombs: Callable[[], dict[str, bytes]] = dict


class TooLong(BaseException):
    """Nothing in the product catches it."""


def changed(
    content: bytes, other: bytes, chance: random.Random, *, text: bool, kept: int = 0
) -> bytes:
    """Return a file changed in one to three places, seldom in the first `kept` bytes."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        size, kept = len(content), kept if chance.random() < 0.95 else 0
        if size <= kept:
            return content
        at = chance.randrange(kept, min(size, kept + chance.choice((8, 64, 256, size))))
        kind = chance.randrange(9 if text else 7)
        data = bytearray(content)
        if kind == 0:
            for _ in range(chance.randrange(1, 9)):
                data[chance.randrange(kept, size)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at] = chance.randrange(256)
        elif kind == 2:
            del data[at : chance.choice((size, at + 1, at + 4, at + chance.randrange(1, 64)))]
        elif kind == 3:
            data[at:at] = chance.choice(
                (bytes(chance.randrange(1, 5000)), chance.randbytes(8), data[: at + 1])
            )
        elif kind == 4:
            data = data[:at] + other[chance.randrange(len(other)) :]
        elif kind in (5, 6):
            form = chance.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
            width = struct.calcsize(form)
            data[at : at + width] = struct.pack(form, chance.choice(EXTREMES) % 256**width)
        else:
            places = [i for i, sign in enumerate(content) if sign in b":,[{0123456789\n"]
            at = chance.choice(places or [0]) + 1
            end = at + chance.choice((0, 1, 4, 12))
            data[at:end] = chance.choice(TOKENS)
        content = bytes(data)
    return content


def mend_png(content: bytes) -> bytes:
    """Give every chunk of a PNG the check sum that it should have."""
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def images(ending: str) -> Reader:
    """Read images and masks."""
    from segjax.data import decode
    from tests.data import bombs

    def seeds() -> list[bytes]:
        own = [
            odd.content for odd in odds()
            if odd.name.endswith(ALIKE.get(ending, ending)) and len(odd.content) < 10_000
        ]  # fmt: skip
        return own + (squeezed_tiffs() if ending == "tif" else [])

    def read(folder: pathlib.Path) -> list[Callable[[], object]]:
        path = folder / f"x.{ending}"
        return [
            lambda: decode.read_header(path, name=str(path)),
            lambda: decode.read_image(path, name=str(path), dtype="float32"),
            lambda: decode.read_image(path, name=str(path), channels=1),
            lambda: decode.read_label(path, name=str(path)),
        ]

    mend, kept = (mend_png, 8) if ending == "png" else (bytes, 12 if ending == "webp" else 4)

    def hostile() -> dict[str, bytes]:
        return getattr(bombs, ending)() | (bombs.png_notes() if ending == "png" else {})

    return Reader(f"x.{ending}", seeds, read, mend, kept, hostile)


@functools.cache
def odds() -> list[Any]:
    """Return the valid images of every kind."""
    from tests.data import odd_files, odd_tiffs

    return [*odd_files.all_files(), *odd_tiffs.tiff_files()]


def squeezed_tiffs() -> list[bytes]:
    """Return TIFFs whose strips and tiles are images of their own."""
    import numpy as np
    import tifffile

    found = []
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for squeeze in ("jpeg", "jpeg2000", "webp", "png", "lzma"):
        for tile in (None, (16, 16)):
            stream = io.BytesIO()
            tifffile.imwrite(stream, array, photometric="rgb", compression=squeeze, tile=tile)
            found.append(stream.getvalue())
    return found


def arrays() -> Reader:
    """Read `.npy`."""
    import numpy as np

    from segjax.data import opening
    from segjax.data.decode import Reading
    from tests.data import bombs

    def seeds() -> list[bytes]:
        found = []
        for dtype in ("uint8", ">i2", "float32", "bool"):
            for order in "CF":
                stream = io.BytesIO()
                np.save(stream, np.asarray(np.arange(60).reshape(5, 4, 3), dtype, order=order))
                found.append(stream.getvalue())
        return found

    def read(folder: pathlib.Path) -> list[Callable[[], object]]:
        path = folder / "x.npy"
        options = [(channels, dims) for channels in (1, 3) for dims in (2, 3)]
        return [
            lambda c=channels, d=dims: np.asarray(
                opening.open_to_predict(path, Reading(c, dims=d)).array
            )
            for channels, dims in options
        ]

    return Reader("x.npy", seeds, read, bytes, 8, bombs.npy)


def weights(kind: str) -> Reader:
    """Read weight files, and copy what was read."""
    import numpy as np
    import safetensors.numpy

    from segjax.pretrained import files
    from tests.outside import recorded
    from tests.pretrained import bombs, pth

    numbers = np.arange(24, dtype=np.float32)
    tree = {
        "model": {"a": numbers.reshape(4, 6), "b": pth.View(numbers, 2, (3, 2), (1, 3))},
        "epoch": 3,
        "half": numbers.astype(np.float16),
    }

    def seeds() -> list[bytes]:
        if kind == "safetensors":
            return [safetensors.numpy.save({"a": numbers.reshape(4, 6), "b": numbers[:3].copy()})]
        if kind == "onnx":
            return [onnx_seed(numbers)]
        if kind == "h5":
            cases = recorded.load("hdf5")[1].values()
            return [case.arrays["file"].tobytes() for case in cases]
        if kind == "pkl":
            arrays = {"model": {"a": numbers.reshape(4, 6)}, "half": tree["half"], "epoch": 3}
            return [pickle.dumps(arrays, protocol) for protocol in (2, 3, 4, 5)]
        path = pathlib.Path(os.environ["FUZZ_FOLDER"]) / "seed"
        pth.write(path, tree, legacy=kind == "legacy")
        return [path.read_bytes(), *([pickle.dumps(tree["epoch"])] if kind == "legacy" else [])]

    def read(folder: pathlib.Path) -> list[Callable[[], object]]:
        path = folder / f"x.{kind}"
        return [lambda: [array.copy() for array in files.read(path).values()]]

    kept = {
        "legacy": len(files.LEGACY), "safetensors": 9, "pth": 4, "pkl": 1, "onnx": 1, "h5": 8
    }[kind]  # fmt: skip
    made = {
        "pth": bombs.zipped,
        "legacy": lambda: bombs.legacy(pathlib.Path(os.environ["FUZZ_FOLDER"])),
        "safetensors": bombs.safetensors,
        "pkl": bombs.pickles,
        "onnx": bombs.onnx,
        "h5": lambda: {name: content for name, (content, _) in bombs.hdf5().items()},
    }[kind]
    return Reader(f"x.{kind}", seeds, read, mend_zip if kind == "pth" else bytes, kept, made)


def onnx_seed(numbers: Any) -> bytes:
    """Return an ONNX file of two arrays."""
    from onnx import helper, numpy_helper

    named = {"a.weight": numbers.reshape(4, 6), "b": numbers[:3].astype("f2")}
    tensors = [numpy_helper.from_array(array, name) for name, array in named.items()]
    graph = helper.make_graph([], "graph", [], [], tensors)
    return helper.make_model(graph).SerializeToString()


def mend_zip(content: bytes) -> bytes:
    """Pack what can still be read of an archive again, with right check sums."""
    with contextlib.suppress(Exception), zipfile.ZipFile(io.BytesIO(content)) as archive:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as packed:
            for info in archive.infolist()[:20]:
                start = info.header_offset + 30 + len(info.filename)
                packed.writestr(info.filename, content[start : start + min(info.file_size, 10**6)])
        return stream.getvalue()
    return content


def data_set(
    name: str, valid: list[bytes], wrong: Mapping[str, bytes] = MappingProxyType({})
) -> Reader:
    """Open a folder of images one of whose text files is changed."""
    from segjax.data import folder as source

    def read(folder: pathlib.Path) -> list[Callable[[], object]]:
        from PIL import Image

        for kind in ("images", "labels"):
            (folder / "train" / kind).mkdir(parents=True, exist_ok=True)
            for stem in ("a", "b"):
                Image.new("L", (4, 3), 1).save(folder / "train" / kind / f"{stem}.png")
        if name != "meta.json":
            (folder / "meta.json").write_text('{"class_names": ["x", "y"]}')
        options = {"split_file": name} if name != "meta.json" else {}
        return [lambda: source.Source(split="train", root=str(folder), **options)[0]]

    return Reader(name, lambda: valid, read, bombs=lambda: dict(wrong))


def run_files(name: str) -> Reader:
    """Read a text file of a run."""
    from configs import quickstart
    from segjax.config import load, schema
    from segjax.runs import workdir, writer

    config = json.dumps(schema.fill(quickstart.get_config("debug")), indent=1).encode()
    valid = {
        "config.json": config,
        "run.json": b'{"image_scales": [0.5, 1.0], "packages": {"jax": "0.1"}}',
        "metrics.jsonl": b'{"step": 1, "train/loss": 0.5}\n{"step": 2, "val/miou": null}\n' * 3,
    }[name]

    def read(folder: pathlib.Path) -> list[Callable[[], object]]:
        if name == "config.json":
            return [lambda: workdir.load_config(folder), lambda: load.load(str(folder / name))]
        if name == "run.json":
            return [lambda: workdir.image_scales(workdir.load_facts(folder))]
        return [lambda: writer.read(folder), lambda: writer.drop_lines(folder / name, from_step=2)]

    seeds = [valid] * 4 + ([b"5", b"null", b"[]", b'{"a": []}'] if "json" in name else [])
    return Reader(name, lambda: seeds, read)


META = [
    b'{"class_names": ["x", "y"], "ignore_index": [7, 255], "palette": [[0, 0, 0], [1, 2, 3]]}',
    b'{"class_names": ["x", "y"], "label_map": {"0": 0, "1-65535": 1, "*": 0}}',
]
WEIGHTS = ("pth", "legacy", "safetensors", "pkl", "onnx", "h5")
START = b'{"class_names": ["x", "y"], '
META_BOMBS = {
    "a long key": START + b'"label_map": {"' + b"9" * 5000 + b'": 1}}',
    "beyond 64 bits": START + b'"label_map": {"9223372036854775808": 1}}',
    "a wide range": START + b'"label_map": {"0-99999999999999999999": 1}}',
    "zeros": START + b'"label_map": {"' + b"0" * 5000 + b'": 1}}',
    "many ignored": START + b'"ignore_index": [' + b"1, " * 99_999 + b"1]}",
    "a colour": START + b'"palette": [[1e308, 0, 0], [0, 0, 0]]}',
    "a long name": b'{"class_names": ["x", "' + b"y" * 300 + b'"]}',
    "half a character": b'{"class_names": ["x", "\\ud800"]}',
    "many names": b'{"class_names": [' + b'"x", ' * 99_999 + b'"x"]}',
}
READERS: dict[str, Callable[[], Reader]] = {
    **{
        kind: lambda kind=kind: images(kind) for kind in ("png", "jpg", "tif", "webp", "bmp", "gif")
    },
    "npy": arrays,
    **{kind: lambda kind=kind: weights(kind) for kind in WEIGHTS},
    "meta.json": lambda: data_set("meta.json", META, META_BOMBS),
    "split.txt": lambda: data_set("split.txt", [b"a\nb\n", b"b.png\r\n./a.png"]),
    **{
        name: lambda name=name: run_files(name)
        for name in ("metrics.jsonl", "config.json", "run.json")
    },
}


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """End with `TooLong` what takes more than `SECONDS`."""

    def end(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of its own, whatever else the machine does
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def what_is_wrong(read: Callable[[], object], *, refused: bool = False) -> str:
    """Return what is wrong with how a file is read; empty: nothing, it is read or refused.

    With `refused` reading it is wrong.
    """
    from segjax.errors import UserError

    begun = time.process_time()
    try:
        with limited():
            read()
        if refused:
            return "it is read"
    except UserError as error:
        text = str(error)
        if "\n" in text or not text:
            return f"not one line: {text[:300]!r}"
        if "more memory than there is" in text:
            return text[:300]
    except TooLong:
        return f"longer than {SECONDS} s"
    except BaseException as error:
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
        return f"{type(error).__name__}: {str(error)[:200]} ({where})"
    if (taken := time.process_time() - begun) > SECONDS:
        return f"{taken:.1f} s"
    return ""


def main(
    names: list[str], count: int, seed: int, folder: pathlib.Path, *, bombs: bool
) -> dict[str, str]:
    """Read `count` changed files of each kind; return what went wrong by the file it is kept in."""
    from segjax.data import raster

    raster.MAX_BYTES = IMAGE_BYTES
    made = {name: READERS[name]() for name in names}
    seeds = {name: reader.seeds() for name, reader in made.items()}
    hostile = {name: reader.bombs() if bombs else {} for name, reader in made.items()}
    gc.freeze()
    size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * MEMORY, resource.RLIM_INFINITY))
    wrong: dict[str, str] = {}
    for name, reader in made.items():
        chance = random.Random(f"{name} {seed}")
        place = folder / name
        place.mkdir(exist_ok=True)
        reads = reader.read(place)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # begin anew with the peak
        before = peak()
        for title, content in hostile[name].items():
            (place / reader.name).write_bytes(content)
            found = [what_is_wrong(read, refused="?" not in title) for read in reads]
            found = [text for text in found if text and (text != "it is read" or all(found))]
            if found:
                wrong[f"{name}: {title}"] = found[0]
        for number in range(count):
            content, other = chance.choice(seeds[name]), chance.choice(seeds[name])
            if number:  # the first is whole
                text = "json" in name or "txt" in name
                content = changed(content, other, chance, text=text, kept=reader.kept)
            if chance.random() < 0.5:
                content = reader.mend(content)
            for read in reads:
                (place / reader.name).write_bytes(content)
                text = what_is_wrong(read)
                if text:  # once more, without what cycles still hold of the files before
                    gc.collect()
                    text = what_is_wrong(read)
                if text:
                    kept = place / f"wrong{number}"
                    kept.write_bytes(content)
                    wrong[str(kept)] = text
        if peak() - before > MEMORY:
            wrong[str(place)] = f"{(peak() - before) >> 20} MiB of memory"
    return wrong


def peak() -> int:
    """Return the most memory that this process ever held, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def run(
    names: list[str], *, count: int, folder: pathlib.Path, seed: int = 0, bombs: bool = True
) -> dict[str, str]:
    """Do it in a process of its own, and return what went wrong."""
    arguments = [",".join(names), str(count), str(seed), str(folder), *["bombs"] * bombs]
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__, *arguments],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT), "FUZZ_FOLDER": str(folder)},
    )  # fmt: skip
    if result.returncode:
        return {str(folder): f"it ended with {result.returncode}: {result.stderr[-2000:]}"}
    return json.loads(result.stdout.splitlines()[-1])


if __name__ == "__main__":
    what, how_many, number, where, *more = sys.argv[1:]
    found = main(what.split(","), int(how_many), int(number), pathlib.Path(where), bombs=bool(more))
    print(json.dumps(found))

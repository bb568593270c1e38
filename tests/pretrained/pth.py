"""Write the files of `torch.save` without PyTorch: opcode by opcode."""

import pathlib
import pickle
import zipfile
from typing import Any, NamedTuple

import numpy as np

STORAGES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage", "int64": "LongStorage", "int32": "IntStorage",
    "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip


class View(NamedTuple):
    """A tensor on a storage that others may share; offset and strides count numbers."""

    storage: np.ndarray
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def write(path: pathlib.Path, tree: Any, *, legacy: bool = False) -> None:
    """Write nested dictionaries of arrays, views and plain values as `torch.save` does."""
    storages: list[np.ndarray] = []
    program = b"\x80\x02" + code(tree, storages) + b"."
    data = [np.ascontiguousarray(storage).tobytes() for storage in storages]
    if legacy:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
        head = [0x1950A86A20F9469CFC6C, 1001, system]
        keys = pickle.dumps([str(i) for i in range(len(data))], 2)
        raw = [s.size.to_bytes(8, "little") + d for s, d in zip(storages, data, strict=True)]
        path.write_bytes(b"".join([*(pickle.dumps(x, 2) for x in head), program, keys, *raw]))
    else:
        archive(path, program, data)


def archive(path: pathlib.Path, program: bytes, data: list[bytes]) -> None:
    """Write the archive that holds a pickle and the storages it refers to."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/byteorder", "little")
        for number, content in enumerate(data):
            file.writestr(f"archive/data/{number}", content)


def code(value: Any, storages: list[np.ndarray]) -> bytes:
    """Return the opcodes that push a value."""
    if isinstance(value, np.ndarray):
        strides = tuple(step // value.itemsize for step in np.empty_like(value, order="C").strides)
        return code(View(value, 0, value.shape, strides), storages)
    if isinstance(value, View):
        known = [i for i, storage in enumerate(storages) if storage is value.storage]
        if not known:
            storages.append(value.storage)
        key = known[0] if known else len(storages) - 1
        kind = STORAGES[value.storage.dtype.name]
        pid = code("storage", []) + f"ctorch\n{kind}\n".encode() + code(str(key), [])
        pid += code("cpu", []) + code(value.storage.size, [])
        arguments = code(value.offset, []) + code(value.size, []) + code(value.stride, [])
        hooks = b"I00\n" + b"ccollections\nOrderedDict\n)R"
        return b"ctorch._utils\n_rebuild_tensor_v2\n((" + pid + b"tQ" + arguments + hooks + b"tR"
    if isinstance(value, dict):
        items = b"".join(code(k, storages) + code(v, storages) + b"s" for k, v in value.items())
        metadata = b"}" + code("_metadata", []) + b"}sb"  # as a state dict's OrderedDict has
        return b"ccollections\nOrderedDict\n)R" + items + metadata
    if isinstance(value, tuple):
        return b"(" + b"".join(code(x, storages) for x in value) + b"t"
    return f"I{value}\n".encode() if isinstance(value, int) else f"V{value}\n".encode()

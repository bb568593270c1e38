"""Read weight files as NumPy: safetensors, and PyTorch's without PyTorch.

A `.pth` file is a pickle, a program that may do anything to whoever loads it. This one may only
make dictionaries and say which bytes of the file are a tensor; whatever else it asks for is an
error. Formats: https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

import io
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors.numpy

from segjax.errors import DataError

DTYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
ZIP = b"PK\x03\x04"
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""How files begin that `torch.save` wrote: since version 1.6, and before (a pickled number)."""


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Return every array of a weight file by its dotted name, read-only.

    What an array is nested in becomes part of its name: `state_dict.module.conv1.weight`; what is
    no array is left out. `convert.below` finds a network among such names.

    Raises:
        DataError: Not a weight file, damaged, or a pickle that asks for more than tensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(LEGACY))
            file.seek(0)
            if head.startswith(ZIP):
                arrays = dict(from_zip(file))
            elif head == LEGACY:
                arrays = dict(from_legacy(file))
            elif head[8:9] == b"{":  # behind the header's length
                arrays = safetensors.numpy.load_file(path)
            else:
                raise DataError(f"it begins with {head!r}, as neither of the two kinds does")
    # A damaged file fails in as many ways as a pickle has opcodes.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read: {reason}. Expected a whole file of weights, safetensors or "
            "what torch.save made of a state dict; fetch or save it again."
        ) from error
    if not arrays:
        raise DataError(f"{path}: holds no arrays. Expected a state dict.")
    return arrays


class Storage(NamedTuple):
    """A run of `count` numbers in the file, which tensors share."""

    dtype: str
    key: str
    count: int


class Tensor(NamedTuple):
    """Which numbers of a storage are a tensor; offset and strides count numbers."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def from_zip(file: IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and arrays of a file of `torch.save` since version 1.6: an archive."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise DataError("it is a zip archive, but not one of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise DataError("a big-endian machine wrote it")
        content = Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
        tensors = dict(flatten(content))
        keys = dict.fromkeys(tensor.storage.key for tensor in tensors.values())
        data = {key: archive.read(f"{folder}data/{key}") for key in keys}
    for name, tensor in tensors.items():
        yield name, view(tensor, data[tensor.storage.key])


def from_legacy(file: IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and arrays of a file of `torch.save` before version 1.6: pickles, then bytes."""
    _, version, system, content = (Unpickler(file).load() for _ in range(4))
    if version != 1001 or not system["little_endian"]:
        raise DataError(f"version {version!r} of {system!r} is none that is known")
    tensors = dict(flatten(content))
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    data = {}
    for key in Unpickler(file).load():
        count = int.from_bytes(file.read(8), "little")
        if key not in storages:
            raise DataError(f"its storage {key!r} belongs to no tensor")
        data[key] = file.read(count * np.dtype(DTYPES[storages[key].dtype]).itemsize)
    for name, tensor in tensors.items():
        yield name, view(tensor, data[tensor.storage.key])


def view(tensor: Tensor, data: bytes) -> np.ndarray:
    """Return a tensor as a read-only view of its storage's bytes.

    Raises:
        DataError: It reaches beyond them.
    """
    dtype = np.dtype(DTYPES[tensor.storage.dtype])
    offset, size, stride = tensor.offset, tensor.size, tensor.stride
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or len(data) != tensor.storage.count * dtype.itemsize:
        raise DataError(f"its storage {tensor.storage.key!r} is damaged")
    if 0 in size:
        return np.zeros(size, dtype)
    if last >= tensor.storage.count:
        raise DataError(f"a tensor reaches beyond its storage {tensor.storage.key!r}")
    numbers = np.frombuffer(data, dtype)[offset:]
    strides = [step * dtype.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers, size, strides, writeable=False)


def flatten(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield `(dotted name, tensor)` of everything nested in dictionaries, lists and tuples."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, (dict, list, tuple)):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from flatten(value, f"{name}.{key}" if name else str(key))


class Ordered(dict):
    """Stand for an OrderedDict; attributes, such as a state dict's `_metadata`, are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Take nothing over."""


class Rebuild:
    """Stand for the functions that make tensors; nothing in a pickle can change it."""

    __slots__ = ()

    def __call__(self, storage: Any, *arguments: Any) -> Tensor:
        """Return the tensor: of its storage, or of a parameter its value."""
        if isinstance(storage, Tensor):
            return storage
        if not isinstance(storage, Storage):
            raise DataError(f"a tensor has no storage, but {type(storage).__name__}")
        offset, size, stride = arguments[:3]
        return Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


ALLOWED: dict[tuple[str, str], Callable[[], Any]] = {
    ("collections", "OrderedDict"): lambda: Ordered,
    ("torch._utils", "_rebuild_tensor_v2"): Rebuild,
    ("torch._utils", "_rebuild_parameter"): Rebuild,
}
"""All that a pickle may name, beside `torch.FloatStorage` and its like."""


class Unpickler(pickle.Unpickler):
    """Read a pickle that may only describe tensors: it can name nothing but what is `ALLOWED`."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for what the pickle names.

        Raises:
            DataError: It names something else, which stays untouched.
        """
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]()
        if module == "torch" and name in DTYPES:
            return name
        raise DataError(
            f"its pickle asks for {module}.{name}, which may do anything and is not run (only "
            "tensors in dictionaries and lists are read)"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a tensor names."""
        kind, dtype, key, _, count, *rest = pid
        if kind != "storage" or dtype not in DTYPES or any(rest):
            raise DataError(f"its pickle refers to {kind!r}, not to a storage")
        return Storage(dtype, str(key), int(count))

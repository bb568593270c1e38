"""Read weight files as NumPy: safetensors, PyTorch's, Keras', ONNX, and pickled arrays.

None of those libraries is needed.

A `.pth` or `.pkl` file is a pickle, a program that may do anything to whoever loads it. This one
may only make dictionaries and say which bytes of the file are a tensor or an array; whatever else
it asks for is an error. Formats: https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

import io
import itertools
import math
import os
import pathlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import safetensors.numpy

from segjax.errors import DataError
from segjax.pretrained import hdf5, onnx_file, pickles
from segjax.pretrained.pickles import DTYPES, MAX_READ, Bounded, Storage, Tensor
from segjax.runtime import reading

MAX_RATIO, SPARE = 4, 64 << 20
"""The arrays of a file are at most so many times as large as the file, and so many bytes more."""
ZIP = b"PK\x03\x04"
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""How files begin that `torch.save` wrote: since version 1.6, and before (a pickled number)."""
PICKLE = b"\x80"
"""How any other pickle begins, such as detectron2's of arrays."""
KERAS = "model.weights.h5"
"""The member of a `.keras` archive that holds its arrays."""


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Return every array of a weight file by its dotted name, read-only.

    What an array is nested in becomes part of its name: `state_dict.module.conv1.weight`; what is
    no array is left out. `convert.below` finds a network among such names. Memory and time are in
    proportion to the file, whatever it claims: see `pickles` and `MAX_RATIO`.

    Raises:
        DataError: Not a weight file, damaged, a pickle that asks for more than tensors, or arrays
            that are larger than the file explains.
    """
    try:
        arrays = _read(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: {error.strerror}. Expected a file of weights.") from None
    # A damaged file fails in as many ways as a pickle has opcodes.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read: {reason}. Expected a whole file of weights: safetensors, "
            "what torch.save made of a state dict, Keras' HDF5, ONNX or a pickle of arrays; fetch "
            "or save it again."
        ) from error
    if not arrays:
        raise DataError(f"{path}: holds no arrays. Expected a state dict.")
    return arrays


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    with reading.open_file(path) as file:
        head = file.read(len(LEGACY))
        file.seek(0)
        if head.startswith(ZIP):
            return dict(from_zip(file))
        if head == LEGACY:
            return dict(from_legacy(file))
        if head[8:9] == b"{":  # behind the header's length
            check_safetensors(file)
            return safetensors.numpy.load_file(path)
        if head.startswith(PICKLE):
            return dict(from_pickle(file))
        if head.startswith(hdf5.START):
            return hdf5.File(file.read()).arrays()
        if head.startswith(onnx_file.START):
            return onnx_file.arrays(file.read())
    raise DataError(f"it begins with {head!r}, as none of these kinds does")


def from_zip(file: IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and arrays of a file of `torch.save` since version 1.6: an archive."""
    bounded = Bounded(file)
    with zipfile.ZipFile(bounded) as archive:  # pyright: ignore[reportArgumentType]
        members = {info.filename: info for info in archive.infolist()}
        if KERAS in members:
            bounded.bounded = False  # from here on by the size that is checked
            yield from (
                hdf5.File(unpacked(archive, members[KERAS], size=_size(file))).arrays().items()
            )
            return
        members = check_members(archive, size=_size(file))
        pickled = [name for name in members if name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise DataError("it is a zip archive, but not one of torch.save")
        folder = pickled[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in members and members[order].file_size < 9 and archive.read(order) != b"little":
            raise DataError("a big-endian machine wrote it")
        if members[pickled[0]].file_size > MAX_READ:
            raise DataError(f"its pickle has more than {MAX_READ:,} bytes")
        tensors = tensors_of(pickles.load(io.BytesIO(archive.read(pickled[0]))), size=_size(file))
        data = {}
        bounded.bounded = False  # from here on by the sizes that were checked
        for key, storage in storages_of(tensors).items():
            name = f"{folder}data/{key}"
            if name not in members or members[name].file_size != num_bytes(storage):
                raise DataError(f"its storage {key[:100]!r} is missing or damaged")
            data[key] = archive.read(name)
    for name, tensor in tensors.items():
        yield name, view(tensor, data[tensor.storage.key])


def unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, size: int) -> bytes:
    """Return the bytes of a member of an archive of `size` bytes, which may be compressed.

    Raises:
        DataError: They are larger than the archive explains.
    """
    check_total(iter([member.file_size]), size=size)
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise DataError(f"{member.filename!r} in it has not the size that the archive says")
    return content


def check_members(archive: zipfile.ZipFile, *, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by their names, in the `size` bytes of the file.

    Raises:
        DataError: One is there twice, or compressed, which torch.save does not; or together they
            are larger than the file.
    """
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise DataError("two members of its archive have one name")
    for name, info in members.items():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise DataError(
                f"{name[:100]!r} in its archive is compressed, as torch.save leaves none"
            )
    if sum(info.file_size for info in members.values()) > size:
        raise DataError("the members of its archive lie over each other")
    return members


def from_legacy(file: IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and arrays of a file of `torch.save` before version 1.6: pickles, then bytes."""
    bounded, size = Bounded(file), _size(file)
    _, version, system, content = (pickles.load(bounded) for _ in range(4))
    if version != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise DataError(f"version {str(version)[:100]} of such files is none that is known")
    tensors = tensors_of(content, size=size)
    storages = storages_of(tensors)
    keys = pickles.load(bounded)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise DataError("its storages are not those of its tensors")
    data = {}
    for key in map(str, keys):
        count = int.from_bytes(file.read(8), "little")
        if count != storages[key].count or num_bytes(storages[key]) > size - file.tell():
            raise DataError(f"its storage {key[:100]!r} is missing or damaged")
        data[key] = file.read(num_bytes(storages[key]))
    for name, tensor in tensors.items():
        yield name, view(tensor, data[tensor.storage.key])


def from_pickle(file: IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and arrays of a pickle of NumPy arrays in dictionaries and lists.

    Raises:
        DataError: It refers to tensors, whose numbers are elsewhere.
    """
    size = _size(file)
    content = pickles.load(Bounded(file, size), room=2 * MAX_RATIO * size + SPARE)
    for name, value in pickles.flatten(content):
        if isinstance(value, Tensor):
            raise DataError("it is a part of what torch.save wrote")
        yield name, value


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def num_bytes(storage: Storage) -> int:
    """Return how many bytes a storage takes."""
    return storage.count * np.dtype(DTYPES[storage.dtype]).itemsize


def tensors_of(content: Any, *, size: int) -> dict[str, Tensor]:
    """Return the tensors that a pickle describes by their names.

    Raises:
        DataError: They are too many, or larger than a file of `size` bytes explains: numbers may be
            shared, and one repeated a million million times.
    """
    found = dict(pickles.flatten(content))
    tensors = {name: x for name, x in found.items() if isinstance(x, Tensor)}
    check_total(
        (
            math.prod(max(0, n) for n in tensor.size)
            * np.dtype(DTYPES[tensor.storage.dtype]).itemsize
            for tensor in tensors.values()
        ),
        size=size,
    )
    return tensors


def check_total(sizes: Iterator[int], *, size: int) -> None:
    """Raise `DataError` if arrays are much larger than the file of `size` bytes they lie in."""
    total = sum(sizes)
    if total > MAX_RATIO * size + SPARE:
        raise DataError(
            f"its arrays take {total:,} bytes, {MAX_RATIO} times as much as the file at the most"
        )


def storages_of(tensors: Mapping[str, Tensor]) -> dict[str, Storage]:
    """Return the storages of tensors by their keys.

    Raises:
        DataError: One is described in two ways.
    """
    found: dict[str, Storage] = {}
    for tensor in tensors.values():
        if found.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise DataError(f"its storage {tensor.storage.key[:100]!r} is described in two ways")
    return found


def view(tensor: Tensor, data: bytes) -> np.ndarray:
    """Return a tensor as a read-only view of its storage's bytes.

    Raises:
        DataError: It reaches beyond them.
    """
    dtype = np.dtype(DTYPES[tensor.storage.dtype])
    offset, size, stride = tensor.offset, tensor.size, tensor.stride
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or len(data) != tensor.storage.count * dtype.itemsize:
        raise DataError(f"its storage {tensor.storage.key[:100]!r} is damaged")
    if 0 in size:
        return np.zeros([min(n, 2**31) for n in size], dtype)
    if last >= tensor.storage.count:
        raise DataError(f"a tensor reaches beyond its storage {tensor.storage.key[:100]!r}")
    numbers = np.frombuffer(data, dtype)[offset:]
    strides = [step * dtype.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers, size, strides, writeable=False)


def check_safetensors(file: IO[bytes]) -> None:
    """Check the header of a safetensors file before the library makes room for what it says.

    Raises:
        DataError: It is too long, or describes too many or too large arrays, or overlapping ones.
    """
    length = int.from_bytes(file.read(8), "little")
    size = _size(file)
    if length > min(MAX_READ, size - 8):
        raise DataError(f"its header takes {length:,} bytes, at most {MAX_READ:,} are read")
    header = reading.parse_json(file.read(length))
    arrays = [about for name, about in header.items() if name != "__metadata__"]
    if len(arrays) > pickles.MAX_TENSORS or any(len(a["shape"]) > pickles.MAX_AXES for a in arrays):
        raise DataError(
            f"it names more than {pickles.MAX_TENSORS:,} arrays, or one of more than "
            f"{pickles.MAX_AXES} axes"
        )
    spans = sorted(tuple(about["data_offsets"]) for about in arrays)
    if any(start < end for (_, end), (start, _) in itertools.pairwise(spans)):
        raise DataError("its arrays lie over each other")
    check_total((end - start for start, end in spans), size=size)

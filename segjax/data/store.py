"""A folder of files and Zarr arrays, on a disk or in a bucket, through TensorStore."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorstore

from segjax.config import rules
from segjax.data import core
from segjax.errors import DataError, UserError
from segjax.runtime import reading

LOCAL = "file"
PIECE_BYTES = 512 << 10
"""Of an image, a volume's slab or a row of numbers that are stored as one piece (chunk)."""
SIDES = {1: 1 << 16, 2: 256, 3: 48}
"""The side of a piece by the number of axes in space: a window of 512 or 96 meets two or three
along each axis, where it lies well."""
SHARD_BYTES = 64 << 20
"""Of the pieces that one file holds, before they are compressed; about."""


_NOTHING_IS_ZERO = {"fill_missing_data_reads": False, "store_data_equal_to_fill_value": True}
"""Pieces of zeros are written too, so that one that is missing is an error."""


class Store:
    """A folder by its path or by a URL: gs://, s3://, memory://, file://.

    Args:
        root: The folder; `~` and `$VARIABLES` of a path are replaced.
        where: What messages call it, such as 'root'.

    Raises:
        UserError: There can be no such folder.
    """

    def __init__(self, root: str, *, where: str = "root"):
        self.root, self.where = root, where
        self.is_local = "://" not in root
        if self.is_local:
            self.path = core.expand_path(root, where=where).absolute()
            self._spec: Any = {"driver": LOCAL, "path": f"{self.path}/"}
        else:
            self._spec = root if root.endswith("/") else f"{root}/"

    def __reduce__(self):
        return functools.partial(Store, where=self.where), (self.root,)

    @functools.cached_property
    def _files(self) -> Any:
        return tensorstore.KvStore.open(self._spec, context=_context()).result()

    def shown(self, key: str = "") -> str:
        """Return a file's name for messages."""
        return os.path.join(str(self.path) if self.is_local else self.root, key)

    def read(self, key: str, *, limit: int) -> bytes | None:
        """Return what a file holds; None: there is none.

        Raises:
            DataError: It cannot be read, or has more than `limit` bytes.
        """
        if self.is_local:
            try:
                with reading.open_file(self.path / key, limit=limit) as file:
                    return file.read()
            except FileNotFoundError:
                return None
        with self._reading(key):
            found = self._files.read(key).result()
        if found.state == "missing":
            return None
        if len(found.value) > limit:
            raise DataError(
                f"{self.shown(key)}: has {len(found.value):,} bytes, at most {limit:,} are read. "
                "Check that it is the right folder."
            )
        return bytes(found.value)

    def write(self, key: str, content: bytes) -> None:
        """Write a file that is whole or not there.

        Raises:
            UserError: It cannot be written.
        """
        with self._writing(key):
            self._files.write(key, content).result()

    def list(self, below: str) -> list[str]:
        """Return the names of the files whose name begins with `below`, in order."""
        with self._reading(below):
            return sorted(key.decode() for key in self._files.list(_range(below)).result())

    def remove(self, below: str) -> None:
        """Remove all files whose name begins with `below`."""
        with self._writing(below):
            self._files.delete_range(_range(below)).result()

    def make_array(self, key: str, spec: dict[str, Any]) -> "Writer":
        """Make an array of `array_spec`, to be written.

        Raises:
            UserError: It cannot be written.
        """
        with self._writing(key):
            opened = self._open(key, spec, create=True, delete_existing=True)
        return Writer(self, key, opened)

    def open_array(self, key: str, spec: dict[str, Any]) -> Any:
        """Open an array that `array_spec` describes, to be read.

        Raises:
            DataError: It is not there, or is another one, or has something else than files.
        """
        if self.is_local:  # TensorStore would wait for a pipe
            for folder, _, names in os.walk(self.path / key):
                for name in names:
                    reading.check_file(os.path.join(folder, name))
        with self._reading(key):
            return self._open(key, spec, open=True)

    def read_array(self, opened: Any, region: Any, key: str) -> np.ndarray:
        """Return a part of an array.

        Raises:
            DataError: It cannot be read: a piece's checksum (CRC32C) is not that of its bytes.
        """
        with self._reading(key):
            return np.asarray(opened[region].read().result())

    def _open(self, key: str, spec: dict[str, Any], **how: Any) -> Any:
        kvstore = (self._files / f"{key}/").spec().to_json()
        given = {"driver": "zarr3", "kvstore": kvstore, "metadata": spec, **_NOTHING_IS_ZERO}
        return tensorstore.open(given, context=_context(), **how).result()

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(
                f"{self.shown(key)}: cannot be read: {_reason(error)}. It was edited or is "
                "damaged: prepare it anew, or put back a copy."
            ) from None

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError, NotImplementedError) as error:
            raise UserError(
                f"Cannot write {self.shown(key)}: {_reason(error)}. Free some space, or name "
                "another folder."
            ) from None


class Writer:
    """An array that is written part by part."""

    def __init__(self, store: Store, key: str, opened: Any):
        self.store, self.key, self.opened = store, key, opened

    def write(self, region: Any, values: np.ndarray) -> None:
        """Write a part.

        Raises:
            UserError: It cannot be written.
        """
        with self.store._writing(self.key):
            self.opened[region].write(values).result()


def array_spec(shape: Sequence[int], dtype: str, *, dims: int, together: int = 0) -> dict[str, Any]:
    """Return the Zarr metadata of an array, of the same arguments always the same.

    Pieces are compressed without loss and carry a checksum; those of one file follow each other
    along the array's first axis that has several.

    Args:
        shape: Its own.
        dtype: Its own.
        dims: How many of its axes lie in space.
        together: How many axes lie before these, along which examples are stacked.
    """
    size = shape[together : together + dims]
    one = int(np.prod(shape[together:], dtype=np.int64)) * np.dtype(dtype).itemsize
    sides = list(size) if one <= PIECE_BYTES else [min(side, SIDES[dims]) for side in size]
    piece = [1] * together + sides + list(shape[together + dims :])
    shard = [-(-side // step) * step for side, step in zip(shape, piece, strict=True)]
    axis = next((axis for axis, side in enumerate(shape) if side > piece[axis]), 0)
    bytes_each = int(np.prod(shard, dtype=np.int64)) // shard[axis] * np.dtype(dtype).itemsize
    steps = max(1, SHARD_BYTES // max(1, bytes_each * piece[axis]))
    shard[axis] = min(shard[axis], steps * piece[axis])
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if np.dtype(dtype).itemsize == 1:
        codecs = [{"name": "bytes"}]
    codecs += [
        {
            "name": "blosc",
            "configuration": {
                "cname": "zstd", "clevel": 3, "shuffle": "shuffle", "blocksize": 0,
                "typesize": np.dtype(dtype).itemsize,
            },
        },
        {"name": "crc32c"},
    ]  # fmt: skip
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {"chunk_shape": piece, "codecs": codecs, "index_codecs": index}
    return {
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "fill_value": False if dtype == "bool" else 0,
    }


def sides_of_piece(spec: dict[str, Any]) -> list[int]:
    """Return the sides of what is compressed, and read, together."""
    return spec["codecs"][0]["configuration"]["chunk_shape"]


def sides_of_shard(spec: dict[str, Any]) -> list[int]:
    """Return the sides of what one file of an array holds."""
    return spec["chunk_grid"]["configuration"]["chunk_shape"]


@functools.cache
def _context() -> Any:
    """Return what all arrays of the process share: memory:// is one place in it."""
    return tensorstore.Context()


def _range(below: str) -> Any:
    """Return the names that begin with `below`, which is not empty."""
    return tensorstore.KvStore.KeyRange(below, below[:-1] + chr(ord(below[-1]) + 1))


def _reason(error: Exception) -> str:
    """Return TensorStore's message without the long description of the array at its end."""
    text = " ".join(str(error).split()).partition(" [tensorstore_spec=")[0]
    return rules.cut(text.rstrip("."), 300)

"""Arrays in files of their own: NumPy's `.npy`, by name in `.npz`, and Zarr through TensorStore."""

import math
import os
import pathlib
import zipfile
from typing import IO, Any

import numpy as np

from segjax.data import lazy, raster
from segjax.data.geometry import Geometry
from segjax.data.lazy import Lazy, Region
from segjax.data.readers.base import Stored, check_size
from segjax.runtime import reading

NPY, NPZ, ZARR = ".npy", ".npz", ".zarr"
ENDINGS = (NPY, NPZ, ZARR)
FOLDERS = (ZARR,)
"""Endings of folders that stand for one array."""
_MEMBERS = 10_000
_GROUP, _ARRAY = ("zarr.json", ".zgroup"), ("zarr.json", ".zarray")


def open_file(file: pathlib.Path, *, name: str = "") -> Stored:
    """Return an array of a file.

    Args:
        file: The file, or the folder of a Zarr array or group.
        name: Of the array, where there are several; empty: the only one, and of an OME-NGFF image
            the one in full resolution.

    Raises:
        ValueError: There is no such array, it is none of real numbers, or not all there.
    """
    ending = file.suffix.lower()
    opener = {NPY: _npy, NPZ: _npz, ZARR: _zarr}[ending]
    if ending == NPY and name:
        raise ValueError(f"holds one array, which has no name such as {name!r}")
    return opener(file, name)


def _npy(file: pathlib.Path, name: str) -> Stored:
    del name
    with reading.open_file(file) as stream:
        shape, by_column, dtype = read_header(stream)
        size, start = os.fstat(stream.fileno()).st_size, stream.tell()
    if math.prod(shape) * dtype.itemsize != size - start:
        raise ValueError(f"an array of shape {shape} and type {dtype} in {size - start:,} bytes")
    check_size(shape, dtype, parts=True)
    own, order = dtype.newbyteorder("="), "F" if by_column else "C"

    def read(region: Region) -> np.ndarray:
        with reading.open_file(file) as stream:
            if math.prod(shape) * dtype.itemsize > lazy.LARGE:
                array = np.memmap(stream, dtype, "r", start, shape, order)
            else:
                stream.seek(start)
                array = np.fromfile(stream, dtype).reshape(shape, order=order)
        return np.ascontiguousarray(array[region], own)

    return Stored(Lazy(shape, own, read, name=str(file)))


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether it is stored by column, and type of the array in a `.npy` file.

    The stream then stands at the array's first byte.

    Raises:
        ValueError: It is none.
    """
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):  # version 3 names fields, which no image has
        raise ValueError(f"version {version} of the format")
    read = np.lib.format.read_array_header_1_0
    shape, by_column, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(
        stream
    )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"values of the type {dtype}, which are no real numbers")
    return shape, by_column, dtype


def _npz(file: pathlib.Path, name: str) -> Stored:
    with reading.open_file(file, limit=raster.MAX_FILE_BYTES) as stream:
        with zipfile.ZipFile(stream) as archive:
            members = [i for i in archive.infolist() if i.filename.endswith(NPY)][:_MEMBERS]
            found = {i.filename.removesuffix(NPY): i for i in members}
            member = found[_choose(list(found), name)]
            with archive.open(member) as inside:
                shape, by_column, dtype = read_header(inside)
    check_size(shape, dtype, parts=False)
    num_bytes = math.prod(shape) * dtype.itemsize

    def read(region: Region) -> np.ndarray:
        with reading.open_file(file) as stream, zipfile.ZipFile(stream) as archive:
            with archive.open(member) as inside:
                read_header(inside)
                content = inside.read(num_bytes)
        if len(content) < num_bytes:
            raise ValueError(f"an array of shape {shape} and type {dtype}, cut short")
        array = np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")
        return np.ascontiguousarray(array[region], dtype.newbyteorder("="))

    array = Lazy(shape, dtype.newbyteorder("="), read, name=str(file))
    return Stored(array, parts=False)


def _choose(names: list[str], name: str) -> str:
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    there = ", ".join(sorted(names)[:8]) or "none"
    raise ValueError(
        f"no array {name!r}; it holds {there}"
        if name
        else f"arrays named {there}. Say which in image_array or label_array"
    )


def _zarr(file: pathlib.Path, name: str) -> Stored:
    folder, spacing, unit = file / name, (), ""
    attributes = _attributes(folder)
    if not any((folder / each).is_file() for each in _ARRAY) or _is_group(folder):
        scales = attributes.get("ome", attributes).get("multiscales")
        if scales:  # OME-NGFF: of several resolutions the first is the full one
            first = scales[0]["datasets"][0]
            folder, spacing, unit = folder / str(first["path"]), *_scale(scales[0], first)
        elif not name:
            inside = (
                sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
            )
            folder = folder / _choose(inside, name)
    if file.resolve() not in (folder.resolve(), *folder.resolve().parents):
        raise ValueError("an array outside of its folder")
    store = _open_store(folder)
    dtype = np.dtype(store.dtype.numpy_dtype)
    check_size(store.shape, dtype, parts=True)

    def read(region: Region) -> np.ndarray:
        return np.ascontiguousarray(_open_store(folder)[region].read().result())

    own = dtype.newbyteorder("=")
    dims = len(store.shape) if spacing else 0
    geometry = Geometry("zarr", spacing, unit) if spacing else None
    return Stored(Lazy(store.shape, own, read, name=str(file)), dims, geometry)


def _open_store(folder: pathlib.Path) -> Any:
    import tensorstore

    driver = "zarr" if (folder / ".zarray").is_file() else "zarr3"
    where = {"driver": "file", "path": f"{folder.resolve()}/"}
    return tensorstore.open({"driver": driver, "kvstore": where}, open=True, read=True).result()


def _attributes(folder: pathlib.Path) -> dict[str, Any]:
    for file, key in ((folder / "zarr.json", "attributes"), (folder / ".zattrs", "")):
        if file.is_file():
            found = reading.read_json(file)
            found = found.get(key, {}) if key and isinstance(found, dict) else found
            return found if isinstance(found, dict) else {}
    return {}


def _is_group(folder: pathlib.Path) -> bool:
    if (folder / ".zgroup").is_file():
        return True
    file = folder / "zarr.json"
    return file.is_file() and reading.read_json(file).get("node_type") == "group"


def _scale(multiscale: dict[str, Any], dataset: dict[str, Any]) -> tuple[tuple[float, ...], str]:
    """Return the spacing of an OME-NGFF image's axes in space and its unit; empty: not said."""
    axes = multiscale.get("axes", [])
    if any(axis.get("type") != "space" for axis in axes):
        return (), ""  # channels or time are among them
    scales = [t for t in dataset.get("coordinateTransformations", []) if t.get("type") == "scale"]
    if not scales or len(scales[0]["scale"]) != len(axes):
        return (), ""
    units = {"micrometer": "µm", "millimeter": "mm", "meter": "m"}
    return tuple(map(float, scales[0]["scale"])), units.get(axes[-1].get("unit", ""), "")

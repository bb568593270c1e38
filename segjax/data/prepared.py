"""Data sets that `--mode=prepare` wrote: Zarr arrays of which a window reads only what it needs.

Below `<root>/<split>/` lies `manifest.json`, and the examples in packs: those that follow each
other until they fill about 64 MB, or a single large one. A pack has a Zarr array (version 3) for
each field, in one file or a few: `[n *space …]` where all of the pack are of one size, else all
values in a row. So a million small images are no million files, and a run that is killed while it
writes loses one pack.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from segjax.config import rules
from segjax.data import core, masks, store
from segjax.data.lazy import Lazy, Region
from segjax.data.store import Store
from segjax.errors import DataError
from segjax.runtime import reading
from segjax.structs import Example, Field, Objects, Schema

FORMAT = "segjax prepared 1"
MANIFEST = "manifest.json"
MANIFEST_BYTES = 512 << 20
"""Of a manifest: some two million examples."""
OPEN = 256
"""Arrays of packs that are left open."""
KINDS = ("image", "classes", "labels", "ids", "masks", "value")
VALUES = 1 << 40
"""The most that a field of one example, or all of a pack, may hold."""


@dataclasses.dataclass(frozen=True)
class Pack:
    """Examples whose arrays are written together.

    Attributes:
        key: Its folder below the root.
        sizes: The sides of each example.
        stacked: Whether the arrays have an axis of examples in front; else values are in a row.
    """

    key: str
    sizes: tuple[tuple[int, ...], ...]
    stacked: bool

    @functools.cached_property
    def starts(self) -> list[int]:
        """Where the pixels of each example begin, in a row of all."""
        return [0, *itertools.accumulate(map(math.prod, self.sizes))]

    def spec(self, field: Field) -> dict[str, Any]:
        """Return the metadata of the array that holds a field."""
        dims = len(self.sizes[0])
        if not field.is_spatial:
            shape = len(self.sizes), *field.shape
            return store.array_spec(shape, field.dtype, dims=0, together=1)
        if self.stacked:
            shape = len(self.sizes), *self.sizes[0], *field.shape
            return store.array_spec(shape, field.dtype, dims=dims, together=1)
        total = self.starts[-1] * math.prod(field.shape)
        return store.array_spec((total,), field.dtype, dims=1)

    def has_parts(self, field: Field) -> bool:
        """Say whether a field of an example is several pieces, of which a window needs some."""
        if not (field.is_spatial and self.stacked):
            return False
        spec = self.spec(field)
        pieces = store.sides_of_piece(spec)
        return any(a > b for a, b in zip(spec["shape"][1:], pieces[1:], strict=True))

    def place(self, row: int, field: Field) -> tuple[Any, tuple[int, ...]]:
        """Return where a field's array holds example `row`, and the shape of its values."""
        if not field.is_spatial:
            return row, field.shape
        shape = *self.sizes[row], *field.shape
        if self.stacked:
            return row, shape
        start = self.starts[row] * math.prod(field.shape)
        return slice(start, start + math.prod(shape)), shape


class Source:
    """One split of a prepared data set, with the labels and names of the source it was made from.

    Every piece of an array carries a checksum (CRC32C), which is checked whenever it is read, so
    that damage is an error. The manifest, whose own hash is checked when the split is opened, has
    one for each field of each example, which also finds values that were written anew.

    Args:
        split: Its name: the folder below `root`.
        root: The folder, or a URL such as gs://bucket/folder; `~` and `$VARIABLES` are replaced.
        verify: When the manifest's checksums are compared: 'first': where a field is read as a
            whole, the first time; 'all': of all examples before training; 'none'.

    Attributes:
        manifest_hash: Of all that the split holds.
        reading: The arguments by which the files were read that it was made of, as far as what
            predicts for a model trained on it must know them.
        things: Those of the source that it was made of.

    Raises:
        DataError: There is no complete split, or it was edited; when an example is read: it was.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        verify: Annotated[str, rules.one_of("first", "all", "none")] = "first",
    ):
        self.split, self.verify = split, verify
        self.store = Store(root)
        key = f"{split_key(split)}/{MANIFEST}"
        content = self.store.read(key, limit=MANIFEST_BYTES)
        if content is None:
            raise DataError(
                f"{self.store.shown(key)}: no such file: the split is not there, or not complete. "
                f"Run --mode=prepare --output={root} (again), or name another root or split."
            )
        self.manifest = parse_manifest(content, name=self.store.shown(key))
        self.manifest_hash: str = self.manifest["hash"]
        self.reading: dict[str, Any] = self.manifest["made_from"].get("reading", {})
        self.class_names = core.check_classes(
            self.manifest["class_names"], where=self.store.shown(key)
        )
        self.palette = tuple(tuple(colour) for colour in self.manifest["palette"])
        self.schema: Schema = read_schema(self.manifest["fields"])
        self.things = tuple(self.manifest.get("things", ()))
        self._packs, self._examples = [], []
        for number, pack in enumerate(self.manifest["packs"]):
            sizes = tuple(tuple(each["size"]) for each in pack["examples"])
            made = Pack(pack_key(split, number), sizes, pack["stacked"])
            self._packs.append(made)
            self._examples += pack["examples"]
        counts = [len(pack.sizes) for pack in self._packs]
        self._ends = np.cumsum(counts)
        self._arrays: collections.OrderedDict[tuple[int, str], Any] = collections.OrderedDict()
        self._in_parts: dict[tuple[int, str], bool] = {}
        self._lock, self._verified = threading.Lock(), set()

    def __reduce__(self):
        given = {"split": self.split, "root": self.store.root, "verify": self.verify}
        return functools.partial(Source, **given), ()

    def __len__(self) -> int:
        return len(self._examples)

    def example_names(self) -> list[str]:
        """Return the name of each example."""
        return [about["name"] for about in self._examples]

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.split} has {len(self)} examples, not {index}")
        about = self._examples[index]
        found: dict[str, Any] = {"name": about["name"]}
        number, _ = self._place(index)
        for name in self.schema:
            array = self._lazy(index, name)
            found[name] = array if self._has_parts(number, name) else np.asarray(array)
        if "geometry" in about:
            found["geometry"] = about["geometry"]
        return Example(**found)

    def objects(self, index: int) -> Objects:
        """Return all objects of example `index`, on its own grid.

        Raises:
            DataError: It was prepared without objects, or had more than were kept.
        """
        if "object_masks" not in self.schema:
            raise DataError(
                f"{self.store.shown(split_key(self.split))}: was prepared without objects. Prepare "
                "it anew, of a source with objects."
            )
        example: Any = self[index]
        found, there = masks.of_fields(example), int(example["object_count"])
        if there > len(found.masks):
            raise DataError(
                f"{self.store.shown(split_key(self.split))}: {example['name']} has {there:,} "
                f"objects, of which {len(found.masks):,} were kept, and all count in scores. "
                f"Prepare it anew with --config.input.source.objects={there} or more."
            )
        return found

    def check(self) -> set[tuple[int, ...]]:
        """Return the sizes of images; with `verify='all'` compare all checksums; see `Checkable`.

        Raises:
            DataError: An example was edited.
        """
        if self.verify == "all":
            for index, name in itertools.product(range(len(self)), self.schema):
                self._check(index, name)
        return {tuple(about["size"]) for about in self._examples}

    def _place(self, index: int) -> tuple[int, int]:
        """Return the number of an example's pack, and its row there."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - int(self._ends[number]) + len(self._packs[number].sizes)

    def _has_parts(self, number: int, name: str) -> bool:
        if (number, name) not in self._in_parts:
            self._in_parts[number, name] = self._packs[number].has_parts(self.schema[name])
        return self._in_parts[number, name]

    def _lazy(self, index: int, name: str) -> Lazy:
        field, (number, row) = self.schema[name], self._place(index)
        pack = self._packs[number]
        place, shape = pack.place(row, field)
        key = f"{pack.key}/{name}"

        def read(region: Region) -> np.ndarray:
            opened = self._open(number, name)
            if isinstance(place, slice):
                whole = self.store.read_array(opened, place, key).reshape(shape)
                self._compare(index, name, whole)
                return whole[region]
            found = self.store.read_array(opened, (place, *region), key)
            if found.shape == shape:
                self._compare(index, name, found)
            return found

        return Lazy(shape, field.dtype, read, name=f"{self.store.shown(pack.key)} ({index})")

    def _open(self, number: int, name: str) -> Any:
        with self._lock:
            if (number, name) in self._arrays:
                self._arrays.move_to_end((number, name))
                return self._arrays[number, name]
        pack = self._packs[number]
        opened = self.store.open_array(f"{pack.key}/{name}", pack.spec(self.schema[name]))
        with self._lock:
            self._arrays[number, name] = opened
            while len(self._arrays) > OPEN:
                self._arrays.popitem(last=False)
        return opened

    def _check(self, index: int, name: str) -> None:
        """Compare a field's checksum, band by band: memory does not grow with it."""
        array, digest = self._lazy(index, name), Digest()
        pack = self._packs[self._place(index)[0]]
        field = self.schema[name]
        step = store.sides_of_shard(pack.spec(field))[1] if pack.has_parts(field) else 0
        if not step:
            self._expect(index, name, checksum(np.asarray(array)))
            return
        for start in range(0, array.shape[0], step):
            digest.add(array[start : start + step])
        self._expect(index, name, digest.text())

    def _compare(self, index: int, name: str, values: np.ndarray) -> None:
        if self.verify == "none" or (index, name) in self._verified:
            return
        self._expect(index, name, checksum(values))
        self._verified.add((index, name))

    def _expect(self, index: int, name: str, found: str) -> None:
        about = self._examples[index]
        if found != about["checksums"][name]:
            raise DataError(
                f"{self.store.shown(split_key(self.split))}: {name} of {about['name']} is not what "
                "was prepared: it was edited. Prepare it anew, or put back a copy."
            )


class Digest:
    """A checksum of an array's bytes in the order of memory, made part by part."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, part: np.ndarray) -> None:
        """Add the next rows."""
        swapped = part.dtype.newbyteorder("<")
        self._hash.update(np.ascontiguousarray(part, swapped).reshape(-1).view(np.uint8).data)

    def text(self) -> str:
        """Return it in hex digits."""
        return self._hash.hexdigest()


def checksum(values: np.ndarray) -> str:
    """Return the checksum of an array."""
    digest = Digest()
    digest.add(values)
    return digest.text()


def split_key(split: str) -> str:
    """Return the folder of a split below the root.

    Raises:
        DataError: A name that leads out of it.
    """
    if any(part in ("", ".", "..") for part in split.split("/")):
        raise DataError(f"split={rules.shown(split)}: is no name of a folder. Choose another.")
    return split


def pack_key(split: str, number: int) -> str:
    """Return the folder of a pack below the root."""
    return f"{split_key(split)}/packs/{number:06d}"


def finish_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest with its hash as JSON."""
    return json.dumps({**manifest, "hash": hash_of(manifest)}).encode()


def hash_of(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest without its own: of all that it says."""
    rest = {key: value for key, value in manifest.items() if key != "hash"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_manifest(content: bytes, *, name: str) -> dict[str, Any]:
    """Return a manifest, checked as far as it must be to read what it names.

    Raises:
        DataError: It is none, or its hash says that it was edited.
    """
    try:
        found = reading.parse_json(content)
    except ValueError as error:
        raise DataError(f"{name}: not valid JSON: {error}. Prepare the split anew.") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(
            f"{name}: is not what --mode=prepare writes, expected format {FORMAT!r}. Prepare the "
            "split anew."
        )
    if found.get("hash") != hash_of(found):
        raise DataError(
            f"{name}: its hash is not that of its content: it was edited. Prepare the split anew, "
            "or put back a copy."
        )
    if not _is_sound(found):
        raise DataError(f"{name}: describes no examples that can be read. Prepare the split anew.")
    return found


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    """Say whether names, fields and examples are of the types and sizes that they must have."""
    try:
        fields = read_schema(manifest["fields"])
        palette, names = manifest["palette"], manifest["class_names"]
        sound = {"image"} <= {*fields} and len(palette) == len(names)
        sound &= all(len(c) == 3 and all(0 <= v < 256 for v in c) for c in palette)
        sound &= all(isinstance(name, str) for name in names)
        sound &= all(rules.is_int(k) and 0 <= k < len(names) for k in manifest.get("things", []))
        sound &= isinstance(manifest["made_from"].get("reading", {}), dict)
        for pack in manifest["packs"]:
            sizes = [each["size"] for each in pack["examples"]]
            total = sum(_values(fields, size) for size in sizes)
            dims = {len(size) for size in sizes}
            sound &= bool(sizes) and total <= VALUES and len(dims) == 1 and dims <= {1, 2, 3}
            sound &= not pack["stacked"] or all(size == sizes[0] for size in sizes)
            sound &= all(
                isinstance(each["name"], str) and {*each["checksums"]} == {*fields}
                for each in pack["examples"]
            )
        return sound
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _values(fields: Schema, size: Sequence[int]) -> int:
    if not all(rules.is_int(side) and side > 0 for side in size):
        raise ValueError("no sides")
    return max(math.prod((*size, *field.shape)) for field in fields.values())


def read_schema(fields: Any) -> Schema:
    """Return a schema from a manifest.

    Raises:
        ValueError: It is none.
    """
    found = {}
    for name, about in fields.items():
        shape = tuple(about["shape"])
        known = about["kind"] in KINDS and np.dtype(about["dtype"]).kind in "biuf"
        if not known or not all(rules.is_int(side) and 0 < side < VALUES for side in shape):
            raise ValueError(name)
        found[name] = Field(about["kind"], shape, about["dtype"])
    return found


def write_schema(schema: Schema) -> dict[str, Any]:
    """Return a schema as a manifest holds it."""
    return {
        name: {"kind": field.kind, "shape": list(field.shape), "dtype": field.dtype}
        for name, field in schema.items()
    }

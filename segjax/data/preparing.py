"""Write any source once as Zarr, pack by pack: killed, it goes on where it was; see `prepared`."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.data import core, fit, pipeline, store
from segjax.data.prepared import (
    FORMAT,
    MANIFEST,
    MANIFEST_BYTES,
    Digest,
    Pack,
    finish_manifest,
    pack_key,
    parse_manifest,
    split_key,
    write_schema,
)
from segjax.data.store import Store
from segjax.errors import ConfigError, DataError
from segjax.runtime import reading
from segjax.structs import Schema

PACK_BYTES = store.SHARD_BYTES
"""Of the examples of a pack, but for one that is larger alone."""
ROW_BYTES = 4 << 20
"""Of an example whose values may stand in a row with those of other sizes, to be read as a whole; a
window of a larger one is to read only what it needs."""


class Written(NamedTuple):
    """What became of a split.

    Attributes:
        found: Examples of the source.
        before: Of these, written before.
        packs: Written now.
        num_bytes: Of their arrays, before they are compressed.
        manifest_hash: Of the complete split.
    """

    found: int
    before: int
    packs: int
    num_bytes: int
    manifest_hash: str


def write_split(
    source: core.Source,
    target: Store,
    split: str,
    *,
    made_from: Mapping[str, Any],
    threads: int = 2,
    tell: Callable[[int], None] = lambda done: None,
) -> Written:
    """Write all examples of a split; of one that is there in part the rest.

    Args:
        source: The split.
        target: Below which it is written as `<split>/`.
        split: Its name.
        made_from: What the source is, as JSON has it: data of another one is not gone on with.
        threads: That read.
        tell: Called with how many examples are written, after each pack.

    Raises:
        ConfigError: There is another data set's split.
        DataError: An example cannot be used.
        UserError: It cannot be written.
    """
    head = {
        "format": FORMAT,
        "made_from": dict(made_from),
        "class_names": list(source.class_names),
        "palette": [list(colour) for colour in source.palette],
        "void": 255,
        "fields": write_schema(source.schema),
        "num_examples": len(source),
    }
    if isinstance(source, core.ObjectSource) and "object_masks" in source.schema:
        head["things"] = list(source.things)  # what was prepared before there were any has none
    head = json.loads(json.dumps(head))
    key = split_key(split)
    if done := target.read(f"{key}/{MANIFEST}", limit=MANIFEST_BYTES):
        manifest = parse_manifest(done, name=target.shown(f"{key}/{MANIFEST}"))
        _check_same(manifest, head, target.shown(key))
        return Written(len(source), len(source), 0, 0, manifest["hash"])
    packs = begun(target, key, head)
    before = first = sum(len(pack["examples"]) for pack in packs)
    tell(first)
    rest = core.Subset(source, range(first, len(source)))
    number, count, num_bytes = len(packs), len(packs), 0
    examples = (e for _, e in pipeline.eval_examples(rest, _identity, threads=threads, prefetch=2))
    for group in groups(examples, source.schema):
        target.remove(f"{pack_key(split, number)}/")  # what a killed run left
        packs.append(write_pack(target, pack_key(split, number), group, source.schema))
        target.write(_part(key, number), json.dumps(packs[-1]).encode())
        first, number = first + len(group), number + 1
        num_bytes += sum(_bytes_of(example, source.schema) for example in group)
        tell(first)
    content = finish_manifest({**head, "packs": packs})
    target.write(f"{key}/{MANIFEST}", content)
    target.remove(f"{key}/parts/")
    hash_found = parse_manifest(content, name=key)["hash"]
    return Written(len(source), before, number - count, num_bytes, hash_found)


def begun(target: Store, key: str, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a run that was stopped has written of a split, its packs; else begin it.

    Raises:
        ConfigError: It was begun from other data.
    """
    note = f"{key}/parts/begun.json"
    content = target.read(note, limit=MANIFEST_BYTES)
    if content is None:
        if left := target.list(f"{key}/"):
            raise ConfigError(
                f"{target.shown(left[0])}: is not of a split that is being prepared. Name another "
                "--output, or remove the folder."
            )
        target.write(note, json.dumps(head).encode())
        return []
    _check_same(_parse(content, target.shown(note)), head, target.shown(key))
    packs: list[dict[str, Any]] = []
    while (part := target.read(_part(key, len(packs)), limit=MANIFEST_BYTES)) is not None:
        packs.append(_parse(part, target.shown(_part(key, len(packs)))))
    return packs


def groups(examples: Iterable[Any], schema: Schema) -> Iterator[list[Any]]:
    """Yield the examples of one pack after the other; which, they alone decide."""
    group, used, largest = [], 0, 0
    for example in examples:
        fit.check_fields(example, schema, name=example["name"])
        size = _bytes_of(example, schema)
        alike = not group or example["image"].shape == group[0]["image"].shape
        apart = not alike and max(size, largest) > ROW_BYTES
        if group and (apart or used + size > PACK_BYTES):
            yield group
            group, used, largest = [], 0, 0
        group.append(example)
        used, largest = used + size, max(size, largest)
    if group:
        yield group


def write_pack(
    target: Store, key: str, examples: Sequence[Mapping[str, Any]], schema: Schema
) -> dict[str, Any]:
    """Write the arrays of a pack, and return what the manifest says of it."""
    behind = len(schema["image"].shape)
    sizes = tuple(tuple(example["image"].shape[:-behind]) for example in examples)
    pack = Pack(key, sizes, len({*sizes}) == 1)
    checksums: list[dict[str, str]] = [{} for _ in examples]
    for name, field in schema.items():
        spec = pack.spec(field)
        writer = target.make_array(f"{key}/{name}", spec)
        arrays = [_checked(example, name, field.dtype) for example in examples]
        if len(arrays) == 1 and field.is_spatial:
            rows = store.sides_of_shard(spec)[1]
            checksums[0][name] = _write_bands(writer, arrays[0], rows)
            continue
        found = [np.asarray(array) for array in arrays]
        for own, array in zip(checksums, found, strict=True):
            digest = Digest()
            digest.add(array)
            own[name] = digest.text()
        whole = (
            np.stack(found)
            if pack.stacked or not field.is_spatial
            else np.concatenate([array.reshape(-1) for array in found])
        )
        writer.write(slice(None), whole)
    entries = [
        {"name": example["name"], "size": list(size), "checksums": own, **_geometry(example)}
        for example, size, own in zip(examples, sizes, checksums, strict=True)
    ]
    return {"stacked": pack.stacked, "examples": entries}


def _write_bands(writer: store.Writer, array: Any, rows: int) -> str:
    """Write a pack's only example band by band, and return its checksum; it may be `Lazy`."""
    digest = Digest()
    for start in range(0, array.shape[0], rows):
        band = np.asarray(array[start : start + rows])
        digest.add(band)
        writer.write((0, slice(start, start + len(band))), band)
    return digest.text()


def _checked(example: Mapping[str, Any], name: str, dtype: str) -> Any:
    array = example[name]
    if array.dtype != dtype:
        raise DataError(
            f"{example['name']}: {name} of {array.dtype}; expected {dtype}, as the data set's "
            "schema says."
        )
    return array


def _check_same(there: Any, head: Mapping[str, Any], folder: str) -> None:
    """Refuse a folder that holds, or is to hold, other data."""
    found = there if isinstance(there, dict) else {}
    changed = [name for name in head if found.get(name) != head[name]]
    if changed:
        raise ConfigError(
            f"{folder}: holds a split of other data: {', '.join(changed)} differ. Name another "
            "--output, or remove the folder."
        )


def _parse(content: bytes, name: str) -> Any:
    try:
        return reading.parse_json(content)
    except ValueError as error:
        raise DataError(f"{name}: not valid JSON: {error}. Remove the folder.") from None


def _bytes_of(example: Mapping[str, Any], schema: Schema) -> int:
    return sum(
        math.prod(example[name].shape) * np.dtype(field.dtype).itemsize
        for name, field in schema.items()
    )


def _geometry(example: Mapping[str, Any]) -> dict[str, Any]:
    """Return where an example lies in the world, if its source says so, as JSON has it."""
    if "geometry" not in example:
        return {}
    return {"geometry": json.loads(json.dumps(example["geometry"], default=_plain))}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return vars(value)


def _part(key: str, number: int) -> str:
    return f"{key}/parts/{number:06d}.json"


def _identity(example: Any) -> Any:
    return example

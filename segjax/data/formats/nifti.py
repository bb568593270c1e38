"""NIfTI: `imagesTr`, `labelsTr` and `dataset.json`, as nnU-Net and the Medical Decathlon have them.

Each slice along the third axis is a picture, the first axis its columns, the second its rows, as
they are stored. Classes are `labels` of `dataset.json`; one called `ignore` is void. Several
channels are files `<case>_0000`, `<case>_0001`, … or a fourth axis.
"""

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Num

from segjax.data import decode, listing
from segjax.data.formats import classes, draw, images, maps, parse, slices
from segjax.data.formats import folder as folder_format
from segjax.data.formats.base import (
    DEFAULT_SPLIT,
    VOID,
    VOID_LABEL,
    Annotations,
    Losses,
    Options,
    Picture,
    Volume,
)
from segjax.data.geometry import Geometry
from segjax.data.readers import nifti
from segjax.data.values import whole_numbers
from segjax.errors import DataError
from segjax.runtime import files

IGNORE = "ignore"
SPLITS = {"Tr": "train", "Ts": "test"}
_TABLE, _FOLDS = "dataset.json", "splits_final.json"


def _load(path: pathlib.Path) -> tuple[Num[np.ndarray, "d h w *c"], Geometry]:
    """Return the values of a volume, and where it lies.

    Raises:
        ConfigError: nibabel is not installed.
        DataError: It cannot be read.
    """
    with decode.explained(str(path)):
        stored = nifti.open_file(path)
        return np.asarray(stored.array), stored.geometry or Geometry("nifti")


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a folder with `labelsTr` (and `labelsTs`).

    Raises:
        DataError: It has none, nothing names the classes, a file that cannot be used.
    """
    there = [tail for tail in SPLITS if (path / f"labels{tail}").is_dir()]
    if not there:
        raise DataError(f"{path}: no labelsTr in it. Name the folder that holds it.")
    labels = _labels(path, options)
    names = tuple(name for name in labels.values() if name is not None)
    background = classes.background_of(names)
    pictures = functools.partial(_pictures, path, there, labels, background)
    return Annotations(names, pictures, background=background, notes=(slices.NOTE,))


def _labels(path: pathlib.Path, options: Options) -> dict[int, str | None]:
    if options.class_names is not None:
        return dict(enumerate(options.class_names))
    where = str(path / _TABLE)
    table = parse.section(parse.read_json(path / _TABLE), where=where)
    found: dict[int, str | None] = {}
    for key, value in parse.field(table, "labels", dict, where=where).items():
        name, number = (value, key) if key.isdecimal() else (key, value)
        if not isinstance(name, str) or not str(number).isdecimal():
            raise DataError(f"{where}: labels: {key!r:.60} is no class and its number. Mend it.")
        found[int(number)] = VOID if name == IGNORE else name
    return dict(sorted(found.items()))


def _pictures(
    path: pathlib.Path, there: list[str], labels: Mapping[int, str | None], background: str | None
) -> Iterator[Picture]:
    val: set[str] = set()
    if (path / _FOLDS).is_file():
        folds = parse.read_json(path / _FOLDS)
        first = folds[0] if isinstance(folds, list) and folds else {}
        val = set(parse.field(parse.section(first, where=str(path / _FOLDS)), "val", list,
                              where=str(path / _FOLDS), default=[]))  # fmt: skip
    for tail in there:
        label_files = listing.list_files(path / f"labels{tail}", endings=nifti.ENDINGS)
        image_files = listing.list_files(path / f"images{tail}", endings=nifti.ENDINGS)
        for case, file in label_files.items():
            channels = [
                one
                for name, one in sorted(image_files.items())
                if name == case or re.fullmatch(re.escape(case) + r"_\d{4}", name)
            ]
            if not channels:
                raise DataError(f"{file}: no image of that name in images{tail}. Add it.")
            split = "val" if case in val else SPLITS[tail]
            yield from _slices(case, file, channels, labels, background, split)


def _slices(
    case: str,
    file: pathlib.Path,
    channels: list[pathlib.Path],
    labels: Mapping[int, str | None],
    background: str | None,
    split: str,
) -> Iterator[Picture]:
    label, geometry = _load(file)
    values = [_load(one)[0] for one in channels]
    values = [one if one.ndim == 4 else one[..., None] for one in values]
    for one, where in zip(values, channels, strict=True):
        if one.shape[:3] != label.shape:
            raise DataError(f"{file}: labels of {label.shape}, the image {where} has {one.shape}.")
    label = whole_numbers(label, name=str(file))
    volume = Volume(case, geometry)
    digits = max(4, len(str(len(label))))
    for k, numbers in enumerate(label):
        image = np.concatenate([one[k] for one in values], axis=-1)
        things = maps.objects(numbers, labels, background=background, where=f"{file}: slice {k}")
        name = f"{case}/{k:0{digits}d}{slices.ENDING}"
        yield Picture(name, slices.encode(image), numbers.shape, things, split=split, volume=volume)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write volumes: of slices of one, or of a folder's pictures of one size, else of one slice.

    Raises:
        ConfigError: nibabel is not installed.
    """
    numbering = classes.number(annotations)
    void = len(numbering.names)
    folds: dict[str, list[str]] = {}
    count = {"Tr": 0, "Ts": 0}
    bands = 1
    has_void = False
    for case, pictures in _cases(annotations):
        split = pictures[0].split or DEFAULT_SPLIT
        tail = "Ts" if split == "test" else "Tr"
        folds.setdefault(split, []).append(case)
        count[tail] += 1
        drawn = [draw.draw(one, numbering.numbers, background=numbering.background)
                 for one in pictures]  # fmt: skip
        for one, picture in zip(drawn, pictures, strict=True):
            folder_format.count(one, picture, losses, instances=False)
            losses.add("{} instances are not told apart", len(one.labels))
        label = np.stack([one.classes for one in drawn])
        has_void |= bool((label == VOID_LABEL).any())
        label[label == VOID_LABEL] = void
        values = np.stack([slices.decode_all(one) for one in pictures])
        bands = values.shape[-1]
        stacks = [(folder / f"labels{tail}" / case, label)]
        stacks += [(folder / f"images{tail}" / f"{case}_{k:04d}", values[..., k])
                   for k in range(bands)]  # fmt: skip
        volume = pictures[0].volume
        known = volume is not None and volume.geometry.format == "nifti"
        losses.add("{} volumes have no voxel size: 1 mm is written", not known)
        for target, array in stacks:
            nifti.write(target.with_name(f"{target.name}{nifti.ENDINGS[0]}"), array,
                        volume.geometry if volume and known else nifti.unplaced())  # fmt: skip
    labels: dict[str, int] = {name: k for k, name in enumerate(numbering.names)}
    labels |= {IGNORE: void} if has_void else {}
    files.write_json(folder / _TABLE, {
        "channel_names": {str(k): f"channel {k}" for k in range(bands)}, "labels": labels,
        "numTraining": count["Tr"], "file_ending": nifti.ENDINGS[0],
    })  # fmt: skip
    if set(folds) - {"train", "test"}:
        fold = {"train": folds.get("train", []),
                "val": [case for split, own in folds.items() for case in own
                        if split not in ("train", "test")]}  # fmt: skip
        files.write_json(folder / _FOLDS, [fold])


def _cases(annotations: Annotations) -> Iterator[tuple[str, list[Picture]]]:
    """Yield the pictures of each volume, and a name for it."""
    own: list[Picture] = []
    last: Any = None
    for picture in annotations.pictures():
        deeper, _, name = picture.name.rpartition("/")
        case = picture.volume.name if picture.volume else deeper or picture.name
        key = (picture.split, case, picture.size)
        if own and key != last:
            yield _case(own), own
            own = []
        own, last = [*own, picture], key
    if own:
        yield _case(own), own


def _case(own: list[Picture]) -> str:
    first = own[0]
    name = first.volume.name if first.volume else first.name.rpartition("/")[0]
    return re.sub(r"[/\\]", "_", name or images.stem(first.name))

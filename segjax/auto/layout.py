"""How a data set lies in its folder: the section `input.source` that reads it, and its splits.

What is looked for, in this order: a `dataset.json` that lists its examples (Medical Segmentation
Decathlon); folders of splits with images and masks in them; one folder of images and one of masks,
nnU-Net's `imagesTr` and `labelsTr` too; a folder for each image, with a mask for each object; two
TIFF stacks, of planes and of their masks.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.data import base, core, decode, listing, native, opening
from segjax.data import folder as folder_lib
from segjax.data.readers import stacks
from segjax.errors import DataError
from segjax.runtime import reading

IMAGES = ("images", "image", "imgs", "img", "imagesTr")
MASKS = ("labels", "masks", "label", "mask", "annotations", "gt", "labelsTr", "instances")
"""Folders of masks; of the last each object has a number."""
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
LOOKED_AT, VALUES = 256, 32
"""Masks whose values are looked at, and values from which on they number objects."""
FOLDS = 5
"""Of a data set that has nothing to validate on: one in so many examples."""
OVERLAPPING = "overlapping classes"
"""The reason of masks that are a folder for each class."""
MODALITY = "_0000"
"""What the names of nnU-Net's images end with."""


class Layout(NamedTuple):
    """Where a data set is, and what its splits are called.

    Attributes:
        source: The section `input.source`.
        splits: Of `train`, `val` and `test` those that there are, and their names.
        why: What was found, in words, by the argument that it decided.
    """

    source: dict[str, Any]
    splits: Mapping[str, str]
    why: dict[str, str]


def find(root: str, *, classes: Sequence[str] = (), dims: int = 0) -> Layout:
    """Return how the data set in a folder is read; only names and some masks are looked at.

    Args:
        root: The folder; `~` and `$VARIABLES` are replaced.
        classes: Names of classes in the order of the masks' numbers; empty: what `meta.json` says,
            or what the masks hold.
        dims: Axes of the images in space; 0: what their format says.

    Raises:
        DataError: Nothing that is known lies there.
    """
    folder = base.folder_of(root)
    about = folder / "dataset.json"
    if reading.is_file(about) and isinstance(_read(about).get("training"), list):
        return Layout(
            dict(type="decathlon", root=root),
            {split: split for split in SPLITS},
            {"source": "dataset.json lists its examples; every tenth of them by name has a split"},
        )
    classes = [*classes] or _named_by(about)
    if found := _in_splits(folder):
        return _of_folders(root, folder, *found, classes=classes, dims=dims)
    pairs = [(a, b) for a in IMAGES for b in MASKS if _holds(folder, a, b)]
    if pairs:
        return _of_one_folder(root, folder, *pairs[0], classes=classes, dims=dims)
    files = [path for path in sorted(folder.iterdir()) if not listing.is_hidden(path.name)]
    if files and all(_holds(path, "images", "masks") for path in files):
        return _of_objects(root, classes)
    pages = [path for path in files if path.name.lower().endswith(stacks.ENDINGS)]
    if len(pages) >= 2:
        return _of_stacks(root, pages, classes=classes)
    raise DataError(
        f"{folder}: no data set that is known. Expected <split>/images and <split>/labels (or "
        "masks, instances) for train and val; or images and labels; or dataset.json of the "
        "Decathlon; or two TIFF stacks. Write a config as docs/own_data.md has it for others."
    )


def _read(path: pathlib.Path) -> dict[str, Any]:
    found = reading.read_json(path)
    return found if isinstance(found, dict) else {}


def _named_by(about: pathlib.Path) -> list[str]:
    """Return the classes that nnU-Net's `dataset.json` numbers from 0 on; none: it does not."""
    labels = _read(about).get("labels") if reading.is_file(about) else None
    if not isinstance(labels, dict) or sorted(map(str, labels.values())) != sorted(
        map(str, range(len(labels)))
    ):
        return []
    return sorted(labels, key=lambda name: int(labels[name]))


def _holds(folder: pathlib.Path, images: str, masks: str) -> bool:
    return (folder / images).is_dir() and (folder / masks).is_dir()


def _in_splits(folder: pathlib.Path) -> tuple[dict[str, str], str, str] | None:
    """Return the splits of a folder, and what their folders of images and masks are called."""
    for images in IMAGES:
        for masks in MASKS:
            found = {
                split: name
                for split, names in SPLITS.items()
                for name in names
                if _holds(folder / name, images, masks)
            }
            if "train" in found:
                return found, images, masks
    return None


def _of_folders(
    root: str,
    folder: pathlib.Path,
    splits: dict[str, str],
    images: str,
    masks: str,
    *,
    classes: Sequence[str],
    dims: int,
) -> Layout:
    source: dict[str, Any] = dict(type="folder", root=root)
    if images != "images":
        source["images"] = f"{{split}}/{images}"
    if masks != "labels":
        source["labels"] = f"{{split}}/{masks}"
    inside = folder / splits["train"]
    more, why = _meaning(folder, inside / images, inside / masks, classes)
    source |= more | _how(inside / images, dims)
    if OVERLAPPING in why:
        source["labels"] = f"{{split}}/{masks}/{folder_lib.CLASS}"
    names = ", ".join(splits.values())
    why["source"] = f"{names}: each with {images}/ and {masks}/"
    if "val" not in splits:
        return _folded(source, splits, why)
    return Layout(source, splits, why)


def _of_one_folder(
    root: str,
    folder: pathlib.Path,
    images: str,
    masks: str,
    *,
    classes: Sequence[str],
    dims: int,
) -> Layout:
    source: dict[str, Any] = dict(
        type="folder", root=root, images=images, labels=masks, split_file="*"
    )
    if images == "imagesTr" and any(MODALITY in path.name for path in _files(folder / images)):
        source["image_suffix"] = MODALITY
    more, why = _meaning(folder, folder / images, folder / masks, classes)
    source |= more | _how(folder / images, dims)
    if OVERLAPPING in why:
        source["labels"] = f"{masks}/{folder_lib.CLASS}"
    why["source"] = f"{images}/ and {masks}/, without splits"
    return _folded(source, {"train": "train"}, why)


def _how(images: pathlib.Path, dims: int) -> dict[str, Any]:
    """Return arguments of a source that say how images are read.

    Files of scanners and arrays hold whole numbers in one and fractions in the next: float32 takes
    them all.
    """
    found = [path for path in _files(images) if path.name.lower().endswith(opening.IMAGE_ENDINGS)]
    pictures = all(opening.is_picture(path, 2) for path in found)
    return (dict(dims=dims) if dims else {}) | ({} if pictures else dict(dtype="float32"))


def _folded(source: dict[str, Any], splits: Mapping[str, str], why: dict[str, str]) -> Layout:
    """Return a layout whose training split is divided: nothing else is there to validate on."""
    around = dict(type="folds", source=source, folds=FOLDS, fold=0, splits=[splits["train"]])
    why["source"] += f"; one in {FOLDS} training examples is kept to validate on"
    own = {"train": "train", "val": "val"}
    return Layout(around, own | {k: v for k, v in splits.items() if k == "test"}, why)


def _of_objects(root: str, classes: Sequence[str]) -> Layout:
    """Return the layout of a folder for each image, with a mask for each object."""
    source = dict(type="objects", root=root, class_names=[*classes] or ["background", "object"])
    why = {
        "source": "a folder for each image with a mask for each object; by the place of their "
        "names modulo 10 they are of a split"
    }
    return Layout(source, {split: split for split in SPLITS}, why)


def _of_stacks(root: str, pages: Sequence[pathlib.Path], *, classes: Sequence[str]) -> Layout:
    """Return the layout of two stacks of equal sides; the one of fewer values holds the masks."""
    opened = {path: found for path in pages if (found := _planes(path)) is not None}
    pairs = [
        (images, masks)
        for images, (sides, values) in opened.items()
        for masks, (own_sides, own_values) in opened.items()
        if len(own_values) <= VALUES < len(values) and sides[:3] == own_sides
    ]
    if not pairs:
        raise DataError(
            f"{pages[0].parent}: {len(pages)} TIFF files and no two stacks of equal sides of which "
            f"one has at most {VALUES} values. Expected images and masks, or folders of them."
        )
    # Of several stacks of images, the one that is called most like the masks.
    images, masks = max(pairs, key=lambda pair: len(os.path.commonprefix([p.name for p in pair])))
    values = sorted(opened[masks][1])
    names = [*classes] or [f"value{value}" for value in values]
    _check_number(names, values, masks)
    source = dict(
        type="planes", root=root, images=images.name, labels=masks.name, class_names=names,
        label_map={str(value): place for place, value in enumerate(values)},
    )  # fmt: skip
    why = {
        "source": f"{masks.name} has {len(values)} values, so it holds the masks of {images.name}; "
        "planes are divided by their place modulo 10"
    }
    return Layout(source, {split: split for split in SPLITS}, why)


def _planes(path: pathlib.Path) -> tuple[tuple[int, ...], set[int]] | None:
    """Return the sides of a stack and the values of its first planes; None: it is none."""
    try:
        array = opening.read_stored(path, decode.Reading(dims=3)).array
    except DataError:
        return None
    return tuple(array.shape), {int(value) for value in np.unique(np.asarray(array[:4]))}


def _meaning(
    folder: pathlib.Path, images: pathlib.Path, masks: pathlib.Path, classes: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return arguments of a source that say what masks mean, and why."""
    if own := _class_folders(images, masks):
        return (
            dict(class_names=[*classes] or own, label_map={"0": 0, "*": 1}),
            {OVERLAPPING: "a folder of masks for each class: a pixel may be of several"},
        )
    files = _masks_in(masks)
    meta = _read(folder / "meta.json") if reading.is_file(folder / "meta.json") else {}
    named = [*classes] or meta.get("class_names") or []
    if masks.name == "instances":
        named = named if len(named) == 2 else ["background", *(named or ["object"])][:2]
        return (
            dict(class_names=named, label_map={"0": 0, "*": 1}),
            {"classes": "every object has a number: 0 is the background, all else one class"},
        )
    if meta.get("class_names") and not classes:
        return {}, {"classes": "as meta.json says"}
    values = _values(files)
    if named and values == set(range(len(named))):
        return dict(class_names=named), {"classes": "as the config's argument names them"}
    return _by_values(values, named, masks)


def _class_folders(images: pathlib.Path, masks: pathlib.Path) -> list[str]:
    """Return the folders of masks that no folder of images is called like; none: it has files."""
    inside = [path for path in sorted(masks.iterdir()) if not listing.is_hidden(path.name)]
    if not all(path.is_dir() and not path.name.endswith(listing.WHOLE) for path in inside):
        return []
    return [path.name for path in inside if not (images / path.name).is_dir()]


def _by_values(
    values: set[int], named: Sequence[str], where: pathlib.Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the meaning of masks of which nothing but their values is known."""
    own = sorted(values)
    if len(own) > VALUES or (len(named) == 2 and len(own) > 2):
        names = [*named] or ["background", "object"]
        _check_number(names, [0, 1], where)
        return (
            dict(class_names=names, label_map={"0": 0, "*": 1}),
            {"classes": f"{len(own)} values in the masks: they number objects, 0 is none"},
        )
    void = [255] if 255 in own and len(own) > 2 and own[:-1] == [*range(len(own) - 1)] else []
    own = [value for value in own if value not in void]
    names = [*named] or [f"class{value}" for value in own]
    _check_number(names, own, where)
    found: dict[str, Any] = dict(class_names=names)
    if own != [*range(len(own))]:
        found["label_map"] = {str(value): place for place, value in enumerate(own)}
    if void:
        found["ignore_index"] = void[0]
    note = f"the masks hold {', '.join(map(str, own[:8]))}" + "; 255 is void" * bool(void)
    return found, {"classes": note}


def _check_number(names: Sequence[str], values: Sequence[int], where: pathlib.Path) -> None:
    """Raise `DataError` where names are not as many as values."""
    if len(names) != len(values):
        raise DataError(
            f"{where}: {len(names)} names of classes, and masks hold the {len(values)} values "
            f"{', '.join(map(str, values[:8]))}. Name each in the config's argument classes, "
            "joined by +."
        )
    core.check_classes(names, where=str(where))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [*listing.walk(folder)]


def _masks_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the masks of a folder, at most `LOOKED_AT`, spread evenly over it."""
    found = [path for path in _files(folder) if path.name.lower().endswith(opening.LABEL_ENDINGS)]
    if not found:
        raise DataError(
            f"{folder}: no masks in it. Expected files that end in "
            f"{', '.join(opening.LABEL_ENDINGS[:8])}, …; JPEG would change class numbers."
        )
    most = min(LOOKED_AT, len(found))
    return [found[place * len(found) // most] for place in range(most)]


def _values(files: Sequence[pathlib.Path]) -> set[int]:
    """Return the values of masks; more than `VALUES` only say that these are many."""
    found: set[int] = set()
    for path in files:
        how = decode.Reading(dims=native.dims_of(path))
        label = opening.open_label(path, how, opening.Opened(np.zeros(()))).array
        found |= {int(value) for value in np.unique(np.asarray(label))}
        if len(found) > VALUES + 1:
            break
    return found

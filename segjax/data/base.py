"""What data sets of image files share: all are read as the first one is, and labels are checked."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Annotated, Any, TypeAlias

import numpy as np

from segjax.config import kinds, rules
from segjax.data import core, decode, native, opening, overlaps, spans
from segjax.data import masks as masks_lib
from segjax.data.decode import Reading
from segjax.data.label_map import LabelMap
from segjax.data.lazy import Lazy
from segjax.errors import DataError
from segjax.runtime import reading
from segjax.structs import Example, Field, Objects, Schema
from segjax.views import colour

THREADS = 16
"""That look at headers: on a file system of a network each is waiting."""
TENTHS = {"train": range(7), "val": range(7, 8), "test": range(8, 10)}
"""Of a data set that was published without splits: the examples whose place modulo 10 is in it."""
Expected: TypeAlias = Mapping[str, kinds.Count]
"""How many examples a split has; 0, or a split that is not named: any number."""
Colours: TypeAlias = Annotated[
    Sequence[Annotated[Sequence[Annotated[int, rules.whole(0, 255)]], rules.length(3, 3)]],
    rules.length(0, 256),
]
Pair = tuple[pathlib.Path, overlaps.Masks]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What the numbers in a mask mean, see `core.check_label`."""

    num_classes: int
    ignore: Sequence[int] = ()
    offset: int = 0
    mapping: LabelMap | None = None

    def __call__(self, stored: np.ndarray, *, name: str) -> np.ndarray:
        """Return the class of every pixel of a mask, 255 where it is void."""
        return core.check_label(
            stored, num_classes=self.num_classes, ignore=self.ignore, offset=self.offset,
            mapping=self.mapping, name=name,
        )  # fmt: skip


class Files:
    """One split of images in files; masks are files of class numbers, or what a subclass reads.

    Args:
        files: Image and masks of every example, at least one.
        root: The folder that names of examples are below.
        class_names: Of the classes.
        palette: Empty: PASCAL VOC's.
        numbers: What the numbers of masks mean.
        reading: How images are read, as far as it is said.
        channels: Of the images; 0: those of the first.
        dtype: Of the images; empty: the first's.
        bands: Of every mask; more than one, or with `multilabel`: classes overlap.
        multilabel: Whether classes overlap.

    Raises:
        DataError: The first image cannot be used.
    """

    def __init__(
        self,
        files: Sequence[Pair],
        *,
        root: pathlib.Path,
        class_names: tuple[str, ...],
        palette: core.Palette = (),
        numbers: Numbers,
        reading: Reading,
        channels: int = 0,
        dtype: str = "",
        bands: int = 1,
        multilabel: bool = False,
    ):
        self.files, self.root = files, root
        self.class_names = class_names
        self.palette = palette or colour.voc_palette(len(class_names))
        self.numbers, self.bands, self.multilabel = numbers, bands, multilabel
        self._guessed = not channels and not reading.bands
        first = files[0][0]
        self.reading = native.as_first(reading, first, channels=channels, dtype=dtype)
        self.schema = self._make_schema(first)

    def _make_schema(self, first: pathlib.Path) -> Schema:
        channels, dtype = self.reading.channels, self.reading.dtype
        schema: Schema = core.semantic_schema(channels, dtype=dtype)
        if self.multilabel:
            schema = core.multilabel_schema(channels, len(self.class_names), dtype=dtype)
        if native.has_spacing(first, self.reading):
            schema = {**schema, "spacing": Field("value", (self.reading.dims,), "float32")}
        return schema

    def __len__(self) -> int:
        return len(self.files)

    def example_names(self) -> list[str]:
        """Return the name of each example: its image's path below the root."""
        return [os.path.relpath(image, self.root) for image, _ in self.files]

    def __getitem__(self, index: int) -> Example:
        file = self.files[index][0]
        self._check_colour(file)
        image = opening.open_image(file, self.reading)
        # A `Lazy` array stands for one, and is read where it is indexed.
        example: Any = {"image": image.array, **self.read_truth(index, image)}
        example["label"] = opening.without_missing(example["label"], image)
        example["name"] = os.path.relpath(file, self.root)
        if "spacing" in self.schema:
            example["spacing"] = opening.spacing(image, name=str(file))
        return example

    def read_truth(self, index: int, image: opening.Opened) -> dict[str, Any]:
        """Return the label of an example, and what else the files say of its pixels."""
        return {"label": self.read_label(index, image)}

    def read_label(self, index: int, image: opening.Opened) -> np.ndarray | Lazy:
        """Return the label of an example, uint8; of a large file one whose parts are read."""
        file, masks = self.files[index]
        mask = masks[0] if len(masks) == 1 else None
        if mask and self.reading.dims == 1 and mask.name.lower().endswith(spans.ENDINGS):
            return self._read_spans(mask, image)
        if self.multilabel or mask is None:
            return overlaps.read(
                image, file, masks, bands=self.bands, reading=self.reading, check=self.numbers
            )
        label = opening.open_label(mask, self.reading, image)
        opening.check_alike(image, label, str(file), str(mask), exif=self.reading.exif)
        check = functools.partial(self.numbers, name=str(mask))
        stored = label.array
        return stored.map(check, np.uint8) if isinstance(stored, Lazy) else check(stored)

    def _read_spans(self, file: pathlib.Path, image: opening.Opened) -> np.ndarray:
        """Return the classes of a signal's samples, from a file of labelled spans."""
        steps = image.geometry.spacing if image.geometry else ()
        return spans.draw(
            spans.read(file), image.array.shape[0], self.class_names,
            step=steps[0] if steps and file.suffix.lower() != ".ann" else 1.0,
            overlap=self.multilabel, name=str(file),
        )  # fmt: skip

    def check(self) -> set[tuple[int, ...]]:
        """Check every file by its header and return the sizes of images; see `core.Checkable`."""
        with futures.ThreadPoolExecutor(THREADS) as pool:
            return set(pool.map(self.check_one, self.files))

    def check_one(self, pair: Pair) -> tuple[int, ...]:
        """Check the files of an example by their headers, and return the image's sides."""
        return overlaps.check(*pair, bands=self.bands, reading=self.reading)

    def _check_colour(self, file: pathlib.Path) -> None:
        """Refuse to drop colour only because the first image happened to be grey."""
        if (
            self._guessed
            and self.reading.channels == 1
            and opening.is_picture(file, self.reading.dims)
        ):
            if decode.native_channels(file, name=str(file)) != 1:
                raise DataError(
                    f"{file}: a colour image, but the first image ({self.files[0][0]}) is grey. "
                    "Set channels=3 (grey becomes RGB) or channels=1 (colour becomes grey)."
                )


class ObjectFiles(Files):
    """Files that know objects too; see `core.ObjectSource`."""

    most = 0
    things: tuple[int, ...] = ()

    def count(self, things: Sequence[int], *, most: int) -> None:
        """Count objects of these classes, with room for so many in each example; 0: in none."""
        self.things, self.most = tuple(things), most
        if most:
            self.schema = {**self.schema, **core.object_schema(most)}

    def read_both(self, index: int, image: opening.Opened) -> tuple[np.ndarray | Lazy, Objects]:
        """Return the label and all objects of an example, from files that are read once."""
        raise NotImplementedError

    def read_truth(self, index: int, image: opening.Opened) -> dict[str, Any]:
        """Return the label, and where they are asked for the fields of objects."""
        if not self.most:
            return super().read_truth(index, image)
        label, found = self.read_both(index, image)
        fields = masks_lib.fields(found, image.array.shape[:-1], most=self.most)
        return {"label": label, masks_lib.WHOLE: found, **fields}

    def objects(self, index: int) -> Objects:
        """Return all objects of example `index`, on its own grid."""
        return self.read_both(index, opening.open_image(self.files[index][0], self.reading))[1]


def check_count(found: int, expected: Expected | None, split: str, *, where: str) -> None:
    """Refuse a split that has another number of examples than its publisher's.

    Raises:
        DataError: It has.
    """
    wanted = (expected or {}).get(split, 0)
    if wanted and found != wanted:
        raise DataError(
            f"{where}: {found:,} examples in split {split!r}, expected {wanted:,} as published. "
            "Complete the download, or take what is there with "
            f"--config.input.source.expected.{split}=0."
        )


def check_present(files: Sequence[Pair]) -> None:
    """Raise `DataError` unless there is every image and every mask."""
    every = [path for image, masks in files for path in (image, *masks) if path is not None]
    with futures.ThreadPoolExecutor(THREADS) as pool:
        there = list(pool.map(os.path.exists, every))
    absent = [str(path) for path, found in zip(every, there, strict=True) if not found]
    if absent:
        raise DataError(
            f"{len(absent):,} of {len(every):,} files are not there: {core.some(absent)}. Complete "
            "the download."
        )


def listed(path: pathlib.Path) -> list[str]:
    """Return the lines of a publisher's list that hold anything.

    Raises:
        DataError: It cannot be read, or names nothing.
    """
    try:
        names = [line for line in reading.lines(path) if line]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Complete the download.") from None
    if not names:
        raise DataError(f"{path}: the list names no example. Complete the download.")
    return names


def below(name: str, *, where: str) -> pathlib.PurePosixPath:
    """Return a path that a file names below its own folder.

    Raises:
        DataError: It leads out of it.
    """
    path = pathlib.PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise DataError(f"{where}: {name!r:.200} lies outside of its folder. Mend the file.")
    return path


def folder_of(root: str) -> pathlib.Path:
    """Return the folder of a data set, `~` and `$VARIABLES` replaced.

    Raises:
        DataError: There is none.
    """
    path = core.expand_path(root, where="root")
    if not path.is_dir():
        raise DataError(f"root={str(path)!r}: no such folder. Set root to the data set.")
    return path


def own_split(names: Sequence[str], split: str, *, where: str) -> list[str]:
    """Return the names that are of a split by `TENTHS`, or `all`, in order of name.

    Raises:
        DataError: There is no such split, or nothing in it.
    """
    if split not in (*TENTHS, "all"):
        raise DataError(
            f"{where}: no split {split!r}. It was published without splits; expected "
            f"{', '.join(TENTHS)} (by place modulo 10) or all."
        )
    tenths = TENTHS.get(split, range(10))
    found = [name for place, name in enumerate(sorted(names)) if place % 10 in tenths]
    if not found:
        raise DataError(
            f"{where}: {len(names)} examples, none of them in split {split!r}. Add some."
        )
    return found

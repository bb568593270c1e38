"""Images with annotations of any format of `formats`, drawn as class maps when they are asked for.

Objects are what the format calls so: parts of one group are one, and a crowd is a crowd.

What `--mode=convert` makes masks of once, this draws anew each time: nothing is written. All that
is annotated is kept in memory, polygons as they are; formats that hold maps of pixels are better
converted.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from segjax.config import kinds, lookup, rules
from segjax.data import base, core, decode, masks, opening
from segjax.data.formats import classes, convert, draw, raster
from segjax.data.formats import kinds as formats
from segjax.data.formats.base import Annotations, Options, Picture
from segjax.errors import ConfigError, DataError
from segjax.structs import Mask, Objects

WHERE = "config.input.source"


class Source(base.ObjectFiles):
    """One split of annotated images.

    Args:
        split: Its name, which `{split}` stands for.
        root: The folder of the data set.
        format: A name that `--mode=convert --from=` knows, such as 'coco' or 'labelme'.
        annotations: The file or folder of annotations, below `root`.
        images: Folder of the images; empty: where the format has them.
        class_names: All classes in order; empty: the format's.
        crowd: What a crowd of things is: its class, void, or left out.
        dtype: Type of the images.
        expected: How many examples splits have, see `folder.Source`.
        objects: Room for objects in each example; 0: it has none.
        components: Make an object of each connected piece of what is a class and no object.
        only: The format's own split that is taken, where `annotations` holds several; `{split}`
            stands for `split`. Empty: all that is there.
        class_map: What becomes of classes: another name, `void`, or `-` (dropped), as of
            `--class_map`.

    Raises:
        ConfigError: No such format.
        DataError: A file is missing or wrong, or annotates nothing; with `objects`, no object.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        format: str,  # noqa: A002  the word of a config
        annotations: str,
        images: str = "",
        class_names: core.ClassNames = (),
        crowd: Annotated[str, rules.one_of("class", "void", "drop")] = "class",
        dtype: kinds.PixelType = "uint8",
        expected: base.Expected | None = None,
        objects: core.MostObjects = 0,
        components: bool = False,
        only: str = "",
        class_map: Mapping[str, str] | None = None,
    ):
        lookup.choose(format, list(formats.FORMATS), what=f"{WHERE}.format")
        folder = base.folder_of(root)
        path = folder / annotations.replace("{split}", split)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Set annotations, or put it there.")
        near = folder / images.replace("{split}", split) if images else None
        options = Options(images=near, class_names=tuple(class_names) or None, crowd=crowd)
        mapped = classes.map_of(class_map, where=f"{WHERE}.class_map") if class_map else None
        wishes = convert.Wishes(class_map=mapped, components=components)
        found = convert.prepare(format, path, options=options, wishes=wishes)
        self.numbering = classes.number(found)
        self.pictures = _chosen(found, only.replace("{split}", split), path=path)
        annotated = any(picture.objects for picture in self.pictures)
        if objects and annotated and not any(self.object_counts()):
            raise DataError(
                f"{path}: classes of pixels and no object in it. Set components=True to make one "
                "of each connected piece, or objects=0."
            )
        base.check_count(len(self.pictures), expected, split, where=str(path))
        files: list[base.Pair] = []
        for picture in self.pictures:
            if not isinstance(picture.content, pathlib.Path):
                raise ConfigError(
                    f"{WHERE}.format={format!r}: its images are no files of their own. "
                    "Make a folder of them with --mode=convert."
                )
            # The file of annotations is there for the hash by which an edited one is noticed.
            file = pathlib.Path(os.path.abspath(picture.content))
            files.append((file, [path] if path.is_file() else []))
        super().__init__(
            files,
            root=folder,
            class_names=core.check_classes(self.numbering.names, where=str(path)),
            palette=self.numbering.palette,
            numbers=base.Numbers(len(self.numbering.names)),
            reading=decode.Reading(dims=2),
            channels=3,
            dtype=dtype,
        )
        names = self.numbering.names
        things = [name for name in names if name != found.background]
        things = things if found.things is None else [n for n in names if n in found.things]
        self.count([names.index(name) for name in things], most=objects)

    def object_counts(self) -> list[int]:
        """Return how many objects each image has by its annotations."""
        return [len(_together(picture)) for picture in self.pictures]

    def check_one(self, pair: base.Pair) -> tuple[int, ...]:
        """Check an image by its header, and return its sides."""
        return opening.check_header(pair[0], self.reading)

    def read_label(self, index: int, image: opening.Opened) -> np.ndarray:
        """Return the class of every pixel, later objects over earlier ones."""
        return self._draw(index, image)[0]

    def read_both(self, index: int, image: opening.Opened) -> tuple[np.ndarray, Objects]:
        """Return that label, and all objects whole, whatever covers them."""
        label, patches = self._draw(index, image)
        picture, found = self.pictures[index], []
        for numbers in _together(picture):
            thing = picture.objects[numbers[0]]
            top, left, inside = raster.union([patches[number] for number in numbers])
            about = masks.About(self.numbering.numbers[thing.label or ""], thing.crowd)
            found.append((Mask((top, left), inside), about))
        return label, masks.make(found, dims=2)

    def _draw(self, index: int, image: opening.Opened) -> tuple[np.ndarray, Sequence[raster.Patch]]:
        picture, file = self.pictures[index], str(self.files[index][0])
        decode.check_sizes(image.array.shape[:-1], picture.size, file, file, exif=True)
        patches, numbering = list(draw.patches_of(picture)), self.numbering
        drawn = draw.draw(
            picture, numbering.numbers, background=numbering.background, patches=patches
        )
        return drawn.classes, patches


def _chosen(annotations: Annotations, only: str, *, path: pathlib.Path) -> list[Picture]:
    """Return the pictures of a split, all of them without one; their classes are known.

    Raises:
        DataError: There are none, or an object is of no class.
    """
    found, there = [], set()
    for picture in annotations.pictures():
        there.add(picture.split)
        if not only or picture.split == only:
            convert.check_labels(picture, annotations, hint=f"Add it to {WHERE}.class_names.")
            found.append(picture)
    if not found and not there:
        raise DataError(f"{path}: no image in it. Add some.")
    if not found:
        raise DataError(
            f"{path}: no image of split {only!r}; there are {core.some(sorted(there), limit=8)}. "
            f"Set {WHERE}.only to one of them, or to '' for all."
        )
    return found


def _together(picture: Picture) -> list[list[int]]:
    """Return which parts of a picture are one object, for each object; what is void is none."""
    found: dict[object, list[int]] = {}
    for number, thing in enumerate(picture.objects):
        if thing.label is not None and (thing.instance or thing.crowd):
            found.setdefault(draw.key_of(thing), []).append(number)
    return list(found.values())

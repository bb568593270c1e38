"""A folder for each image, with a mask for each object in it: the 2018 Data Science Bowl's layout.

`<root>/<name>/images/<name>.png` and `<root>/<name>/masks/*.png`. The pixels of any object are the
one class beside the background. It was published without splits: by the place of a name modulo 10,
in order of name, 0 to 6 are `train`, 7 is `val`, 8 and 9 are `test`; `all` is the whole.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from segjax.config import kinds, rules
from segjax.data import base, core, decode, listing, masks, opening
from segjax.errors import DataError
from segjax.structs import Objects


class Source(base.ObjectFiles):
    """One split of such folders.

    Args:
        split: `train`, `val`, `test` or `all`.
        root: The folder of all of them.
        class_names: Of the background and of objects.
        channels: Of the images: 3 makes RGB of grey ones and drops opacity; 1 makes grey ones.
        dtype: Type of the images.
        expected: How many examples splits have, see `folder.Source`.
        objects: Room for objects in each example; 0: it has none, and needs a mask at least.

    Raises:
        DataError: No such folder, or one without its image or masks; another number of examples;
            when an example is read: an unreadable file, or a mask of another size.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        class_names: Annotated[Sequence[Annotated[str, rules.NAME]], rules.length(2, 2)],
        channels: Annotated[int, rules.one_of(1, 3)] = 3,
        dtype: kinds.PixelType = "uint8",
        expected: base.Expected | None = None,
        objects: core.MostObjects = 0,
    ):
        folder = base.folder_of(root)
        names = [path.name for path in folder.iterdir() if (path / "images").is_dir()]
        chosen = base.own_split(names, split, where=str(folder))
        base.check_count(len(chosen), expected, split, where=str(folder))
        files: list[base.Pair] = []
        for name in chosen:
            images = _files(folder / name / "images", opening.IMAGE_ENDINGS)
            each = _files(folder / name / "masks", opening.LABEL_ENDINGS)
            if len(images) != 1 or not (each or objects):
                raise DataError(
                    f"{folder / name}: {len(images)} images and {len(each)} masks, expected one "
                    "image in images/ and a mask for each object in masks/. Complete the folder."
                )
            files.append((images[0], each))
        super().__init__(
            files,
            root=folder,
            class_names=core.check_classes(class_names, where="class_names"),
            numbers=base.Numbers(2),
            reading=decode.Reading(dims=2),
            channels=channels,
            dtype=dtype,
        )
        self.count((1,), most=objects)

    def object_counts(self) -> list[int]:
        """Return how many masks each example has."""
        return [len(each) for _, each in self.files]

    def read_label(self, index: int, image: opening.Opened) -> np.ndarray:
        """Return 1 where any object is, 0 elsewhere."""
        return self.read_both(index, image)[0]

    def read_both(self, index: int, image: opening.Opened) -> tuple[np.ndarray, Objects]:
        """Return that label, and the object of each mask."""
        file, own = self.files[index]
        found = []
        for mask in filter(None, own):
            stored = opening.open_label(mask, self.reading, image)
            opening.check_alike(image, stored, str(file), str(mask), exif=self.reading.exif)
            found.append((masks.trim(np.asarray(stored.array) != 0), masks.About(1)))
        objects = masks.make(found, dims=2)
        label = np.zeros(image.array.shape[:-1], np.uint8)
        masks.paint(label, objects)
        return label, objects


def _files(folder, endings):
    return [path for path in listing.walk(folder) if path.name.lower().endswith(endings)]

"""The planes of a stack as pictures: a TIFF file of pages of images, and one of masks.

A file without splits of its own is divided by the place of a plane modulo 10: 0 to 6 are `train`, 7
is `val`, 8 and 9 are `test`; `all` is the whole.
"""

import dataclasses

from segjax.config import kinds
from segjax.data import base, core, decode, opening, values
from segjax.errors import DataError
from segjax.structs import Example


class Source:
    """One split of the planes of a stack; a plane is read when it is asked for.

    Args:
        split: `train`, `val`, `test` or `all`.
        root: The folder of both files.
        images: The file of images, below `root`.
        labels: The file of masks.
        class_names: Of the classes.
        ignore_index: Value of unlabelled pixels, or several; -1: none.
        label_offset: Added to every label value that is not ignored.
        label_map: The class of every stored value that is not ignored, see `label_map.LabelMap`.
        expected: How many examples splits have, see `folder.Source`.

    Raises:
        DataError: A file is missing or holds no such stack; other sides; another number of planes.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        images: str,
        labels: str,
        class_names: core.ClassNames,
        ignore_index: core.IgnoreIndex = -1,
        label_offset: kinds.AnyWhole = 0,
        label_map: core.LabelClasses | None = None,
        expected: base.Expected | None = None,
    ):
        self.root = base.folder_of(root)
        self.class_names = core.check_classes(class_names, where="class_names")
        self.palette = core.voc_palette(len(self.class_names))
        image, label = self.root / images, self.root / labels
        self.files = [(image, [label])]
        base.check_present(self.files)
        stack = opening.as_first(decode.Reading(dims=3), image)
        self.stack = opening.read_stored(image, stack).array
        self.masks = opening.read_stored(label, stack).array
        if self.stack.shape[:3] != self.masks.shape:
            raise DataError(
                f"{label}: masks of {self.masks.shape}, its images {image} are "
                f"{self.stack.shape[:3]} (planes, height, width). Mend one of them."
            )
        places = [f"{place:06d}" for place in range(self.stack.shape[0])]
        self.places = [int(place) for place in base.own_split(places, split, where=str(image))]
        base.check_count(len(self.places), expected, split, where=str(image))
        self.reading = dataclasses.replace(stack, dims=2)
        self.schema = core.semantic_schema(stack.channels, dtype=stack.dtype)
        mapping = core.make_label_map(
            label_map, num_classes=len(self.class_names), label_offset=label_offset,
            where="config.input.source",
        )  # fmt: skip
        ignored = core.ignore_values(ignore_index)
        self.numbers = base.Numbers(len(self.class_names), ignored, label_offset, mapping)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        plane = slice(self.places[index], self.places[index] + 1)
        image_name, label_name = (f"{file}, plane {plane.start}" for file in self._names())
        with decode.explained(image_name):
            image = values.convert(self.stack[plane][0], self.reading.dtype, name=image_name)
        with decode.explained(label_name):
            stored = values.whole_numbers(self.masks[plane][0], name=label_name)
        label = self.numbers(stored, name=label_name)
        image = image if image.ndim == 3 else image[..., None]
        return Example(image=image, label=label, name=f"{self.files[0][0].name}/{plane.start}")

    def _names(self) -> tuple[str, str]:
        image, (label,) = self.files[0]
        return str(image), str(label)

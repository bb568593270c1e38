"""The planes of a stack as pictures: a TIFF file of pages of images, and one of masks.

A file without splits of its own is divided by the place of a plane modulo 10: 0 to 6 are `train`, 7
is `val`, 8 and 9 are `test`; `all` is the whole.
"""

import dataclasses

from segjax.config import kinds
from segjax.data import base, core, decode, native, opening, values
from segjax.errors import DataError
from segjax.structs import Example
from segjax.views import colour


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
        self.palette = colour.voc_palette(len(self.class_names))
        image, label = self.root / images, self.root / labels
        self.files = [(image, [label])]
        base.check_present(self.files)
        stack = native.as_first(decode.Reading(dims=3), image)
        whole, masks = (opening.read_stored(file, stack).array.shape for file in (image, label))
        if whole[:3] != masks:
            raise DataError(
                f"{label}: masks of {masks}, its images {image} are {whole[:3]} (planes, height, "
                "width). Mend one of them."
            )
        places = [f"{place:06d}" for place in range(whole[0])]
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

    def example_names(self) -> list[str]:
        """Return the name of each plane: that of the file, and its place in it."""
        return [f"{self.files[0][0].name}/{place}" for place in self.places]

    def __getitem__(self, index: int) -> Example:
        plane = slice(self.places[index], self.places[index] + 1)
        image_file, (label_file,) = self.files[0]
        image_name, label_name = (
            f"{file}, plane {plane.start}" for file in (image_file, label_file)
        )
        stack = dataclasses.replace(self.reading, dims=3)
        # Opened anew: what is read in parts is for one thread, and is not picklable.
        with decode.explained(image_name):
            pixels = opening.read_stored(image_file, stack).array[plane][0]
            image = values.convert(pixels, self.reading.dtype, name=image_name)
        with decode.explained(label_name):
            pixels = opening.read_stored(label_file, stack).array[plane][0]
            stored = values.whole_numbers(pixels, name=label_name)
        label = self.numbers(stored, name=label_name)
        image = image if image.ndim == 3 else image[..., None]
        return Example(image=image, label=label, name=f"{image_file.name}/{plane.start}")

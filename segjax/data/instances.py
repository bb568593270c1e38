"""Images beside maps of whole numbers that say the class and the object of every pixel.

Such as 16-bit PNG or TIFF files of cells, in which each has a number of its own, Cityscapes'
`instanceIds`, KITTI's and MOTS's maps, or volumes of such numbers.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from segjax.config import kinds, lookup, rules
from segjax.data import base, core, folder, masks, opening
from segjax.data.formats import instances
from segjax.data.lazy import Lazy
from segjax.errors import ConfigError, DataError
from segjax.structs import Objects


class Source(base.ObjectFiles, folder.Source):
    """One split of images and instance maps, paired by their names as `folder.Source` has it.

    Args:
        split: Its name: the folder below `root`, and what `{split}` stands for in the other paths.
        root: The data set's folder; `~` and `$VARIABLES` are replaced.
        class_names: All classes in order, the background first where there is one.
        divisor: Of the numbers: class x divisor + object; of 1000 numbers below it are a class, and
            of 256 those of object 0. 0: each number is an object of class 1, and 0 is class 0.
        objects: Room for objects in each example; 0: it has none.
        things: The classes that are counted object by object; empty: all but the first. Pixels of
            such a class that are of no object are a crowd.
        images: Folder of the images; empty: `{split}/images`.
        instances: Folder of the maps; empty: `{split}/instances`.
        split_file: As of `folder.Source`, and so are all that follow.
        image_suffix: What follows the stem in the names of images.
        instance_suffix: What follows the stem in the names of maps.
        palette: A colour for each class; empty: PASCAL VOC's.
        ignore_index: Classes, as stored, whose pixels are void.
        label_map: The class of every stored class that is not ignored.
        channels: Channels of the images; 0: those of the first.
        exif: Turn images and maps upright.
        dtype: Type of the images; empty: that of the first.
        dims: Axes of the images in space; 0: what the first image's format says.
        image_array: Name of the images' array in files that hold several.
        instance_array: Of the maps'.
        expected: How many examples splits have.

    Raises:
        ConfigError: Bad arguments.
        DataError: As `folder.Source`.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        class_names: Annotated[Sequence[Annotated[str, rules.NAME]], rules.length(2, 255)],
        divisor: Annotated[int, rules.whole(0, 1 << 20)] = 0,
        objects: core.MostObjects = 0,
        things: core.ClassNames = (),
        images: str = "",
        instances: str = "{split}/instances",
        split_file: str = "",
        image_suffix: str = "",
        instance_suffix: str = "",
        palette: base.Colours = (),
        ignore_index: core.IgnoreIndex = -1,
        label_map: core.LabelClasses | None = None,
        channels: core.Channels = 0,
        exif: bool = True,
        dtype: kinds.PixelTypeOrAny = "",
        dims: Annotated[int, rules.whole(0, 3)] = 0,
        image_array: str = "",
        instance_array: str = "",
        expected: base.Expected | None = None,
    ):
        if not divisor and (label_map or len(class_names) != 2):
            raise ConfigError(
                f"config.input.source.divisor=0: numbers are objects of one class, expected two "
                f"class_names and no label_map, got {len(class_names)} names. Set divisor."
            )
        self.divisor = divisor
        super().__init__(
            split=split, root=root, images=images, labels=instances, split_file=split_file,
            image_suffix=image_suffix, label_suffix=instance_suffix, class_names=class_names,
            palette=palette, ignore_index=ignore_index, label_map=label_map, channels=channels,
            exif=exif, dtype=dtype, dims=dims, image_array=image_array,
            label_array=instance_array, expected=expected,
        )  # fmt: skip
        chosen = [
            class_names.index(lookup.choose(name, list(class_names), what="things"))
            for name in things
        ]
        self.count(sorted(chosen) or range(1, len(class_names)), most=objects)

    def read_label(self, index: int, image: opening.Opened) -> np.ndarray | Lazy:
        """Return the class of every pixel; of a large file an array whose parts are read."""
        stored, name = self._read(index, image)
        if isinstance(stored, Lazy):
            return stored.map(lambda part: self._parted(part, name)[0], np.uint8)
        return self._parted(stored, name)[0]

    def read_both(self, index: int, image: opening.Opened) -> tuple[np.ndarray, Objects]:
        """Return that label, and all objects of things."""
        array, name = self._read(index, image)
        stored = np.asarray(array)
        values = masks.values_of(stored)
        classes, which = self._parted(values, name)
        about = {
            value: masks.About(number, crowd=not instance)
            for value, number, instance in zip(
                values.tolist(), classes.tolist(), which.tolist(), strict=True
            )
            if number in self.things
        }
        return self._parted(stored, name)[0], masks.of_map(stored, about)

    def _read(self, index: int, image: opening.Opened) -> tuple[np.ndarray | Lazy, str]:
        """Return the numbers that an example's map stores, and its name."""
        file, (path,) = self.files[index]
        if path is None:
            raise DataError(f"{file}: has no map of instances. Add it, or remove the image.")
        stored = opening.open_label(path, self.reading, image)
        opening.check_alike(image, stored, str(file), str(path), exif=self.reading.exif)
        return stored.array, str(path)

    def _parted(self, stored: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of every number, and its object counted from 1; 0: of none."""
        found, which = instances.parted(stored, self.divisor)
        return self.numbers(found, name=name), which

"""Images with annotations of any format of `formats`, drawn as class maps when they are asked for.

What `--mode=convert` makes masks of once, this draws anew each time: nothing is written. All that
is annotated is kept in memory, polygons as they are; formats that hold maps of pixels are better
converted.
"""

import os
import pathlib
from typing import Annotated

import numpy as np

from segjax.config import kinds, lookup, rules
from segjax.data import base, core, decode, opening
from segjax.data.formats import classes, convert, draw
from segjax.data.formats import kinds as formats
from segjax.data.formats.base import Options
from segjax.errors import ConfigError, DataError


class Source(base.Files):
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

    Raises:
        ConfigError: No such format.
        DataError: A file is missing or wrong, or annotates nothing.
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
    ):
        lookup.choose(format, list(formats.FORMATS), what="config.input.source.format")
        folder = base.folder_of(root)
        path = folder / annotations.replace("{split}", split)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Set annotations, or put it there.")
        near = folder / images.replace("{split}", split) if images else None
        options = Options(images=near, class_names=tuple(class_names) or None, crowd=crowd)
        found = convert.prepare(format, path, options=options, wishes=convert.Wishes())
        self.numbering = classes.number(found)
        self.pictures = list(found.pictures())
        if not self.pictures:
            raise DataError(f"{path}: no image in it. Add some.")
        base.check_count(len(self.pictures), expected, split, where=str(path))
        files: list[base.Pair] = []
        for picture in self.pictures:
            if not isinstance(picture.content, pathlib.Path):
                raise ConfigError(
                    f"config.input.source.format={format!r}: its images are no files of their own. "
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

    def check_one(self, pair: base.Pair) -> tuple[int, ...]:
        """Check an image by its header, and return its sides."""
        return opening.check_header(pair[0], self.reading)

    def read_label(self, index: int, image: opening.Opened) -> np.ndarray:
        """Return the class of every pixel, later objects over earlier ones."""
        picture, file = self.pictures[index], str(self.files[index][0])
        decode.check_sizes(image.array.shape[:-1], picture.size, file, file, exif=True)
        numbering = self.numbering
        return draw.draw(picture, numbering.numbers, background=numbering.background).classes

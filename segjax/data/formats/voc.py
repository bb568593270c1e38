"""PASCAL VOC: palette PNGs of classes and of objects, 255 void, and lists of the splits.

Class names are those of `labelmap.txt` (whose colours count where masks are in RGB),
`class_names.txt`, or VOC's own 21.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Integer

from segjax.data import decode, listing
from segjax.data.formats import classes, colours, draw, images, maps, parse
from segjax.data.formats import folder as folder_format
from segjax.data.formats.base import (
    DEFAULT_SPLIT,
    VOID_LABEL,
    Annotations,
    Colour,
    Losses,
    Options,
    Picture,
    Size,
)
from segjax.errors import DataError
from segjax.runtime import files
from segjax.views import colour

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
IGNORED = "ignored"
"""What `labelmap.txt` calls void."""
BORDER: Colour = (224, 224, 192)
"""The colour of void."""
_LISTS = pathlib.PurePath("ImageSets", "Segmentation")
_BOTH = "trainval"
_MOST_OBJECTS = 254


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a VOC folder; its masks lie in `SegmentationClass`.

    Raises:
        DataError: No masks, a listed image that is not there, a number that is no class.
    """
    if not (path / "SegmentationClass").is_dir():
        raise DataError(f"{path}: no SegmentationClass in it. Name the folder that holds it.")
    masks = listing.list_files(path / "SegmentationClass", endings=decode.LABEL_ENDINGS)
    palette: dict[str, Colour] = {}
    names = options.class_names or NAMES
    if (path / "labelmap.txt").is_file():
        palette, _ = colours.read_palette(path / "labelmap.txt")
        names = options.class_names or tuple(name for name in palette if name != IGNORED)
    elif (path / "class_names.txt").is_file():
        names = options.class_names or parse.names_in(path / "class_names.txt")
    splits, bare = _splits(path, masks)
    note = f"{bare:,} listed images have no mask and are left out"
    return Annotations(
        names,
        functools.partial(_pictures, path, masks, splits, names, palette),
        background=classes.background_of(names),
        palette={name: palette[name] for name in names if name in palette},
        notes=(note,) if bare else (),
    )


def _splits(
    path: pathlib.Path, masks: dict[str, pathlib.Path]
) -> tuple[list[tuple[str, str]], int]:
    """Return split and name of each example, and how many listed ones have no mask."""
    lists = sorted((path / _LISTS).glob("*.txt")) if (path / _LISTS).is_dir() else []
    names = {each.stem for each in lists}
    if {"train", "val"} <= names:
        lists = [each for each in lists if each.stem != _BOTH]
    listed = [(each.stem, listing.normal(name.split()[0]))
              for each in lists for name in parse.names_in(each)]  # fmt: skip
    found = [(split, name) for split, name in listed if name in masks]
    if not listed:
        found = [("", name) for name in masks]
    if not found:
        raise DataError(f"{path}: no masks in SegmentationClass of images that its lists name.")
    return found, len(listed) - len(found) if listed else 0


def _pictures(
    path: pathlib.Path,
    masks: dict[str, pathlib.Path],
    splits: list[tuple[str, str]],
    names: tuple[str, ...],
    palette: dict[str, Colour],
) -> Iterator[Picture]:
    found = listing.list_files(path / "JPEGImages", endings=decode.IMAGE_ENDINGS)
    background = classes.background_of(names)
    for split, stem in splits:
        mask = masks[stem]
        if stem not in found:
            raise DataError(f"{mask}: no image of that name in JPEGImages. Add it.")
        image = found[stem]
        size = images.size_of(image, name=str(image))
        numbers, labels = _numbers(mask, size, palette), classes.labels_of(names)
        which = path / "SegmentationObject" / f"{stem}.png"
        instances = None
        if which.exists():
            instances = _numbers(which, size, {})
            instances = np.where(numbers == VOID_LABEL, 0, instances)
        things = maps.objects(
            numbers, labels, background=background, instances=instances, where=str(mask)
        )
        name = image.relative_to(path / "JPEGImages").as_posix()
        yield Picture(name, image, size, things, split=split)


def _numbers(
    mask: pathlib.Path, size: Size, palette: Mapping[str, Colour]
) -> Integer[np.ndarray, "h w"]:
    """Return the numbers of a mask; of one in colours those of the palette, or of VOC's own."""
    if decode.read_header(mask, name=str(mask)).bands == 1:
        return maps.read(mask, size)
    known = {**{k: shade for k, shade in enumerate(colour.voc_palette(VOID_LABEL))},
             VOID_LABEL: BORDER}  # fmt: skip
    if palette:
        own = {k: shade for k, (name, shade) in enumerate(palette.items()) if name != IGNORED}
        known = {**own, VOID_LABEL: palette.get(IGNORED, BORDER)}
    found = colours.numbers_of(mask, tuple(known.values()))
    maps.check_size(found.shape, size, where=str(mask))
    return np.array(list(known))[found]


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write the data set, without `SegmentationObject` for `--target=semantic`."""
    numbering = classes.number(annotations)
    lists: dict[str, list[str]] = {}
    objects = options.target != "semantic"
    for picture in annotations.pictures():
        drawn = draw.draw(picture, numbering.numbers, background=numbering.background)
        stem = images.stem(picture.name)
        lists.setdefault(picture.split or DEFAULT_SPLIT, []).append(stem)
        images.place(picture, folder / "JPEGImages" / picture.name, link=options.link)
        target = folder / "SegmentationClass" / f"{stem}.png"
        colour.save_palette_png(target, drawn.classes, numbering.palette, void=BORDER)
        folder_format.count(drawn, picture, losses, instances=objects)
        if objects and len(drawn.labels) > _MOST_OBJECTS:
            raise DataError(
                f"{picture.name}: {len(drawn.labels):,} objects, but VOC's map of them has 8 bits: "
                f"at most {_MOST_OBJECTS}. Use --target=semantic, or another --to."
            )
        if objects:
            numbers = np.where(drawn.classes == VOID_LABEL, VOID_LABEL, drawn.instances)
            target = folder / "SegmentationObject" / f"{stem}.png"
            palette = colour.voc_palette(_MOST_OBJECTS + 1)
            colour.save_palette_png(target, numbers.astype(np.uint8), palette, void=BORDER)
    for split, names in lists.items():
        _write_lines(folder / _LISTS / f"{split}.txt", names)
    colours_of = zip(numbering.names, numbering.palette, strict=True)
    lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in colours_of]
    if len(set(numbering.palette)) == len(numbering.palette) and BORDER not in numbering.palette:
        ignored = f"{IGNORED}:{','.join(map(str, BORDER))}::"
        _write_lines(folder / "labelmap.txt", ["# label:color_rgb:parts:actions", *lines, ignored])
    _write_lines(folder / "class_names.txt", numbering.names)


def _write_lines(path: pathlib.Path, lines: "list[str] | tuple[str, ...]") -> None:
    with files.replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")

"""From one format to another: everything is read once before anything is written."""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator

from segjax.config import lookup
from segjax.data.formats import classes, images, kinds, maps, raster, splits
from segjax.data.formats.base import (
    VOID,
    Annotations,
    Box,
    Losses,
    Object,
    Options,
    Picture,
    Rings,
)
from segjax.data.formats.classes import ClassMap
from segjax.errors import ConfigError, DataError, UserError
from segjax.runtime import files, reading
from segjax.views import progress

CHOICES = {
    "crowd": ("class", "void", "drop"),
    "boxes": ("fill", "drop"),
    "order": ("file", "area"),
    "holes": ("union", "even_odd"),
    "target": ("semantic", "instances"),
}


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What the user asks for beside the formats' own options.

    Attributes:
        class_map: What becomes of each class.
        split: See `splits.choose`.
        background: The class of pixels without an object; 'void'; empty: the format's own.
        components: Make an object of each connected piece of what is no instance.
    """

    class_map: ClassMap | None = None
    split: str = ""
    background: str = ""
    components: bool = False


@dataclasses.dataclass
class Shown:
    """Goes through the pictures of a data set, as `Annotations.pictures`, and shows how far it is.

    Attributes:
        pictures: Goes through them.
        total: How many there are; 0: not known before the first time is over.
    """

    pictures: Callable[[], Iterator[Picture]]
    total: int = 0

    def __call__(self) -> Iterator[Picture]:
        """Go through all of them."""
        done = 0
        pictures = progress.over(self.pictures(), total=self.total, unit="images", title="convert")
        for picture in pictures:
            yield picture
            done += 1
        self.total = done


def convert(
    source: str,
    target: str,
    path: pathlib.Path,
    output: pathlib.Path,
    *,
    options: Options,
    wishes: Wishes,
) -> list[str]:
    """Convert a data set, and return lines that say what was found, dropped, lost and written.

    The output is there as a whole at the end, or not at all.

    Raises:
        UserError: A wrong option, file or output.
    """
    given = {
        name for name, value in dataclasses.asdict(options).items() if value not in (None, False)
    }
    kinds.check(source, target, frozenset(given))
    for name, known in CHOICES.items():
        if getattr(options, name) is not None:
            lookup.choose(getattr(options, name), known, what=f"--{name}")
    if not path.exists():
        raise DataError(f"--input={path}: no such folder or file. Name the data set.")
    check_output(output, path)
    annotations = prepare(source, path, options=options, wishes=wishes)
    annotations = dataclasses.replace(annotations, pictures=Shown(annotations.pictures))
    lines = [*survey(annotations, source=source, path=path)]
    losses = Losses()
    with files.replacing_folder(output) as folder:
        kinds.load(target).write(annotations, folder, options, losses)
    written = [each for each in output.rglob("*") if each.is_file()]
    lines += [f"{target} cannot hold: {line}" for line in losses.lines()]
    lines.append(f"{target}: {len(written):,} files written to {output}")
    return lines


def check_output(output: pathlib.Path, path: pathlib.Path) -> None:
    """Refuse an output that holds anything; remove what a killed conversion left beside it.

    Raises:
        UserError: It does, is no folder, or lies in the input.
    """
    if output.resolve().is_relative_to(path.resolve()):
        raise UserError(
            f"--output={output}: lies in --input={path}, which would then hold both. Name a folder "
            "outside of it."
        )
    if reading.is_file(output):
        raise UserError(f"--output={output}: is there and no folder. Name a new folder.")
    with files.explain_os_errors(output):
        if output.is_dir() and any(os.scandir(output)):
            raise UserError(
                f"--output={output}: is not empty, and nothing in it is overwritten. Name a new "
                "folder, or remove this one."
            )
    files.remove_leftovers(output)


def prepare(source: str, path: pathlib.Path, *, options: Options, wishes: Wishes) -> Annotations:
    """Return a data set as the options and wishes ask for it."""
    annotations = kinds.load(source).read(path, options)
    if wishes.background:
        annotations = classes.with_background(annotations, wishes.background)
    kind = kinds.FORMATS[source]
    options = dataclasses.replace(
        options, boxes=options.boxes or kind.boxes, order=options.order or kind.order
    )
    annotations = splits.choose(annotations, wishes.split)
    pick = functools.partial(_chosen, annotations, options, wishes.components)
    annotations = dataclasses.replace(annotations, pictures=pick)
    return wishes.class_map.apply(annotations) if wishes.class_map else annotations


def _chosen(annotations: Annotations, options: Options, components: bool) -> Iterator[Picture]:
    for picture in annotations.pictures():
        things, dropped = [], list(picture.dropped)
        for thing in picture.objects:
            if options.boxes == "drop" and all(isinstance(part, Box) for part in thing.parts):
                dropped.append("of a box without an outline (--boxes=fill takes its pixels)")
            elif thing.crowd and options.crowd == "drop":
                dropped.append("of a crowd, as --crowd=drop says")
            else:
                things.append(_as_asked(thing, options))
        picture = dataclasses.replace(picture, objects=tuple(things), dropped=tuple(dropped))
        yield _arranged(picture, options, components)


def _as_asked(thing: Object, options: Options) -> Object:
    if thing.crowd and options.crowd == "void":
        thing = dataclasses.replace(thing, label=VOID)
    if options.holes:
        even_odd = options.holes == "even_odd"
        parts = tuple(
            dataclasses.replace(part, even_odd=even_odd) if isinstance(part, Rings) else part
            for part in thing.parts
        )
        thing = dataclasses.replace(thing, parts=parts)
    return thing


def _arranged(picture: Picture, options: Options, components: bool) -> Picture:
    if options.order != "area" and not components:
        return picture
    things = list(picture.objects)
    patches = [raster.patch_of(thing, picture.size, where=picture.name) for thing in things]
    if options.order == "area":
        areas = [int(patch.mask.sum()) for patch in patches]
        order = sorted(range(len(things)), key=lambda i: -areas[i])
        things, patches = [things[i] for i in order], [patches[i] for i in order]
    if components:
        things = [
            piece
            for thing, patch in zip(things, patches, strict=True)
            for piece in (
                [thing] if thing.instance or thing.label is None
                else maps.pieces(thing, patch.mask, patch.top, patch.left)
            )
        ]  # fmt: skip
    return dataclasses.replace(picture, objects=tuple(things))


def check_labels(picture: Picture, annotations: Annotations, *, hint: str) -> None:
    """Raise `DataError` for an object of a class that is none of the classes."""
    known = {*annotations.class_names, annotations.background, VOID}
    for thing in picture.objects:
        if thing.label not in known:
            raise DataError(
                f"{picture.name}: an object of class {thing.label!r:.200}, which is not among "
                f"the classes.{lookup.suggest(thing.label or '', list(annotations.class_names))} "
                f"{hint}"
            )


def survey(annotations: Annotations, *, source: str, path: pathlib.Path) -> Iterator[str]:
    """Go through a data set, and yield lines that say what is in it and what was dropped.

    Raises:
        UserError: Something in it cannot be used, or there is nothing.
    """
    splits_, objects, names = collections.Counter(), collections.Counter(), []
    dropped: collections.Counter[str] = collections.Counter()
    crowds = tags = 0
    for picture in annotations.pictures():
        splits_[picture.split] += 1
        names.append((picture.split, picture.name))
        objects.update(thing.label for thing in picture.objects)
        dropped.update(picture.dropped)
        crowds += sum(thing.crowd for thing in picture.objects)
        tags += len(picture.tags)
        check_labels(picture, annotations, hint="Add it to them, or map it with --class_map.")
    if not names:
        raise DataError(f"--input={path}: no images in it. Name another folder, or another --from.")
    images.check_names(names)
    void = objects.pop(VOID, 0)
    parts = ", ".join(f"{split} {count:,}" for split, count in splits_.items() if split)
    yield (
        f"{source}: {len(names):,} images{f' ({parts})' * bool(parts)}, {objects.total():,} "
        f"objects of {len(objects)} of {len(annotations.class_names)} classes"
        f"{f', {crowds:,} of them crowds' * bool(crowds)}{f', {void:,} void ones' * bool(void)}"
        f"{f', {tags:,} tags of images' * bool(tags)}"
    )
    for reason, count in sorted(dropped.items()):
        yield f"{count:,} dropped: {reason}"
    if not objects:
        why = ", ".join(f"{count:,} {reason}" for reason, count in dropped.most_common(3))
        raise ConfigError(
            f"no object is left{f'; dropped: {why}' * bool(why)}. Check --class_map, --boxes, "
            "--crowd and --split."
        )
    yield from annotations.notes

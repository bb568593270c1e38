"""Cityscapes: polygons in JSON (`gtFine/<split>/<city>`) beside `leftImg8bit/<split>/<city>`.

Pixels are those of its `json2instanceImg`: polygons as Pillow paints them, in the order of the
file, without those that are deleted; a label with `group` behind it is a crowd. Where there are no
polygons, `_gtFine_instanceIds.png` is read. Classes are all 34 in the order of their ids; its
`license plate` is not drawn.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from segjax.config import lookup
from segjax.data import decode, listing
from segjax.data.formats import draw, images, instances, maps, outlines, parse, raster
from segjax.data.formats.base import (
    BACKGROUND,
    DEFAULT_SPLIT,
    VOID_LABEL,
    Annotations,
    Colour,
    Losses,
    Object,
    Options,
    Picture,
    Rings,
    Size,
)
from segjax.errors import ConfigError, DataError
from segjax.runtime import files
from segjax.views import colour

GROUP = "group"
UNLABELED, PLATE = "unlabeled", "license plate"
POLYGONS, INSTANCES = "_polygons.json", "_instanceIds.png"
IMAGE = "_leftImg8bit"


class Label(NamedTuple):
    """A class: its number is its place in `LABELS`."""

    name: str
    counted: bool
    colour: Colour


_NAMES = (
    "unlabeled,ego vehicle,rectification border,out of roi,static,dynamic,ground,road,sidewalk,"
    "parking,rail track,building,wall,fence,guard rail,bridge,tunnel,pole,polegroup,traffic light,"
    "traffic sign,vegetation,terrain,sky,person,rider,car,truck,bus,caravan,trailer,train,"
    "motorcycle,bicycle"
).split(",")
_COLOURS = (
    "000000 000000 000000 000000 000000 6f4a00 510051 804080 f423e8 faaaa0 e6968c 464646 66669c "
    "be9999 b4a5b4 966464 96785a 999999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 "
    "00008e 000046 003c64 00005a 00006e 005064 0000e6 770b20"
).split()
FIRST_COUNTED = _NAMES.index("person")
LABELS = tuple(
    Label(
        name, number >= FIRST_COUNTED, (int(shade[:2], 16), int(shade[2:4], 16), int(shade[4:], 16))
    )
    for number, (name, shade) in enumerate(zip(_NAMES, _COLOURS, strict=True))
)
NUMBERS = {label.name: number for number, label in enumerate(LABELS)}


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of the folder that holds `gtFine` (or `gtCoarse`) and `leftImg8bit`.

    Raises:
        DataError: They are not there, a file cannot be used, a label that is none of its.
    """
    truth = next((path / name for name in ("gtFine", "gtCoarse") if (path / name).is_dir()), None)
    if truth is None or not (path / "leftImg8bit").is_dir():
        raise DataError(
            f"{path}: no gtFine and leftImg8bit in it. Name the folder that holds both."
        )
    found = [each for each in listing.walk(truth) if each.name.endswith((POLYGONS, INSTANCES))]
    drawn = {each.name.removesuffix(POLYGONS) for each in found}
    found = [each for each in found if each.name.endswith(POLYGONS)
             or each.name.removesuffix(INSTANCES) not in drawn]  # fmt: skip
    if not found:
        raise DataError(f"{truth}: no files that end in {POLYGONS} or {INSTANCES}.")
    return Annotations(
        tuple(_NAMES),
        functools.partial(_pictures, path / "leftImg8bit", truth, found),
        background=UNLABELED,
        palette={label.name: label.colour for label in LABELS},
        things=tuple(label.name for label in LABELS if label.counted),
    )


def _pictures(
    folder: pathlib.Path, truth: pathlib.Path, found: list[pathlib.Path]
) -> Iterator[Picture]:
    for file in found:
        inside = file.relative_to(truth)
        tail = POLYGONS if file.name.endswith(POLYGONS) else INSTANCES
        stem = file.name.removesuffix(tail).removesuffix(f"_{truth.name}")
        beside = folder / inside.parent
        options = [beside / f"{stem}{IMAGE}{ending}" for ending in decode.IMAGE_ENDINGS]
        image = next((each for each in options if each.is_file()), None)
        if image is None:
            raise DataError(f"{file}: no image {options[2]}. Put it there.")
        size = images.size_of(image, name=str(image))
        dropped: list[str] = []
        if tail == POLYGONS:
            things = _polygons(file, size, dropped)
        else:
            numbers, which = instances.parted(maps.read(file, size), instances.USUAL)
            which[numbers < FIRST_COUNTED] = 0
            labels: dict[int, str | None] = dict(enumerate(_NAMES))
            things = maps.objects(
                numbers, labels, background=UNLABELED, instances=which, where=str(file)
            )
        parts = inside.parent.parts
        split, city = (parts[0], parts[1:]) if parts else ("", ())
        name = pathlib.PurePosixPath(*city, f"{stem}{image.suffix}").as_posix()
        yield Picture(name, image, size, things, split=split, dropped=tuple(dropped))


def _polygons(file: pathlib.Path, size: Size, dropped: list[str]) -> tuple[Object, ...]:
    where = str(file)
    content = parse.section(parse.read_json(file), where=where)
    claimed = tuple(
        parse.field(content, name, int, where=where) for name in ("imgHeight", "imgWidth")
    )
    if claimed != size:
        raise DataError(
            f"{file}: polygons of {claimed[0]}x{claimed[1]} (height x width), the image has "
            f"{size[0]}x{size[1]}. Mend one of them."
        )
    things = []
    for number, one in enumerate(parse.fields(content, "objects", where=where)):
        here = f"{where}: objects[{number}]"
        label = parse.field(one, "label", str, where=here)
        if one.get("deleted") in (1, True):
            dropped.append("deleted by the annotators")
            continue
        crowd = label not in NUMBERS and label.endswith(GROUP)
        label = label.removesuffix(GROUP) if crowd else label
        if label == PLATE:
            dropped.append(f"of {PLATE}, which is not drawn")
            continue
        if label not in NUMBERS:
            raise DataError(
                f"{here}: no such label: {label!r:.80}.{lookup.suggest(label, list(_NAMES))}"
            )
        ring = parse.ring(one.get("polygon"), where=here, least=2)
        counted = LABELS[NUMBERS[label]].counted
        things.append(
            Object(label, (Rings((ring,), "pillow"),), instance=counted and not crowd, crowd=crowd)
        )
    return tuple(things)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write the polygons, and exact `labelIds` and `instanceIds`, beside the images.

    What was not drawn as a polygon is traced, the larger first, so that holes are covered by what
    is in them.

    Raises:
        ConfigError: Classes that are none of Cityscapes'.
    """
    names = {*annotations.class_names, annotations.background or UNLABELED} - {BACKGROUND}
    strange = sorted(names - set(NUMBERS))
    if strange:
        raise ConfigError(
            f"{len(strange)} classes are none of Cityscapes': {', '.join(strange[:8])}. Rename "
            f"them with --class_map. Known: {', '.join(_NAMES)}."
        )
    behind = annotations.background if annotations.background in NUMBERS else UNLABELED
    for picture in annotations.pictures():
        drawn = draw.draw(picture, NUMBERS, background=NUMBERS[behind])
        city, _, _ = picture.name.rpartition("/")
        split = picture.split or DEFAULT_SPLIT
        stem = images.stem(picture.name).rpartition("/")[2]
        place = pathlib.PurePath(split, city or split)
        ending = pathlib.PurePath(picture.name).suffix
        image = folder / "leftImg8bit" / place / f"{stem}{IMAGE}{ending}"
        images.place(picture, image, link=options.link)
        target = folder / "gtFine" / place / f"{stem}_gtFine"
        things = list(_written(picture))
        content = {"imgHeight": picture.size[0], "imgWidth": picture.size[1], "objects": things}
        files.write_json(target.with_name(f"{target.name}{POLYGONS}"), content, indent=None)
        kinds = drawn.classes.copy()
        losses.add("{} void pixels are unlabeled", int((kinds == VOID_LABEL).sum()))
        kinds[kinds == VOID_LABEL] = NUMBERS[UNLABELED]
        colour.save_png(target.with_name(f"{target.name}_labelIds.png"), Image.fromarray(kinds))
        numbers = _numbers(drawn, kinds, where=picture.name)
        colour.save_png(target.with_name(f"{target.name}{INSTANCES}"), Image.fromarray(numbers))
        losses.add("{} attributes of objects are left out",
                   sum(bool(thing.attributes) for thing in picture.objects))  # fmt: skip
        losses.add("{} tags of images are left out", len(picture.tags))
        again = Picture(picture.name, b"", picture.size, tuple(_read_again(things)))
        behind_ = draw.draw(again, NUMBERS, background=NUMBERS[behind])
        losses.add("{} pixels of the polygons are of another class than in the exact labelIds",
                   int((behind_.classes != kinds).sum()))  # fmt: skip


def _numbers(drawn: draw.Drawn, kinds: np.ndarray, *, where: str) -> np.ndarray:
    """Return Cityscapes' instance ids: class x 1000 + instance, or the class alone."""
    own, seen = np.full(len(drawn.labels) + 1, -1, np.int64), {}
    for number, label in enumerate(drawn.labels, start=1):
        if LABELS[NUMBERS[label]].counted:
            seen[label] = seen.get(label, -1) + 1
            own[number] = seen[label]
    if max(seen.values(), default=0) >= instances.USUAL:
        raise DataError(f"{where}: more than {instances.USUAL:,} objects of one class.")
    which = own[drawn.instances]
    numbers = np.where(which >= 0, kinds.astype(np.int64) * instances.USUAL + which, kinds)
    return numbers.astype(np.uint16)


def _written(picture: Picture) -> Iterator[dict[str, Any]]:
    """Yield the objects as they are written."""
    traced = []
    for thing in picture.objects:
        label = UNLABELED if thing.label is None else thing.label or ""
        label += GROUP * (thing.crowd and LABELS[NUMBERS[label]].counted)
        rings = outlines.of(thing)
        if rings is None:
            patch = raster.patch_of(thing, picture.size, where=picture.name)
            traced += [(label, ring) for ring in outlines.through(patch)]
        else:
            yield from ({"label": label, "polygon": ring.tolist()} for ring in rings)
    areas = [_area(ring, picture.size) for _, ring in traced]
    for k in sorted(range(len(traced)), key=lambda k: -areas[k]):
        label, ring = traced[k]
        yield {"label": label, "polygon": ring.astype(int).tolist()}


def _area(ring: np.ndarray, size: Size) -> int:
    return int(raster.patch_of(Object("", (Rings((ring,), "pillow"),)), size, where="").mask.sum())


def _read_again(things: list[dict[str, Any]]) -> Iterator[Object]:
    for one in things:
        label = one["label"] if one["label"] in NUMBERS else one["label"].removesuffix(GROUP)
        yield Object(label, (Rings((np.array(one["polygon"], float),), "pillow"),), instance=False)

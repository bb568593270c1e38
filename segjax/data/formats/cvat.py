"""CVAT for images (and for video): one XML file with boxes, polygons, ellipses, masks and tags.

Pixels are those of CVAT's own export of masks: polygons and boxes as pycocotools fills them, a mask
as it is, ellipses (which OpenCV draws there) by the centres of pixels; the higher `z_order` covers
the lower. Lines, points, cuboids and skeletons have no pixels there. Objects of one label and
group are one instance.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from segjax.data import decode, listing
from segjax.data.formats import classes, draw, images, parse, raster, rle
from segjax.data.formats.base import (
    Annotations,
    Box,
    Colour,
    Ellipse,
    Losses,
    Object,
    Options,
    Part,
    Picture,
    Pixels,
    Rings,
    Size,
)
from segjax.data.formats.raster import Patch
from segjax.errors import DataError
from segjax.runtime import files
from segjax.views import colour

SHAPES = ("box", "polygon", "ellipse", "mask")
WITHOUT_PIXELS = ("polyline", "points", "cuboid", "skeleton")
TRUE = "true"
_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of an XML file, or of the one in a folder; images lie in `images`.

    Raises:
        DataError: No such file, or it cannot be used.
    """
    file = path
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix.lower() == ".xml")
        if len(found) != 1:
            raise DataError(
                f"{path}: {len(found)} XML files; expected one. Name the file that is meant."
            )
        file = found[0]
    named = [each for each in parse.elements(file, ("label",)) if each.findtext("name")]
    names = tuple(dict.fromkeys((each.findtext("name") or "").strip() for each in named))
    if not names:
        names = _used(file)
    palette = {
        (each.findtext("name") or "").strip(): shade
        for each in named
        if (shade := _colour(each.findtext("color") or ""))
    }
    names = options.class_names or names
    roots = [options.images] if options.images else [file.parent / "images", file.parent]
    return Annotations(
        names,
        functools.partial(_pictures, file, roots),
        background=classes.background_of(names) or "background",
        palette=palette,
    )


def _used(file: pathlib.Path) -> tuple[str, ...]:
    """Return the labels of all objects, for files that list none."""
    found: dict[str, None] = {}
    for each in parse.elements(file, ("image", "track")):
        for shape in (each, *each):
            if shape.get("label"):
                found[shape.attrib["label"]] = None
    if not found:
        raise DataError(f"{file}: no labels in it, so it is none of CVAT. Name another file.")
    return tuple(found)


def _colour(text: str) -> Colour | None:
    found = re.fullmatch(r"#([0-9a-fA-F]{6})", text.strip())
    if not found:
        return None
    red, green, blue = bytes.fromhex(found[1])
    return red, green, blue


def _pictures(file: pathlib.Path, roots: list[pathlib.Path]) -> Iterator[Picture]:
    tracks: dict[int, list[tuple[Element, str]]] = {}
    for each in parse.elements(file, ("image", "track")):
        if each.tag == "track":
            for shape in each:
                frame = parse.whole(shape.get("frame"), "frame", where=f"{file}: track")
                if shape.get("outside") != "1":
                    tracks.setdefault(frame, []).append((shape, each.get("label", "")))
            continue
        name, split = each.get("name", ""), each.get("subset", "")
        where = f"{file}: image {name!r:.100}"
        folders = [folder / split for folder in roots] if split else roots
        image = images.find(name, [*folders, *roots], where=where)
        height, width = (parse.whole(each.get(side), side, where=where)
                         for side in ("height", "width"))  # fmt: skip
        size = images.size_of(image, name=str(image), claimed=(height, width), where=where)
        shapes = [(shape, shape.get("label", "")) for shape in each]
        name = images.below(image, [*folders, *roots], where=where)
        yield _picture(name, image, size, shapes, split=split, where=where)
    if tracks:
        yield from _frames(file, roots, tracks)


def _frames(
    file: pathlib.Path, roots: list[pathlib.Path], tracks: dict[int, list[tuple[Element, str]]]
) -> Iterator[Picture]:
    """Yield the frames of a video that lie there as images called `frame_<number>`."""
    found = {
        int(match[1]): each
        for root in reversed(roots)
        for each in listing.walk(root)
        if (match := re.fullmatch(r"frame_(\d{1,12})", each.stem))
        and each.suffix.lower() in decode.IMAGE_ENDINGS
    }
    for frame in sorted(tracks):
        if frame not in found:
            raise DataError(
                f"{file}: no image of frame {frame}, expected images/frame_{frame:06d}.png. Export "
                "the video with its images, or name their folder with --images."
            )
    for frame, image in sorted(found.items()):
        size = images.size_of(image, name=str(image))
        name = images.below(image, roots, where=str(file))
        where = f"{file}: frame {frame}"
        yield _picture(name, image, size, tracks.get(frame, []), split="", where=where)


def _picture(
    name: str,
    image: pathlib.Path,
    size: Size,
    shapes: list[tuple[Element, str]],
    *,
    split: str,
    where: str,
) -> Picture:
    found: list[tuple[int, Object]] = []
    dropped, tags = [], []
    for shape, label in shapes:
        if shape.tag == "tag":
            tags.append(label)
        elif shape.tag in WITHOUT_PIXELS:
            dropped.append(f"of <{shape.tag}>, which has no pixels in CVAT's own export")
        elif shape.tag not in SHAPES:
            dropped.append(f"of <{shape.tag[:40]}>, which is not known")
        elif not label:
            dropped.append("without a label")
        else:
            part = _part(shape, size, where=f"{where}: {shape.tag}")
            order = parse.whole(shape.get("z_order"), "z_order", where=where, default=0)
            group = parse.whole(shape.get("group_id"), "group_id", where=where, default=0)
            found.append((order, Object(label, (part,), group=group or None,
                                        attributes=_attributes(shape))))  # fmt: skip
    found.sort(key=lambda one: one[0])
    things = tuple(thing for _, thing in found)
    return Picture(name, image, size, things, split=split, tags=tuple(tags), dropped=tuple(dropped))


def _attributes(shape: Element) -> dict[str, Any]:
    found: dict[str, Any] = {
        each.get("name", ""): (each.text or "").strip() for each in shape if each.tag == "attribute"
    }
    if shape.get("occluded") == "1":
        found["occluded"] = True
    return found


def _part(shape: Element, size: Size, *, where: str) -> Part:
    def get(name: str, default: float | None = None) -> float:
        return parse.number(shape.get(name), name, where=where, default=default)

    if shape.tag == "polygon":
        return Rings((_points(shape.get("points", ""), where=where),), "coco")
    if shape.tag == "mask":
        return _mask(shape, size, where=where)
    angle = get("rotation", 0)
    if shape.tag == "ellipse":
        values = [[get("cx"), get("cy")], [get("rx"), get("ry")]]
        (x, y), (across, down) = parse.ring(values, where=where, least=2).tolist()
        return Ellipse(x, y, across, down, angle, "centre")
    values = [[get("xtl"), get("ytl")], [get("xbr"), get("ybr")]]
    (left, top), (right, bottom) = parse.ring(values, where=where, least=2).tolist()
    if not angle:
        return Box(left, top, right, bottom, "coco")
    x, y = (left + right) / 2, (top + bottom) / 2
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) - (x, y)
    turn = np.deg2rad(angle)
    matrix = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    return Rings((corners @ matrix + (x, y),), "coco")


def _points(text: str, *, where: str) -> np.ndarray:
    if text.count(";") > parse.MAX_POINTS:
        raise DataError(
            f"{where}: an outline of more than {parse.MAX_POINTS:,} points. Simplify it."
        )
    try:
        values = [[float(v) for v in pair.split(",", 2)] for pair in text.split(";")]
    except ValueError:
        raise DataError(
            f"{where}: expected points, 'x,y;x,y;…', got {text[:60]!r}. Mend the file."
        ) from None
    return parse.ring(values, where=where)


def _mask(shape: Element, size: Size, *, where: str) -> Pixels:
    left, top, width, height = (
        parse.whole(shape.get(name), name, where=where)
        for name in ("left", "top", "width", "height")
    )
    inside = 0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]
    if not inside:
        raise DataError(
            f"{where}: {height}x{width} pixels at row {top}, column {left} of an image of "
            f"{size[0]}x{size[1]}. Mend the file."
        )
    most = height * width + 1
    runs = rle.numbers(shape.get("rle", ""), where=where, most=most)
    mask = rle.flat_of(runs, height * width, where=where).reshape(height, width)
    return Pixels(mask, True, top, left)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write `annotations.xml` and `images/<split>/`; the order of drawing is `z_order`."""
    writer = _Writer(annotations, losses)
    target = folder / "annotations.xml"
    with files.replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        for element in writer.head():
            file.write(_text(element))
        for number, picture in enumerate(annotations.pictures()):
            place = folder / "images" / picture.split / picture.name
            images.place(picture, place, link=options.link)
            file.write(_text(writer.image(number, picture)))
        file.write("</annotations>\n")


def _text(element: Element) -> str:
    indent(element, "  ", level=1)
    text = tostring(element, "unicode")
    if bad := _UNFIT.search(text):
        raise DataError(
            f"a name or text holds {bad[0]!r}, which XML cannot. Rename it, or use another format."
        )
    return f"  {text}\n"


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Makes the elements of a file."""

    annotations: Annotations
    losses: Losses

    def head(self) -> Iterator[Element]:
        """Yield what stands before the images."""
        version = Element("version")
        version.text = "1.1"
        yield version
        meta = Element("meta")
        known: dict[str, dict[str, None]] = {
            name: {} for name in self.annotations.class_names if name != self.annotations.background
        }
        splits: dict[str, None] = {}
        for picture in self.annotations.pictures():
            splits[picture.split] = None
            for thing in picture.objects:
                names = dict.fromkeys(k for k in thing.attributes if k != "occluded")
                known.setdefault(thing.label or "", {}).update(names)
            for tag in picture.tags:
                known.setdefault(tag, {})
        known.pop("", None)
        splits.pop("", None)
        whole = SubElement(meta, "project" if splits else "task")
        labels = SubElement(whole, "labels")
        tasks = SubElement(whole, "tasks") if splits else whole
        for split in splits:
            task = SubElement(tasks, "task")
            SubElement(task, "name").text = SubElement(task, "subset").text = split
        shades = dict(zip(known, colour.voc_palette(len(known) + 1)[1:], strict=True))
        for name, attributes in known.items():
            label = SubElement(labels, "label")
            SubElement(label, "name").text = name
            red, green, blue = self.annotations.palette.get(name, shades[name])
            SubElement(label, "color").text = f"#{red:02x}{green:02x}{blue:02x}"
            group = SubElement(label, "attributes")
            for attribute in attributes:
                one = SubElement(group, "attribute")
                SubElement(one, "name").text = attribute
                SubElement(one, "input_type").text = "text"
        yield meta

    def image(self, number: int, picture: Picture) -> Element:
        """Return the element of a picture."""
        height, width = picture.size
        image = Element("image", id=str(number), name=picture.name)
        if picture.split:
            image.set("subset", picture.split)
        image.set("width", str(width))
        image.set("height", str(height))
        groups: dict[object, int] = {}
        numbers = [t.group for t in picture.objects if isinstance(t.group, int) and t.group > 0]
        free = max(numbers, default=0) + 1
        for order, thing in enumerate(picture.objects):
            if thing.label is None:
                self.losses.add("{} void objects are left out")
                continue
            self.losses.add("{} crowds are plain shapes there", thing.crowd)
            shapes = [_shape(part) for part in _split(thing)]
            if any(shape is None for shape in shapes):
                patch = raster.patch_of(thing, picture.size, where=picture.name)
                shapes = [_mask_shape(patch)] if patch.mask.size else []
                self.losses.add("{} objects have no pixel in their image", not shapes)
            group = thing.group if isinstance(thing.group, int) and thing.group > 0 else 0
            if not group and (thing.group is not None or len(shapes) > 1):
                group = groups.setdefault(draw.key_of(thing), free + len(groups))
            for shape in shapes:
                if shape is not None:
                    image.append(_labelled(shape, thing, order, group))
        for tag in picture.tags:
            SubElement(image, "tag", label=tag, source="manual")
        return image


def _labelled(shape: Element, thing: Object, order: int, group: int) -> Element:
    shape.set("label", thing.label or "")
    shape.set("source", "manual")
    shape.set("occluded", str(int(thing.attributes.get("occluded") is True)))
    shape.set("z_order", str(order))
    if group:
        shape.set("group_id", str(group))
    for name, value in thing.attributes.items():
        if name != "occluded":
            text = TRUE if value is True else str(value)
            SubElement(shape, "attribute", name=str(name)).text = text
    return shape


def _split(thing: Object) -> Iterator[Part]:
    for part in thing.parts:
        if isinstance(part, Rings) and not part.even_odd:
            yield from (Rings((ring,), part.rule) for ring in part.rings)
        else:
            yield part


def _shape(part: Part) -> Element | None:
    """Return the element that is exactly a part; None: there is none."""
    if isinstance(part, Rings) and len(part.rings) == 1:
        points = ";".join(f"{x!r},{y!r}" for x, y in part.rings[0].tolist())
        return Element("polygon", points=points)
    if isinstance(part, Box):
        sides = {"xtl": part.left, "ytl": part.top, "xbr": part.right, "ybr": part.bottom}
        return Element("box", {name: repr(float(value)) for name, value in sides.items()})
    if isinstance(part, Ellipse):
        values = {"cx": part.x, "cy": part.y, "rx": part.across, "ry": part.down}
        turned = {"rotation": part.angle} if part.angle else {}
        sides = {name: repr(float(value)) for name, value in (values | turned).items()}
        return Element("ellipse", sides)
    return None


def _mask_shape(patch: Patch) -> Element:
    height, width = patch.mask.shape
    runs = rle.runs_of(patch.mask.ravel())
    sides = {"left": patch.left, "top": patch.top, "width": width, "height": height}
    numbers = {name: str(value) for name, value in sides.items()}
    return Element("mask", {"rle": ", ".join(map(str, runs.tolist())), **numbers})

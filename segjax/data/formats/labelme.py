"""LabelMe: a JSON file beside each image, shapes in drawing order.

Pixels are those of its `labelme2voc`: what Pillow paints of each shape, the later over the earlier,
`__ignore__` as void. Classes are in the order of `labels.txt`, without it in that of the alphabet,
`_background_` first. Shapes of one label and group are one instance.
"""

import base64
import binascii
import functools
import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from segjax.config import rules
from segjax.data import decode, listing
from segjax.data.formats import draw, images, parse, raster
from segjax.data.formats.base import (
    VOID,
    Annotations,
    Box,
    Ellipse,
    Losses,
    Object,
    Options,
    Part,
    Picture,
    Pixels,
    Rings,
    Size,
    Stroke,
)
from segjax.errors import DataError
from segjax.runtime import files

VERSION = "5.5.0"
"""Of LabelMe, whose files the written ones are like."""
IGNORE, BACKGROUND = "__ignore__", "_background_"
LABELS = "labels.txt"
LINE_WIDTH, POINT_RADIUS = 10, 5
"""In pixels, as `labelme2voc` draws lines and points."""
_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1,
           "mask": 2}  # fmt: skip


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a folder of JSON files, searched with all folders in it.

    Raises:
        DataError: No such file, one that is none of LabelMe, an image that is not there.
    """
    found = [each for each in listing.walk(path) if each.suffix.lower() == ".json"]
    if not found:
        raise DataError(f"{path}: no .json files in it. Name the folder of LabelMe's files.")
    names = options.class_names
    if names is None and (path / LABELS).is_file():
        names = parse.names_in(path / LABELS)
    if names is None:
        seen = {
            parse.field(shape, "label", str, where=f"{file}: shapes[{number}]")
            for file in found
            for number, shape in enumerate(parse.fields(_read(file), "shapes", where=str(file)))
        }
        names = (BACKGROUND, *sorted(seen - {BACKGROUND, IGNORE}))
    names = tuple(name for name in names if name != IGNORE)
    background = BACKGROUND if BACKGROUND in names else "background"
    pictures = functools.partial(_pictures, path, found, options.images)
    return Annotations(names, pictures, background=background)


def _read(file: pathlib.Path) -> dict[str, Any]:
    found = parse.section(parse.read_json(file), where=str(file), what="a LabelMe file")
    if "shapes" not in found or "imagePath" not in found:
        raise DataError(
            f"{file}: no LabelMe file: expected shapes and imagePath in it. Name a folder of "
            "LabelMe's files alone."
        )
    return found


def _pictures(
    path: pathlib.Path, found: list[pathlib.Path], folder: pathlib.Path | None
) -> Iterator[Picture]:
    for file in found:
        where, content = str(file), _read(file)
        name = parse.field(content, "imagePath", str, where=where)
        claimed = [parse.field(content, f"image{side}", int, where=where, default=0)
                   for side in ("Height", "Width")]  # fmt: skip
        roots = [file.parent, *([folder] if folder else [])]
        image = images.locate(_image_name(name, file), roots, where=where)
        data = content.get("imageData")
        if image is None and isinstance(data, str) and data:
            image = _decoded(data, where=where)
            inside = file.relative_to(path).with_suffix("").as_posix()
            name = f"{inside}{pathlib.PurePath(name.replace(chr(92), '/')).suffix or '.png'}"
        elif image is None:
            image = images.find(_image_name(name, file), roots, where=where)
        if not isinstance(image, bytes):
            name = images.below(image, [path, *roots[1:]], where=where)
        size = images.size_of(
            image, name=name, claimed=(claimed[0], claimed[1]) if all(claimed) else None,
            where=where,
        )  # fmt: skip
        things, dropped = _objects(content, size, where=where)
        tags = [k for k, on in parse.field(content, "flags", dict, where=where, default={}).items()
                if on is True]  # fmt: skip
        yield Picture(name, image, size, tuple(things), tags=tuple(tags), dropped=tuple(dropped))


def _image_name(name: str, file: pathlib.Path) -> str:
    """Return the image's name; of a file that names itself instead, of whatever lies beside it."""
    if not name.lower().endswith(".json"):
        return name
    beside = (file.with_suffix(ending) for ending in decode.IMAGE_ENDINGS)
    return next((each.name for each in beside if each.is_file()), name)


def _decoded(data: str, *, where: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{where}: imageData cannot be read: {error}. Mend the file.") from None


def _objects(
    content: Mapping[str, Any], size: Size, *, where: str
) -> tuple[list[Object], list[str]]:
    things, dropped = [], []
    for number, shape in enumerate(parse.fields(content, "shapes", where=where)):
        here = f"{where}: shapes[{number}]"
        label = parse.field(shape, "label", str, where=here)
        kind = parse.field(shape, "shape_type", str, where=here, default="polygon")
        if kind not in _POINTS:
            dropped.append(f"of shape_type {rules.cut(kind)}, of which no pixels are known")
            continue
        group = parse.field(shape, "group_id", int, where=here, default=None)
        attributes: dict[str, Any] = {
            k: on for k, on in
            parse.field(shape, "flags", dict, where=here, default={}).items() if on is True
        }  # fmt: skip
        if note := parse.field(shape, "description", str, where=here, default=""):
            attributes["description"] = note
        part = _part(shape, kind, size, where=here)
        name = VOID if label == IGNORE else label
        things.append(Object(name, (part,), group=group, attributes=attributes))
    return things, dropped


def _part(shape: Mapping[str, Any], kind: str, size: Size, *, where: str) -> Part:
    points = parse.ring(shape.get("points"), where=where, least=_POINTS[kind])
    if kind not in ("polygon", "linestrip") and len(points) != _POINTS[kind]:
        raise DataError(f"{where}: a {kind} of {len(points)} points; expected {_POINTS[kind]}.")
    if kind == "polygon":
        return Rings((points,), "pillow")
    if kind == "mask":
        return _mask(shape, points, size, where=where)
    if kind in ("line", "linestrip", "point"):
        return Stroke(points, 2 * POINT_RADIUS if kind == "point" else LINE_WIDTH)
    (x, y), (u, v) = points.tolist()
    if kind == "rectangle":
        return Box(x, y, u, v, "pillow")
    radius = float(np.hypot(x - u, y - v))
    return Ellipse(x, y, radius, radius, 0, "pillow")


def _mask(shape: Mapping[str, Any], points: np.ndarray, size: Size, *, where: str) -> Pixels:
    """Return the pixels of a PNG that lies between two corners, both of them part of it."""
    data = _decoded(parse.field(shape, "mask", str, where=where), where=where)
    mask = decode.read_label(data, name=f"{where}: mask") != 0
    left, top, right, bottom = (int(v) for v in points.ravel().tolist())
    inside = 0 <= top <= bottom < size[0] and 0 <= left <= right < size[1]
    if not inside or mask.shape != (bottom - top + 1, right - left + 1):
        raise DataError(
            f"{where}: a mask of {mask.shape[0]}x{mask.shape[1]} between the corners ({left}, "
            f"{top}) and ({right}, {bottom}) of an image of {size[0]}x{size[1]}. Mend it."
        )
    return Pixels(mask, 1, top, left)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write a JSON file beside each image, and `labels.txt`; whatever is no shape is a mask."""
    for picture in annotations.pictures():
        place = folder / picture.split / picture.name
        images.place(picture, place, link=options.link)
        content = {
            "version": VERSION,
            "flags": dict.fromkeys(picture.tags, True),
            "shapes": _shapes(picture, losses),
            "imagePath": place.name,
            "imageData": None,
            "imageHeight": picture.size[0],
            "imageWidth": picture.size[1],
        }
        files.write_json(folder / picture.split / f"{images.stem(picture.name)}.json", content)
    names = [name for name in annotations.class_names if name != annotations.background]
    lines = [IGNORE, BACKGROUND, *names]
    with files.replacing(folder / LABELS) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    if annotations.background not in (None, BACKGROUND):
        losses.add(f"the class {annotations.background} of pixels without an object is called "
                   f"{BACKGROUND} there")  # fmt: skip


def _shapes(picture: Picture, losses: Losses) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = []
    groups: dict[object, int] = {}
    numbers = [thing.group for thing in picture.objects if isinstance(thing.group, int)]
    for thing in picture.objects:
        parts = _parts(thing, picture, losses)
        group: Any = thing.group if isinstance(thing.group, int) else None
        if group is None and (thing.group is not None or len(parts) > 1):
            group = groups.setdefault(draw.key_of(thing), max(numbers, default=-1) + 1)
            numbers.append(group)
        flags = {k: v for k, v in thing.attributes.items() if v is True}
        note = thing.attributes.get("description", "")
        losses.add("{} crowds are plain shapes there", thing.crowd)
        lost = len(thing.attributes) - len(flags) - bool(note)
        losses.add("{} attributes of objects are left out", lost)
        name = IGNORE if thing.label is None else thing.label
        common = {"label": name, "group_id": group, "description": note, "flags": flags}
        for part in parts:
            shape = _shape(part) or _mask_shape(part, picture, losses)
            shapes += [common | shape] if shape else []
    return shapes


def _parts(thing: Object, picture: Picture, losses: Losses) -> list[Part]:
    """Return an object's parts, each of which is a shape or a mask."""
    parts: list[Part] = []
    for part in thing.parts:
        if isinstance(part, Rings) and not part.even_odd:
            parts += [Rings((ring,), part.rule) for ring in part.rings]
        else:
            parts.append(part)
    bare = [part for part in parts if _shape(part) is None]
    if bare and len(parts) > 1:
        patch = raster.patch_of(thing, picture.size, where=picture.name)
        parts = [Pixels(patch.mask, True, patch.top, patch.left)]
    losses.add("{} outlines with holes, or ellipses, became masks",
               sum(not isinstance(part, Pixels) for part in bare))  # fmt: skip
    return parts


def _shape(part: Part) -> dict[str, Any] | None:
    """Return the shape that is exactly a part; None: there is none."""
    if isinstance(part, Rings) and not (part.even_odd and len(part.rings) > 1):
        kind, points = "polygon", next(iter(part.rings))
    elif isinstance(part, Box):
        kind, points = "rectangle", np.array([(part.left, part.top), (part.right, part.bottom)])
    elif isinstance(part, Ellipse) and part.across == part.down:
        kind, points = "circle", np.array([(part.x, part.y), (part.x + part.across, part.y)])
    elif isinstance(part, Stroke):
        kind = {1: "point", 2: "line"}.get(len(part.points), "linestrip")
        points = part.points
    else:
        return None
    return {"points": points.tolist(), "shape_type": kind, "mask": None}


def _mask_shape(part: Part, picture: Picture, losses: Losses) -> dict[str, Any] | None:
    patch = raster.patch_of(Object("", (part,)), picture.size, where=picture.name)
    if not patch.mask.size:
        losses.add("{} objects have no pixel in their image")
        return None
    stream = io.BytesIO()
    Image.fromarray(patch.mask).save(stream, "PNG")
    height, width = patch.mask.shape
    corners = [[patch.left, patch.top], [patch.left + width - 1, patch.top + height - 1]]
    text = base64.b64encode(stream.getvalue()).decode()
    return {"points": [[float(x), float(y)] for x, y in corners], "shape_type": "mask",
            "mask": text}  # fmt: skip

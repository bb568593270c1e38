"""What is annotated in images, whatever tool wrote it: objects in drawing order, made of parts."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped

from segjax.data.geometry import Geometry

Colour = tuple[int, int, int]
Size = tuple[int, int]
"""Height and width in pixels."""
Ring: TypeAlias = Float[np.ndarray, "n 2"]
"""Points (x, y) in pixels of the image; the last one leads back to the first."""
Rule = Literal["pillow", "opencv", "coco", "centre"]
"""Which pixels an outline holds: those that Pillow's ImageDraw paints, or OpenCV's fillPoly (points
cut to whole numbers), those of pycocotools, or those whose centres are inside. Whole numbers are
pixel centres to the first two, corners to the others."""
VOID = None
"""The label of an object whose pixels are void."""
BACKGROUND = "background"
VOID_LABEL = 255  # structs.IGNORE_LABEL, which cannot be imported without jax
DEFAULT_SPLIT = "train"


@dataclasses.dataclass(frozen=True)
class Rings:
    """Outlines. Several are parts of one whole; with `even_odd` one inside another is a hole."""

    rings: tuple[Ring, ...]
    rule: Rule
    even_odd: bool = False


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle between two corners."""

    left: float
    top: float
    right: float
    bottom: float
    rule: Rule


@dataclasses.dataclass(frozen=True)
class Ellipse:
    """An ellipse: centre, half axes, and the turn of the first of them, in degrees clockwise."""

    x: float
    y: float
    across: float
    down: float
    angle: float
    rule: Rule


@dataclasses.dataclass(frozen=True)
class Stroke:
    """A line of some width; of one point it is a dot of that diameter."""

    points: Ring
    width: float


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The pixels of a part of the image that hold one number.

    Attributes:
        numbers: A rectangle of the image: a map that many objects share, or a mask.
        number: That of this object.
        top: The rectangle's first row in the image.
        left: Its first column.
    """

    numbers: Shaped[np.ndarray, "h w"]
    number: int
    top: int = 0
    left: int = 0

    def mask(self) -> Bool[np.ndarray, "h w"]:
        """Return which pixels of the rectangle are of it."""
        return self.numbers == self.number


Part = Rings | Box | Ellipse | Stroke | Pixels


@dataclasses.dataclass(frozen=True)
class Object:
    """Something annotated: all its parts together.

    Attributes:
        label: The class's name, or `VOID`.
        parts: What it covers.
        group: Objects of one image, label and group are one instance; None: it is one by itself.
        instance: Whether it is a thing that is counted. False: pixels of a class, or of things that
            nobody told apart.
        crowd: Whether it is such a crowd of things.
        attributes: What else the tool says of it.
    """

    label: str | None
    parts: tuple[Part, ...]
    group: Hashable = None
    instance: bool = True
    crowd: bool = False
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Volume(NamedTuple):
    """A volume whose slices are pictures.

    Attributes:
        name: Its own.
        geometry: Where it lies.
    """

    name: str
    geometry: Geometry


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image, and what is annotated in it.

    Attributes:
        name: Its path below the folder of images, with slashes and its ending.
        content: Its file, or that file's bytes.
        size: Its height and width as shown.
        objects: In drawing order: the later covers the earlier.
        split: Of the data set; empty: the format knows none.
        tags: What is said of the image as a whole.
        dropped: Why something of the file is not among the objects, once for each such thing.
        volume: The volume that it is a slice of; slices of one follow each other.
    """

    name: str
    content: pathlib.Path | bytes
    size: Size
    objects: tuple[Object, ...]
    split: str = ""
    tags: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    volume: Volume | None = None


@dataclasses.dataclass(frozen=True)
class Annotations:
    """A data set that one of the formats holds.

    Attributes:
        class_names: In the publisher's order.
        pictures: Goes through all of them; called again, it begins anew.
        background: The class of pixels that no object covers; None: they are void.
        palette: The colours of classes that have one.
        notes: What the user should know, in lines.
        things: The classes that are counted object by object; None: all but the background.
    """

    class_names: tuple[str, ...]
    pictures: Callable[[], Iterator[Picture]]
    background: str | None = BACKGROUND
    palette: Mapping[str, Colour] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    things: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """How a format is read and written, where it leaves a choice; None: the format's own way.

    Attributes:
        images: The folder that names of images are below.
        class_names: All classes in order.
        crowd: What a crowd of things is: 'class' (pixels of the class, no instance), 'void', or
            'drop'.
        boxes: What a mere box is: 'fill' (all its pixels are the object's), or 'drop'.
        order: Of objects that overlap: 'file' (the later on top), or 'area' (the smaller on top).
        holes: What a ring within another ring of the same object is: 'union' (part of it), or
            'even_odd' (a hole).
        divisor: Of numbers in an instance map: class x divisor + instance; 0: each number is an
            instance of the one class.
        target: 'semantic' (a class for every pixel), or 'instances' (and which object it is of).
        property: Of GeoJSON's features, the one that names the class.
        link: Make links to the images instead of copies.
    """

    images: pathlib.Path | None = None
    class_names: tuple[str, ...] | None = None
    crowd: str | None = None
    boxes: str | None = None
    order: str | None = None
    holes: str | None = None
    divisor: int | None = None
    target: str | None = None
    property: str | None = None
    link: bool = False


class Losses:
    """What the target cannot hold, counted; each is told in one line."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def add(self, what: str, count: int = 1) -> None:
        """Count it; `what` says of what, with `{}` for how many there are."""
        if count:
            self.counts[what] += count

    def lines(self) -> list[str]:
        """Return a line for each, in order of name."""
        return [what.format(f"{count:,}") for what, count in sorted(self.counts.items())]

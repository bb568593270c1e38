"""Every kind of output that prediction can write: the one place that knows their names.

A kind plugs in by a line in `EACH`, where it writes files for each image, or in `SHARED`, where it
writes one file over all images.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from segjax.config import lookup, rules
from segjax.errors import ConfigError
from segjax.inference.outputs import areas, large, maps, objects, polygons
from segjax.inference.outputs.found import Found
from segjax.inference.outputs.large import Large, is_large
from segjax.tasks.base import GroupingTask, ObjectTask, PanopticTask, Task

Finds: TypeAlias = Literal["", "instance", "panoptic"]
"""What a run finds beside classes of pixels: nothing, objects, or the whole image in segments."""


class Kind(NamedTuple):
    """Something that is written for each image.

    Attributes:
        tail: Follows the image's name, which no other output then has, whatever its ending.
        picture: The ending of what is written of a picture.
        array: Of a volume or a signal; None: nothing can be.
        write: Writes it to a path.
        files: What lies in it where it is a folder of pictures: from the names of the classes to
            theirs.
        inside: Where it is a folder: how the names of what lies in it begin.
        large: The ending of what is written of an image too large to be held, of a picture and of
            an array; empty: nothing is.
        write_large: Writes that.
        forms: The ending of what is written of an image whose file has a place in the world, by the
            format of that file, see `data.geometry`.
    """

    tail: str
    picture: str
    array: str | None
    write: Callable[[pathlib.Path, Found], None]
    files: Callable[[Sequence[str]], list[str]] | None = None
    inside: tuple[str, ...] = ()
    large: tuple[str, str] | tuple[()] = ()
    write_large: Callable[[pathlib.Path, Large], None] | None = None
    forms: tuple[tuple[str, str], ...] = ()

    def ending(self, whole: Sequence[int], form: str = "") -> str:
        """Return how its name ends, for images of such sides from files of such a format."""
        picture, array = self.picture, self.array or ""
        for each, ending in self.forms:
            if each == form and not (self.large and is_large(whole)):
                return self.tail + ending
        if self.large and is_large(whole):
            picture, array = self.large
        return self.tail + (picture if len(whole) == 2 else array)

    def names(
        self, name: str, *, whole: Sequence[int], class_names: Sequence[str], form: str = ""
    ) -> list[str]:
        """Return what is written of the image `name`; folders of no own files end with '/'."""
        if is_large(whole) and not self.large:
            return []
        own = name + self.ending(whole, form)
        if self.files is not None and own == name + self.tail:  # a folder, which has no ending
            return [f"{own}/{file}" for file in self.files(class_names)]
        return [f"{own}/"] if self.inside or own.endswith(maps.ZARR) else [own]


class Collector(Protocol):
    """Collects what is to be written over all images."""

    def add(self, found: Any) -> None:
        """Add one image, a `Found`, or where the kind takes large ones a `Large`."""
        ...

    def write(self, path: pathlib.Path) -> None:
        """Write what was added."""
        ...


class Shared(NamedTuple):
    """One file over all images.

    Attributes:
        name: Of the file.
        make: Makes what collects it.
        dims: The axes of images of which it can be written.
        takes_large: Whether images too large to be held are in it.
    """

    name: str
    make: Callable[[], Collector]
    dims: tuple[int, ...]
    takes_large: bool = False


SEGMENTS = "_segments.png"
"""How the name of an image's segments ends."""
DIGITS = tuple("0123456789")
ZARR, IN_ZARR = maps.ZARR, ("zarr.json", "c")
"""The ending of an array's folder, and how the names of what lies in it begin."""
EACH: dict[str, Kind] = {
    "label": Kind(
        "_label", ".png", ".npy", maps.write_label, large=(".tif", ".npy"), forms=maps.FORMS
    ),
    "overlay": Kind(
        "_overlay", ".png", ".png", maps.write_overlay,
        large=(".png", ".png"), write_large=large.write_overlay,
    ),
    "probabilities:npy": Kind(
        "_probabilities", ".npy", ".npy", maps.write_array,
        large=(".npy", ".npy"), write_large=large.write_array,
    ),
    "probabilities:png": Kind(
        "_probabilities", "", None, maps.write_pictures, maps.picture_names, DIGITS
    ),
    "probabilities:zarr": Kind(
        "_probabilities", ZARR, ZARR, maps.write_zarr, None, IN_ZARR,
        (".zarr", ".zarr"), large.write_zarr,
    ),
    "alpha": Kind("_alpha", ".png", None, maps.write_alpha),
    "confidence": Kind("_confidence", ".png", ".npy", maps.write_confidence),
    "entropy": Kind("_entropy", ".png", ".npy", maps.write_entropy),
    "contours:geojson": Kind("_contours", ".geojson", None, polygons.write_geojson),
    "contours:labelme": Kind("_labelme", ".json", None, polygons.write_labelme),
    "instances": Kind("_instances", ".png", ".npy", objects.write_instances),
    "segments": Kind(SEGMENTS.removesuffix(".png"), ".png", None, objects.write_segments),
}  # fmt: skip
MULTILABEL: dict[str, Kind] = {
    "label": Kind(
        "_label", "", ".npy", maps.write_masks, maps.picture_names, DIGITS, (".npy", ".npy")
    ),
}
"""What takes a kind's place in a multi-label run."""
OBJECTS: dict[str, Kind] = {
    "overlay": Kind("_overlay", ".png", ".png", objects.write_overlay),
}
"""What takes a kind's place in a run of objects."""
OF_ONE = ("confidence", "entropy")
"""What only runs have that give every pixel one class: of several classes each has its own."""
OF_PIXELS = tuple(name for name in EACH if name.startswith("probabilities")) + OF_ONE
"""What only runs have that give every pixel a probability of each class: objects have scores."""
OF_FINDS: dict[str, tuple[Finds, ...]] = {
    "instances": ("instance", "panoptic"),
    "segments": ("panoptic",),
    "objects:csv": ("instance", "panoptic"),
    "objects:coco": ("instance", "panoptic"),
    "segments:coco": ("panoptic",),
}
"""What only runs have that find such things."""
SHARED: dict[str, Shared] = {
    "contours:coco": Shared("contours_coco.json", polygons.Coco, (2,)),
    "areas:csv": Shared("areas.csv", areas.Table, (1, 2, 3), takes_large=True),
    "objects:csv": Shared("objects.csv", objects.Table, (1, 2, 3)),
    "objects:coco": Shared("objects_coco.json", objects.Results, (2,)),
    "segments:coco": Shared("segments_coco.json", objects.Panoptic, (2,)),
}
FACTS = ".json"
"""The ending of the file that says of which image and run an image's outputs are."""
RECORD = "predictions.json"
"""The file that says of which images and run the files over all images are."""
DEFAULT = ("label", "overlay")

TAILS = ("", *dict.fromkeys(kind.tail for kind in EACH.values()))
"""What follows an image's name, endings left out."""
ENDINGS = {
    kind.tail + ending: kind
    for kind in (*MULTILABEL.values(), *OBJECTS.values(), *EACH.values())
    for ending in (kind.picture, kind.array, *kind.large, *dict(kind.forms).values())
    if ending is not None
}
"""All names of outputs of an image, its own name left out, but that with its facts."""
RESERVED = tuple(
    name.removesuffix(FACTS)
    for name in (RECORD, *(each.name for each in SHARED.values()))
    if name.endswith(FACTS)
)
"""Names that an image's outputs cannot have: they would be a file over all images."""


class Chosen(NamedTuple):
    """The outputs that are asked for, beside the JSON that each image always has.

    Attributes:
        each: For each image.
        shared: Over all images.
        multilabel: Whether a pixel may be of several classes, or of none.
        finds: What is found beside classes of pixels.
    """

    each: tuple[Kind, ...]
    shared: tuple[Shared, ...]
    multilabel: bool
    finds: Finds = ""

    @property
    def label(self) -> Kind | None:
        """What writes the label map, if it is asked for."""
        label = _each(self.multilabel, self.finds)["label"]
        return label if label in self.each else None

    def names(
        self, name: str, *, whole: Sequence[int], class_names: Sequence[str], form: str = ""
    ) -> list[str]:
        """Return all that is written of the image `name` of such sides, as `Kind.names`."""
        found = [
            kind.names(name, whole=whole, class_names=class_names, form=form) for kind in self.each
        ]
        return [name + FACTS, *(file for names in found for file in names)]

    def left_out(self) -> list[str]:
        """Return what is not written of images too large to be held."""
        kinds = _each(self.multilabel, self.finds).items()
        each = [name for name, kind in kinds if kind in self.each and not kind.large]
        shared = [
            name for name, kind in SHARED.items() if kind in self.shared and not kind.takes_large
        ]
        return each + shared

    def shared_names(self) -> list[str]:
        """Return the files over all images, that which says whose they are first."""
        return [RECORD, *(each.name for each in self.shared)] if self.shared else []


def _each(multilabel: bool, finds: Finds) -> dict[str, Kind]:
    """Return what a run can write of each image, by name."""
    return EACH | (MULTILABEL if multilabel else {}) | (OBJECTS if finds else {})


def choose(
    names: Sequence[str], *, dims: int, multilabel: bool = False, finds: Finds = ""
) -> Chosen:
    """Return the outputs of these names, each once, in the order of the lists here.

    Args:
        names: Keys of `EACH` and `SHARED`.
        dims: Axes of the images.
        multilabel: Whether a pixel may be of several classes, or of none.
        finds: What the run finds beside classes of pixels.

    Raises:
        ConfigError: No such output, or none that images of so many axes or such a run have.
    """
    known = [*EACH, *SHARED]
    for name in names:
        here = f"--outputs={rules.cut(name)}"
        if name not in known:
            raise ConfigError(f"{here}: no such output.{lookup.suggest(name, known)}")
        possible = dims == 2 or (
            EACH[name].array is not None if name in EACH else dims in SHARED[name].dims
        )
        if not possible:
            raise ConfigError(
                f"{here}: is of pictures, and the run's images have {dims} "
                f"{'axes' if dims > 1 else 'axis'}. Leave it out."
            )
        if multilabel and name in OF_ONE:
            raise ConfigError(
                f"{here}: is of classes of which every pixel has one, and the run's overlap "
                "(multi-label). Leave it out; --outputs=probabilities:npy has each class's own."
            )
        _check_finds(name, names, finds)
    return Chosen(
        tuple(kind for name, kind in _each(multilabel, finds).items() if name in names),
        tuple(kind for name, kind in SHARED.items() if name in names),
        multilabel,
        finds,
    )


def _check_finds(name: str, names: Sequence[str], finds: Finds) -> None:
    """Raise `ConfigError` for an output that a run has not that finds such things."""
    here = f"--outputs={name}"
    if name in OF_FINDS and finds not in OF_FINDS[name]:
        what = "objects" if "instance" in OF_FINDS[name] else "segments of a panoptic run"
        raise ConfigError(f"{here}: is of {what}, and the run finds none. Leave it out.")
    if finds and name in OF_PIXELS:
        raise ConfigError(
            f"{here}: is of the probability of each class in every pixel, and the run finds "
            "objects. Leave it out; --outputs=objects:csv has each object's score."
        )
    if name == "segments:coco" and "segments" not in names:
        raise ConfigError(
            f"{here}: names the files of the output 'segments', which is not asked for. Add it: "
            "--outputs=segments,segments:coco."
        )


def finds_of(task: Task) -> Finds:
    """Return what a run with this task finds beside classes of pixels."""
    if isinstance(task, PanopticTask):
        return "panoptic"
    return "instance" if isinstance(task, ObjectTask | GroupingTask) else ""


def possible(*, multilabel: bool = False, finds: Finds = "") -> list[str]:
    """Return the names of all that a run can write of pictures."""
    found = []
    for name in (*EACH, *SHARED):
        try:
            choose([name, "segments"][: 1 + (name == "segments:coco")], dims=2,
                   multilabel=multilabel, finds=finds)  # fmt: skip
        except ConfigError:
            continue
        found.append(name)
    return found

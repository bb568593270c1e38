"""Which formats there are, and what each leaves to choose."""

import importlib
import pathlib
from typing import NamedTuple, Protocol

from segjax.config import lookup
from segjax.data.formats.base import Annotations, Losses, Options
from segjax.errors import ConfigError


class Module(Protocol):
    """What the file of a format has; one that is only read has no `write`."""

    def read(self, path: pathlib.Path, options: Options) -> Annotations:
        """Return the data set at a path."""
        ...

    def write(
        self, annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses
    ) -> None:
        """Write a data set into an empty folder."""
        ...


class Format(NamedTuple):
    """A format.

    Attributes:
        about: What it is, in a few words.
        reads: Options of reading that it knows, beside those of all formats.
        writes: Options of writing that it knows; None: it is only read.
        boxes: What a mere box is where nothing else is said.
        order: What is on top there.
    """

    about: str
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] | None = frozenset()
    boxes: str = "fill"
    order: str = "file"


def _takes(*names: str) -> frozenset[str]:
    return frozenset(names)


FORMATS = {
    "folder": Format(
        "segjax's own: <split>/images, <split>/labels, meta.json",
        _takes("class_names"), _takes("target"),
    ),
    "labelme": Format("LabelMe's JSON files", _takes("class_names", "images")),
    "cvat": Format("CVAT for images 1.1, XML", _takes("class_names", "images")),
    "coco": Format("COCO's JSON", _takes("class_names", "images"), boxes="drop"),
    "coco_panoptic": Format("COCO panoptic, JSON and PNG", _takes("class_names", "images")),
    "voc": Format("PASCAL VOC's folders", _takes("class_names"), _takes("target")),
    "cityscapes": Format("Cityscapes' polygons"),
    "colours": Format("masks in colours with a palette"),
    "yolo": Format("YOLO segmentation", _takes("class_names"), boxes="drop", order="area"),
    "instances": Format(
        "maps of 16 bits: class x divisor + instance",
        _takes("class_names", "divisor"), _takes("divisor"),
    ),
    "geojson": Format(
        "GeoJSON beside (Geo)TIFF or other images", _takes("class_names", "images", "property")
    ),
    "nifti": Format("NIfTI volumes, as nnU-Net and the Decathlon lay them out",
                    _takes("class_names")),
    "dicomseg": Format("DICOM SEG beside the series that it is of", _takes("images"),
                       _takes("images")),
}  # fmt: skip
"""By name; each is the file of that name."""
FOR_ALL = _takes("crowd", "boxes", "order", "holes")
FOR_ALL_TARGETS = _takes("link")


def load(name: str) -> Module:
    """Return the file of a format."""
    module: Module = importlib.import_module(f"segjax.data.formats.{name}")  # pyright: ignore
    return module


def check(source: str, target: str, given: frozenset[str]) -> None:
    """Refuse names of no format, and options that neither of the two knows.

    Raises:
        ConfigError: Such a one.
    """
    lookup.choose(source, list(FORMATS), what="--from")
    writable = [name for name, kind in FORMATS.items() if kind.writes is not None]
    lookup.choose(target, writable, what="--to")
    known = FORMATS[source].reads | (FORMATS[target].writes or frozenset())
    for name in sorted(given - known - FOR_ALL - FOR_ALL_TARGETS):
        of = [other for other, kind in FORMATS.items() if name in kind.reads]
        to = [other for other, kind in FORMATS.items() if name in (kind.writes or ())]
        whose = [f"--from={'|'.join(of)}"] * bool(of) + [f"--to={'|'.join(to)}"] * bool(to)
        raise ConfigError(
            f"--{name} means nothing to --from={source} --to={target}; it is of "
            f"{' and '.join(whose)}. Leave it out."
        )

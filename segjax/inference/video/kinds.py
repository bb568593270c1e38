"""What can be written of a video; the one place that knows the names of its outputs."""

import contextlib
import csv
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from segjax.config import lookup, rules
from segjax.errors import ConfigError
from segjax.inference.outputs import kinds as of_images
from segjax.inference.outputs import maps, objects, overlay
from segjax.inference.outputs.areas import COLUMNS
from segjax.inference.outputs.found import Found
from segjax.inference.video.frames import About, Frame
from segjax.runtime import files

Add: TypeAlias = Callable[[Frame, Found], None]
"""Takes one frame after the other."""
Tell: TypeAlias = Callable[[str], None]
DIGITS = of_images.DIGITS


class Kind(NamedTuple):
    """Something that is written of a video.

    Attributes:
        ending: Follows the video's name; that of a folder has no dot.
        open: `(path, about, tell)` → a context that yields what takes the frames. What it writes
            has its name only when all of it is written.
    """

    ending: str
    open: Callable[[pathlib.Path, About, Tell], contextlib.AbstractContextManager[Add]]

    @property
    def inside(self) -> tuple[str, ...]:
        """How the names in it begin, if it is a folder."""
        return () if "." in self.ending else DIGITS


FRAMES = (
    "label", "confidence", "entropy", "probabilities:npy", "contours:geojson", "instances",
    "segments",
)  # fmt: skip
"""Outputs of images of which a video has a folder, a file for each frame."""
PLAIN = ("overlay", "alpha", "alpha:mov", "alpha:png", "label:video", "areas:csv")
"""Outputs that only videos have, or have in another form."""
KNOWN = (*FRAMES, *PLAIN)
TAILS = {
    "overlay": "_overlay.mp4", "alpha": "_alpha.webm", "alpha:mov": "_alpha.mov",
    "alpha:png": "_alpha", "label:video": "_label.mkv", "areas:csv": "_areas.csv",
    **{name: of_images.EACH[name].tail for name in FRAMES},
}  # fmt: skip
INSIDE = {tail: () if "." in tail else DIGITS for tail in TAILS.values()}
"""All endings of a video's outputs, with how names begin in those that are folders."""


def choose(names: Sequence[str], *, multilabel: bool, finds: of_images.Finds) -> list[Kind]:
    """Return the outputs of these names, each once.

    Args:
        names: Some of `KNOWN`.
        multilabel: Whether a pixel may be of several classes, or of none.
        finds: What the run finds beside classes of pixels.

    Raises:
        ConfigError: No such output of videos, or none that such a run has.
    """
    found = []
    for name in dict.fromkeys(names):
        if name not in KNOWN:
            of_pictures = " of videos" if name in (*of_images.EACH, *of_images.SHARED) else ""
            raise ConfigError(
                f"--outputs={rules.cut(name)}: no such output{of_pictures}."
                f"{lookup.suggest(name, list(KNOWN))}"
            )
        if name == "label:video" and multilabel:
            raise ConfigError(
                f"--outputs={name}: has one class for every pixel, and the run's overlap "
                "(multi-label). Ask for --outputs=label, a folder of maps for each frame."
            )
        own = {"label:video": "label", "alpha:mov": "alpha", "alpha:png": "alpha"}.get(name, name)
        chosen = of_images.choose([own], dims=2, multilabel=multilabel, finds=finds)
        found.append(Kind(TAILS[name], _opener(name, chosen)))
    return found


def _opener(name: str, chosen: of_images.Chosen) -> Any:
    """Return what opens an output, see `Kind.open`."""
    if name in FRAMES or name == "alpha:png":
        (kind,) = chosen.each
        return lambda path, about, tell: _folder(path, kind)
    if name == "areas:csv":
        return lambda path, about, tell: _table(path, about)
    from segjax.inference.video import encoding  # it needs PyAV

    form = {
        "overlay": encoding.MP4, "alpha": encoding.WEBM, "alpha:mov": encoding.PRORES,
        "label:video": encoding.LOSSLESS,
    }[name]  # fmt: skip
    draw = {"overlay": picture, "label:video": lambda found: found.label}.get(name, maps.cut_out)

    @contextlib.contextmanager
    def opened(path: pathlib.Path, about: About, tell: Tell) -> Iterator[Add]:
        with encoding.encoding(path, form, about, tell=tell) as add:
            yield lambda frame, found: add(frame, draw(found))

    return opened


def picture(found: Found) -> np.ndarray:
    """Return a frame in the colours of its classes, or with its objects outlined, uint8 [h w 3]."""
    if found.objects is not None:
        return objects.picture(found)
    return overlay.picture(found.image, found.label, found.classes)


@contextlib.contextmanager
def _folder(path: pathlib.Path, kind: of_images.Kind) -> Iterator[Add]:
    """Yield what writes a file for each frame, or a folder, called by its number from 000000 on."""
    count = 0
    with files.replacing_folder(path) as folder:

        def add(_: Frame, found: Found) -> None:
            nonlocal count
            ending = kind.ending(found.whole).removeprefix(kind.tail)
            kind.write(folder / f"{count:06d}{ending}", found)
            count += 1

        yield add


@contextlib.contextmanager
def _table(path: pathlib.Path, about: About) -> Iterator[Add]:
    """Yield what writes a line for each frame and class."""
    count = 0
    with (
        files.replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("frame", "seconds", *COLUMNS[1:]))

        def add(frame: Frame, found: Found) -> None:
            nonlocal count
            seconds = f"{float(frame.time * about.time_base):.6f}"
            with files.explain_os_errors(path):
                table.writerows(
                    (count, seconds, name, int(area["pixels"]), area["share"])
                    for name, area in found.areas.items()
                )
            count += 1

        yield add

"""Training windows: parts of examples at their own resolution, cut before anything else is done.

Where the window of a row lies is a function of the seed and of the row's position in the stream
alone, so it is the same for any number of processes, threads and workers. Of files that are read
in parts nothing but the window is read, and of PNG images what it depends on.
"""

import collections
import contextlib
import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.config import lookup
from segjax.data import core, fit, lazy, masks, resample
from segjax.data.lazy import Lazy, Region
from segjax.errors import ConfigError
from segjax.structs import Example, Field, Schema

PIXELS = 1024
"""Of each class of an example, that windows are laid over: drawn evenly from all that it has."""
PLACES_BYTES = 256 << 20
"""Of such pixels, which are kept; those of further examples are found each time."""
OPEN = 2
"""Large files that each thread leaves open."""
_TABLE = 1 << 32
"""Tells the random streams of examples from those of rows: a seed is smaller."""
Places = Mapping[int, np.ndarray]
"""Of each class that an example has, the numbers of some of its pixels in the order of memory."""


class Sampling(NamedTuple):
    """Which windows are looked for, from `config.input.window`.

    Attributes:
        share: Of the rows whose window is laid over a pixel of one of the classes.
        classes: Their numbers. Each that an example has is as likely as the others.
    """

    share: float = 0.0
    classes: tuple[int, ...] = ()


PLAIN = Sampling()
"""All windows are drawn alike."""


def make_sampling(
    section: Mapping[str, Any], class_names: Sequence[str], *, how: fit.Fit, multilabel: bool
) -> Sampling:
    """Return `config.input.window` with classes by number; none are all but the background.

    The background is class 0; where classes overlap there is none.

    Raises:
        ConfigError: There is no such class, or with `how` nothing is cut out.
    """
    if how != "window" and section["share"]:
        raise ConfigError(
            f"config.input.window.share={section['share']}: nothing is cut out with fit={how!r}. "
            "Set config.input.fit='window', or the share to 0."
        )
    found = []
    for one in section["classes"]:
        if isinstance(one, str) and one not in class_names:
            raise ConfigError(
                f"config.input.window.classes: no class {one!r}."
                f"{lookup.suggest(one, list(class_names))}"
            )
        number = class_names.index(one) if isinstance(one, str) else int(one)
        if number >= len(class_names):
            raise ConfigError(
                f"config.input.window.classes: no class {number}; expected 0 to "
                f"{len(class_names) - 1}, or names. Change it."
            )
        found.append(number)
    classes = found or range(0 if multilabel else 1, len(class_names))
    return Sampling(section["share"], tuple(sorted({*classes})))


class Windows:
    """The windows of rows: `windows(number, position)` is one of example `number`.

    A side shorter than the window's is padded at its far end, as `fit.pad` does. Where examples
    have objects, a window has those that it shows, of more than there is room for the largest.

    Args:
        source: Examples of any size.
        schema: The fields of a window; the others are dropped.
        size: The sides of a window.
        pad_value: What fills images where there is no pixel.
        seed: Decides the places, with the position; 0 to 2**32 - 1.
        sampling: Which of them are looked for.
        resampling: The spacing to which examples are brought first.
        cache: Keep whole examples in memory, up to `core.CACHE_BYTES`; not those read in parts.

    Attributes:
        plain: Rows whose example has none of the classes that were looked for, and whose window
            was therefore drawn as any other. Of this process.
    """

    def __init__(
        self,
        source: core.Source,
        *,
        schema: Schema,
        size: Sequence[int],
        pad_value: float,
        seed: int,
        sampling: Sampling,
        resampling: resample.Resampling = resample.NONE,
        cache: bool = False,
    ):
        fit.check_canvas(size)
        self.source, self.schema, self.size = source, schema, tuple(map(int, size))
        self.pad_value, self.seed, self.sampling, self.cache = pad_value, seed, sampling, cache
        self.resampling, self.plain = resampling, 0
        needed = {**schema, **_spacing(source, resampling)}
        whole = bool(resampling.spacing)
        self._opened = Opened(source, needed, cache=cache, packed=whole, parts=not (cache or whole))
        self._places: dict[int, Places] = {}
        self._used, self._lock = 0, threading.Lock()
        self._busy: dict[int, threading.Lock] = {}

    def __reduce__(self):
        names = ("schema", "size", "pad_value", "seed", "sampling", "resampling", "cache")
        given = {name: getattr(self, name) for name in names}
        return functools.partial(Windows, **given), (self.source,)

    def __call__(self, number: int, position: int) -> Example:
        """Return the window of the row at `position` of the stream.

        Raises:
            DataError: As the source; or an example of other axes than the window.
        """
        example = resample.resample(self._opened[number], self.schema, self.resampling)
        whole = example["image"].shape[: -len(self.schema["image"].shape)]
        fit.check_axes(whole, self.size, name=example["name"])
        held = {name: field for name, field in self.schema.items() if name in example}
        fit.check_fields(example, held, name=example["name"])
        low = self._draw(number, position, example, whole)
        region = tuple(
            slice(first, min(first + side, length))
            for first, side, length in zip(low, self.size, whole, strict=True)
        )
        return self._cut(example, region)

    def _cut(self, example: Any, region: Region) -> Example:
        found: dict[str, Any] = {"name": example["name"]}
        for name, field in self.schema.items():
            if name not in example:
                continue
            array = example[name]
            if field.is_spatial:
                value = field.fill if field.kind != "image" else self.pad_value
                array = fit.pad(np.asarray(array[region]), size=self.size, value=value)
            found[name] = np.asarray(array)
        return Example(**(found | self._shown(example, found, region)))

    def _shown(self, example: Any, cut: Mapping[str, Any], region: Region) -> dict[str, Any]:
        """Return the fields of the objects that a window shows, of all that the example has."""
        if "object_masks" not in self.schema:
            return {}
        (width,) = self.schema["object_masks"].shape
        room = self.schema.get("object_classes", Field("value", (8 * width,))).shape[0]
        if "object_masks" in cut:
            unknown = {"object_classes": np.zeros(room, int), "object_crowd": np.zeros(room, bool)}
            shown = masks.of_fields({**unknown, **cut})
        else:
            shown = masks.crop(example[masks.WHOLE], region)
        fields = masks.fields(shown, self.size, most=room)
        return {name: array for name, array in fields.items() if name in self.schema}

    def _draw(self, number: int, position: int, example: Any, whole: Sequence[int]) -> list[int]:
        """Return the lowest corner of a row's window."""
        random = _random(self.seed, position)
        spare = [max(0, length - side) for length, side in zip(whole, self.size, strict=True)]
        low = [int(random.integers(room, endpoint=True)) for room in spare]
        if not self.sampling.share or random.random() >= self.sampling.share:
            return low
        places = self._find(number, example)
        if not places:
            with self._lock:
                self.plain += 1
            return low
        pixels = places[sorted(places)[random.integers(len(places))]]
        centre = np.unravel_index(pixels[random.integers(len(pixels))], whole)
        return [
            min(max(0, int(at) - side // 2), room)
            for at, side, room in zip(centre, self.size, spare, strict=True)
        ]

    def _find(self, number: int, example: Any) -> Places:
        """Return the places of an example, found once as long as there is room to keep them."""
        with self._lock:
            busy = self._busy.setdefault(number, threading.Lock())
        with busy:
            if number in self._places:
                return self._places[number]
            found = find_places(
                example["label"],
                self.sampling.classes,
                multilabel=self.schema["label"].kind == "labels",
                random=_random(self.seed | _TABLE, number),
            )
            size = sum(pixels.nbytes for pixels in found.values())
            with self._lock:
                if self._used + size <= PLACES_BYTES:
                    self._places[number] = found
                    self._used += size
        return found


class Opened:
    """The chosen fields of examples; those of large files stay open, others may stay in memory.

    Each thread has open files of its own, as a `Lazy` array is read by one at a time. Of examples
    that give their objects by themselves their packed masks are kept only with `packed`. With
    `parts` one part of an example is wanted, see `lazy.one_part`.
    """

    def __init__(
        self,
        source: core.Source,
        schema: Schema,
        *,
        cache: bool,
        packed: bool = True,
        parts: bool = False,
    ):
        self.source, self.schema, self.packed, self.parts = source, schema, packed, parts
        self.room = core.CACHE_BYTES if cache else 0
        self._whole: dict[int, Mapping[str, Any]] = {}
        self._lock, self._own = threading.Lock(), threading.local()

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        if number in self._whole:
            return self._whole[number]
        files: collections.OrderedDict[int, Mapping[str, Any]]
        files = self._own.__dict__.setdefault("files", collections.OrderedDict())
        if number in files:
            files.move_to_end(number)
            return files[number]
        with lazy.one_part() if self.parts else contextlib.nullcontext():
            given: Mapping[str, Any] = self.source[number]
        example = {name: given[name] for name in ("name", *self.schema)}
        if masks.WHOLE in given and not self.packed and "object_masks" in example:
            example[masks.WHOLE] = given[masks.WHOLE]
            del example["object_masks"]
        if any(isinstance(array, Lazy) for array in example.values()):
            files[number] = example
            while len(files) > OPEN:
                files.popitem(last=False)
            return example
        size = sum(example[name].nbytes for name in self.schema if name in example)
        with self._lock:
            if size <= self.room and number not in self._whole:
                self._whole[number] = example
                self.room -= size
        return example


def find_places(
    label: Any,
    classes: Sequence[int],
    *,
    multilabel: bool,
    random: np.random.Generator,
) -> Places:
    """Return up to `PIXELS` pixels of each class that a map has, each as likely as any other.

    The map is gone through in bands: memory does not grow with it.

    Args:
        label: A class map [*space], or a multi-label one [*space k]; it may be `Lazy`.
        classes: Those that are looked for.
        multilabel: Which of the two it is.
        random: Decides which pixels of many.
    """
    wanted = np.zeros(256, bool)
    wanted[list(classes)] = True
    kept: dict[int, np.ndarray] = {}
    seen: collections.Counter[int] = collections.Counter()
    space = label.shape[:-1] if multilabel else label.shape
    row = int(np.prod(space[1:], dtype=np.int64))
    for start, band in lazy.bands(label):
        for number, pixels in _pixels(band, wanted, multilabel=multilabel):
            seen[number] += len(pixels)
            old = kept.get(number, np.empty(0, np.int64))
            count = min(PIXELS, len(old) + len(pixels))
            fresh = random.binomial(count, len(pixels) / seen[number])
            fresh = min(max(fresh, count - len(old)), len(pixels))
            new = pixels[random.choice(len(pixels), fresh, replace=False, shuffle=False)]
            held = old[random.choice(len(old), count - fresh, replace=False, shuffle=False)]
            kept[number] = np.concatenate([held, new + start * row])
    return kept


def _pixels(
    band: np.ndarray, wanted: np.ndarray, *, multilabel: bool
) -> list[tuple[int, np.ndarray]]:
    """Return the pixels of each wanted class in a band, by their numbers in it."""
    if multilabel:
        maps = band.reshape(-1, band.shape[-1])
        chosen = np.flatnonzero(wanted[: maps.shape[1]]).tolist()
        found = [(number, np.flatnonzero(maps[:, number] == 1)) for number in chosen]
        return [(number, pixels) for number, pixels in found if len(pixels)]
    flat = band.ravel()
    pixels = np.flatnonzero(wanted[flat])
    order = np.argsort(flat[pixels], kind="stable")
    counts = np.bincount(flat[pixels], minlength=1)
    ends = np.cumsum(counts)
    return [
        (int(number), pixels[order[ends[number] - counts[number] : ends[number]]])
        for number in np.flatnonzero(counts)
    ]


def _spacing(source: core.Source, resampling: resample.Resampling) -> Schema:
    """Return the field that resampling needs beside those of a batch, if it does."""
    name = resample.FIELD
    return {name: source.schema[name]} if resampling.spacing and name in source.schema else {}


def _random(seed: int, position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, position], np.uint64)))

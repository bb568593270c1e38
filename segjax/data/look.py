"""A look at the labels before training: what is in them, and whether anything can be learned."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from segjax.data import core, lazy
from segjax.errors import DataError
from segjax.structs import IGNORE_LABEL

EXAMPLES = 48
SECONDS = 10.0
"""How many examples, spread over a split, are looked at, and for how long at the most."""
PIXELS = 20_000
"""Of each image, whose values are told."""
COUNT = "object_count"
"""The field of a source that was asked for objects."""
MUCH_VOID = 0.5
RARE = 1e-3


@runtime_checkable
class Remarking(Protocol):
    """A source of which there is something to say before a training."""

    def remarks(self) -> list[str]:
        """Return it, a line each."""
        ...


class Look(NamedTuple):
    """What some examples of a split hold.

    Attributes:
        examples: How many were read.
        whole: Whether these are all.
        pixels: Of each class.
        void: Pixels that count nowhere; of multi-label maps pairs of pixel and class.
        others: Of multi-label maps, the pixels that are known not to be of each class.
        without: Examples that have no pixel of the classes that windows look for.
        values: Some pixels [n channels] of images of more than 8 bits, of all examples alike.
        sizes: That images have; of all where the source can tell, see `core.Checkable`.
        objects: How many each image has, of all where the source can tell, see
            `core.CountsObjects`; None: it was not asked for any.
        room: For how many there is room in each; 0: nothing is known of it.
    """

    examples: int
    whole: bool
    pixels: Int64[np.ndarray, " k"]
    void: int
    sizes: set[tuple[int, ...]]
    others: Int64[np.ndarray, " k"] | None = None
    without: int = 0
    values: np.ndarray | None = None
    objects: Int64[np.ndarray, " n"] | None = None
    room: int = 0


def look(source: core.Source, *, wanted: Sequence[int] = (), windows: bool = False) -> Look:
    """Read a sample of a split, the same each time as long as it takes less than `SECONDS`.

    Of a source that is `core.Checkable` all headers are looked at before.

    Args:
        source: The split.
        wanted: Classes that windows look for; none: all are well without.
        windows: Whether training cuts windows out, each of which has room for its own objects.

    Raises:
        DataError: An example cannot be used.
    """
    sizes = source.check() if isinstance(source, core.Checkable) else set()
    num_classes, count = len(source.class_names), min(EXAMPLES, len(source))
    multilabel = source.schema["label"].kind == "labels"
    pixels, others = np.zeros((2, num_classes), np.int64)
    void, done, without, begun = 0, 0, 0, time.monotonic()
    values, objects = [], []
    for number in np.linspace(0, len(source) - 1, count).round().astype(int):
        example: Any = source[int(number)]
        label, image = example["label"], example["image"]
        if image.dtype != np.uint8 and isinstance(image, np.ndarray):
            every = image.reshape(-1, image.shape[-1])
            values.append(every[:: -(-len(every) // PIXELS)])
        sizes.add(tuple(label.shape[: len(label.shape) - multilabel]))
        own, nots, unknown = count_pixels(label, num_classes, multilabel=multilabel)
        pixels, others, void = pixels + own, others + nots, void + unknown
        without += bool(wanted) and not own[list(wanted)].any()
        objects += [int(example["object_count"])] if COUNT in source.schema else []
        done += 1
        if time.monotonic() - begun > SECONDS:
            break
    whole = done == len(source)
    seen = np.concatenate(values) if values else None
    found = Look(done, whole, pixels, void, sizes, others if multilabel else None, without, seen)
    if COUNT not in source.schema:
        return found
    known = core.object_counts_of(source)
    counts = np.array(objects if known is None else known, np.int64)
    room = source.schema["object_classes"].shape[0]
    return found._replace(objects=counts, room=0 if windows else room)


def count_pixels(
    label: np.ndarray, num_classes: int, *, multilabel: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the pixels of each class, those known not to be of it, and how many are void."""
    own, others = np.zeros((2, num_classes), np.int64)
    void = 0
    for _, band in lazy.bands(label):
        if multilabel:
            maps = band.reshape(-1, num_classes)
            own += (maps == 1).sum(0)
            others += (maps == 0).sum(0)
            void += int((maps == IGNORE_LABEL).sum())
        else:
            found = np.bincount(band.ravel(), minlength=IGNORE_LABEL + 1)
            own += found[:num_classes]
            void += int(found[IGNORE_LABEL])
    return own, others, void


def describe_values(found: Look, *, split: str) -> list[str]:
    """Return what to say of images of more than 8 bits, see `data.intensity`; a line or none."""
    if found.values is None:
        return []
    values = found.values.astype(np.float64)
    low, high = np.percentile(values, [0.5, 99.5], axis=0)
    told = (("mean", values.mean(0)), ("std", values.std(0)), ("0.5 %", low), ("99.5 %", high))
    shown = "; ".join(f"{name} " + ", ".join(f"{v:.4g}" for v in each[:8]) for name, each in told)
    more = f" (first 8 of {values.shape[1]} channels)" if values.shape[1] > 8 else ""
    return [f"{split}: values of {found.examples} images{more}: {shown}"]


def check(found: Look, class_names: Sequence[str], *, split: str) -> list[str]:
    """Return what smells in a training split, a line each with a remedy.

    Raises:
        DataError: Nothing can be learned: a single class, all void, one class in all labels and no
            objects to tell apart, or no object where there should be some.
    """
    masks = f"{split}: {'all' if found.whole else 'a sample of'} {found.examples} masks"
    if len(class_names) < 2 and found.others is None:
        raise DataError(
            f"{split}: the only class is {class_names[0]!r}: every prediction is right. Name at "
            "least two, such as 'background' and the thing itself."
        )
    total = int(found.pixels.sum())
    known = found.pixels + (total - found.pixels if found.others is None else found.others)
    if not known.any() and found.examples:
        raise DataError(
            f"{masks}: every pixel is void. If 255 is a class, as in black-and-white masks, set "
            "label_map={0: 0, 255: 1} and no ignore_index."
        )
    notes = _check_objects(found, split=split)
    if found.objects is None and (only := _only_answer(found, class_names)):
        text = f"{masks}: every pixel that is not void is {only}"
        if found.whole:
            raise DataError(
                f"{text}: nothing can be learned. Check masks, ignore_index and label_map."
            )
        return [f"{text}; check masks, ignore_index and label_map"]
    if found.without:
        notes.append(
            f"{masks}: {found.without} have no pixel of config.input.window.classes; their windows "
            "are drawn as any other"
        )
    absent = [name for name, count in zip(class_names, found.pixels, strict=True) if not count]
    if absent:
        notes.append(f"{masks}: no pixel of {core.some(absent, limit=8)}")
    judged = total if found.others is None else int(known.sum())
    share = found.void / max(1, judged + found.void)
    if share > MUCH_VOID:
        notes.append(
            f"{masks}: {share:.0%} of the pixels are void, count nowhere; check ignore_index, or "
            "name that class"
        )
    rare = [
        f"{name} {count / of:.2%}"
        for name, count, of in zip(class_names, found.pixels, known, strict=True)
        if 0 < count < RARE * of
    ]
    if rare:
        notes.append(
            f"{masks}: rare: {core.some(rare, limit=8)} of the pixels; class_weights, region:dice "
            "and a canvas that keeps small things help"
        )
    return notes


def _check_objects(found: Look, *, split: str) -> list[str]:
    """Return what to say of objects for which there is no room, a line or none.

    Raises:
        DataError: No image has an object.
    """
    if found.objects is None:
        return []
    images, most = len(found.objects), int(found.objects.max(initial=0))
    some = "" if images > found.examples or found.whole else "a sample of "
    if not most and not some:
        raise DataError(
            f"{split}: none of {images:,} images has an object: nothing can be learned. Check the "
            "annotations, or set config.input.source.objects=0 to learn classes of pixels alone."
        )
    over = found.objects[found.objects > found.room]
    if not found.room or not len(over):
        return []
    return [
        f"{split}: {len(over):,} of {some}{images:,} images have more than {found.room:,} objects; "
        f"the smallest of each, {int((over - found.room).sum()):,} in all, are left out of "
        f"training. Set config.input.source.objects={most} to keep all"
    ]


def _only_answer(found: Look, class_names: Sequence[str]) -> str:
    """Return the one answer that all pixels have, in words; empty where there are several."""
    names = [name for name, count in zip(class_names, found.pixels, strict=True) if count]
    if found.others is None:
        return repr(names[0]) if len(names) == 1 else ""
    if not names:
        return "of no class"
    return "" if found.others.any() else "of every class"

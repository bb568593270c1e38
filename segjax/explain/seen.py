"""An image as a network sees it in one window, the way back, and which pixels are asked about."""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from segjax.config import lookup, rules
from segjax.data import fit, resample
from segjax.errors import ConfigError, DataError
from segjax.inference import blend
from segjax.inference.blend import Row, Windows
from segjax.inference.layout import Layout
from segjax.inference.pieces import Cut
from segjax.inference.predictor import Image
from segjax.structs import Schema

MOST = 4_000_000
"""Pixels that are explained at once: a gradient keeps every feature of them."""
PLACE = re.compile(r"(\d+)(?::(\d+))?")


class Seen:
    """An image in a single window, which is as large as the image where the network's is smaller.

    Args:
        image: [*space c], at the scale of `config.input.intensity`.
        layout: How images are seen when they are predicted; its flips and scales do not count.
        schema: Of a batch.
        name: Of the image, for messages.

    Raises:
        DataError: It cannot be seen, or is too large.
    """

    def __init__(self, image: Image, layout: Layout, schema: Schema, *, name: str):
        about = {"image": image, "name": name, resample.FIELD: resample.spacing_of(image)}
        whole = image.shape[:-1]
        sides = layout.sides(whole, name=name, spacing=about[resample.FIELD])
        window = tuple(map(max, layout.canvas.size, sides))
        if math.prod(window) > MOST:
            raise DataError(
                f"{name}: {' x '.join(map(str, window))} pixels are seen, expected at most "
                f"{MOST:,} to explain them at once. Cut or shrink it."
            )
        canvas = dataclasses.replace(layout.canvas, size=window)
        alone = dataclasses.replace(layout, canvas=canvas, flips=(), scales=(1.0,))
        self.cut = Cut(about, alone, {"image": schema["image"]})
        self.whole, self.window = whole, window

    @functools.cached_property
    def image(self) -> np.ndarray:
        """The image as the network gets it [*window c], in its own type."""
        return self.cut.fields(self._piece)["image"]

    @property
    def _piece(self) -> Any:
        (piece,) = self.cut.plan.pieces
        return piece

    def on_window(self, region: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*window"]:
        """Return where the pixels of a region are seen: the nearest ones, one at least."""
        sides = self.cut.plan.views[0].sides
        found = np.zeros(self.window, bool)
        inner = tuple(slice(0, side) for side in sides)
        found[inner] = fit.resize_map(region, sides)
        if region.any() and not found.any():  # it fell between the pixels of a smaller image
            middle = np.argwhere(region).mean(axis=0)
            at = (middle + 0.5) * np.asarray(sides) / np.asarray(self.whole)
            found[tuple(at.astype(int))] = True
        return found

    def on_image(self, values: Float[np.ndarray, "*window f"]) -> Float[np.ndarray, "*space f"]:
        """Return what is known of the window's pixels for those of the image, float32."""
        windows = Windows(self.cut.plan)
        windows.add(self._piece, Row(np.asarray(values, np.float32)[None], 0))
        found = np.empty((*self.whole, values.shape[-1]), np.float32)
        for tile, groups in windows.ready():
            made = np.asarray(functools.reduce(blend.blend, groups, None))
            found[tile.region] = made[tile.inner]
        return found


class Target(NamedTuple):
    """What is asked: why a class, and where.

    Attributes:
        number: The class.
        region: bool [*space]: pixels of the image.
        text: As `--target` says it, for people.
    """

    number: int
    region: Bool[np.ndarray, "*space"]
    text: str


def target_of(
    text: str, class_names: Sequence[str], pred: np.ndarray, *, multilabel: bool = False
) -> Target:
    """Return what `--target` stands for in an image.

    Args:
        text: `<class>`: where it is predicted; `<class>@all`: everywhere; `<class>@40,60`: at a
            pixel; `<class>@0:40,60:90`: in a box of pixels, ends excluded. Empty: the class that
            most pixels are predicted as beside the first, where it is predicted.
        class_names: Of the run.
        pred: Classes of the image [*space], of a multi-label run [*space k].
        multilabel: Whether classes overlap.

    Raises:
        ConfigError: No such class, or no such place in an image of so many axes.
        DataError: The image has no such place, or no pixel is predicted as the class.
    """
    where = f"--target={rules.cut(text)}"
    name, at, place = text.rpartition("@") if "@" in text else (text, "", "")
    areas = [int(_predicted(pred, k, multilabel).sum()) for k in range(len(class_names))]
    if not name:
        others = areas if multilabel or len(areas) == 1 else [0, *areas[1:]]
        name = class_names[int(np.argmax(others))] if any(others) else class_names[0]
    if name not in class_names:
        raise ConfigError(f"{where}: no such class.{lookup.suggest(name, list(class_names))}")
    number = class_names.index(name)
    own = _predicted(pred, number, multilabel)
    if not at:
        if not own.any():
            raise DataError(
                f"{where}: no pixel is predicted as {name!r}. Say where: --target={name}@all, or "
                f"{name}@40,60 for a pixel."
            )
        return Target(number, own, f"{name} where it is predicted")
    if place == "all":
        return Target(number, np.ones(own.shape, bool), f"{name} everywhere")
    region = np.zeros(own.shape, bool)
    region[_box(place, own.shape, where)] = True
    return Target(number, region, f"{name} at {place}")


def _predicted(pred: np.ndarray, number: int, multilabel: bool) -> np.ndarray:
    return pred[..., number] == 1 if multilabel else pred == number


def _box(place: str, whole: Sequence[int], where: str) -> tuple[slice, ...]:
    """Return the pixels that numbers stand for."""
    parts = [PLACE.fullmatch(part.strip()) for part in place.split(",")]
    if len(parts) != len(whole) or not all(parts):
        example = ",".join(["40"] * len(whole))
        boxes = ",".join(["10:40"] * len(whole))
        raise ConfigError(
            f"{where}: expected <class>@{example} for a pixel, <class>@{boxes} for a box, or "
            "<class>@all."
        )
    found = []
    for part, side in zip(filter(None, parts), whole, strict=True):
        low = int(part[1])
        high = int(part[2]) if part[2] else low + 1
        if not low < high <= side:
            raise DataError(
                f"{where}: {part[0]} is no part of an axis of {side} pixels, which are 0 to "
                f"{side - 1}. Change it."
            )
        found.append(slice(low, high))
    return tuple(found)

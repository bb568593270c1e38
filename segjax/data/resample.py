"""Bring examples to one spacing, each part where it is read; `config.input.spacing`.

A field keeps its extent: its sides become `sides` of it, and pixels lie evenly between its ends, as
`fit` has it. What is read of the result is interpolated from no more of the file than it needs.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from segjax.data import core, fit
from segjax.data.lazy import Lazy, Region
from segjax.errors import ConfigError, DataError
from segjax.structs import Example, Field, Schema

ImageBy = Literal["linear", "cubic"]
LabelBy = Literal["nearest", "linear"]
FIELD = "spacing"
"""Of a source: kind 'value', the physical size of a pixel along each axis in space."""
MOST = 16.0
"""The most that a side may grow to: a spacing in another unit would take all memory."""


class Resampling(NamedTuple):
    """How examples are brought to one spacing, from `config.input`.

    Attributes:
        spacing: The size of a pixel along each axis; empty: examples stay as they are.
        image: 'linear' or 'cubic' (Keys 1981, a = -1/2); over more pixels where the image shrinks.
        label: Of maps of classes: 'nearest'; or 'linear': each value's share is interpolated as an
            image is, and the largest counts, of equal ones the lowest. Instance maps and masks of
            objects are nearest.
    """

    spacing: tuple[float, ...] = ()
    image: ImageBy = "linear"
    label: LabelBy = "nearest"


NONE = Resampling()
"""Examples stay as they are."""


def make_resampling(inputs: Mapping[str, Any], available: Schema | None) -> Resampling:
    """Return what `config.input` says of spacing.

    Args:
        inputs: The section.
        available: The fields of the data; None: not known.

    Raises:
        ConfigError: Another number of axes than the canvas has, or data without a spacing.
    """
    spacing, dims = tuple(map(float, inputs["spacing"])), len(inputs["size"])
    if spacing and len(spacing) != dims:
        raise ConfigError(
            f"config.input.spacing={list(spacing)}: {len(spacing)} numbers, config.input.size has "
            f"{dims}. Give one for each axis."
        )
    if spacing and available is not None and FIELD not in available:
        raise ConfigError(
            f"config.input.spacing={list(spacing)}: the data set says no spacing of its images. "
            "Set it to [], or use a source whose files have one."
        )
    return Resampling(spacing, inputs["image_resampling"], inputs["label_resampling"])


class Resampled(core.View):
    """The examples of `source` at one spacing; see `resample`."""

    def __init__(self, source: core.Source, resampling: Resampling):
        super().__init__(source)
        self.resampling = resampling

    def __getitem__(self, index: int) -> Example:
        return resample(self.source[index], self.schema, self.resampling)


def resample(example: Any, schema: Schema, resampling: Resampling) -> Example:
    """Return an example whose fields in space are `Lazy` arrays at the resampling's spacing.

    The field 'spacing' becomes what it then is: sides are whole numbers.

    Raises:
        DataError: Its spacing is none, or so far off that it must be of another unit.
    """
    if not resampling.spacing:
        return example
    name, whole = example["name"], example["image"].shape[: -len(schema["image"].shape)]
    fit.check_fields(example, schema, name=name)
    own = check_spacing(example.get(FIELD, ()), whole, name=name)
    size = sides(whole, own, resampling.spacing, name=name)
    found: dict[str, Any] = {**example}
    for key, field in schema.items():
        if field.is_spatial and size != tuple(whole):
            found[key] = lazily(example[key], field, size, resampling, name=name)
    if FIELD in schema:
        now = [step * a / b for step, a, b in zip(own, whole, size, strict=True)]
        found[FIELD] = np.array(now, schema[FIELD].dtype)
    return Example(**found)


def check_spacing(spacing: Any, whole: Sequence[int], *, name: str) -> tuple[float, ...]:
    """Return a spacing as numbers, one for each axis.

    Raises:
        DataError: It is none.
    """
    found = tuple(float(step) for step in np.ravel(np.asarray(spacing, np.float64)))
    if len(found) != len(whole) or not all(0 < step < np.inf for step in found):
        raise DataError(
            f"{name}: spacing {list(found)} of an image with {len(whole)} axes, expected as many "
            "numbers above 0. Mend the file, or set config.input.spacing=[]."
        )
    return found


class Spaced(np.ndarray):
    """An image that knows the size of its pixels along each axis, `spacing`."""

    spacing: tuple[float, ...] = ()


def spaced(image: Any, spacing: Any) -> Any:
    """Return an image, an array or a `Lazy` one, that knows the size of its pixels."""
    if isinstance(image, Lazy):
        found: Any = Lazy(image.shape, image.dtype, image.read, name=image.name)
    else:
        found = np.asarray(image).view(Spaced)
    found.spacing = tuple(np.ravel(np.asarray(spacing, np.float64)).tolist())
    return found


def spacing_of(image: Any) -> tuple[float, ...]:
    """Return the size of an image's pixels along each axis; empty: it does not know."""
    return getattr(image, "spacing", ())


def with_spacing(example: Any) -> Any:
    """Return an example whose image knows the size of its pixels, where the example has it."""
    if FIELD not in example:
        return example
    return {**example, "image": spaced(example["image"], example[FIELD])}


def sides(
    whole: Sequence[int], own: Sequence[float], wanted: Sequence[float], *, name: str
) -> tuple[int, ...]:
    """Return the sides of an image of the spacing `own` at the spacing `wanted`.

    Raises:
        DataError: They are more than `MOST` times its own.
    """
    found = tuple(
        max(1, round(side * a / b)) for side, a, b in zip(whole, own, wanted, strict=True)
    )
    if any(new > MOST * old for new, old in zip(found, whole, strict=True)):
        raise DataError(
            f"{name}: of spacing {list(own)} its {_by(whole)} pixels would become {_by(found)} at "
            f"{list(wanted)}. Expected at most {MOST:g} times a side: are both in one unit?"
        )
    return found


def lazily(
    array: Any, field: Field, size: Sequence[int], resampling: Resampling, *, name: str
) -> Lazy:
    """Return a field [*space …] at the sides `size`, interpolated where it is read."""
    whole, dims = tuple(array.shape[: len(size)]), len(size)
    how = "nearest" if field.kind in ("ids", "masks") else resampling.label
    how = resampling.image if field.kind == "image" else how
    of_map = _nearest if how == "nearest" else _shares
    function = of_map if field.is_map else _blend

    def read(region: Region) -> np.ndarray:
        axes = [
            Axis(length, side, part.start, part.stop, how)
            for length, side, part in zip(whole, size, region, strict=False)
        ]
        given = np.asarray(array[tuple(axis.needs for axis in axes)])
        return function(given, axes)[(..., *region[dims:])]

    return Lazy((*size, *array.shape[dims:]), array.dtype, read, name=name)


class Axis(NamedTuple):
    """A part of an axis of the result: `length` pixels become `side`, of which these are read."""

    length: int
    side: int
    start: int
    stop: int
    how: str

    @property
    def needs(self) -> slice:
        """The pixels that the part is made of."""
        return _part(*self)[0]

    @property
    def weights(self) -> np.ndarray:
        """What each pixel of the part takes of these: a matrix, or of 'nearest' their numbers."""
        return _part(*self)[1]


@functools.lru_cache(maxsize=64)
def _part(length: int, side: int, start: int, stop: int, how: str) -> tuple[slice, np.ndarray]:
    if how == "nearest":
        numbers = fit.nearest(length, side)[start:stop]
        low = int(numbers.min())
        return slice(low, int(numbers.max()) + 1), numbers - low
    scale, kernel, reach = length / side, *KERNELS[how]
    spread = max(scale, 1.0)
    centre = (np.arange(start, stop) + 0.5) * scale - 0.5
    low = max(0, int(np.floor(centre[0] - reach * spread)))
    high = min(length, int(np.ceil(centre[-1] + reach * spread)) + 1)
    off = np.abs(np.arange(low, high) - centre[:, None]) / spread
    weights = kernel(off)
    return slice(low, high), (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _triangle(off: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - off)


def _keys(off: np.ndarray) -> np.ndarray:
    """Return Keys' cubic of a = -1/2, which passes through the pixels."""
    near = (1.5 * off - 2.5) * off * off + 1
    far = ((-0.5 * off + 2.5) * off - 4) * off + 2
    return np.where(off <= 1, near, np.where(off < 2, far, 0))


KERNELS: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "linear": (_triangle, 1),
    "cubic": (_keys, 2),
}
"""And how many pixels each reaches."""


def _nearest(array: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    return np.ascontiguousarray(array[np.ix_(*(axis.weights for axis in axes))])


def _product(array: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Interpolate along each axis in space, in float32; first where most is lost."""
    found = array.astype(np.float32)
    order = sorted(range(len(axes)), key=lambda n: axes[n].side / axes[n].length)
    for number in order:
        if axes[number].length != axes[number].side:
            moved = np.tensordot(axes[number].weights, found, (1, number))
            found = np.moveaxis(moved, 0, number)
        else:
            axis = axes[number]
            inner = slice(axis.start - axis.needs.start, axis.stop - axis.needs.start)
            found = found[(slice(None),) * number + (inner,)]
    return found


def _blend(array: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Interpolate an image, in its own type."""
    found = _product(array, axes)
    if np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(array.dtype)
        found = np.clip(np.rint(found.astype(np.float64)), limits.min, limits.max)
    return np.ascontiguousarray(found.astype(array.dtype))


def _shares(array: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Give each pixel the value of which it has the largest interpolated share."""
    values = np.unique(array)
    first, *others = values.tolist()
    if not others:
        shape = [axis.stop - axis.start for axis in axes]
        return np.full((*shape, *array.shape[len(axes) :]), first, array.dtype)
    largest = _product(array == first, axes)
    found = np.full(largest.shape, first, array.dtype)
    for value in others:
        share = _product(array == value, axes)
        more = share > largest
        found[more], largest[more] = value, share[more]
    return found


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))

"""What crosses module boundaries: fields of an example, a batch going in, outputs coming out."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias, TypedDict

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32, Integer, Shaped
from numpy import ndarray

IGNORE_LABEL = 255
"""The value of every void pixel after `data/`, whatever the data set used on disk."""

Key = Array
"""A typed JAX PRNG key (`jax.random.key`)."""
Scalar = Float[Array, ""]
Features = Float[Array, "b ... _"]
"""Channels last; as many spatial axes as the data has."""
Label = Int[Array, "b *space"]
Labels = Integer[Array, "b *space k"]
"""Multi-label: of each class 1 where a pixel is of it, 0 where it is not, 255 where void."""
Logits = Float[Array, "b *space k"]


Kind = Literal["image", "classes", "labels", "ids", "masks", "value"]


@dataclasses.dataclass(frozen=True)
class Field:
    """One array that every example of a source holds, and how it may be treated.

    Attributes:
        kind: 'image': values that are interpolated when they move, and padded with a grey.
            'classes': a class map, moved to the nearest pixel and padded with void (255).
            'labels': multi-label, a map of 0, 1 and void (255) for each class, which may overlap;
            moved and padded as a class map is.
            'ids': an instance map, moved to the nearest pixel and padded with 0, no instance.
            'masks': the masks of n objects that may overlap, packed to the bits of bytes: object i
            is bit `i % 8` of byte `i // 8`; moved to the nearest pixel and padded with 0.
            'value': numbers that have no place in the image, such as spacing; they never move.
        shape: The axes behind the spatial ones, `(channels,)` of an image, `(classes,)` of
            'labels', `(bytes,)` of 'masks' and `()` of another map; of a 'value' all axes.
        dtype: Of the source's arrays. Images keep it up to the device.
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    dtype: str = "uint8"

    @property
    def is_spatial(self) -> bool:
        """Whether it has the image's spatial axes."""
        return self.kind != "value"

    @property
    def is_map(self) -> bool:
        """Whether it holds whole numbers that must not be blended."""
        return self.kind in ("classes", "labels", "ids", "masks")

    @property
    def fill(self) -> int:
        """What stands where the source has no pixel; an image's canvas has its own grey."""
        return IGNORE_LABEL if self.kind in ("classes", "labels") else 0

    @property
    def batch_dtype(self) -> str:
        """The type in a batch: int32 for maps of numbers, its own for the rest.

        Multi-label maps and masks stay bytes: there is one for each class, a bit for each object.
        """
        return "int32" if self.kind in ("classes", "ids") else self.dtype


Schema: TypeAlias = Mapping[str, Field]
"""The fields of a source or of a batch by name; `image` and `label` are called so everywhere."""


class Amounts(NamedTuple):
    """How much of each class a training split has.

    Attributes:
        pixels: Of the class; of multi-label maps those that are of it.
        around: Of all classes, in the images that have some of this one.
        images: That have some.
        examples: All images.
    """

    pixels: tuple[int, ...]
    around: tuple[int, ...]
    images: tuple[int, ...]
    examples: int


class Classes(NamedTuple):
    """What a model must know of its data.

    Attributes:
        class_names: One name per class, in the order of the label values.
        palette: One RGB colour per class, 0..255.
        channels: Channels of every image.
        things: The numbers of the classes that are counted object by object; empty: none are.
        amounts: How much there is of each; None: nothing asks for it, and it was not counted.
    """

    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    channels: int
    things: tuple[int, ...] = ()
    amounts: Amounts | None = None


class Mask(NamedTuple):
    """The pixels of one object, as far as its box reaches.

    Attributes:
        corner: The first pixel of the box along each axis.
        inside: bool [*box]: which pixels of the box are of the object.
    """

    corner: tuple[int, ...]
    inside: ndarray


class Objects(NamedTuple):
    """The objects of one image, true or found, on the image's own grid, on the host.

    Attributes:
        classes: int32 [n], numbers of class names.
        boxes: float32 [n 4]: y0 x0 y1 x1 in pixels; a pixel's box is [y, y + 1), so y1 and x1 are
            ends. Of one axis or three, [n 2 * axes] likewise.
        masks: One for each.
        scores: float32 [n] in [0, 1], highest first where they are found; 1 where they are true.
        crowd: bool [n]: several objects that nobody told apart; found ones never are.
    """

    classes: ndarray
    boxes: ndarray
    masks: tuple[Mask, ...]
    scores: ndarray
    crowd: ndarray


class Example(TypedDict):
    """One example as a `Source` yields it (any size); its schema may name more.

    Its fields are NumPy arrays, or `data.lazy.Lazy` ones, parts of which are read.
    """

    image: ndarray  # [*space c], one to three spatial axes
    label: ndarray  # uint8 [*space]: classes 0..K-1, 255 = ignore; or [*space k]: 0, 1, 255
    name: str  # where it came from, for messages and figures


class Batch(TypedDict):
    """One global batch (or this process's rows of it) after `data/`; the schema may name more."""

    image: Shaped[Array, "b *space c"]  # in the source's own type up to the device
    label: Integer[
        Array, "b ..."
    ]  # int32 [b *space]: 0..K-1, 255 = ignore; or uint8 [b *space k]: 0, 1, 255
    mask: Bool[Array, " b"]  # False on rows that only pad the last batch
    index: Int32[Array, " b"]  # global example position


@flax.struct.dataclass
class Outputs:
    """What every semantic model returns.

    Attributes:
        logits: [b *space k] at exactly the input's height and width (a signal's length, a volume's
            depth), in the model's compute dtype.
        aux: Logits of auxiliary heads, each of the same size; empty without heads.
        deep: Logits for deep supervision, at 1/2, 1/4, 1/8, … of the input's size, rounded up;
            empty where the model has none. None outside of training, where no one asks for them.
    """

    logits: Features
    aux: tuple[Features, ...] = ()
    deep: tuple[Features, ...] | None = ()


@flax.struct.dataclass
class Term:
    """One term of a loss, `factor * total / weight`, before the division.

    Where the weight is 0 there is nothing to learn, whatever the total: the term is 0, and so is
    its gradient. Any other weight divides exactly, however small.

    Attributes:
        total: The sum over the valid pixels, regions or objects of some images.
        weight: The sum of their weights.
        factor: The term's share of the loss.
        divisor: The key of `Task.weights` that divides `total` over the whole batch; empty: the
            term's own `weight`, because labels alone do not decide it.
    """

    total: Scalar
    weight: Scalar
    factor: float = flax.struct.field(pytree_node=False, default=1.0)
    divisor: str = flax.struct.field(pytree_node=False, default="")

    def mean(self, weights: Mapping[str, Scalar]) -> Scalar:
        """Return the term divided by its weight over the whole batch."""
        weight = weights[self.divisor] if self.divisor else self.weight
        empty = weight == 0  # not `weight <= 0`: NaN and negative weights must stay visible
        total = jnp.where(empty, 0, self.total)
        return self.factor * total / jnp.where(empty, 1, weight).astype(total.dtype)

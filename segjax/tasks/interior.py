"""Objects bottom-up: interiors told apart from boundaries, pixel by pixel, and then grown."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Integer, UInt8
from scipy import ndimage

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL, Batch, Kind, Label, Mask, Objects
from segjax.tasks import semantic
from segjax.tasks.base import DeepWeights, LossSections
from segjax.tasks.touching import divide

BACKGROUND = 0


class Task(semantic.Task):
    """Find objects as the interiors that a model of pixels sees, with what is near each.

    The pixels of every image are of the background, of the boundary of an object, or of the
    interior of an object of one class; any model of class maps learns that, in any number of axes
    (Caicedo et al. 2019, doi:10.1002/cyto.a.23863, whose three classes these are). What is too thin
    to have an interior is interior throughout. An object is a connected interior of one class,
    together with the pixels of the foreground that are nearest to it. Objects of a class that
    touch stay apart by their boundaries; of an object that another one cuts in two, two are found.
    With `touching='watershed'` their shape tells them apart instead: an object is a basin of the
    distance to the border of the foreground, whatever is said of boundaries, see `touching.divide`.

    Args:
        losses: Sections such as `dict(type='pixel:cross_entropy', weight=1.0)`, see `Supervised`.
        width: Of a boundary, in pixels of the canvas, inside of the object.
        interior: From this probability on a pixel is of an interior.
        foreground: From this probability on, of interiors and boundaries together, a pixel is of an
            object.
        smallest: The fewest pixels of an object, on the image's own grid.
        touching: What tells objects apart that touch.
        apart: With a watershed the least distance between the middles of two, in pixels.
        aux_weight: Factor of the same losses on every auxiliary head.
        deep_weights: Factors of the logits and of the model's deep ones, see `Supervised`.
        num_classes: Classes of the data set, of which `things` are some.
        things: Those that are counted object by object.

    Raises:
        ConfigError: The data counts no objects; losses or weights that cannot be used.
    """

    needs: Mapping[str, Kind] = {
        "label": "classes", "object_masks": "masks", "object_classes": "value",
        "object_crowd": "value",
    }  # fmt: skip

    def __init__(
        self,
        *,
        losses: LossSections,
        num_classes: int,
        things: Sequence[int],
        width: Annotated[int, rules.whole(1, 64)] = 1,
        interior: kinds.Probability = 0.5,
        foreground: kinds.Probability = 0.5,
        smallest: Annotated[int, rules.whole(1)] = 8,
        touching: Literal["boundary", "watershed"] = "boundary",
        apart: Annotated[int, rules.whole(1, 1024)] = 5,
        aux_weight: kinds.NotNegative = 0.4,
        deep_weights: DeepWeights = (),
    ):
        del num_classes  # of the data; the model has one of each thing, and two more
        if not things:
            raise ConfigError(
                "config.task.type='interior': finds objects, and config.input.source counts none. "
                "Set its objects, the most that an image may have."
            )
        super().__init__(
            losses=losses, num_classes=len(things) + 2, aux_weight=aux_weight,
            deep_weights=deep_weights,
        )  # fmt: skip
        self.things, self.width = tuple(things), width
        self.interior, self.foreground, self.smallest = interior, foreground, smallest
        self.touching, self.apart = touching, apart

    @property
    def boundary(self) -> int:
        """The last of the model's classes; class 1 + k is the interior of `things[k]`."""
        return len(self.things) + 1

    def label(self, batch: Batch) -> Label:
        """Return the class of every pixel as the model learns it, int32 [b *space].

        Void is what the data calls so away from objects, and objects that nobody told apart. Next
        to an object, as far as its boundary is wide and a pixel, void is background: the outline is
        known there.
        """
        fields = cast(Mapping[str, Any], batch)
        masks, numbers = fields["object_masks"], fields["object_classes"]
        axes = tuple(range(1, masks.ndim - 1))
        there, crowd = numbers >= 0, fields["object_crowd"]
        crowds, single = (masks & _bits(chosen, axes) for chosen in (there & crowd, there & ~crowd))
        near = moved(_any(single)[..., None], self.width + 1, axes=axes, join=jnp.bitwise_or)
        core = moved(single, self.width, axes=axes, join=jnp.bitwise_and)
        thick = moved(core, self.width, axes=axes, join=jnp.bitwise_or)
        inside = core | single & ~thick
        void = (batch["label"] == IGNORE_LABEL) & ~near[..., 0]
        label = jnp.where(void | _any(crowds), IGNORE_LABEL, jnp.int32(BACKGROUND))
        label = jnp.where(_any(single), self.boundary, label)
        for k, thing in enumerate(self.things):
            label = jnp.where(_any(inside & _bits(numbers == thing, axes)), 1 + k, label)
        return label

    def group(self, probabilities: Float[np.ndarray, "*space k"]) -> Objects:
        """Return the objects of one image, the highest score first; on the host.

        A score is the mean probability of the object's class over its interior, or with a watershed
        over all of it.
        """
        inner = probabilities[..., 1 : self.boundary]
        foreground = 1 - probabilities[..., BACKGROUND] >= self.foreground
        if self.touching == "watershed":
            seeds = regions = divide(foreground, apart=self.apart)
        else:
            interior = inner.sum(axis=-1) >= self.interior
            seeds = _seeds(inner.argmax(axis=-1), interior, len(self.things))
            regions = self._grown(seeds, foreground)
        found = []
        for number, box in enumerate(ndimage.find_objects(regions), start=1):
            if box is None:
                continue
            inside = regions[box] == number
            if inside.sum() < self.smallest:
                continue
            means = inner[box][seeds[box] == number].mean(axis=0)
            k = int(np.argmax(means))
            corner = tuple(part.start for part in box)
            found.append((float(means[k]), self.things[k], Mask(corner, inside)))
        return _objects(sorted(found, key=lambda one: -one[0]), dims=foreground.ndim)

    def _grown(
        self, seeds: Int32[np.ndarray, "*space"], foreground: np.ndarray
    ) -> Int32[np.ndarray, "*space"]:
        """Return the seeds, with the pixels of the foreground that are near them.

        A pixel goes to the nearest seed within the same connected foreground, which is at most
        twice a boundary's width away and a pixel.
        """
        if not seeds.any():
            return seeds
        found: Any = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
        distance, nearest = found
        owner = seeds[tuple(nearest)]
        pieces = _components(foreground | (seeds > 0))
        same = pieces[tuple(nearest)] == pieces
        grown = np.where(foreground & same & (distance <= 2 * self.width + 1), owner, 0)
        return np.where(seeds > 0, seeds, grown)


def moved(
    packed: Integer[Array, "b *space bytes"] | Bool[Array, "b *space bytes"],
    width: int,
    *,
    axes: Sequence[int],
    join: Callable[[Array, Array], Array],
) -> Array:
    """Return packed masks eroded, or dilated, in squares of 2 * width + 1 pixels.

    All objects at once, bit by bit.

    Args:
        packed: Masks of objects, or of one.
        width: Reach along every axis.
        axes: Those in space.
        join: `bitwise_and` erodes, and what lies outside of the image is inside of an object;
            `bitwise_or` dilates.
    """
    outside = 0 if join is jnp.bitwise_or else 255
    for axis in axes:
        ends = [(width, width) if at == axis else (0, 0) for at in range(packed.ndim)]
        wide = jnp.pad(packed, ends, constant_values=outside)
        near = [
            lax.slice_in_dim(wide, start, start + packed.shape[axis], axis=axis)
            for start in range(2 * width + 1)
        ]
        packed = functools.reduce(join, near)
    return packed


def _bits(chosen: Bool[Array, "b n"], axes: Sequence[int]) -> UInt8[Array, "b *ones bytes"]:
    """Return which of n objects are chosen, packed as their masks are, for every pixel."""
    bits = jnp.packbits(chosen, axis=-1, bitorder="little")
    return bits.reshape(len(bits), *(1 for _ in axes), -1)


def _any(packed: UInt8[Array, "b *space bytes"]) -> Array:
    return (packed != 0).any(axis=-1)


def _seeds(classes: np.ndarray, interior: np.ndarray, count: int) -> np.ndarray:
    """Return the number of each pixel's interior: connected pixels of one class; 0: of none."""
    seeds = np.zeros(classes.shape, np.int32)
    for k in range(count):
        own = _components(interior & (classes == k))
        seeds = np.where(own > 0, own + seeds.max(initial=0), seeds)
    return seeds


def _components(mask: np.ndarray) -> np.ndarray:
    """Return the number of each pixel's component, those that share a side; 0: outside."""
    numbers: Any = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=numbers)
    return numbers


def _objects(found: Sequence[tuple[float, int, Mask]], *, dims: int) -> Objects:
    """Return found objects with their boxes."""
    boxes = [(*mask.corner, *np.add(mask.corner, mask.inside.shape)) for _, _, mask in found]
    return Objects(
        np.array([thing for _, thing, _ in found], np.int32),
        np.array(boxes, np.float32).reshape(len(found), 2 * dims),
        tuple(mask for _, _, mask in found),
        np.array([score for score, _, _ in found], np.float32),
        np.zeros(len(found), bool),
    )

"""Move the pixels of an example: the one place that knows how each kind of field moves."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Integer

from segjax.augment.compose import Fill, Sample


class Warp(NamedTuple):
    """Where the pixels of a result come from, as ops of `geometry` say it.

    Attributes:
        image: Interpolates an image at these places.
        nearest: Takes, of a map [*space ...], the pixel that covers each.
        inside: Which of them lie in the source; None: all.
    """

    image: Callable[[Float[Array, "*space c"]], Float[Array, "*out c"]]
    nearest: Callable[[Integer[Array, "..."]], Integer[Array, "..."]]
    inside: Bool[Array, "*out"] | None = None


def apply(sample: Sample, warp: Warp, *, fill: Fill = 0) -> Sample:
    """Move every field by its kind: images are interpolated, maps never blended, values stay.

    What comes from outside the source is `fill` in images, void in class maps and no instance in
    instance maps.
    """
    moved = {
        name: (warp.nearest if field.is_map else warp.image)(sample.arrays[name])
        for name, field in sample.schema.items()
        if field.is_spatial
    }
    sample = sample.replace(**moved)
    return sample if warp.inside is None else sample.keep(warp.inside, fill=fill)

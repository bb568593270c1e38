"""Whole sets of ops under one name: nnU-Net's, RandAugment's, TrivialAugment's."""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from segjax.augment import compose, geometry, intensity, photometric, tone, warp
from segjax.augment.sample import Fill, Sample
from segjax.augment.warp import Move, Places
from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.structs import Key

THICK = 3
"""nnU-Net's threshold: a patch whose longest side is more than so many of its first has thick
slices, which are then turned and scaled one by one."""
LONG = 1.5
"""nnU-Net's: an image patch with sides of such a ratio is turned little."""


@compose.branching
def nnunet(
    key: Key,
    sample: Sample,
    *,
    size: Annotated[Sequence[kinds.Side], rules.length(2, 3)],
    mean: Fill = 0,
    deviation: Annotated[kinds.Real, rules.number(1e-9)] = 1,
    fill: Fill = 0,
    mirror: bool = True,
) -> Sample:
    """Augment as nnU-Net v2 does by default, volumes and images.

    Isensee et al. 2021 (https://doi.org/10.1038/s41592-020-01008-z), with the numbers of
    `nnUNetTrainer.get_training_transforms` (nnunetv2 2.6): turned (p 0.2) by up to 30 degrees about
    each axis of a volume, 180 in the plane of an image (15 of a long one) and of thick slices;
    scaled (0.2) by 0.7 to 1.4; noise (0.1), blur (0.2), brightness (0.15), contrast (0.15), low
    resolution (0.25), gamma of the negative (0.1) and of the image (0.3), as in `intensity`;
    mirrored along each axis (0.5). Their elastic deformation is off. Two things differ: the label
    is that of the nearest pixel, not the largest of interpolated one-hot maps, and what comes from
    outside is void, not background.

    Args:
        key: For this example and op.
        sample: At least of `size`; nnU-Net reads more than that, so that turning finds pixels.
        size: The sides of the result.
        mean: Image value that nnU-Net's normalisation makes 0; that of `config.normalize`.
        deviation: Image values that it makes 1. The defaults are for images that
            `config.input.intensity` has normalised.
        fill: Image value outside; nnU-Net's is the mean.
        mirror: Whether sides may be exchanged.

    Raises:
        ConfigError: `size` is for other data.
    """
    sides = len(size)
    thick = sides == 3 and max(size) / size[0] > THICK
    long = sides == 2 and max(size) / min(size) > LONG
    rotate = 180 if thick else 30 if sides == 3 else 15 if long else 180
    turn, *keys, mirrored = jax.random.split(key, 9)
    sample = _turned(turn, sample, size=size, rotate=rotate, in_plane=thick, fill=fill)
    steps = (
        functools.partial(intensity.noise, std=(0, 0.1 * deviation)),
        intensity.blur,
        functools.partial(intensity.brightness, mean=mean),
        intensity.contrast,
        functools.partial(intensity.low_resolution, in_plane=thick),
        functools.partial(intensity.gamma, invert=True, p=0.1),
        intensity.gamma,
    )
    for step, own in zip(steps, keys, strict=True):
        sample = step(own, sample)
    return _mirrored(mirrored, sample) if mirror else sample


def _turned(
    key: Key, sample: Sample, *, size: Sequence[int], rotate: kinds.Real, in_plane: bool, fill: Fill
) -> Sample:
    """Return the sample turned and scaled, or its middle, whose pixels are copied."""
    turn = functools.partial(
        geometry.rotate_scale, size=size, rotate=rotate, in_plane=in_plane, fill=fill
    )
    draw = jax.random.uniform(key, (6,), jnp.float32)  # the one that it makes
    applied = jnp.any(draw[:2] < 0.2)
    if len(size) != len(sample.size) or any(a < b for a, b in zip(sample.size, size, strict=True)):
        return turn(key, sample)  # and refuse, or show the canvas around a small image
    starts = [(old - new) // 2 for old, new in zip(sample.size, size, strict=True)]

    def middle(arrays: dict[str, Array]) -> dict[str, Array]:
        cut = {}
        for name, field in sample.schema.items():
            array = arrays[name]
            cut[name] = array
            if field.is_spatial:
                more = array.shape[len(size) :]
                cut[name] = jax.lax.slice(
                    array,
                    (*starts, *[0] * len(more)),
                    (*(a + n for a, n in zip(starts, size, strict=True)), *more),
                )
        return cut

    def turned(arrays: dict[str, Array]) -> dict[str, Array]:
        return dict(turn(key, Sample(arrays, sample.schema)).arrays)

    return sample.replace(**jax.lax.cond(applied, turned, middle, dict(sample.arrays)))


def _mirrored(key: Key, sample: Sample) -> Sample:
    """Return the sample with each axis mirrored or not."""
    moving = {name for name, field in sample.schema.items() if field.is_spatial}
    arrays = {name: sample.arrays[name] for name in moving}
    draw = jax.random.uniform(key, (len(sample.size),), jnp.float32)
    for axis in range(len(sample.size)):
        flip = functools.partial(jax.tree.map, functools.partial(jnp.flip, axis=axis))
        arrays = compose.sometimes(draw[axis] < 0.5, flip, arrays, p=0.5)
    return sample.replace(**arrays)


class Range(NamedTuple):
    """What one op of a policy does at a magnitude.

    Attributes:
        most: At magnitude 1.
        least: At magnitude 0.
        signed: Whether its sign is drawn.
        of_side: Whether these are shares of the image's side.
    """

    most: float
    least: float = 0.0
    signed: bool = False
    of_side: bool = False


FORMS = {
    **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y", "rotate"), "move"),
    **dict.fromkeys(("brightness", "color", "contrast"), "blend"),
}
"""Ops that are computed alike; the others are each its own."""
RAND = {
    "identity": Range(0),
    "shear_x": Range(0.3, signed=True),
    "shear_y": Range(0.3, signed=True),
    "translate_x": Range(150 / 331, signed=True, of_side=True),
    "translate_y": Range(150 / 331, signed=True, of_side=True),
    "rotate": Range(30, signed=True),
    "brightness": Range(0.9, signed=True),
    "color": Range(0.9, signed=True),
    "contrast": Range(0.9, signed=True),
    "sharpness": Range(0.9, signed=True),
    "posterize": Range(4, 8),
    "solarize": Range(0, 1),
    "autocontrast": Range(0),
    "equalize": Range(0),
}
"""Cubuk et al. 2020, RandAugment, with the ranges of torchvision's: degrees, factors less 1, bits,
thresholds."""
WIDE = RAND | {
    "shear_x": Range(0.99, signed=True),
    "shear_y": Range(0.99, signed=True),
    "translate_x": Range(32, signed=True),
    "translate_y": Range(32, signed=True),
    "rotate": Range(135, signed=True),
    "brightness": Range(0.99, signed=True),
    "color": Range(0.99, signed=True),
    "contrast": Range(0.99, signed=True),
    "sharpness": Range(0.99, signed=True),
    "posterize": Range(2, 8),
}
"""Müller and Hutter 2021, TrivialAugment (wide); translations are in pixels."""


@compose.branching
def rand_augment(
    key: Key,
    sample: Sample,
    *,
    n: Annotated[int, rules.whole(1, 14)] = 2,
    m: Annotated[kinds.Real, rules.number(0, 30)] = 9,
    fill: Fill = 0,
    p: kinds.Probability = 1,
) -> Sample:
    """Apply `n` ops drawn from 14, each at magnitude `m` of 30; those that move move labels too.

    Cubuk et al. 2020 (https://arxiv.org/abs/1909.13719).

    Raises:
        ConfigError: The images are not RGB, of two axes and in [0, 1].
    """
    _check_rgb("rand_augment", sample, fill)
    chosen, *keys = jax.random.split(key, n + 1)
    applied = jax.random.uniform(chosen, (), jnp.float32) < p
    for each in keys:
        which, sign = jax.random.split(each)
        number = jnp.where(applied, jax.random.randint(which, (), 0, len(RAND)), 0)
        drawn = jnp.where(jax.random.uniform(sign, (), jnp.float32) < 0.5, -1, 1)
        sample = _one_of(RAND, sample, number, jnp.float32(m / 30), drawn, fill)
    return sample


@compose.branching
def trivial_augment(
    key: Key, sample: Sample, *, fill: Fill = 0, p: kinds.Probability = 1
) -> Sample:
    """Apply one op drawn from 14 at a magnitude drawn for it; one that moves moves labels too.

    Müller and Hutter 2021 (https://arxiv.org/abs/2103.10158), its wide ranges.

    Raises:
        ConfigError: The images are not RGB, of two axes and in [0, 1].
    """
    _check_rgb("trivial_augment", sample, fill)
    chosen, which, sign, strength = jax.random.split(key, 4)
    applied = jax.random.uniform(chosen, (), jnp.float32) < p
    number = jnp.where(applied, jax.random.randint(which, (), 0, len(WIDE)), 0)
    drawn = jnp.where(jax.random.uniform(sign, (), jnp.float32) < 0.5, -1, 1)
    magnitude = jax.random.randint(strength, (), 0, 31).astype(jnp.float32) / 30
    return _one_of(WIDE, sample, number, magnitude, drawn, fill)


def _one_of(
    table: dict[str, Range],
    sample: Sample,
    number: Int32[Array, ""],
    magnitude: Float[Array, ""],
    sign: Int32[Array, ""],
    fill: Fill,
) -> Sample:
    """Return the sample after the op of that number in the table.

    Ops of one form are one branch: all that move are a matrix, all that blend have an end.
    """
    amounts = []
    for name, found in table.items():
        amount = found.least + magnitude * (found.most - found.least)
        amount = amount * sign if found.signed else amount
        side = sample.size[name == "translate_x"] if found.of_side else 1
        amounts.append(amount * side)
    amount = jnp.stack(amounts)[number]
    named = {name: number == i for i, name in enumerate(table)}
    changes = {
        "identity": lambda image: image,
        "blend": lambda image: _blended(image, amount, named["color"], named["contrast"]),
        "sharpness": lambda image: tone.sharpened(image, 1 + amount),
        "posterize": lambda image: tone.to_bits(image, jnp.round(amount).astype(jnp.int32)),
        "solarize": lambda image: tone.above_inverted(image, amount),
        "autocontrast": tone.stretched,
        "equalize": tone.equalized,
    }

    def move(arrays: dict[str, Array]) -> dict[str, Array]:
        return dict(_moved(Sample(arrays, sample.schema), named, amount, fill).arrays)

    def change(name: str, arrays: dict[str, Array]) -> dict[str, Array]:
        image = changes[name](arrays["image"]).astype(arrays["image"].dtype)
        return {**arrays, "image": image}

    branches = [functools.partial(change, name) for name in changes] + [move]
    forms = [*changes, "move"]
    form = jnp.asarray([forms.index(FORMS.get(name, name)) for name in table], jnp.int32)[number]
    return sample.replace(**jax.lax.switch(form, branches, dict(sample.arrays)))


def _blended(
    image: Float[Array, "h w c"],
    amount: Float[Array, ""],
    color: Bool[Array, ""],
    contrast: Bool[Array, ""],
) -> Float[Array, "h w c"]:
    """Go away from a pixel's grey, from the image's mean grey, or else from black."""
    grey = jnp.sum(image * jnp.asarray(photometric.LUMA, image.dtype), axis=-1, keepdims=True)
    end = jnp.where(color, grey, jnp.where(contrast, grey.mean(), 0))
    return tone.blended(image, end, 1 + amount)


def _moved(
    sample: Sample, named: dict[str, Bool[Array, ""]], amount: Float[Array, ""], fill: Fill
) -> Sample:
    """Return the sample after one of the geometric ops, about its middle."""
    height, width = size = sample.size
    angle = jnp.where(named["rotate"], amount * (math.pi / 180), 0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def part(name: str) -> Float[Array, ""]:
        return jnp.where(named[name], amount, 0)

    def source(places: Places) -> Places:
        y, x = places.axes[0] - height / 2, places.axes[1] - width / 2
        new_y = cos * y + (sin - part("shear_y")) * x - part("translate_y")
        new_x = cos * x - (sin + part("shear_x")) * y - part("translate_x")
        return Places((new_y + height / 2, new_x + width / 2))

    return warp.apply(sample, Move(size, size, source, fill))


def _check_rgb(name: str, sample: Sample, fill: Fill) -> None:
    """Raise ConfigError for images that a policy of RGB images has no ops for."""
    compose.check_unit_range(name, sample)
    compose.check_fill(f"{name}.fill", fill, sample)
    axes, channels = len(sample.size), sample.image.shape[-1]
    if axes != 2 or channels != 3:
        raise ConfigError(
            f"{name}: expected RGB images, with a height, a width and 3 channels, got {axes} "
            f"{'axes' if axes > 1 else 'axis'} and {channels} channel(s). Use ops one by one, or "
            "policies:nnunet for other data."
        )

"""Ops that change the image's values and leave other fields alone (cutout may void maps)."""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from segjax.augment import compose
from segjax.augment.sample import Fill, Sample
from segjax.augment.tone import above_inverted, equalized, sharpened, stretched, to_bits
from segjax.config import kinds, rules
from segjax.config.kinds import Real
from segjax.errors import ConfigError
from segjax.kernels import fusion
from segjax.structs import Key

LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601: the grey of an RGB pixel, and the first row of YIQ."""

I_ROW = np.array([0.595716, -0.274453, -0.321263])
Q_ROW = np.array([0.211456, -0.522591, 0.311135])
FROM_YIQ = np.linalg.inv(np.stack([LUMA, I_ROW, Q_ROW]))
Strength: TypeAlias = Annotated[Real, rules.number(0, 100)]


def color_jitter(
    key: Key,
    sample: Sample,
    *,
    brightness: Strength = 0,
    contrast: Strength = 0,
    saturation: Strength = 0,
    hue: Annotated[Real, rules.number(0, 0.5)] = 0,
    p: kinds.Probability = 1,
) -> Sample:
    """Change brightness, contrast, saturation and hue, in this order.

    The first three are torchvision's: a factor from [max(0, 1 - v), 1 + v] that blends with black,
    with the image's mean grey, with the pixel's grey. Hue turns colours about the grey axis of YIQ
    by at most `hue` (0 to 0.5) of a full turn. All four are linear, so that they are one matrix,
    and the result is clipped to [0, 1] once, not after each.

    Raises:
        ConfigError: Saturation or hue on an image that has not 3 channels.
    """
    compose.check_unit_range("color_jitter", sample)
    image = sample.image
    channels = image.shape[-1]
    if channels != 3 and (saturation or hue):
        raise ConfigError(
            f"color_jitter: saturation={saturation}, hue={hue} on images of {channels} channel(s): "
            f"expected 3 channels (RGB). Leave both out."
        )
    draw = jax.random.uniform(key, (5,), image.dtype)
    applied = draw[4] < p
    light, spread, colour = (
        jnp.where(applied, max(0, 1 - v) + draw[i] * (1 + v - max(0, 1 - v)), 1)
        for i, v in enumerate((brightness, contrast, saturation))
    )
    grey = LUMA if channels == 3 else np.full(channels, 1 / channels)
    # Summed in float64 where that is on: it then hardly matters on how many devices the rows lie.
    space = tuple(range(image.ndim - 1))
    colour_mean = image.mean(space, dtype=float).astype(image.dtype)
    mean = jnp.sum(colour_mean * jnp.asarray(grey, image.dtype))
    if channels == 3:
        angle = jnp.where(applied, 2 * math.pi * hue * (2 * draw[3] - 1), 0)
        red, green, blue = _color_matrix(colour, angle).T
        image = image[..., :1] * red + image[..., 1:2] * green + image[..., 2:] * blue
    return sample.replace(image=jnp.clip(light * (spread * image + (1 - spread) * mean), 0, 1))


@compose.branching
def gamma(
    key: Key,
    sample: Sample,
    *,
    exponent: compose.Scale,
    p: kinds.Probability = 1,
) -> Sample:
    """Raise the image to a power, log-uniform in `exponent`."""
    compose.check_unit_range("gamma", sample)
    image = sample.image
    draw = jax.random.uniform(key, (2,), image.dtype)
    power = exponent[0] * jnp.exp(draw[0] * math.log(exponent[1] / exponent[0]))
    return sample.replace(
        image=compose.sometimes(draw[1] < p, lambda image: image**power, image, p=p)
    )


@compose.branching
def gaussian_blur(
    key: Key,
    sample: Sample,
    *,
    sigma: Annotated[compose.Pair, rules.interval(0.01, 50)],
    p: kinds.Probability = 1,
) -> Sample:
    """Blur along every axis with a Gaussian of standard deviation `sigma` in pixels.

    It is cut at 3 times the largest deviation.
    """
    image = sample.image
    draw = jax.random.uniform(key, (2,), image.dtype)
    deviation = sigma[0] + draw[0] * (sigma[1] - sigma[0])
    every = [deviation] * len(sample.size)

    def blurred(image: Float[Array, "*space c"]) -> Float[Array, "*space c"]:
        return smooth(image, every, largest=sigma[1])

    return sample.replace(image=compose.sometimes(draw[1] < p, blurred, image, p=p))


@compose.branching
def gaussian_noise(
    key: Key,
    sample: Sample,
    *,
    std: Annotated[compose.Pair, rules.interval(0)],
    p: kinds.Probability = 1,
) -> Sample:
    """Add white Gaussian noise of standard deviation `std` (image units) and clip to [0, 1]."""
    compose.check_unit_range("gaussian_noise", sample)
    image = sample.image
    strength, noise = jax.random.split(key)
    draw = jax.random.uniform(strength, (2,), image.dtype)
    level = std[0] + draw[0] * (std[1] - std[0])

    def noisy(image: Float[Array, "*space c"]) -> Float[Array, "*space c"]:
        return jnp.clip(image + level * white_noise(noise, image), 0, 1)

    return sample.replace(image=compose.sometimes(draw[1] < p, noisy, image, p=p))


def cutout(
    key: Key,
    sample: Sample,
    *,
    size: Annotated[compose.Pair, rules.interval(0, 1)],
    count: Annotated[int, rules.whole(1, 1024)] = 1,
    fill: Fill = 0,
    void: bool = False,
    p: kinds.Probability = 1,
) -> Sample:
    """Paint boxes over the image (DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552).

    Args:
        key: For this example and op.
        sample: Its image in [0, 1].
        size: Each side as a fraction of the image's; centres are uniform, borders may cut them.
        count: Boxes per image.
        fill: Image value inside, one or one per channel.
        void: Whether the label becomes 255 there, and the instances 0; otherwise they are to be
            guessed.
        p: Probability.
    """
    compose.check_fill("cutout.fill", fill, sample)
    chosen, place = jax.random.split(key)
    draw = jax.random.uniform(place, (4, count, 1), jnp.float32)
    axes = len(sample.size)
    centres = compose.draw_axes(draw[:2], place, axes=axes, number=0)
    shares = compose.draw_axes(draw[2:], place, axes=axes, number=1)
    covered = [
        jnp.abs(jnp.arange(length, dtype=jnp.float32) + 0.5 - centre * length) < side * length / 2
        for length, centre, side in zip(
            sample.size, centres, size[0] + shares * (size[1] - size[0]), strict=True
        )
    ]
    hidden = jnp.any(compose.box(covered), axis=0)
    hidden = hidden & (jax.random.uniform(chosen, (), jnp.float32) < p)
    return sample.keep(~hidden, fill=fill, maps=void)


@compose.branching
def posterize(
    key: Key,
    sample: Sample,
    *,
    bits: Annotated[Sequence[Annotated[int, rules.whole(1, 8)]], rules.interval(1, 8)],
    p: kinds.Probability = 1,
) -> Sample:
    """Keep the first few of the 8 bits of every value, as many as drawn from `bits` (Pillow's)."""
    compose.check_unit_range("posterize", sample)
    chosen, each = jax.random.split(key)
    count = jax.random.randint(each, (), bits[0], bits[1] + 1)
    return compose.changed(chosen, sample, functools.partial(to_bits, bits=count), p=p)


@compose.branching
def solarize(
    key: Key,
    sample: Sample,
    *,
    threshold: Annotated[compose.Pair, rules.interval(0, 1)],
    p: kinds.Probability = 1,
) -> Sample:
    """Turn values from a threshold on into their negative (Pillow's)."""
    compose.check_unit_range("solarize", sample)
    chosen, each = jax.random.split(key)
    limit = jax.random.uniform(each, (), sample.image.dtype, threshold[0], threshold[1])
    return compose.changed(chosen, sample, functools.partial(above_inverted, threshold=limit), p=p)


@compose.branching
def equalize(key: Key, sample: Sample, *, p: kinds.Probability = 1) -> Sample:
    """Spread each channel's values so that all grey levels are as frequent (Pillow's)."""
    compose.check_unit_range("equalize", sample)
    return compose.changed(key, sample, equalized, p=p)


@compose.branching
def autocontrast(key: Key, sample: Sample, *, p: kinds.Probability = 1) -> Sample:
    """Stretch each channel's values to all of [0, 1] (Pillow's); one of a single value stays."""
    compose.check_unit_range("autocontrast", sample)
    return compose.changed(key, sample, stretched, p=p)


@compose.branching
def sharpness(
    key: Key,
    sample: Sample,
    *,
    factor: Annotated[compose.Pair, rules.interval(0, 10)],
    p: kinds.Probability = 1,
) -> Sample:
    """Sharpen by a factor above 1, blur by one below (Pillow's); the border's pixels stay."""
    compose.check_unit_range("sharpness", sample)
    chosen, each = jax.random.split(key)
    drawn = jax.random.uniform(each, (), sample.image.dtype, factor[0], factor[1])
    return compose.changed(chosen, sample, functools.partial(sharpened, factor=drawn), p=p)


@compose.branching
def channel_shuffle(key: Key, sample: Sample, *, p: kinds.Probability = 1) -> Sample:
    """Put the channels in a random order."""
    chosen, each = jax.random.split(key)
    order = jax.random.permutation(each, sample.image.shape[-1])
    return compose.changed(chosen, sample, lambda image: jnp.take(image, order, axis=-1), p=p)


@compose.branching
def channel_dropout(
    key: Key,
    sample: Sample,
    *,
    count: Annotated[Sequence[Annotated[int, rules.whole(1, 255)]], rules.interval(1, 255)] = (
        1,
        1,
    ),
    fill: Fill = 0,
    p: kinds.Probability = 1,
) -> Sample:
    """Fill a few channels, as many as drawn from `count`, with `fill`.

    Raises:
        ConfigError: No channel might be left.
    """
    compose.check_fill("channel_dropout.fill", fill, sample)
    channels = sample.image.shape[-1]
    if count[1] >= channels:
        raise ConfigError(
            f"channel_dropout.count={count!r} of {channels} channel(s): expected fewer than there "
            "are, so that one is left. Lower it, or leave the op out."
        )
    chosen, number, each = jax.random.split(key, 3)
    dropped = jax.random.randint(number, (), count[0], count[1] + 1)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(each, (channels,), jnp.float32)))

    def without(image: Float[Array, "*space c"]) -> Float[Array, "*space c"]:
        return jnp.where(rank < dropped, jnp.asarray(fill, image.dtype), image)

    return compose.changed(chosen, sample, without, p=p)


def _color_matrix(saturation: Float[Array, ""], angle: Float[Array, ""]) -> Float[Array, "3 3"]:
    """Return the RGB matrix that scales saturation and turns hue, keeping every pixel's luma.

    In YIQ it is diag(1, saturation * rotation(angle)). Written as the identity and what is added to
    it, so that saturation 1 and angle 0 give exactly the identity.
    """
    colourful = np.eye(3) - np.outer(FROM_YIQ[:, 0], LUMA)
    turned = np.outer(FROM_YIQ[:, 1], Q_ROW) - np.outer(FROM_YIQ[:, 2], I_ROW)
    same, scale, turn = (
        jnp.asarray(part, saturation.dtype) for part in (np.eye(3), colourful, turned)
    )
    return same + (saturation * jnp.cos(angle) - 1) * scale + saturation * jnp.sin(angle) * turn


def smooth(
    image: Float[Array, "*space c"], sigma: Sequence[Float[Array, ""]], *, largest: Real
) -> Float[Array, "*space c"]:
    """Blur along each axis by its deviation in pixels, cut at 3 times the largest that may be."""
    taps = jnp.arange(math.ceil(3 * largest) + 1, dtype=image.dtype)
    shape = image.shape
    for axis in reversed(range(len(shape) - 1)):
        weights = jnp.exp(-0.5 * (taps / sigma[axis]) ** 2)
        weights = weights / (2 * weights.sum() - 1)
        step = math.prod(shape[axis + 1 :])  # from a pixel to the next along the axis
        flat = (math.prod(shape[:axis]), shape[axis] * step) if axis else (shape[0], step)
        image = _blur_along(
            image.reshape(flat), weights, axis=int(axis > 0), step=step if axis else 1
        )
    return image.reshape(shape)


def _blur_along(
    image: Float[Array, "n m"], weights: Float[Array, " taps"], *, axis: int, step: int
) -> Float[Array, "n m"]:
    """Filter along `axis`, pixels `step` apart, with the symmetric kernel whose half is `weights`.

    Beyond the border its pixels repeat. A sum of shifted slices: under vmap a convolution with one
    kernel per example would become a grouped one, which is slow and all-gathers a sharded batch.
    """
    radius = len(weights) - 1
    size = image.shape[axis]
    reps = (radius, 1) if axis == 0 else (1, radius)
    first = jnp.tile(jax.lax.slice_in_dim(image, 0, step, axis=axis), reps)
    last = jnp.tile(jax.lax.slice_in_dim(image, size - step, size, axis=axis), reps)
    # The barrier: XLA would split the padded image into one piece per slice and compute each.
    padded = fusion.barrier(jnp.concatenate([first, image, last], axis))

    def shifted(tap: int) -> Float[Array, "n m"]:
        start = (radius + tap) * step
        return jax.lax.slice_in_dim(padded, start, start + size, axis=axis)

    out = shifted(0) * weights[0]
    for tap in range(1, radius + 1):
        out = out + (shifted(-tap) + shifted(tap)) * weights[tap]
    return out


def white_noise(seed: Key, like: Float[Array, "*space c"]) -> Float[Array, "*space c"]:
    """Return normal noise of deviation 1 for every value of an image."""
    # 23 bits and a half are exact in float32 and end inside (-1, 1): the inverse stays finite.
    bits = (_hash_bits(seed, like.shape) >> 9).astype(jnp.int32).astype(like.dtype)
    return math.sqrt(2) * jax.lax.erf_inv((bits + 0.5) * 2**-22 - 1)


def _hash_bits(key: Key, shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    """Return random bits by hashing each element's position with 64 bits drawn from `key`.

    Two rounds of Wellons' lowbias32. Threefry bits for 360 x 480 x 3 values cost 11 ms on a CPU,
    these 0.5 ms, and image noise needs no more.
    """
    bits = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    for seed in jax.random.bits(key, (2,), jnp.uint32):
        bits = bits ^ seed
        bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
        bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
        bits = bits ^ (bits >> 16)
    return bits

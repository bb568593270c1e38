"""Ops on the intensities of any modality, each channel by itself, as nnU-Net v2 has them.

Values keep their unit and are not clipped. Defaults are nnU-Net's (Isensee et al. 2021,
https://doi.org/10.1038/s41592-020-01008-z; `nnUNetTrainer` of nnunetv2 2.6 with batchgeneratorsv2),
which expect images of mean 0 and deviation 1: what `config.input.intensity` makes of them. `p` is
the probability of the op, `each` that of a channel where it is applied; channels draw on their own.
"""

import functools
from collections.abc import Callable
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax.augment import compose, photometric
from segjax.augment.sample import Fill, Sample
from segjax.config import kinds, rules
from segjax.structs import Key

Channel: TypeAlias = Float[Array, "*space 1"]
TINY = 1e-7


@compose.branching
def noise(
    key: Key,
    sample: Sample,
    *,
    std: Annotated[compose.Pair, rules.interval(0)] = (0, 0.1),
    p: kinds.Probability = 0.1,
) -> Sample:
    """Add white Gaussian noise of a deviation drawn from `std`, the same for all channels."""
    chosen, strength, seed = jax.random.split(key, 3)
    level = jax.random.uniform(strength, (), sample.image.dtype, std[0], std[1])

    def change(image: Float[Array, "*space c"]) -> Float[Array, "*space c"]:
        return image + level * photometric.white_noise(seed, image)

    return compose.changed(chosen, sample, change, p=p)


@compose.branching
def blur(
    key: Key,
    sample: Sample,
    *,
    sigma: Annotated[compose.Pair, rules.interval(0.01, 50)] = (0.5, 1.0),
    p: kinds.Probability = 0.2,
    each: kinds.Probability = 0.5,
) -> Sample:
    """Blur along every axis with a Gaussian of its own, of a deviation in pixels."""
    axes = len(sample.size)

    def change(key: Key, channel: Channel) -> Channel:
        drawn = jax.random.uniform(key, (axes,), channel.dtype, sigma[0], sigma[1])
        return photometric.smooth(channel, [*drawn], largest=sigma[1])

    return _by_channel(key, sample, change, p=p, each=each)


@compose.branching
def brightness(
    key: Key,
    sample: Sample,
    *,
    factor: compose.Scale = (0.75, 1.25),
    mean: Fill = 0,
    p: kinds.Probability = 0.15,
    each: kinds.Probability = 1,
) -> Sample:
    """Multiply what lies above or below `mean`, a value or one per channel, by a factor."""
    compose.check_channels("brightness.mean", mean, sample.image.shape[-1])
    middles = jnp.broadcast_to(jnp.asarray(mean, sample.image.dtype), sample.image.shape[-1:])

    def change(key: Key, channel: Channel, middle: Float[Array, ""]) -> Channel:
        return middle + _factor(key, factor, channel) * (channel - middle)

    return _by_channel(key, sample, change, middles, p=p, each=each)


@compose.branching
def contrast(
    key: Key,
    sample: Sample,
    *,
    factor: compose.Scale = (0.75, 1.25),
    p: kinds.Probability = 0.15,
    each: kinds.Probability = 1,
) -> Sample:
    """Multiply what lies above or below the channel's own mean, within the range that it had."""

    def change(key: Key, channel: Channel) -> Channel:
        mean, low, high = channel.mean(), channel.min(), channel.max()
        return jnp.clip(mean + _factor(key, factor, channel) * (channel - mean), low, high)

    return _by_channel(key, sample, change, p=p, each=each)


@compose.branching
def low_resolution(
    key: Key,
    sample: Sample,
    *,
    scale: Annotated[compose.Pair, rules.interval(0.01, 1)] = (0.5, 1.0),
    in_plane: bool = False,
    p: kinds.Probability = 0.25,
    each: kinds.Probability = 0.5,
) -> Sample:
    """Show as from fewer pixels: the nearest of each block, interpolated linearly.

    With `in_plane` a volume's first axis keeps its pixels.
    """
    axes = range(1 if in_plane and len(sample.size) == 3 else 0, len(sample.size))

    def change(key: Key, channel: Channel) -> Channel:
        drawn = jax.random.uniform(key, (), jnp.float32, scale[0], scale[1])
        return functools.reduce(lambda x, axis: coarse(x, drawn, axis=axis), axes, channel)

    return _by_channel(key, sample, change, p=p, each=each)


@compose.branching
def gamma(
    key: Key,
    sample: Sample,
    *,
    exponent: compose.Scale = (0.7, 1.5),
    invert: bool = False,
    p: kinds.Probability = 0.3,
    each: kinds.Probability = 1,
) -> Sample:
    """Raise values, seen as shares of the channel's range, to a power; mean and deviation stay.

    With `invert` the power is taken from the bright end, of the negative; nnU-Net has both, that
    one with p=0.1.
    """
    sign = -1 if invert else 1

    def change(key: Key, channel: Channel) -> Channel:
        channel = sign * channel
        low, high = channel.min(), channel.max()
        share = (channel - low) / jnp.maximum(high - low, TINY)
        raised = share ** _factor(key, exponent, channel) * (high - low) + low
        ratio = channel.std() / jnp.maximum(raised.std(), TINY)
        return sign * ((raised - raised.mean()) * ratio + channel.mean())

    return _by_channel(key, sample, change, p=p, each=each)


def coarse(
    image: Float[Array, "*space c"], scale: Float[Array, ""], *, axis: int
) -> Float[Array, "*space c"]:
    """Return an image as seen at `scale` along an axis: nearest pixels, interpolated linearly."""
    length = image.shape[axis]
    few = jnp.maximum(jnp.round(length * scale), 1)
    at = jnp.clip((jnp.arange(length, dtype=jnp.float32) + 0.5) * (few / length) - 0.5, 0, few - 1)
    low = jnp.floor(at)

    def pixel(number: Float[Array, " n"]) -> Float[Array, "*space c"]:
        seen = jnp.floor((jnp.minimum(number, few - 1) + 0.5) * (length / few)).astype(jnp.int32)
        return jnp.take(image, seen, axis=axis, mode="clip")

    share = (at - low).astype(image.dtype).reshape(-1, *[1] * (image.ndim - 1 - axis))
    near = pixel(low)
    return near + share * (pixel(low + 1) - near)


def _factor(key: Key, interval: compose.Pair, like: Channel) -> Float[Array, ""]:
    """Draw a factor: below 1 as often as above, uniformly on each side, where both are allowed."""
    low, high = interval
    side, place = jax.random.uniform(key, (2,), like.dtype)
    below = low + place * (min(high, 1) - low)
    above = max(low, 1) + place * (high - max(low, 1))
    if high <= 1 or low >= 1:
        return below if high <= 1 else above
    return jnp.where(side < 0.5, below, above)


def _by_channel(
    key: Key,
    sample: Sample,
    change: Callable[..., Channel],
    *own: Float[Array, " c"],
    p: kinds.Real,
    each: kinds.Real,
) -> Sample:
    """Return the sample with some channels of its image changed.

    Args:
        key: For this example and op.
        sample: Any.
        change: From a key, a channel and its value of each of `own` to the channel.
        own: Numbers by channel.
        p: Probability that any changes.
        each: Probability of each, then.
    """
    image = sample.image
    channels = image.shape[-1]
    chosen, which, *keys = jax.random.split(key, 2 + channels)
    applied: Bool[Array, " c"] = jax.random.uniform(which, (channels,), jnp.float32) < each
    applied &= jax.random.uniform(chosen, (), jnp.float32) < p
    changed = []
    for number in range(channels):
        values = [value[number] for value in own]
        one = functools.partial(_change_one, change, keys[number], values)
        channel = image[..., number : number + 1]
        changed.append(compose.sometimes(applied[number], one, channel, p=min(p, each)))
    return sample.replace(image=jnp.concatenate(changed, axis=-1))


def _change_one(
    change: Callable[..., Channel], key: Key, values: list[Float[Array, ""]], channel: Channel
) -> Channel:
    return change(key, channel, *values).astype(channel.dtype)

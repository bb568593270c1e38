"""Ops that make images worse as cameras, files and weather do; labels stay.

Images are in [0, 1].
"""

import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segjax.augment import compose, intensity, warp
from segjax.augment.sample import Fill, Sample
from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.structs import Key

Image = Float[Array, "*space c"]
BLOCK = 8
LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
"""ITU-T T.81, table K.1: the steps that grey is rounded to at quality 50, by frequency."""
CHROMINANCE = np.full((BLOCK, BLOCK), 99)
"""Table K.2: those of colour."""
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
TO_YCBCR = np.array([
    [0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]
])  # fmt: skip
"""JFIF: grey and two differences of colour from RGB."""


@compose.branching
def jpeg(
    key: Key,
    sample: Sample,
    *,
    quality: Annotated[compose.Pair, rules.interval(1, 100)],
    p: kinds.Probability = 1,
) -> Sample:
    """Lose what a JPEG file of a quality from 1 to 100 loses, colours at full resolution.

    Blocks of 8 x 8 pixels, their frequencies rounded to the steps of ITU-T T.81, annex K, scaled as
    libjpeg scales them. Three channels are RGB; of any other number each is a grey image.

    Raises:
        ConfigError: The data is no image of two axes.
    """
    compose.check_unit_range("jpeg", sample)
    check_images("jpeg", sample)
    chosen, each = jax.random.split(key)
    drawn = jax.random.uniform(each, (), sample.image.dtype, quality[0], quality[1])
    return compose.changed(chosen, sample, functools.partial(as_jpeg, quality=drawn), p=p)


def as_jpeg(image: Float[Array, "h w c"], quality: kinds.Real | Float[Array, ""]) -> Image:
    """Return an image as a JPEG file of a quality has it, see `jpeg`."""
    height, width, channels = image.shape
    colour = channels == 3
    values = image * 255
    if colour:
        values = jnp.einsum(
            "hwc,yc->hwy", values, jnp.asarray(TO_YCBCR, values.dtype), precision="highest"
        )
    offset = jnp.asarray([128, 0, 0] if colour else [128] * channels, image.dtype)
    padded = [(0, -side % BLOCK) for side in (height, width)]
    values = jnp.pad(jnp.round(values) - offset, (*padded, (0, 0)), mode="edge")
    rows, columns = (side // BLOCK for side in values.shape[:2])
    blocks = values.reshape(rows, BLOCK, columns, BLOCK, channels)
    scale = jnp.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    tables = [LUMINANCE, *[CHROMINANCE if colour else LUMINANCE] * (channels - 1)]
    steps = jnp.clip(
        jnp.floor((jnp.asarray(np.stack(tables, -1), image.dtype) * scale + 50) / 100), 1, 255
    )
    frequencies = _cosines(blocks, inverse=False)
    steps = steps[:, None].astype(image.dtype)  # [8 1 8 c]
    blocks = _cosines(jnp.round(frequencies / steps) * steps, inverse=True)
    values = blocks.reshape(rows * BLOCK, columns * BLOCK, channels)[:height, :width] + offset
    values = jnp.clip(jnp.round(values), offset - 128, offset + 127)
    if colour:
        back = jnp.asarray(np.linalg.inv(TO_YCBCR), values.dtype)
        values = jnp.einsum("hwy,cy->hwc", values, back, precision="highest")
    return jnp.clip(values / 255, 0, 1).astype(image.dtype)


def _cosines(blocks: Float[Array, "r 8 q 8 c"], *, inverse: bool) -> Float[Array, "r 8 q 8 c"]:
    """Transform blocks to frequencies and back (DCT-II, orthonormal)."""
    number, place = np.arange(BLOCK)[:, None], np.arange(BLOCK)
    waves = np.cos((2 * place + 1) * number * np.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    waves[0] /= math.sqrt(2)
    matrix = jnp.asarray(waves.T if inverse else waves, blocks.dtype)
    blocks = jnp.einsum("rxqyc,ux->ruqyc", blocks, matrix, precision="highest")
    return jnp.einsum("ruqyc,vy->ruqvc", blocks, matrix, precision="highest")


@compose.branching
def low_resolution(
    key: Key,
    sample: Sample,
    *,
    scale: Annotated[compose.Pair, rules.interval(0.01, 1)],
    p: kinds.Probability = 1,
) -> Sample:
    """Show as from fewer pixels: the nearest of each block, interpolated linearly."""
    chosen, each = jax.random.split(key)
    drawn = jax.random.uniform(each, (), jnp.float32, scale[0], scale[1])

    def change(image: Image) -> Image:
        axes = range(image.ndim - 1)
        return functools.reduce(lambda x, axis: intensity.coarse(x, drawn, axis=axis), axes, image)

    return compose.changed(chosen, sample, change, p=p)


@compose.branching
def fog(
    key: Key,
    sample: Sample,
    *,
    density: Annotated[compose.Pair, rules.interval(0, 20)],
    color: Fill = 0.9,
    grid: Annotated[int, rules.whole(2, 64)] = 4,
    p: kinds.Probability = 1,
) -> Sample:
    """Lay fog of uneven depth over the image, by Koschmieder's law.

    `image * t + color * (1 - t)` with `t = exp(-density * depth)`, where the depth goes smoothly
    from 0 to 1 between random values on a coarse grid. Density 1 hides at most 63 %.

    Args:
        key: For this example and op.
        sample: Of any size.
        density: Drawn uniformly.
        color: Image value of fog.
        grid: Grid points along each side.
        p: Probability.
    """
    compose.check_unit_range("fog", sample)
    compose.check_fill("fog.color", color, sample)
    chosen, strength, each = jax.random.split(key, 3)
    drawn = jax.random.uniform(strength, (), sample.image.dtype, density[0], density[1])
    size = sample.size
    depth = jax.random.uniform(each, (*[grid] * len(size), 1), jnp.float32)

    def change(image: Image) -> Image:
        smooth = jnp.clip(jax.image.resize(depth, (*size, 1), "cubic"), 0, 1)
        through = jnp.exp(-drawn * smooth.astype(image.dtype))
        return image * through + jnp.asarray(color, image.dtype) * (1 - through)

    return compose.changed(chosen, sample, change, p=p)


@compose.branching
def shadow(
    key: Key,
    sample: Sample,
    *,
    darkness: Annotated[compose.Pair, rules.interval(0, 1)],
    width: Annotated[compose.Pair, rules.interval(0.01, 2)] = (0.2, 0.6),
    p: kinds.Probability = 1,
) -> Sample:
    """Darken a straight band across the image, of any direction and place.

    Args:
        key: For this example and op.
        sample: Of any size.
        darkness: Of the shadow: 0 is none, 1 is black.
        width: Of the band, as a share of the longest side.
        p: Probability.
    """
    compose.check_unit_range("shadow", sample)
    size = sample.size
    chosen, each, towards = jax.random.split(key, 3)
    draw = jax.random.uniform(each, (2 + len(size),), jnp.float32)
    across = jax.random.normal(towards, (len(size),), jnp.float32)
    across = across / jnp.maximum(jnp.linalg.norm(across), 1e-6)
    dark = darkness[0] + draw[0] * (darkness[1] - darkness[0])
    wide = (width[0] + draw[1] * (width[1] - width[0])) * max(size)

    def change(image: Image) -> Image:
        centre = [draw[2 + axis] * length for axis, length in enumerate(size)]
        places = warp.centres(size).axes
        far = sum(
            (at - middle) * part for at, middle, part in zip(places, centre, across, strict=True)
        )
        return jnp.where(
            jnp.abs(far)[..., None] < wide / 2, image * (1 - dark.astype(image.dtype)), image
        )

    return compose.changed(chosen, sample, change, p=p)


def check_images(name: str, sample: Sample) -> None:
    """Raise ConfigError if the op `name`, which is of images with two axes, gets other data."""
    if (axes := len(sample.size)) != 2:
        raise ConfigError(
            f"{name}: expected images with a height and a width, got data with {axes} "
            f"{'axes' if axes > 1 else 'axis'} in space. Leave the op out."
        )

"""Chain augmentation ops over a batch, each example with a key of its own."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.kernels import fusion
from segjax.structs import Batch, Key, Schema

Number = (int, float)
Pair: TypeAlias = Sequence[kinds.AnyNumber]
"""`(lo, hi)`, lo <= hi, annotated with a `rules.interval`: the argument is drawn from it, uniformly
unless the op says otherwise."""
Scale: TypeAlias = Annotated[Pair, rules.interval(0.01, 100)]
"""Factors; their filters and logarithms stay in bounds."""
Fill: TypeAlias = kinds.AnyNumber | Sequence[kinds.AnyNumber]
"""An image value in [0, 1]: one, or one per channel."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The fields of one example, as an op gets and returns them.

    Attributes:
        arrays: By name; images are float, maps int32, multi-label maps and masks of objects uint8.
        schema: What they are; the dtypes are those that the source had.
    """

    arrays: Mapping[str, Array]
    schema: Schema

    @property
    def image(self) -> Float[Array, "*space c"]:
        """The image; photometric ops change it alone, other fields of its kind only move."""
        return self.arrays["image"]

    @property
    def size(self) -> tuple[int, ...]:
        """The sides in pixels, one to three."""
        return self.image.shape[:-1]

    def replace(self, **arrays: Array) -> "Sample":
        """Return the example with other arrays in some of its fields."""
        return Sample({**self.arrays, **arrays}, self.schema)

    def keep(self, shown: Bool[Array, "*space"], *, fill: Fill, maps: bool = True) -> "Sample":
        """Return the example with `fill` in its images where `shown` is False.

        With `maps`, class maps are void there, multi-label maps in every class, instance maps are
        0, and no object has a pixel there.
        """
        kept = {}
        for name, field in self.schema.items():
            array = self.arrays[name]
            if field.kind == "image":
                kept[name] = jnp.where(shown[..., None], array, jnp.asarray(fill, array.dtype))
            elif field.is_map and maps:
                there = shown.reshape(*shown.shape, *[1] * len(field.shape))
                kept[name] = jnp.where(there, array, jnp.asarray(field.fill, array.dtype))
        return self.replace(**kept)


Op: TypeAlias = Callable[[Key, Sample], Sample]
Mix: TypeAlias = Callable[[Key, Sample, Sample], Sample]
"""An op that is given another example too. Rows 2i and 2i + 1 of a batch are each other's, as they
are after the ops before it; the last row of an odd batch has no other, and stays as it is."""
OP, MIX = ("key", "sample"), ("key", "sample", "other")
"""What an op, and one that mixes, is called with."""


def make_augment(ops: Sequence[Op | Mix], schema: Schema) -> Callable[[Key, Batch], Batch]:
    """Return `augment(key, batch)`, which applies `ops` in order to every example.

    An example's key is `key` folded with its `index`, an op's key is that folded with the op's
    number: an example's fate depends neither on its row, nor on the rest of the batch but for the
    one example that a `Mix` shows it, nor on how many devices hold it. Images become floats first,
    see `unit_range`.

    Args:
        ops: From `geometry`, `photometric` and `mixing`, or from outside, their arguments bound.
        schema: The fields of the batch.
    """

    def augment(key: Key, batch: Batch) -> Batch:
        given: Mapping[str, Any] = batch
        arrays = {
            name: unit_range(given[name]) if field.kind == "image" else given[name]
            for name, field in schema.items()
        }
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
        for number, op in enumerate(ops):
            op_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            over_rows = jax.vmap(_on_arrays(op, schema))
            function = _in_pairs(over_rows) if mixes(op) else over_rows
            arrays = fusion.isolate(key, op_keys, arrays, function=function)
        augmented: Any = {**batch, **arrays}
        return augmented

    return augment


def mixes(op: Op | Mix) -> bool:
    """Say whether an op is given another example beside its own."""
    needed = [
        p
        for p in inspect.signature(op).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(needed) == len(MIX)


def _on_arrays(op: Callable[..., Sample], schema: Schema) -> Callable[..., Mapping[str, Array]]:
    """Return an op as a function of key and arrays alone, which JAX can map and trace."""
    return lambda key, *arrays: dict(op(key, *(Sample(each, schema) for each in arrays)).arrays)


def _in_pairs(function: Callable[..., Mapping[str, Array]]) -> Callable[..., Mapping[str, Array]]:
    """Return a function of keys and rows that gives `function` the rows' others too.

    They are exchanged within pairs: devices that hold an even number of rows each exchange nothing.
    """

    def apply(keys: Key, rows: Mapping[str, Array]) -> Mapping[str, Array]:
        even = len(keys) // 2 * 2
        if not even:
            return rows
        first = jax.tree.map(lambda x: x[:even], dict(rows))
        others = jax.tree.map(lambda x: jnp.flip(x.reshape(-1, 2, *x.shape[1:]), 1), first)
        others = jax.tree.map(lambda x, like: x.reshape(like.shape), others, first)
        mixed = function(keys[:even], first, others)
        if even == len(keys):
            return mixed
        return {name: jnp.concatenate([x, rows[name][even:]]) for name, x in mixed.items()}

    return apply


def unit_range(image: Shaped[Array, "b *space c"]) -> Float[Array, "b *space c"]:
    """Return images as floats; whatever reads pixels on a device begins here.

    Unsigned whole numbers are divided by their largest, 255 or 65535, to [0, 1]. Signed ones, such
    as Hounsfield units, have no largest that means anything: they become float32 of the same value,
    and `normalize` gets mean and deviation in their units. Floats pass as they are.
    """
    if jnp.issubdtype(image.dtype, jnp.floating):
        return image
    if jnp.issubdtype(image.dtype, jnp.unsignedinteger):
        return image.astype(jnp.float32) / jnp.iinfo(image.dtype).max
    return image.astype(jnp.float32)


def draw_axes(
    last_two: Float[Array, " 2 *rest"], key: Key, *, axes: int, number: int
) -> Float[Array, " axes *rest"]:
    """Return one random number for each axis in space, first to last.

    Images take `last_two`, drawn together with other numbers, and signals the second of them. A
    volume's first axis has another from a key of its own, `key` folded with `number`.
    """
    if axes <= 2:
        return last_two[2 - axes :]
    own = jax.random.fold_in(key, number)
    return jnp.concatenate([jax.random.uniform(own, last_two[:1].shape, jnp.float32), last_two])


def box(lines: Sequence[Bool[Array, "*n _"]]) -> Bool[Array, "..."]:
    """Return where every axis is inside, given which pixels of each axis are."""
    *more, _ = lines[0].shape
    axes = len(lines)
    spread = [
        line.reshape(*more, *(1,) * axis, line.shape[-1], *(1,) * (axes - 1 - axis))
        for axis, line in enumerate(lines)
    ]
    return functools.reduce(jnp.logical_and, spread)


def check_unit_range(name: str, sample: Sample) -> None:
    """Raise ConfigError if the op `name`, which expects values in [0, 1], would clip the images."""
    dtype = sample.schema["image"].dtype
    if jnp.issubdtype(dtype, jnp.signedinteger):
        raise ConfigError(
            f"{name}: expected images in [0, 1], but those of {dtype} keep their values. Leave the "
            "op out, or have the data set scale them to uint16 or to floats in [0, 1]."
        )


def check_channels(name: str, value: Fill, channels: int) -> None:
    """Raise ConfigError unless `value` is one number, or one for each channel."""
    if not isinstance(value, Number) and len(value) not in (1, channels):
        raise ConfigError(
            f"{name}={value!r}: expected one number, or one for each of the image's {channels} "
            f"channel(s), got {len(value)}. Write one number to use it for all."
        )


def check_fill(name: str, value: Fill, sample: Sample) -> None:
    """Raise ConfigError unless `value` can be a pixel of the images; see `unit_range`."""
    for field in sample.schema.values():
        if field.kind == "image":
            check_channels(name, value, field.shape[0])
    values = (value,) if isinstance(value, Number) else value
    free = jnp.issubdtype(sample.schema["image"].dtype, jnp.signedinteger)
    if not free and not all(0 <= x <= 1 for x in values):
        raise ConfigError(f"{name}={value!r}: expected values in [0, 1]. Divide bytes by 255.")

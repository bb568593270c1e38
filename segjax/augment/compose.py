"""Chain augmentation ops over a batch, each example with a key of its own."""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Shaped

from segjax.augment import warp
from segjax.augment.sample import Fill, Sample
from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.kernels import fusion, rows
from segjax.runtime import sharding
from segjax.structs import Batch, Key, Schema

Number = (int, float)
Pair: TypeAlias = Sequence[kinds.AnyNumber]
"""`(lo, hi)`, lo <= hi, annotated with a `rules.interval`: the argument is drawn from it, uniformly
unless the op says otherwise."""
Scale: TypeAlias = Annotated[Pair, rules.interval(0.01, 100)]
"""Factors; their filters and logarithms stay in bounds."""

Op: TypeAlias = Callable[[Key, Sample], Sample]
Mix: TypeAlias = Callable[..., Sample]
"""An op that is given others of the batch too, `(key, sample, other)` the second of a pair, and
`(key, sample, other, third, fourth)` the rest of four. Rows 2i and 2i + 1 of a batch are a pair,
rows 4i to 4i + 3 are four, as they are after the ops before it; each is shown the others in turn
from itself on. Rows at the end that make no whole group stay as they are."""
OP = ("key", "sample")
"""What an op is called with."""
MIXES = ("key", "sample", "other"), ("key", "sample", "other", "third", "fourth")
"""What ops that mix are called with."""

Rows: TypeAlias = Mapping[str, Array]
F = TypeVar("F", bound=Callable[..., Sample])
T = TypeVar("T")


def geometric(op: F) -> F:
    """Mark an op that moves pixels by `warp.apply` alone and reads no array: a decorator.

    Those that follow each other in a config are then one interpolation.
    """
    vars(op)["geometric"] = True
    return op


def branching(op: F) -> F:
    """Mark an op that has branches (`sometimes`, `jax.lax.switch`): a decorator.

    On a CPU its rows are taken one after the other, so that each pays for its own branch alone; it
    would pay for all of them where rows are computed together. With `p=1` there is none.
    """
    vars(op)["branching"] = True
    return op


def sometimes(applied: Bool[Array, ""], change: Callable[[T], T], x: T, *, p: kinds.Real) -> T:
    """Return `change(x)` where `applied`, which is so with probability `p`, and `x` elsewhere."""
    if p in (0, 1):
        return change(x) if p else x
    return jax.lax.cond(applied, change, lambda x: x, x)


def changed(
    key: Key,
    sample: Sample,
    change: Callable[[Float[Array, "*space c"]], Float[Array, "*space c"]],
    *,
    p: kinds.Real,
) -> Sample:
    """Return the sample with its image changed, with probability `p`; `key` is for that alone."""
    applied = jax.random.uniform(key, (), jnp.float32) < p
    return sample.replace(image=sometimes(applied, change, sample.image, p=p))


class Link(NamedTuple):
    """Ops that are computed together: one, or several of a kind that follow each other.

    Attributes:
        ops: One after the other.
        first: The number of the first.
        kind: "geometric", "branching", or empty.
        shown: How many examples each is given: 1, 2 or 4.
    """

    ops: tuple[Callable[..., Sample], ...]
    first: int
    kind: str
    shown: int

    def on_arrays(self, schema: Schema) -> Callable[..., Rows]:
        """Return the ops as a function of keys and arrays alone, which JAX can map and trace."""
        collected = () if self.kind == "geometric" else None

        def run(keys: Sequence[Key], arrays: Rows, *others: Rows) -> Rows:
            sample = Sample(arrays, schema, moves=collected)
            for op, key in zip(self.ops, keys, strict=True):
                sample = op(key, sample, *(Sample(other, schema) for other in others))
            return dict(warp.settle(sample).arrays)

        return run


def make_augment(
    ops: Sequence[Op | Mix], schema: Schema, mesh: Mesh | None = None
) -> Callable[[Key, Batch], Batch]:
    """Return `augment(key, batch)`, which applies `ops` in order to every example.

    An example's key is `key` folded with its `index`, an op's key is that folded with the op's
    number: an example's fate depends neither on its row, nor on the rest of the batch but for the
    examples that a `Mix` shows it, nor on how many devices hold it. Images become floats first,
    see `unit_range`.

    Args:
        ops: From the files of this room, or from outside, their arguments bound.
        schema: The fields of the batch.
        mesh: That the batch lies on; None: on any, and ops that branch compute all branches.
    """
    links = _links(ops)

    def augment(key: Key, batch: Batch) -> Batch:
        given: Mapping[str, Any] = batch
        arrays = {
            name: unit_range(given[name]) if field.kind == "image" else given[name]
            for name, field in schema.items()
        }
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
        for link in links:
            numbers = range(link.first, link.first + len(link.ops))
            op_keys = [jax.vmap(jax.random.fold_in, (0, None))(keys, number) for number in numbers]
            arrays = _run(link, schema, mesh, key, op_keys, arrays)
        augmented: Any = {**batch, **arrays}
        return augmented

    return augment


def _run(
    link: Link, schema: Schema, mesh: Mesh | None, key: Key, op_keys: Sequence[Key], arrays: Rows
) -> Rows:
    """Return the rows after the ops of a link: one by one where these branch, else together."""
    one = link.on_arrays(schema)
    if link.kind == "branching":
        each = functools.partial(rows.each, function=one)
        apart = sharding.on_own_rows(each, mesh, count=len(op_keys[0]))
        if apart is not None:
            return apart(op_keys, arrays)
        if len(link.ops) > 1:  # each by itself, or XLA would compute one anew in the next
            for op, own in zip(link.ops, op_keys, strict=True):
                arrays = _run(link._replace(ops=(op,)), schema, mesh, key, [own], arrays)
            return arrays
    every = jax.vmap(one)
    every = every if link.shown == 1 else _in_groups(every, link.shown)
    return fusion.isolate(key, op_keys, arrays, function=every)


def examples_of(op: Op | Mix) -> int:
    """Return how many examples an op is given: 1, or its own and others."""
    needed = [
        p
        for p in inspect.signature(op).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(needed) - 1


def _links(ops: Sequence[Op | Mix]) -> list[Link]:
    """Return the ops, those of a kind that follow each other together."""
    links, number = [], 0
    for kind, group in itertools.groupby(ops, _kind):
        together = [*group]
        for found in [together] if kind else [[op] for op in together]:
            links.append(Link(tuple(found), number, kind, examples_of(found[0])))
            number += len(found)
    return links


def _kind(op: Callable[..., Any]) -> str:
    """Return the mark of an op, bound or not; one that always acts does not branch."""
    function = op.func if isinstance(op, functools.partial) else op
    p = inspect.signature(op).parameters.get("p")
    decided = p is not None and p.default in (0, 1)
    if getattr(function, "branching", False) and not decided:
        return "branching"
    return "geometric" if getattr(function, "geometric", False) else ""


def _in_groups(function: Callable[..., Rows], shown: int) -> Callable[..., Rows]:
    """Return a function of keys and rows that gives `function` the others of each row's group too.

    They are exchanged within groups: devices that hold whole groups exchange nothing.
    """

    def apply(keys: Sequence[Key], arrays: Rows) -> Rows:
        count = len(keys[0])
        whole = count // shown * shown
        if not whole:
            return arrays
        first = jax.tree.map(lambda x: x[:whole], dict(arrays))

        def turned(by: int) -> Rows:
            grouped = jax.tree.map(lambda x: x.reshape(-1, shown, *x.shape[1:]), first)
            moved = jax.tree.map(lambda x: jnp.roll(x, -by, 1), grouped)
            return jax.tree.map(lambda x, like: x.reshape(like.shape), moved, first)

        mixed = function([key[:whole] for key in keys], first, *map(turned, range(1, shown)))
        if whole == count:
            return mixed
        return {name: jnp.concatenate([x, arrays[name][whole:]]) for name, x in mixed.items()}

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

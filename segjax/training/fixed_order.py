"""A gradient whose bits do not depend on how many devices compute it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from segjax.structs import Batch, Key
from segjax.training.state import TrainState

Scalars = dict[str, jax.Array]
Gradient = tuple[Any, Scalars, Any]
"""Of the parameters, the terms of the loss, and the new running statistics."""


def make_gradient(
    gradient_of: Callable[..., Any],
    weigh: Callable[[Batch], Scalars],
    augment: Callable[[Key, Batch], Batch],
    mesh: Mesh,
    logical_shards: int,
) -> Callable[[TrainState, Batch, jax.Array], Gradient]:
    """Return a gradient whose sums run over `logical_shards` parts of the batch, first to last.

    Each part is computed by itself, its batch norm sees it alone, and a device that holds several
    takes one after the other. So 2, 4 or 8 devices do the same operations in the same order, and
    give the same bits; a single one, compiled without partitions, may differ in the last. It costs
    as many copies of the gradient as there are parts, and their gathering.
    """
    axis, local = mesh.axis_names[0], logical_shards // mesh.size

    def total(tree: Any) -> Any:
        """Add up the leading axis over all devices, in order."""

        def add(x: jax.Array) -> jax.Array:
            every = jax.lax.all_gather(x, axis, tiled=True)
            return functools.reduce(jnp.add, [every[i] for i in range(logical_shards)])

        return jax.tree.map(add, tree)

    def on_device(state: TrainState, batch: Batch, keys: jax.Array) -> Gradient:
        each = functools.partial(one_by_one, step=state.step)
        numbers = jax.lax.axis_index(axis) * local + jnp.arange(local)
        shard_keys = jax.vmap(functools.partial(jax.random.fold_in, keys[1]))(numbers)
        shards = jax.tree.map(lambda x: x.reshape(local, -1, *x.shape[1:]), dict(batch))
        shards = each(lambda shard: augment(keys[0], shard), shards)
        weights = total(each(weigh, shards))

        def one(item: tuple[Batch, jax.Array]) -> Gradient:
            shard, key = item
            grads, (means, stats) = gradient_of(
                state.params, state.batch_stats, shard, key, weights
            )
            return grads, means, stats

        grads, means, stats = total(each(one, (shards, shard_keys)))
        return grads, means, jax.tree.map(lambda x: x / logical_shards, stats)

    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(P(), P(axis), P()), out_specs=P(), check_vma=False
    )


def one_by_one(function: Callable[[Any], Any], items: Any, *, step: jax.Array) -> Any:
    """Do what `jax.lax.map` does, in a loop whose length the compiler cannot know.

    A loop that runs once would be dissolved into the program around it, and fused otherwise: the
    same operations, but other bits.
    """
    count = len(jax.tree.leaves(items)[0])
    if count == 1:  # of two, the second never looked at: which one is taken must stay open
        items = jax.tree.map(lambda x: jnp.concatenate([x, x]), items)
    never = step < 0  # False, but not to the compiler
    first = jax.tree.map(lambda x: x[0], items)
    shapes = jax.eval_shape(function, first)
    results = jax.tree.map(lambda leaf: jnp.zeros((max(count, 2), *leaf.shape), leaf.dtype), shapes)

    def body(i: jax.Array, results: Any) -> Any:
        result = function(jax.tree.map(lambda x: x[i], items))
        return jax.tree.map(lambda every, x: every.at[i].set(x), results, result)

    results = jax.lax.fori_loop(0, count + never.astype(jnp.int32), body, results)
    return jax.tree.map(lambda x: x[:count], results)

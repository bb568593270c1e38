"""A gradient whose bits do not depend on how many devices compute it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from segjax.kernels import fusion
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
        def each(function: Callable[[Any], Any], items: Any) -> Any:
            # A device may hold a single item: its bits must not depend on that.
            return fusion.opaque_loop(items, state.step, function=function)

        numbers = jax.lax.axis_index(axis) * local + jnp.arange(local)
        shard_keys = jax.vmap(functools.partial(jax.random.fold_in, keys[1]))(numbers)
        shards = jax.tree.map(lambda x: x.reshape(local, -1, *x.shape[1:]), dict(batch))
        shards = each(lambda shard: augment(keys[0], shard), shards)
        weights = total(each(weigh, shards))

        def one(item: tuple[Batch, jax.Array]) -> Gradient:
            shard, key = item
            grads, (means, stats) = gradient_of(
                state.params, state.batch_stats, shard, key, weights, state.step
            )
            return grads, means, stats

        grads, means, stats = total(each(one, (shards, shard_keys)))
        return grads, means, jax.tree.map(lambda x: x / logical_shards, stats)

    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(P(), P(axis), P()), out_specs=P(), check_vma=False
    )

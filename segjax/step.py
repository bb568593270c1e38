"""The pure functions that get compiled: the train step, the eval step, prediction."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from segjax import state as state_lib
from segjax.state import TrainState
from segjax.structs import Batch, Key, Outputs

Scalars = dict[str, jax.Array]
Gradient = tuple[Any, Scalars, Any]
"""Of the parameters, the terms of the loss, and the new running statistics."""


def make_train_step(
    model: nn.Module,
    task: Any,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    *,
    augment: Callable[[Key, Batch], Batch],
    normalize: Callable[[jax.Array], jax.Array],
    microbatches: int = 1,
    ema_decay: float = 0.0,
    logical_shards: int = 0,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Batch, Key], tuple[TrainState, Scalars]]:
    """Return `train_step(state, batch, key) → state, scalars`, pure, to be jitted with donation.

    Every loss term is divided by its weight over the *global* batch, so neither devices nor
    microbatches change the gradient (batch norm sees one microbatch at a time). With
    `logical_shards` it is summed in an order that does not depend on the devices of `mesh`, see
    `fixed_order`.
    """

    def objective(params: Any, batch_stats: Any, batch: Batch, key: Key, weights: dict) -> Any:
        outputs, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            normalize(batch["image"]),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        terms = task.loss(outputs, batch)
        parts = {
            name: factor * total / jnp.maximum(weights[name], 1e-8).astype(total.dtype)
            for name, (factor, total, _) in terms.items()
        }
        return sum(parts.values()), (parts, updates.get("batch_stats", {}))

    def gradient(state: TrainState, batch: Batch, keys: jax.Array) -> Gradient:
        """Return the gradient, the terms of the loss and the new running statistics."""
        batch = augment(keys[0], batch)
        weights = loss_weights(model, task, state, batch)

        def accumulate(carry: Any, item: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            grads, parts, batch_stats = carry
            part, number = item
            grad = jax.grad(objective, has_aux=True)
            new, (new_parts, batch_stats) = grad(
                state.params, batch_stats, part, jax.random.fold_in(keys[1], number), weights
            )
            return (jax.tree.map(jnp.add, (grads, parts), (new, new_parts)) + (batch_stats,)), None

        if microbatches == 1:
            grads, (parts, batch_stats) = jax.grad(objective, has_aux=True)(
                state.params, state.batch_stats, batch, keys[1], weights
            )
            return grads, parts, batch_stats
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        nothing = {name: jnp.zeros_like(w) for name, w in weights.items()}
        items = (split_batch(batch, microbatches), jnp.arange(microbatches))
        return jax.lax.scan(accumulate, (zeros, nothing, state.batch_stats), items)[0]

    def shard_gradient(state: TrainState, shards: Batch, keys: Any, total: Any) -> Gradient:
        """Return the gradient of each shard by itself; `total` adds up over all shards."""
        each = functools.partial(one_by_one, step=state.step)
        shards = each(lambda shard: augment(keys[0], shard), shards)
        measure = functools.partial(loss_weights, model, task, state)
        weights = total(each(measure, shards))

        def one(item: tuple[Batch, jax.Array]) -> Gradient:
            shard, key = item
            grad = jax.grad(objective, has_aux=True)
            grads, (parts, stats) = grad(state.params, state.batch_stats, shard, key, weights)
            return grads, parts, stats

        grads, parts, stats = total(each(one, (shards, keys[1])))
        return grads, parts, jax.tree.map(lambda x: x / logical_shards, stats)

    if logical_shards:
        gradient = fixed_order(shard_gradient, mesh, logical_shards)

    def train_step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Scalars]:
        keys = jax.random.split(jax.random.fold_in(key, state.step))
        grads, parts, batch_stats = gradient(state, batch, keys)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            new = {"params": params, "batch_stats": batch_stats}
            ema = state_lib.update_ema(ema, new, decay=ema_decay, step=state.step)
        scalars = {"loss": sum(parts.values()), "grad_norm": optax.tree.norm(grads)}
        if len(parts) > 1:
            scalars |= {f"loss_{name}": value for name, value in parts.items()}
        scalars["lr"] = jnp.asarray(rate(state.step))
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), scalars

    return train_step


def fixed_order(
    shard_gradient: Callable[..., Gradient], mesh: Mesh, logical_shards: int
) -> Callable[[TrainState, Batch, jax.Array], Gradient]:
    """Return a gradient whose sums run over `logical_shards` parts of the batch, first to last.

    Each part is computed by itself, its batch norm sees it alone, and a device that holds several
    takes one after the other. So 2, 4 or 8 devices do the same operations in the same order, and
    give the same bits. It costs as many copies of the gradient as there are parts, and their
    gathering.
    """
    local = logical_shards // mesh.size

    def total(tree: Any) -> Any:
        """Add up the leading axis over all devices, in order."""

        def add(x: jax.Array) -> jax.Array:
            every = jax.lax.all_gather(x, mesh.axis_names[0], tiled=True)
            every = jax.lax.optimization_barrier(every)
            return functools.reduce(jnp.add, [every[i] for i in range(logical_shards)])

        return jax.tree.map(add, tree)

    def on_device(state: TrainState, batch: Batch, keys: jax.Array) -> Gradient:
        first = jax.lax.axis_index(mesh.axis_names[0]) * local
        numbers = first + jnp.arange(local)
        shard_keys = jax.vmap(functools.partial(jax.random.fold_in, keys[1]))(numbers)
        shards = jax.tree.map(lambda x: x.reshape(local, -1, *x.shape[1:]), dict(batch))
        return shard_gradient(state, shards, (keys[0], shard_keys), total)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(P(), P(mesh.axis_names[0]), P()),
        out_specs=P(),
        check_vma=False,
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


def loss_weights(model: nn.Module, task: Any, state: TrainState, batch: Batch) -> dict:
    """Return the weight of each loss term over the whole batch.

    A weight depends on the labels only, so the zeros standing in for logits are never computed.
    """

    def outputs(image: jax.Array) -> Outputs:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        rngs = {"dropout": jax.random.key(0)}
        return model.apply(variables, image, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    shapes = jax.eval_shape(outputs, batch["image"])
    zeros: Outputs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return {name: weight for name, (_, _, weight) in task.loss(zeros, batch).items()}


def split_batch(batch: Batch, parts: int) -> Any:
    """Return the batch as `parts` microbatches on a new leading axis.

    Microbatch i holds rows i, i + parts, …: each device splits its own rows, so nothing moves.
    """
    return jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), dict(batch)
    )


def make_eval_step(
    model: nn.Module, task: Any, *, normalize: Callable[[jax.Array], jax.Array]
) -> Callable[[Any, Batch], dict]:
    """Return `eval_step(variables, batch)`: the task's measures of one batch, without augmentation.

    The measures come with the batch's `mask`, so that padding rows can be told apart.
    """

    def eval_step(variables: Any, batch: Batch) -> dict:
        outputs = model.apply(variables, normalize(batch["image"]), train=False)
        return task.measure(outputs, batch) | {"mask": batch["mask"]}

    return eval_step

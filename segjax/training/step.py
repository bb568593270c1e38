"""The train step: a pure function, to be compiled once."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from segjax.errors import ConfigError
from segjax.kernels import sums
from segjax.runtime import sharding
from segjax.structs import Batch, Key, Schema
from segjax.tasks.base import Task
from segjax.training import fixed_order
from segjax.training import state as state_lib
from segjax.training.fixed_order import Gradient, Scalars
from segjax.training.state import TrainState

Objective = Callable[[Any, Any, Batch, Key, Scalars, Any], Any]
"""`(params, batch_stats, batch, key, weights, step)` to a loss, or to its gradient by `params`."""


def make_train_step(
    model: nn.Module,
    task: Task,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    *,
    augment: Callable[[Key, Batch], Batch],
    normalize: Callable[[jax.Array], jax.Array],
    schema: Schema,
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
    fixed = bool(logical_shards) and mesh is not None
    objective = make_objective(
        model,
        task,
        normalize,
        None if logical_shards else mesh,
        whole=microbatches == 1 and not fixed,
    )
    gradient_of = jax.grad(objective, has_aux=True)
    if logical_shards and mesh:
        gradient = fixed_order.make_gradient(
            gradient_of, task.weights, augment, mesh, logical_shards
        )
    else:
        place = functools.partial(sharding.constrain, mesh=mesh, schema=schema)
        gradient = make_gradient(gradient_of, task.weights, augment, place, microbatches)

    def train_step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Scalars]:
        keys = jax.random.split(jax.random.fold_in(key, state.step))
        grads, means, batch_stats = gradient(state, batch, keys)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            new = {"params": params, "batch_stats": batch_stats}
            ema = state_lib.update_ema(ema, new, decay=ema_decay, step=state.step)
        scalars = {"loss": sum(means.values()), "grad_norm": global_norm(grads)}
        if len(means) > 1:
            scalars |= {f"loss_{name}": value for name, value in means.items()}
        scalars["lr"] = jnp.asarray(rate(state.step))
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), scalars

    return train_step


def global_norm(tree: Any) -> jax.Array:
    """Return the square root of the sum of all squares in `tree`."""
    return jnp.sqrt(sum(sums.square_sum(x) for x in jax.tree.leaves(tree)))


def make_objective(
    model: nn.Module, task: Task, normalize: Callable, mesh: Mesh | None, *, whole: bool
) -> Objective:
    """Return the loss of some images: a function as `Objective` to a scalar.

    With it, as auxiliary output, the terms of the sum and the new running statistics.

    Args:
        model: Applied to normalised images in training.
        task: Says what the loss is.
        normalize: From a batch's images to the model's input.
        mesh: Over which parameters are split; None: each device has them all.
        whole: Whether `batch` is the whole global batch, not a part of it.
    """

    def objective(
        params: Any, batch_stats: Any, batch: Batch, key: Key, weights: Scalars, step: Any
    ) -> Any:
        given = task.inputs(batch, jax.random.fold_in(key, 2), step)
        with sharding.over(mesh):
            outputs, updates = model.apply(
                {"params": sharding.replicate(params, mesh), "batch_stats": batch_stats},
                normalize(batch["image"]),
                train=True,
                **given,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
        terms = task.loss(outputs, batch, jax.random.fold_in(key, 1))
        if not whole and (alone := [name for name, term in terms.items() if not term.divisor]):
            raise ConfigError(
                f"config.task: the labels alone do not decide the weight of {', '.join(alone)}, so "
                "parts of a batch cannot be added up. Give the loss a method `weight`, or set "
                "microbatches=1 and deterministic_reduction=0."
            )
        means = {name: term.mean(weights) for name, term in terms.items()}
        return sum(means.values()), (means, updates.get("batch_stats", {}))

    return objective


def make_gradient(
    gradient_of: Objective,
    weigh: Callable[[Batch], Scalars],
    augment: Callable[[Key, Batch], Batch],
    place: Callable[[Batch], Batch],
    microbatches: int,
) -> Callable[[TrainState, Batch, jax.Array], Gradient]:
    """Return the gradient of a batch, augmented, with the loss's terms and running statistics."""

    def gradient(state: TrainState, batch: Batch, keys: jax.Array) -> Gradient:
        batch = place(augment(keys[0], batch))
        weights = weigh(batch)

        def one(batch_stats: Any, part: Batch, key: Key) -> tuple[Any, tuple[Scalars, Any]]:
            return gradient_of(state.params, batch_stats, part, key, weights, state.step)

        def accumulate(carry: Any, item: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            grads, means, batch_stats = carry
            part, number = item
            new, (new_means, batch_stats) = one(
                batch_stats, part, jax.random.fold_in(keys[1], number)
            )
            return (jax.tree.map(jnp.add, (grads, means), (new, new_means)) + (batch_stats,)), None

        if microbatches == 1:
            grads, (means, batch_stats) = one(state.batch_stats, batch, keys[1])
            return grads, means, batch_stats
        items = (split_batch(batch, microbatches), jnp.arange(microbatches))
        first = jax.tree.map(lambda x: x[0], items[0])
        shapes, (means, _) = jax.eval_shape(one, state.batch_stats, first, keys[1])
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (shapes, means))
        return jax.lax.scan(accumulate, (*zeros, state.batch_stats), items)[0]

    return gradient


def split_batch(batch: Batch, parts: int) -> Any:
    """Return the batch as `parts` microbatches on a new leading axis.

    Microbatch i holds rows i, i + parts, …: each device splits its own rows, so nothing moves.
    """
    return jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), dict(batch)
    )

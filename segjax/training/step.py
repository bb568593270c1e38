"""The pure functions that get compiled: the train step, the eval step, prediction."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from segjax.kernels import sums
from segjax.runtime import sharding
from segjax.structs import Batch, Key, Outputs
from segjax.training import fixed_order
from segjax.training import state as state_lib
from segjax.training.fixed_order import Gradient, Scalars
from segjax.training.state import TrainState


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
    split = None if logical_shards else mesh
    gradient_of = jax.grad(make_objective(model, task, normalize, split), has_aux=True)
    weigh = functools.partial(loss_weights, model, task)
    if logical_shards and mesh:
        gradient = fixed_order.make_gradient(gradient_of, weigh, augment, mesh, logical_shards)
    else:
        gradient = make_gradient(gradient_of, weigh, augment, mesh, microbatches)

    def train_step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Scalars]:
        keys = jax.random.split(jax.random.fold_in(key, state.step))
        grads, parts, batch_stats = gradient(state, batch, keys)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            new = {"params": params, "batch_stats": batch_stats}
            ema = state_lib.update_ema(ema, new, decay=ema_decay, step=state.step)
        scalars = {"loss": sum(parts.values()), "grad_norm": global_norm(grads)}
        if len(parts) > 1:
            scalars |= {f"loss_{name}": value for name, value in parts.items()}
        scalars["lr"] = jnp.asarray(rate(state.step))
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), scalars

    return train_step


def global_norm(tree: Any) -> jax.Array:
    """Return the square root of the sum of all squares in `tree`."""
    return jnp.sqrt(sum(sums.square_sum(x) for x in jax.tree.leaves(tree)))


def make_objective(
    model: nn.Module, task: Any, normalize: Callable, mesh: Mesh | None
) -> Callable[..., Any]:
    """Return the loss of some images: `(params, batch_stats, batch, key, weights)` to a scalar.

    With it, as auxiliary output, the terms of the sum and the new running statistics.
    """

    def objective(params: Any, batch_stats: Any, batch: Batch, key: Key, weights: dict) -> Any:
        outputs, updates = model.apply(
            {"params": sharding.whole(params, mesh), "batch_stats": batch_stats},
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

    return objective


def make_gradient(
    gradient_of: Callable[..., Any],
    weigh: Callable[[TrainState, Batch], dict],
    augment: Callable[[Key, Batch], Batch],
    mesh: Mesh | None,
    microbatches: int,
) -> Callable[[TrainState, Batch, jax.Array], Gradient]:
    """Return the gradient of a batch, augmented, with the loss's terms and running statistics."""

    def gradient(state: TrainState, batch: Batch, keys: jax.Array) -> Gradient:
        batch = sharding.constrain(augment(keys[0], batch), mesh)
        weights = weigh(state, batch)

        def accumulate(carry: Any, item: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            grads, parts, batch_stats = carry
            part, number = item
            new, (new_parts, batch_stats) = gradient_of(
                state.params, batch_stats, part, jax.random.fold_in(keys[1], number), weights
            )
            return (jax.tree.map(jnp.add, (grads, parts), (new, new_parts)) + (batch_stats,)), None

        if microbatches == 1:
            grads, (parts, batch_stats) = gradient_of(
                state.params, state.batch_stats, batch, keys[1], weights
            )
            return grads, parts, batch_stats
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        nothing = {name: jnp.zeros_like(w) for name, w in weights.items()}
        items = (split_batch(batch, microbatches), jnp.arange(microbatches))
        return jax.lax.scan(accumulate, (zeros, nothing, state.batch_stats), items)[0]

    return gradient


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
    model: nn.Module,
    task: Any,
    *,
    normalize: Callable[[jax.Array], jax.Array],
    mesh: Mesh | None = None,
) -> Callable[[Any, Batch], dict]:
    """Return `eval_step(variables, batch)`: the task's measures of one batch, without augmentation.

    The measures come with the batch's `mask`, so that padding rows can be told apart.
    """

    def eval_step(variables: Any, batch: Batch) -> dict:
        variables = sharding.whole(variables, mesh)
        outputs = model.apply(variables, normalize(batch["image"]), train=False)
        return task.measure(outputs, batch) | {"mask": batch["mask"]}

    return eval_step

"""The pure functions that get compiled: the train step, the eval step, prediction."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from segjax import state as state_lib
from segjax.state import TrainState
from segjax.structs import Batch, Key, Outputs

Scalars = dict[str, jax.Array]


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
) -> Callable[[TrainState, Batch, Key], tuple[TrainState, Scalars]]:
    """Return `train_step(state, batch, key) → state, scalars`, pure, to be jitted with donation.

    Every loss term is divided by its weight over the *global* batch, so neither devices nor
    microbatches change the gradient (batch norm sees one microbatch at a time).
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

    def train_step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Scalars]:
        augment_key, model_key = jax.random.split(jax.random.fold_in(key, state.step))
        batch = augment(augment_key, batch)
        weights = loss_weights(model, task, state, batch)

        def accumulate(carry: Any, item: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            grads, parts, batch_stats = carry
            part, number = item
            grad = jax.grad(objective, has_aux=True)
            new, (new_parts, batch_stats) = grad(
                state.params, batch_stats, part, jax.random.fold_in(model_key, number), weights
            )
            return (jax.tree.map(jnp.add, (grads, parts), (new, new_parts)) + (batch_stats,)), None

        if microbatches == 1:
            grads, (parts, batch_stats) = jax.grad(objective, has_aux=True)(
                state.params, state.batch_stats, batch, model_key, weights
            )
        else:
            zeros = jax.tree.map(jnp.zeros_like, state.params)
            start = (
                zeros,
                {name: jnp.zeros_like(w) for name, w in weights.items()},
                state.batch_stats,
            )
            items = (split_batch(batch, microbatches), jnp.arange(microbatches))
            (grads, parts, batch_stats), _ = jax.lax.scan(accumulate, start, items)

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

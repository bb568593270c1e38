"""Look into one train step: what of it is not finite, in the order in which it is computed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.structs import Batch, Key
from segjax.tasks.base import Task
from segjax.training.state import TrainState

Flags = dict[str, jax.Array]
"""Whether each of some arrays is finite, by name."""


@dataclasses.dataclass(frozen=True)
class Look:
    """What is finite in a step, in the order in which it is computed.

    Attributes:
        state: Parameters, statistics and optimiser before the step.
        images: As they come and as the model sees them.
        outputs: Of each module of the model.
        terms: Of the loss; their values.
        gradients: Of each parameter, those of the last module first.
    """

    state: dict[str, bool]
    images: dict[str, bool]
    outputs: dict[str, bool]
    terms: dict[str, float]
    gradients: dict[str, bool]


def make_look(
    model: nn.Module,
    task: Task,
    *,
    augment: Callable[[Key, Batch], Batch],
    normalize: Callable[[jax.Array], jax.Array],
) -> Callable[[TrainState, Batch, Key], Look]:
    """Return `look(state, batch, key)` into the step that the state is about to take.

    The batch goes through as a whole, so with microbatches or a fixed order of sums batch norm sees
    more images than in the step itself. The state stays.
    """
    order: list[str] = []

    def forward(params: Any, batch_stats: Any, batch: Batch, key: Key, step: Any) -> Any:
        given = task.inputs(batch, jax.random.fold_in(key, 2), step)
        image = normalize(batch["image"])
        with nn.intercept_methods(functools.partial(_note, order)):
            outputs, updates = model.apply(
                {"params": params, "batch_stats": batch_stats}, image, train=True, **given,
                mutable=["batch_stats", "intermediates"], capture_intermediates=True,
                rngs={"dropout": key},
            )  # fmt: skip
        terms = task.loss(outputs, batch, jax.random.fold_in(key, 1))
        weights = task.weights(batch)
        means = {name: term.mean(weights) for name, term in terms.items()}
        inside = _finite(updates.get("intermediates", {}))
        return sum(means.values()), (means, inside, image)

    @jax.jit
    def look(state: TrainState, batch: Batch, key: Key) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, state.step))
        augmented = augment(keys[0], batch)
        grads, (means, inside, image) = jax.grad(forward, has_aux=True)(
            state.params, state.batch_stats, augmented, keys[1], state.step
        )
        names = ("params", "batch_stats", "opt_state")
        before = {name: getattr(state, name) for name in names}
        seen = {"as read": batch, "augmented": augmented, "normalised": {"image": image}}
        images = {name: each["image"].astype(jnp.float32) for name, each in seen.items()}
        return _finite(before), _finite(images), inside, means, _finite(grads)

    def run(state: TrainState, batch: Batch, key: Key) -> Look:
        before, images, inside, means, grads = jax.device_get(look(state, batch, key))
        place = {name: number for number, name in enumerate(dict.fromkeys(order))}

        def number(name: str) -> int:
            """Return when the module that a name lies in, or is, had ended."""
            while name and name not in place:
                name = name.rpartition("/")[0]
            return place.get(name, len(place))

        return Look(
            {name: bool(x) for name, x in before.items()},
            {name: bool(images[name]) for name in ("as read", "augmented", "normalised")},
            {name: bool(inside[name]) for name in sorted(inside, key=number)},
            {name: float(x) for name, x in means.items()},
            {name: bool(grads[name]) for name in sorted(grads, key=number, reverse=True)},
        )

    return run


def _note(order: list[str], call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """Note when a module's call has ended: those inside it before itself."""
    found = call(*args, **kwargs)
    if context.method_name == "__call__":
        order.append("/".join(context.module.path) or "model")
    return found


def _finite(tree: Any) -> Flags:
    """Return whether each array of floats in a tree is finite, by its path without captures."""
    found: Flags = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating):
            names = [jax.tree_util.keystr((key,), simple=True) for key in path]
            name = "/".join(names).partition("/__call__")[0]
            name = "model" if name.startswith("__call__") else name
            finite = jnp.isfinite(leaf).all()
            found[name] = found[name] & finite if name in found else finite
    return found

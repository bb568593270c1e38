"""The training state: arrays only, no functions in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from segjax.structs import Key


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to continue.

    Attributes:
        step: Optimiser steps done, int32.
        params: The model's parameters, in its `param_dtype`.
        batch_stats: Running statistics of batch norm; empty for models without.
        opt_state: The optimiser's state.
        ema: Exponential moving average of `{'params', 'batch_stats'}`; empty when it is off.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    def variables(self) -> dict[str, Any]:
        """Return what evaluation uses: the moving average where there is one."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    key: Key,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    ema: bool,
) -> TrainState:
    """Return the state at step 0, for images (h, w, c); pure, jitted with out_shardings."""
    variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # A copy: the step donates the state, and no buffer may be donated twice.
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else {}
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params), average)


def replace_variables(state: TrainState, leaves: Mapping[str, np.ndarray]) -> TrainState:
    """Return `state` with other parameters and statistics, where they lie; their average as well.

    Args:
        state: At step 0.
        leaves: Values by path without 'params' or 'batch_stats' (`encoder/stem/conv/kernel`),
            whole on every process.
    """

    def replace(tree: Any, above: int) -> Any:
        def put(path: Any, leaf: jax.Array) -> jax.Array:
            value = leaves.get(path_of(path[above:]))
            if value is None:
                return leaf
            # A copy each: the step donates what it is given.
            return jax.make_array_from_callback(
                leaf.shape, leaf.sharding, lambda index: np.array(value[index], leaf.dtype)
            )

        return jax.tree.map_with_path(put, tree)

    return state.replace(  # pyright: ignore
        params=replace(state.params, 0),
        batch_stats=replace(state.batch_stats, 0),
        ema=replace(state.ema, 1),
    )


def path_of(keys: Sequence[Any]) -> str:
    """Return a leaf's path in words, `encoder/stem/conv/kernel`."""
    return "/".join(str(key.key) for key in keys)


def update_ema(ema: Any, new: Any, *, decay: float, step: jax.Array) -> Any:
    """Move `ema` towards `new`; early steps average over fewer (Izmailov 2018; TensorFlow's rule).

    The decay in use is min(decay, (1 + step) / (10 + step)), so the random start is soon forgotten.
    """
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, x: (old + (1.0 - now) * (x - old)).astype(old.dtype), ema, new)

"""The training state: arrays only, no functions in it."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
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
    image_shape: tuple[int, int, int],
    ema: bool,
) -> TrainState:
    """Return the state at step 0, for images (h, w, c); pure, jitted with out_shardings."""
    variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # A copy: the step donates the state, and no buffer may be donated twice.
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else {}
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params), average)


def update_ema(ema: Any, new: Any, *, decay: float, step: jax.Array) -> Any:
    """Move `ema` towards `new`; early steps average over fewer (Izmailov 2018; TensorFlow's rule).

    The decay in use is min(decay, (1 + step) / (10 + step)), so the random start is soon forgotten.
    """
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, x: (old + (1.0 - now) * (x - old)).astype(old.dtype), ema, new)

"""Features side by side, as one."""

import jax.numpy as jnp

from segjax.kernels.dispatch import Kernel
from segjax.structs import Features


@Kernel
def join(*xs: Features) -> Features:
    """Return arrays [*place c] of the same places as one, the channels of one after another's."""
    return jnp.concatenate(xs, -1)


@join.on_cpu
def _as_an_axis(*xs: Features) -> Features:
    """Lay parts of the least width along an axis of their own.

    XLA's CPU backend fuses that and computes it on all cores; along the last axis one core copies.
    """
    least = min(x.shape[-1] for x in xs)
    if any(x.shape[-1] % least for x in xs):
        return join.reference(*xs)
    places = xs[0].shape[:-1]
    joined = jnp.concatenate([x.reshape(*places, -1, least) for x in xs], -2)
    return joined.reshape(*places, -1)

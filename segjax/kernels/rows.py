"""Compute the examples of a batch together, or one after the other."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import lax

from segjax.kernels.dispatch import Kernel

T = TypeVar("T")


@Kernel
def each(*arrays: Any, function: Callable[..., T]) -> T:
    """Return `jax.vmap(function)(*arrays)`.

    Together, a branch becomes a choice between results that are all computed. One after the other,
    each example computes its own branch alone: what a CPU is faster with, as it has no more units
    than one example fills.
    """
    return jax.vmap(function)(*arrays)


@each.on_cpu
def _in_turn(*arrays: Any, function: Callable[..., T]) -> T:
    return lax.map(lambda one: function(*one), arrays)

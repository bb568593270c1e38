"""What keeps XLA from fusing operations that are faster, or only exact, apart from each other."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from segjax.kernels.dispatch import Kernel, with_gradient

T = TypeVar("T")


@Kernel
def barrier(x: T) -> T:
    """Return a tree of arrays as it is; XLA computes it as a whole before anything uses it.

    Without it XLA splits, merges or recomputes `x` for each use. XLA's CPU backend drops the
    barrier late, after those rewrites and before fusion: use `isolate` to keep fusions apart.
    """
    return x


barrier.everywhere(lambda x: lax.optimization_barrier(x))


@Kernel
def gradient_barrier(x: Array) -> Array:
    """Return `x`; on a CPU its gradient is computed as a whole before anything uses it.

    Otherwise XLA's CPU backend fuses the gradient with what comes before and after: it computes it
    anew for each use, or interleaves so many operations that they take several times as long.
    """
    return x


@Kernel
def _pass(g: Array) -> Array:
    return g


_pass.on_cpu(lambda g: lax.optimization_barrier(g))
gradient_barrier.everywhere(with_gradient(lambda x: (x, None), lambda _, g: (_pass(g),)))


@Kernel
def isolate(key: Array, *arguments: Any, function: Callable[..., T]) -> T:
    """Return `function(*arguments)`; XLA's CPU backend fuses it with nothing before or after.

    It would fuse gathers into every use of their result, and gather anew there. Behind a condition
    that always holds, which XLA cannot know, the function stays one piece.

    Args:
        key: What the condition is drawn from; it does not change the result.
        arguments: Arrays.
        function: From arrays to arrays.
    """
    return function(*arguments)


@isolate.on_cpu
def _drawn(key: Array, *arguments: Any, function: Callable[..., T]) -> T:
    return _behind(jax.random.uniform(key, (), jnp.float32) < 1, function, arguments)


@Kernel
def apart(*arguments: Array, function: Callable[..., T]) -> T:
    """Return `function(*arguments)`; XLA's CPU backend fuses it with nothing before or after.

    As `isolate`, without a key. Layouts change many times as fast where they are not computed on
    the way.
    """
    return function(*arguments)


@apart.on_cpu
def _seen(*arguments: Array, function: Callable[..., T]) -> T:
    first = arguments[0].ravel()[0]
    return _behind(~((first < 0) & (first > 0)), function, arguments)


@Kernel
def gradient_apart(x: Array) -> Array:
    """Return `x`; on a CPU its gradient is in memory before anything uses it.

    `gradient_barrier` falls before fusion on jaxlib 0.10: six uses compute the gradient six times.
    """
    return x


gradient_apart.on_cpu(
    with_gradient(lambda x: (x, None), lambda _, g: (apart(g, function=lambda g: g),))
)


def _behind(always: Array, function: Callable[..., T], arguments: Sequence[Any]) -> T:
    """Return `function(*arguments)` where `always` is true, which it is."""
    shapes = jax.eval_shape(function, *arguments)

    def never(*_: Any) -> T:
        return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    return lax.cond(always, function, never, *arguments)


@Kernel
def opaque_loop(items: Any, step: Array, *, function: Callable[[Any], T]) -> T:
    """Return what `lax.map(function, items)` does, by a loop whose length XLA cannot know.

    XLA dissolves a loop that runs once into the program around it, and fuses it otherwise than one
    that runs several times: the same operations, but other bits.

    Args:
        items: Arrays with one leading axis.
        step: The number of the train step, at least 0; it does not change the result.
        function: From one item to arrays.
    """
    return lax.map(function, items)


@opaque_loop.everywhere
def _of_unknown_length(items: Any, step: Array, *, function: Callable[[Any], T]) -> T:
    count = len(jax.tree.leaves(items)[0])
    if count == 1:  # of two, the second never looked at: which one is taken must stay open
        items = jax.tree.map(lambda x: jnp.concatenate([x, x]), items)
    never = step < 0  # False, but not to the compiler
    first = jax.tree.map(lambda x: x[0], items)
    shapes = jax.eval_shape(function, first)
    results = jax.tree.map(lambda leaf: jnp.zeros((max(count, 2), *leaf.shape), leaf.dtype), shapes)

    def body(i: Array, results: Any) -> Any:
        result = function(jax.tree.map(lambda x: x[i], items))
        return jax.tree.map(lambda every, x: every.at[i].set(x), results, result)

    results = lax.fori_loop(0, count + never.astype(jnp.int32), body, results)
    return jax.tree.map(lambda x: x[:count], results)

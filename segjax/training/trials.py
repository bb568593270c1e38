"""Trials: runs of one config that differ in seed or learning rate, side by side in one program.

The mesh then has an axis more, `trial`, along which nothing is exchanged: each part of the devices
trains its own. All see the same batches, those of the config's seed. Each trial has a folder of
its own in the workdir, `trial0`, `trial1`, …, which is that of a run like any other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from segjax.runtime import sharding


def side_by_side(
    make_step: Callable[[optax.Schedule], Callable[..., Any]],
    rates: Sequence[optax.Schedule],
    mesh: Mesh,
) -> Callable[..., Any]:
    """Return a train step of all trials: `(states, batch, keys) → states, scalars`.

    Args:
        make_step: From the learning rate's schedule to the train step of one trial.
        rates: The schedule of each.
        mesh: With a `trial` axis.
    """

    def step(states: Any, batch: Any, keys: jax.Array) -> Any:
        number = lax.axis_index(sharding.TRIAL)
        one = make_step(lambda step: jnp.stack([jnp.asarray(rate(step)) for rate in rates])[number])
        state, scalars = one(jax.tree.map(lambda x: x[0], states), batch, keys[0])
        return jax.tree.map(lambda x: x[None], (state, scalars))

    each = P(sharding.TRIAL)
    return jax.shard_map(
        step, mesh=mesh, in_specs=(each, P(), each), out_specs=each,
        axis_names={sharding.TRIAL}, check_vma=False,
    )  # fmt: skip


def stacked(target: Any) -> Any:
    """Return the shapes of all trials' states from those of one; these, on a mesh without trials.

    Args:
        target: Shapes with their placement.
    """

    def widen(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        place: Any = leaf.sharding
        if sharding.TRIAL not in place.mesh.shape:
            return leaf
        shape = place.mesh.shape[sharding.TRIAL], *leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding.of_each_trial(place))

    return jax.tree.map(widen, target)


def keys_like(key: jax.Array, mesh: Mesh) -> jax.Array:
    """Return `key` for each trial, to trace with; itself where the mesh has none."""
    number = mesh.shape.get(sharding.TRIAL, 0)
    return jnp.stack([key] * number) if number and key.ndim == 0 else key


def stack(states: Sequence[Any], target: Any) -> Any:
    """Return the states of all trials, each placed as `target`, as one; a single one as it is."""
    if len(states) == 1:
        return states[0]
    placement = sharding.placement_of(stacked(target))
    join = jax.jit(lambda *s: jax.tree.map(lambda *x: jnp.stack(x), *s), out_shardings=placement)
    return join(*states)


def make_take(target: Any) -> Callable[[Any, int], Any]:
    """Return `take(states, number)`: one trial's state, placed as `target`; a single one as it is.

    Compiled at its first use, for all trials.
    """
    placement = sharding.placement_of(target)
    pick = jax.jit(lambda s, i: jax.tree.map(lambda x: x[i], s), out_shardings=placement)
    return lambda states, number: pick(states, number) if states.step.ndim else states

"""Assign each row of a matrix a column of its own at the least cost, exactly and on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

LARGEST = 1e6
"""What a cost that is not finite counts as, and what bounds all others."""


class Duals(NamedTuple):
    """What is known between two rows.

    Attributes:
        column_of: Of each row; -1: none yet.
        row_of: Of each column; -1: none yet.
        u: The price of each row.
        v: The price of each column: `cost - u - v` is at least 0, and 0 where assigned.
    """

    column_of: Int32[Array, " n"]
    row_of: Int32[Array, " m"]
    u: Float[Array, " n"]
    v: Float[Array, " m"]


def assign(cost: Float[Array, "n m"], valid: Bool[Array, " n"]) -> Int32[Array, " n"]:
    """Return the column of each row, so that as many as can be are assigned, at the least sum.

    Rows that are not valid get none and take no time. One valid row after the other is added along
    the cheapest path that makes room for it (Crouse 2016, doi:10.1109/TAES.2016.140952, as in
    SciPy). `jit` and `vmap` may be applied; there is no gradient.

    Args:
        cost: What is not finite is dear.
        valid: Which rows count.

    Returns:
        -1 for rows without a column: those that are not valid, or that found none free.
    """
    n, m = cost.shape
    cost = jnp.nan_to_num(lax.stop_gradient(cost), nan=LARGEST, posinf=LARGEST, neginf=LARGEST)
    cost = jnp.clip(cost, -LARGEST, LARGEST)
    if n > m:  # columns for those that find none, dearer than any detour
        spread = jnp.where(valid[:, None], cost, 0)
        detour = (spread.max() - spread.min()) * m + 1
        cost = jnp.concatenate([cost, jnp.full((n, n - m), 1, cost.dtype) * detour], axis=1)
    order = jnp.argsort(~valid, stable=True)
    none = jnp.full(n, -1, jnp.int32), jnp.full(cost.shape[1], -1, jnp.int32)
    prices = jnp.zeros(n, cost.dtype), jnp.zeros(cost.shape[1], cost.dtype)
    count = valid.sum(dtype=jnp.int32)

    def more(carry: tuple[Array, Duals]) -> Array:
        return carry[0] < count

    def add(carry: tuple[Array, Duals]) -> tuple[Array, Duals]:
        number, known = carry
        return number + 1, add_row(cost, order[number].astype(jnp.int32), known)

    _, found = lax.while_loop(more, add, (jnp.int32(0), Duals(*none, *prices)))
    return jnp.where(found.column_of < m, found.column_of, -1)


class Search(NamedTuple):
    """Where the search for a free column stands.

    Attributes:
        row: From which to go on.
        low: The length of the path to it.
        lengths: Of the shortest known path to each column.
        before: The row before each column on it.
        seen: Which columns' paths are known to be the shortest.
        sink: The free column; -1: not found yet.
    """

    row: Int32[Array, ""]
    low: Float[Array, ""]
    lengths: Float[Array, " m"]
    before: Int32[Array, " m"]
    seen: Bool[Array, " m"]
    sink: Int32[Array, ""]


def add_row(cost: Float[Array, "n m"], row: Int32[Array, ""], known: Duals) -> Duals:
    """Return the assignment with one row more."""
    m = cost.shape[1]

    def step(s: Search) -> Search:
        reduced = s.low + cost[s.row] - known.u[s.row] - known.v
        shorter = ~s.seen & (reduced < s.lengths)
        lengths = jnp.where(shorter, reduced, s.lengths)
        before = jnp.where(shorter, s.row, s.before)
        open_ = jnp.where(s.seen, jnp.inf, lengths)
        low = open_.min()
        # Of columns at the same distance a free one ends the search.
        rank = jnp.where(open_ == low, jnp.where(known.row_of < 0, 2, 1), 0)
        column = jnp.argmax(rank).astype(jnp.int32)
        then = known.row_of[column]
        sink = jnp.where(then < 0, column, -1)
        return Search(then, low, lengths, before, s.seen.at[column].set(True), sink)

    nothing = jnp.full(m, jnp.inf, cost.dtype), jnp.full(m, -1, jnp.int32), jnp.zeros(m, bool)
    first = Search(row, jnp.zeros((), cost.dtype), *nothing, jnp.int32(-1))
    end = lax.while_loop(lambda s: s.sink < 0, step, first)
    gain = jnp.where(end.seen, end.low - end.lengths, 0)
    own = known.column_of
    u = known.u + jnp.where(own >= 0, gain[own], 0)
    u = u.at[row].add(end.low)

    def change(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        column_of, row_of, column = carry
        mine = end.before[column]
        given = column_of[mine]
        return column_of.at[mine].set(column), row_of.at[column].set(mine), given

    column_of, row_of, _ = lax.while_loop(
        lambda carry: carry[2] >= 0, change, (known.column_of, known.row_of, end.sink)
    )
    return Duals(column_of, row_of, u, known.v - gain)


def assign_all(cost: Float[Array, "*b n m"], valid: Bool[Array, "*b n"]) -> Int32[Array, "*b n"]:
    """Return `assign` of several matrices at once."""
    function = assign
    for _ in cost.shape[:-2]:
        function = jax.vmap(function)
    return function(cost, valid)

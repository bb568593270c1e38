"""Assignments are SciPy's, whatever is padded, tied, infinite or in excess."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from segjax.losses import assignment


def costs(kind, shape):
    rng = np.random.default_rng(0)
    cost = rng.normal(size=shape).astype(np.float32)
    if kind == "alike":  # all rows want the same columns
        return 3 * rng.normal(size=(shape[0], 1, shape[2])).astype(np.float32) + 0.1 * cost
    return np.round(cost) if kind == "tied" else cost


@pytest.mark.parametrize("kind", ["random", "alike", "tied"])
@pytest.mark.parametrize(("rows", "columns"), [(9, 14), (12, 12), (14, 9)])
def test_sums_are_the_least(kind, rows, columns):
    """Of 0 to all rows that count, in places drawn anew; each column is taken once at most."""
    cost = costs(kind, (rows + 1, rows, columns))
    rng = np.random.default_rng(1)
    valid = np.stack([rng.permutation(rows) < count for count in range(rows + 1)])
    found = np.asarray(jax.jit(assignment.assign_all)(jnp.asarray(cost), jnp.asarray(valid)))
    for cost_, valid_, column in zip(cost, valid, found, strict=True):
        assert (column[~valid_] == -1).all()
        own = column[valid_]
        taken = own >= 0
        best = linear_sum_assignment(cost_[valid_])
        assert taken.sum() == len(best[0]) == len(set(own[taken].tolist()))
        ours = cost_[valid_][taken, own[taken]].astype(float).sum()
        np.testing.assert_allclose(ours, cost_[valid_][best].astype(float).sum(), atol=1e-5)


def test_what_is_not_finite_is_taken_last():
    cost = jnp.asarray([[jnp.nan, 5.0, jnp.inf], [1.0, 2.0, -jnp.inf], [0.0, 9.0, 3.0]])
    assert assignment.assign(cost, jnp.ones(3, bool)).tolist() == [1, 0, 2]


def test_there_is_no_gradient():
    def total(cost):
        column = assignment.assign(cost, jnp.ones(2, bool))
        return jnp.take_along_axis(cost, column[:, None], axis=1).sum()

    slope = jax.grad(total)(jnp.asarray([[1.0, 2.0], [0.0, 5.0]]))
    assert slope.tolist() == [[0.0, 1.0], [1.0, 0.0]]

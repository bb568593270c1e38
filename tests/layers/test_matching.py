"""What boxes stand for, and what is drawn of them; torchvision's matches are in tests/outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers import matching


def test_what_is_no_object_matches_nothing():
    """However large the overlap at its place is; where there is no object all is background."""
    quality = jnp.asarray([[0.9, 0.1, 0.5], [0.2, 0.6, 0.5]])
    found = matching.match(quality, jnp.asarray([False, True]), low=0.3, high=0.55)
    assert found.state.tolist() == [matching.NEGATIVE, matching.POSITIVE, matching.NEITHER]
    assert found.objects.tolist() == [1, 1, 1]
    none = matching.match(quality, jnp.zeros(2, bool), low=0.3, high=0.55, each_object=True)
    assert (none.state == matching.NEGATIVE).all()


def test_an_object_that_nothing_overlaps_makes_nothing_positive():
    quality = jnp.zeros((1, 5))
    found = matching.match(quality, jnp.ones(1, bool), low=0.3, high=0.7, each_object=True)
    assert (found.state == matching.NEGATIVE).all()


@pytest.mark.parametrize(("there", "expected"), [((40, 90), (16, 48)), ((3, 90), (3, 61)),
                                                 ((40, 5), (16, 5)), ((0, 0), (0, 0))])  # fmt: skip
def test_what_is_drawn_is_balanced(there, expected):
    """A quarter of 64 are positive at most; negative ones fill up, as far as there are any."""
    state = np.full(150, matching.NEITHER)
    state[: there[0]], state[50 : 50 + there[1]] = matching.POSITIVE, matching.NEGATIVE
    state = jnp.asarray(np.random.default_rng(0).permutation(state), jnp.int32)
    balance = jax.jit(lambda key: matching.balance(key, state, count=64, positives=16))
    one, other = (balance(jax.random.key(i)) for i in range(2))
    for drawn in (one, other):
        counts = tuple(int((drawn == s).sum()) for s in (matching.POSITIVE, matching.NEGATIVE))
        assert counts == expected
        assert ((drawn == state) | (drawn == matching.NEITHER)).all()
    assert (one != other).any() == (there[0] > 16 or there[1] > 64)


def test_everyone_is_drawn_as_often():
    among = jnp.arange(20) % 2 == 0
    keys = jax.random.split(jax.random.key(0), 2000)
    often = jax.vmap(lambda key: matching.draw(key, among, 3))(keys).mean(0)
    np.testing.assert_allclose(often, np.where(among, 0.3, 0), atol=0.05)

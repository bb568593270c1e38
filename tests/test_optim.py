import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import optim, schedule
from segjax.errors import ConfigError

CLOCK = schedule.Clock(batch_size=4, num_examples=40, total_steps=100)


def make(**section):
    return optim.make_optimizer(section, CLOCK)


@pytest.mark.parametrize(
    ("shape", "points"),
    [
        (dict(type="constant", warmup_steps=10), {0: 0.01, 9: 0.1, 50: 0.1}),
        (dict(type="poly", power=1.0), {0: 0.1, 50: 0.05, 100: 0.0}),
        (dict(type="poly", power=0.9, warmup_percent=20), {19: 0.1, 60: 0.1 * 0.5**0.9}),
        (dict(type="cosine"), {0: 0.1, 50: 0.05, 100: 0.0}),
        (dict(type="one_cycle", rise=0.5), {0: 0.1 / 25, 50: 0.1}),
        (dict(type="step", every_epochs=3), {0: 0.1, 29: 0.1, 30: 0.01, 60: 0.001}),
    ],
)
def test_schedules_pass_through_known_points(shape, points):
    _, rate = make(type="sgd", lr=0.1, schedule=shape)
    for step, value in points.items():
        np.testing.assert_allclose(float(rate(step)), value, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
def test_every_optimiser_descends_a_bowl(name):
    tx, _ = make(type=name, lr=0.05, schedule=dict(type="constant"), clip_norm=1.0)
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)}
    state = tx.init(params)

    def energy(p):
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(p))

    start = energy(params)
    for _ in range(60):
        updates, state = tx.update(jax.grad(energy)(params), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    assert energy(params) < 0.5 * start


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
def test_decay_touches_kernels_only_unless_told(name):
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    for decay, bias_moves in (("kernels", False), ("all", True)):
        tx, _ = make(
            type=name, lr=0.1, schedule=dict(type="constant"), weight_decay=0.1, decay=decay
        )
        updates, _ = tx.update(zeros, tx.init(params), params)
        assert bool((updates["kernel"] < 0).all())
        assert bool((updates["bias"] < 0).all()) == bias_moves


def test_clipping_bounds_the_global_norm():
    tx, _ = make(type="sgd", lr=1.0, momentum=0.0, schedule=dict(type="constant"), clip_norm=0.5)
    params = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    grads = {"a": jnp.full(3, 10.0), "b": jnp.full(4, -10.0)}
    updates, _ = tx.update(grads, tx.init(params), params)
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(updates)))
    np.testing.assert_allclose(norm, 0.5, rtol=1e-5)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (dict(type="sgd", lr=0.1), "needs 'schedule'"),
        (dict(type="sgd", lr=0.1, schedule=dict(type="polly")), "Did you mean 'poly'"),
        (dict(type="sgd", lr=0.1, schedule=dict(type="poly", warmup=3)), "takes no 'warmup'"),
        (dict(type="sgd", lr=0.1, schedule=dict(type="poly"), decay="some"), "'kernels' or 'all'"),
        (dict(type="sgd", lr=0.1, schedule=dict(type="poly"), b1=0.9), "takes no 'b1'"),
    ],
)
def test_wrong_sections_are_errors(section, said):
    with pytest.raises(ConfigError, match=said):
        make(**section)

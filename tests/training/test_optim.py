import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import schedule
from segjax.errors import ConfigError
from segjax.runs import checkpoint
from segjax.training import optim
from segjax.training.state import TrainState

CLOCK = schedule.Clock(batch_size=4, num_examples=40, total_steps=100)


def make(**section):
    rate = optim.make_rate(section, CLOCK)
    return optim.make_optimizer(section, rate), rate


@pytest.mark.parametrize(
    ("shape", "points"),
    [
        (dict(type="constant", warmup_steps=10), {0: 0.01, 9: 0.1, 50: 0.1}),
        (dict(type="poly", power=1.0), {0: 0.1, 50: 0.05, 100: 0.0}),
        (dict(type="poly", power=0.9, warmup_percent=20), {19: 0.1, 60: 0.1 * 0.5**0.9}),
        (dict(type="cosine"), {0: 0.1, 50: 0.05, 100: 0.0}),
        (dict(type="one_cycle", rise=0.5), {0: 0.1 / 25, 50: 0.1}),
        (dict(type="exponential", start=1e-3), {0: 1e-3, 49.5: 1e-2, 99: 0.1}),
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


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_first_moment_in_bfloat16(name, tmp_path):
    """Half the bytes, nothing else is narrower, checkpoints keep it, and it descends as far."""

    def run(steps, state=None, params=None, **section):
        tx, _ = make(type=name, lr=0.02, schedule=dict(type="constant"), **section)
        params = params or {"kernel": jnp.linspace(1.0, 3.0, 64).reshape(8, 8)}
        state = tx.init(params) if state is None else state
        for _ in range(steps):
            grads = jax.tree.map(lambda leaf: 2 * leaf, params)
            updates, state = tx.update(grads, state, params)
            params = jax.tree.map(jnp.add, params, updates)
        return params, state

    wide, narrow = run(50), run(50, moment_dtype="bfloat16")
    arrays = [leaf for leaf in jax.tree.leaves(narrow[1]) if leaf.ndim]
    assert sorted(str(leaf.dtype) for leaf in arrays) == ["bfloat16", "float32"][: len(arrays)]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(wide[1]) if leaf.ndim} == {"float32"}
    start, one, other = (float((p["kernel"] ** 2).sum()) for p in (run(0)[0], wide[0], narrow[0]))
    assert other < 0.7 * start and abs(other - one) < 0.01 * start

    keeper = checkpoint.Checkpointer(tmp_path, keep_best="")
    state = TrainState(np.int32(50), narrow[0], {}, narrow[1], {})
    state = jax.tree.map(jnp.asarray, state)
    keeper.save(50, state, {})
    keeper.wait()
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    restored = keeper.restore(50, shapes)
    keeper.close()
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))
    again = run(5, restored.opt_state, restored.params, moment_dtype="bfloat16")[0]
    np.testing.assert_array_equal(again["kernel"], run(55, moment_dtype="bfloat16")[0]["kernel"])


def test_a_second_moment_in_bfloat16_would_stand_still():
    """Why only the first: an average over a thousand steps moves by less than bfloat16 resolves."""
    old, new = jnp.bfloat16(1.0), jnp.bfloat16(2.0)
    assert (0.999 * old + 0.001 * new).astype(jnp.bfloat16) == old
    assert (0.9 * old + 0.1 * new).astype(jnp.bfloat16) > old


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
        *[
            (dict(type="sgd", lr=0.1, schedule=shape), "expected a number from 1e-12 to")
            for shape in (
                dict(type="one_cycle", start_factor=0),
                dict(type="one_cycle", end_factor=0.0),
                dict(type="step", every_steps=3, factor=0.0),
                dict(type="step", every_steps=3, factor=float("nan")),
            )
        ],
        (
            dict(type="adam", lr=0.1, schedule=dict(type="poly"), moment_dtype="float8"),
            "moment_dtype='float8'",
        ),
    ],
)
def test_wrong_sections_are_errors(section, said):
    with pytest.raises(ConfigError, match=said):
        make(**section)

"""What a semantic task makes of its losses."""

import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.structs import Outputs


def make(*factors, aux_weight=0.4):
    types = ("pixel:cross_entropy", "region:dice", "pixel:focal")
    losses = [{"type": t, "weight": f} for t, f in zip(types, factors, strict=False)]
    section = {"type": "semantic", "losses": losses, "aux_weight": aux_weight}
    return lookup.build("tasks", section, where="config.task", num_classes=2)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "1", True, None])
def test_a_factor_is_a_finite_number_of_at_least_0(bad):
    """The rule for the factor of each loss and for that of auxiliary heads."""
    places = {
        r"losses\[0\].weight": lambda: make(bad),
        r"losses\[1\].weight": lambda: make(1.0, bad),
        "aux_weight": lambda: make(1.0, aux_weight=bad),
    }
    for where, build in places.items():
        with pytest.raises(ConfigError, match=rf"config.task.{where}=.*expected a number from 0"):
            build()


@pytest.mark.parametrize("factors", [(0,), (0.0, 0), (0, 0, 0)])
def test_losses_that_all_weigh_nothing_are_an_error(factors):
    with pytest.raises(ConfigError, match="every weight is 0.*nothing is learned"):
        make(*factors)


def test_a_loss_of_factor_0_is_named_and_adds_nothing():
    task = make(1.0, 0)
    logits = jnp.zeros((1, 4, 4, 2))
    batch = {"label": jnp.zeros((1, 4, 4), jnp.int32)}
    terms = task.loss(Outputs(logits), batch, jax.random.key(0))
    means = {name: float(term.mean(task.weights(batch))) for name, term in terms.items()}
    assert means["dice"] == 0 and means["cross_entropy"] > 0

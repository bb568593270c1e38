"""What a semantic task makes of its losses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.runs import train, writer
from segjax.structs import Outputs
from segjax.tasks import semantic
from tests import program


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


def test_two_losses_of_one_type_stand_side_by_side():
    """With settings of their own; the same twice is a slip."""
    first, second = (
        dict(type="region:tversky", alpha=a, weight=w) for a, w in ((0.3, 1), (0.6, 2))
    )
    task = semantic.Task(losses=[first, second], num_classes=3)
    assert {name: factor for name, (factor, _) in task.losses.items()} == {
        "tversky": 1, "tversky-2": 2,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"losses\[1\]: 'tversky' stands twice"):
        semantic.Task(losses=[first, {**first, "weight": 3}], num_classes=3)


@pytest.mark.slow
def test_every_loss_trains_by_config(tmp_path, tiny_config):
    """All at once: each is logged by its name, finite, and their weights see the whole batch."""
    page = (program.ROOT / "docs" / "losses.md").read_text()
    types = [t for t in re.findall(r"^\| `(\w+:\w+)` \|", page, re.M) if t != "lovasz:hinge"]
    config = tiny_config(total_steps=2, microbatches=2)
    config["input"]["batch_size"], config["mesh"]["data"] = 16, 8
    config["task"]["losses"] = [{"type": t, "weight": 0.1} for t in types]
    assert train.run(tmp_path, config) == train.DONE
    logged = {name: value for record in writer.read(tmp_path) for name, value in record.items()}
    for type_ in types:
        assert np.isfinite(logged[f"train/loss_{type_.partition(':')[2]}"])

"""The zoo's table is drawn from its records, and these are those of the code."""

import jax
import jax.numpy as jnp
import pytest

from experiments.models import study
from segjax.costs import flops


def test_the_table_is_drawn_from_the_records():
    rows = study.latest()
    assert [row["model"] for row in rows] == list(study.MODELS)
    assert study.table(rows) in study.README.read_text()


@pytest.mark.parametrize("name", ["unet", "bisenetv2", "lraspp", "segformer"])
def test_the_records_are_those_of_the_code(name):
    record = next(row for row in study.latest() if row["model"] == name)
    model, image = study.build(name), jax.ShapeDtypeStruct((1, 512, 512, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    assert record["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    forward = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))
    measured = flops.total(forward(variables, image)) / 1e9
    assert record["gflops"] == pytest.approx(measured, rel=1e-6)


def test_the_receptive_field_of_two_convolutions():
    """By hand: 3x3 at full and 3x3 at half resolution, between pooling and its up-convolution."""
    from segjax.models import unet

    model = unet.Model(num_classes=2, widths=(2, 2), convs_per_level=1)
    image = jnp.ones((1, 32, 32, 3))
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    # The skip sees 3 + 2 pixels; through the bottom 2 * 3 pixels widened by both 3x3 at full size,
    # whose three places lie in two blocks of two: 2 * 4 + 2.
    assert study.receptive_field(model, variables) == 10

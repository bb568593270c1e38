"""BiSeNetV2 keeps the contract, has the published parameters, and boosts in training only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.models import bisenetv2
from tests.models import contract


def build(**fields):
    # Only the finest layers split over 8 devices: of a map of one pixel XLA gathers the features.
    tiny = {"detail_widths": (8, 3, 4), "semantic_widths": (2, 3, 5, 5)}
    tiny |= {"semantic_layers": (1, 1, 2), "expansion": 2, "head_width": 6, "aux_width": 3}
    section = {"type": "bisenetv2", **tiny, **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        return build(**overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()

    def test_rows_on_two_devices_exchange_their_halos_only(self):
        # The contract's 64 rows are one a device at stride 32, no more than its neighbour's halo.
        found = contract.program(self.of.model(), (4, 1, 2), (4, 128, 32, 3))
        assert contract.kinds(found) <= {"all-reduce", "collective-permute"}


def count(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = contract.shapes(model, image, train=True)[2]
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameters_are_those_published():
    # github.com/CoinCheung/BiSeNet, BiSeNetV2(19, aux_mode='eval'), counted by PyTorch; the paper
    # gives none.
    assert count(bisenetv2.Model(num_classes=19, aux_width=0)) == 3_358_627


def test_booster_heads_cost_nothing_at_inference():
    image = jax.ShapeDtypeStruct((1, 65, 97, 3), jnp.float32)
    model = bisenetv2.Model(num_classes=19)
    _, aux, variables = contract.shapes(model, image, train=True)
    assert [head.shape for head in aux] == [(1, 65, 97, 19)] * 4
    bare = bisenetv2.Model(num_classes=19, aux_width=0)
    outputs = jax.eval_shape(lambda v, x: bare.apply(v, x, train=False), variables, image)
    assert not outputs.aux
    assert not contract.shapes(bare, image, train=True)[1]


@pytest.mark.slow
def test_context_sees_the_whole_image(float64):
    # The semantic branch's convolutions reach 250 pixels; the average reaches any distance.
    model = build(head_width=16, aux_width=0, detail_widths=(4, 6, 8), **contract.DOUBLE)
    variables = jax.tree.map(np.array, contract.fill(model, 3))
    image = np.random.default_rng(0).normal(size=(1, 32, 512, 3))
    changed = image.copy()
    changed[:, :, 480:] += 1

    def left_sides():
        return [contract.evaluate(model)(variables, x)[0][:, :, :96] for x in (image, changed)]

    before, after = left_sides()
    assert np.mean(before != after) > 0.5
    variables["params"]["context"]["average"]["conv"]["kernel"][:] = 0
    np.testing.assert_array_equal(*left_sides())


@pytest.mark.parametrize(
    "fields", [{"detail_widths": (4, 4)}, {"semantic_widths": (4,)}, {"semantic_layers": (1, 1)}]
)
def test_stages_must_fit_the_strides(fields):
    with pytest.raises(ConfigError, match=r"expected a list of [34] items"):
        count(build(**fields))

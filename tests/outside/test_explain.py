"""Our attributions are those of Captum, on the same weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import resnet
from segjax.explain import attribution, network
from segjax.pretrained import smp
from tests import parity
from tests.golden.outside import of_captum, of_torchvision
from tests.outside import recorded, test_networks

COMPARED = {"captum-encoder_unet"}
TOLERANCE = 1e-3
"""Of the largest number of a map."""


class Scores:
    """A task whose scores are logits."""

    def scores(self, outputs):
        return outputs.logits


@pytest.fixture
def asked(monkeypatch, float64):
    """Their network as ours, in float64, its image, and what is explained."""
    monkeypatch.setitem(resnet.BLOCKS, 18, of_torchvision.BLOCKS[18])
    case = recorded.case("captum-encoder_unet")
    own = test_networks.NETWORKS["smp-encoder_unet-resnet18"]
    section = {**own.section, **test_networks.DOUBLE}
    model = test_networks.lookup.build("models", section, where="config.model", num_classes=3)
    rules = test_networks.rules_of(smp, own)
    variables = parity.variables_of(model, recorded.weights(case.about["state"]), rules)
    region = np.zeros(of_captum.SIZE, bool)
    region[of_captum.REGION] = True
    net = network.Net(network.Passes(model, Scores(), recorded.QUICK), variables)
    x = jnp.asarray(recorded.image(of_captum.SIZE))
    return case, net, x, network.objective_of(of_captum.NUMBER, region)


def check(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_attributions_are_those_recorded(asked):
    case, net, x, objective = asked
    for layer in of_captum.LAYERS:
        blocks = of_torchvision.BLOCKS[18][int(layer[-1]) - 1]
        module = f"encoder/{layer}_{blocks - 1}"
        check(
            attribution.grad_cam(net, x, objective, module=module), case.arrays[f"gradcam_{layer}"]
        )
    steps = dict(steps=of_captum.STEPS, most=of_captum.STEPS)
    found = attribution.integrated_gradients(net, x, objective, baseline=0 * x, **steps)
    check(found.map, case.arrays["integrated_gradients"])
    assert found.missing < 0.01
    windows = dict(window=of_captum.WINDOW, stride=of_captum.STRIDE)
    found = attribution.occlusion(net, x, objective, baseline=0 * x, **windows)
    check(found, case.arrays["occlusion"])

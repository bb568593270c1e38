"""UPerNet keeps the contract and is Hugging Face's: names, counts, logits, gradients."""

import flax
import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.pretrained import huggingface as names
from tests import parity
from tests.models import contract
from tests.pretrained import huggingface
from tests.pretrained import names as published

SMALL = {"widths": (4, 8, 12, 16), "depths": (1, 1, 2, 1)}
SHALLOW = {
    "type": "mit",
    "widths": (8, 8, 10, 16),
    "depths": (1, 0, 0, 1),
    "reduction": (2, 2, 1, 1),
}
CONVOLUTIONAL = {"type": "convnext", **SMALL, "depths": (1, 0, 0, 1)}
FORM = {"width": 4, "bins": (1, 3), "aux_width": 3, "feature_norm": "layer"}


def build(num_classes=5, encoder=SHALLOW, **fields):
    section = {"type": "upernet", "encoder": flax.core.freeze(encoder), **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


class TestContract(contract.ModelContract):
    idle = "attention/key/bias$"  # adds the same to a query's product with every key

    def model(self, **overrides):
        return build(**FORM, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()

    def test_rows_on_two_devices_exchange_their_halos_only(self):
        # Attention needs more. Of 64 rows each device has a single one at stride 32: there XLA
        # computes gradients of kernels in parts and gathers those.
        model = build(encoder=CONVOLUTIONAL, **FORM)
        found = contract.program(model, (4, 1, 2), (4, 128, 64, 3))
        assert contract.kinds(found) == {"all-reduce", "collective-permute"}


def count(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    _, _, variables = contract.shapes(model, image, train=False)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


TINY = {"type": "convnext", "variant": "tiny", "edge": "drop", "drop_path": 0.0}
RULES = names.upernet({"encoder": TINY})


def test_parameters_are_those_published():
    # Counted in transformers 5.23 as openmmlab/upernet-convnext-tiny is configured: 150 classes.
    assert count(build(150, TINY, feature_norm="layer")) == 60_242_636


def test_every_published_name_is_used():
    model = build(150, TINY, feature_norm="layer")
    published.check("huggingface-upernet_convnext_tiny", model, RULES)


def hugging_faces(*, widths=(96, 192, 384, 768), depths=(3, 3, 9, 3), **options):
    """Return their UPerNet on ConvNeXt."""
    transformers = huggingface.library()
    stages = [f"stage{i}" for i in range(1, 5)]
    backbone = transformers.ConvNextConfig(
        hidden_sizes=list(widths), depths=list(depths), out_features=stages, drop_path_rate=0.0
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone, auxiliary_in_channels=widths[2], **options
    )
    return transformers.UperNetForSemanticSegmentation(config)


@pytest.fixture
def pair(float64):
    """Return their small network, ours, and its variables."""
    network = hugging_faces(num_labels=5, hidden_size=8, auxiliary_channels=6, **SMALL)
    reference = huggingface.Published(parity.randomize(network))
    form = {"width": 8, "aux_width": 6, "feature_norm": "layer"}
    return reference, build(5, {**TINY, **SMALL}, **form, **contract.DOUBLE)


def test_names_are_those_of_the_published_network():
    reference = huggingface.Published(hugging_faces(num_labels=150))
    parity.record_names(reference, "huggingface-upernet_convnext_tiny")


@pytest.mark.parametrize("size", parity.SIZES)
def test_logits_are_hugging_faces(size, pair):
    reference, model = pair
    variables, x = parity.variables_from(model, reference, RULES), parity.image(size)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False).logits)(variables, x)
    parity.assert_close(logits, reference(parity.to_torch(x)).logits)


def test_gradients_are_hugging_faces(pair):
    reference, model = pair
    import torch

    size, auxiliary = (64, 96), []
    reference.network.auxiliary_head.register_forward_hook(
        lambda module, inputs, logits: auxiliary.append(logits)
    )

    def heads(outputs):
        aux = torch.nn.functional.interpolate(auxiliary[-1], size, mode="bilinear")
        return [outputs.logits, aux]

    parity.assert_gradients_close(model, reference, RULES, heads, size=size)


def test_the_auxiliary_head_works_in_training_only():
    model = build(width=4, bins=(1,), aux_width=3)
    image = jax.ShapeDtypeStruct((2, 33, 47, 3), jnp.float32)
    for train in (True, False):
        assert len(contract.shapes(model, image, train=train)[1]) == train
    assert not contract.shapes(build(width=4, aux_width=0), image, train=True)[1]


def test_an_encoder_with_too_few_features():
    with pytest.raises(ConfigError, match="3 features"):
        count(build(encoder={"type": "resnet", "depth": 18, "stages": 3}))

"""A linear classifier on DINOv2's features keeps the contract and gives PyTorch's numbers."""

import flax
import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.pretrained import convert
from segjax.pretrained import huggingface as names
from tests import parity
from tests.models import contract
from tests.pretrained import huggingface

TINY = {"width": 8, "heads": 2, "depth": 2, "grid": 3, "patch": 16}


def build(encoder=TINY, **fields):
    section = {"type": "linear", "encoder": flax.core.freeze({"type": "vit", **encoder}), **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


class TestContract(contract.ModelContract):
    dims = (2,)
    idle = "attention/key/bias$"  # adds the same to a query's product with every key
    # Attention sees all rows: keys and values are gathered. The class token before the patches
    # shifts them between devices.
    side = 32  # positions are summed once resized: more numbers than they have for a larger image
    wide_products = 4  # enlarging the image to whole patches
    row_collectives = frozenset({"all-gather", "all-to-all"})

    def model(self, **overrides):
        return build(**overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


def test_parameters_beside_the_encoder():
    # Normalisation has two for each of 4 x 384 channels, the classifier one for each and class.
    model = build({"variant": "s", "layers": (-4, -3, -2, -1)})
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    _, _, variables = contract.shapes(model, image, train=False)
    params = {name: x for name, x in variables["params"].items() if name != "encoder"}
    expected = 2 * 4 * 384 + 4 * 384 * 5 + 5
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


# Whole patches, and an image that is enlarged until they cover it.
@pytest.mark.parametrize("size", [(56, 70), (65, 97)])
def test_logits_are_those_of_the_same_head_in_pytorch(size, float64):
    transformers = huggingface.library()
    import torch

    config = transformers.Dinov2Config(
        hidden_size=8, num_attention_heads=2, num_hidden_layers=2, image_size=56
    )
    backbone = parity.randomize(transformers.Dinov2Model(config))
    head = torch.nn.Sequential(torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 5, 1))
    parity.randomize(head)
    enlarge = torch.nn.functional.interpolate
    x = parity.image(size)
    covered = [-(-n // 14) * 14 for n in size]
    image = enlarge(parity.to_torch(x), covered, mode="bilinear")
    _, *states = backbone(image, output_hidden_states=True).hidden_states
    features = torch.cat([backbone.layernorm(state)[:, 1:] for state in states], -1)
    grid = features.reshape(2, covered[0] // 14, -1, 16).permute(0, 3, 1, 2)
    expected = enlarge(head(grid), size, mode="bilinear")

    class Reference:
        def state_dict(self):
            published = huggingface.Published(backbone).state_dict()
            return published | {f"head.{name}": x for name, x in head.state_dict().items()}

    model = build({**TINY, "grid": 4, "patch": 14, "layers": (0, 1)}, **contract.DOUBLE)
    rules = [
        *convert.nested(names.vit({}), "encoder", ""),
        convert.Rule("norm", "head.0"),
        convert.Rule("head", "head.1", "pointwise"),
    ]
    variables = parity.variables_from(model, Reference(), rules)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False).logits)(variables, x)
    parity.assert_close(logits, expected, 1e-6)

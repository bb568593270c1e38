"""ViT is DINOv2's: counts, names, Hugging Face's and timm's numbers, any size."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax.costs import hlo
from segjax.encoders import vit
from segjax.errors import ConfigError
from segjax.pretrained import huggingface as names
from segjax.pretrained import timm as timm_names
from tests import parity
from tests.encoders import contract
from tests.pretrained import huggingface
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
SMALL = {"width": 32, "heads": 2, "depth": 3, "grid": 4, "layers": (0, 2)}


class TestContract(contract.EncoderContract):
    dims = (2,)

    def encoder(self, **overrides):
        fields = {"width": 8, "heads": 2, "depth": 2, "grid": 3, "layers": (0, -1)}
        return vit.Encoder(**fields, **overrides)


# Counted in transformers 5.23's Dinov2Model, less the mask token that only its pre-training uses.
COUNTS = {"s": 22_056_576 - 384, "b": 86_580_480 - 768}


@pytest.mark.parametrize(("variant", "expected"), COUNTS.items())
def test_parameters_are_those_published(variant, expected):
    assert contract.count(vit.Encoder(variant=variant)) == expected


@pytest.mark.parametrize(
    ("name", "table", "unused"),
    [
        ("huggingface-dinov2_small", names, r"embeddings\.mask_token"),
        ("timm-dinov2_small", timm_names, ""),
    ],
)
def test_every_published_name_is_used(name, table, unused):
    published.check(name, vit.Encoder(variant="s"), table.ENCODERS["vit"]({}), unused=unused)


# The grid of pre-training, another, and one that patches do not cover: there theirs gets the image
# enlarged by PyTorch.
@pytest.mark.parametrize("size", [(56, 56), (70, 28), (65, 97)])
def test_features_are_hugging_faces(size, float64):
    transformers = huggingface.library()
    import torch

    small = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518}
    whole = transformers.Dinov2Model(transformers.Dinov2Config(**small))
    parity.record_names(huggingface.Published(whole), "huggingface-dinov2_small")
    config = transformers.Dinov2Config(
        hidden_size=32, num_attention_heads=2, num_hidden_layers=3, image_size=56
    )
    network = parity.randomize(transformers.Dinov2Model(config))
    x = parity.image(size)
    covered = [-(-n // 14) * 14 for n in size]
    image = torch.nn.functional.interpolate(parity.to_torch(x), covered, mode="bilinear")
    states = network(image, output_hidden_states=True).hidden_states
    assert len(states) == 4
    expected = [grid(network.layernorm(states[i + 1]), covered) for i in SMALL["layers"]]
    compare(huggingface.Published(network), names.vit({}), x, expected)


def test_features_are_timms_on_the_grid_of_pre_training(float64):
    # On other grids timm shrinks positions with antialiasing, Hugging Face and DINOv2 do not.
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    whole = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    parity.record_names(whole, "timm-dinov2_small")
    network = timm.create_model(
        "vit_small_patch14_dinov2", num_classes=0, img_size=56, depth=3, embed_dim=32, num_heads=2
    )
    parity.randomize(network)
    x = parity.image((56, 56))
    layers = list(SMALL["layers"])
    expected = network.get_intermediate_layers(parity.to_torch(x), layers, reshape=True, norm=True)
    compare(network, timm_names.vit({}), x, expected)


def grid(states, size):
    """Return [b 1+n c] without the class token as [b c h w]."""
    h, w = (n // 14 for n in size)
    return states[:, 1:].reshape(len(states), h, w, -1).permute(0, 3, 1, 2)


def compare(reference, rules, x, expected):
    encoder = vit.Encoder(**SMALL, **DOUBLE)
    variables = parity.variables_from(encoder, reference, rules)
    features = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, x)
    for ours, theirs in zip(features, expected, strict=True):
        parity.assert_close(ours, theirs, 1e-6)


def test_rows_on_two_devices_gather_keys_and_values_only():
    """Features stay where their rows are; two arrays a block go round, once."""
    mesh = jax.make_mesh((4, 2), ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data", "space"))
    encoder = vit.Encoder(width=24, heads=2, depth=2, grid=3, patch=4)
    image = jax.ShapeDtypeStruct((4, 64, 96, 3), "float32")
    _, variables = contract.shapes(encoder, image.shape)

    def loss(variables, image):
        return jnp.sin(encoder.apply(variables, image, train=True)[0]).sum()

    step = jax.jit(jax.grad(loss), in_shardings=(everywhere, split), out_shardings=everywhere)
    found = hlo.collectives_of(step.lower(variables, image).compile().as_text())
    gathered = [c for c in found if c.kind == "all-gather"]
    tokens = 1 + 16 * 24
    assert len(gathered) == 2 * encoder.depth
    assert all(c.bytes <= 4 * 24 * (tokens + 1) for c in gathered)  # one to make it even


@pytest.mark.parametrize("layers", [(2,), (), (1, 0), (0, -2)])
def test_layers_that_are_not_there(layers):
    with pytest.raises(ConfigError, match="encoder.layers"):
        contract.count(vit.Encoder(width=8, heads=2, depth=2, layers=layers))


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"variant": "xs"}, "variant"), ({"width": 8, "heads": 3}, "8 channels")],
)
def test_what_cannot_be_built_says_why(fields, message):
    with pytest.raises(ConfigError, match=message):
        contract.count(vit.Encoder(depth=1, **fields))

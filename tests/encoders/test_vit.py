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
from segjax.runtime import xla
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


class TestContractWithAllThereIs(contract.EncoderContract):
    dims = (2,)

    def encoder(self, **overrides):
        fields = {"variant": "g", "width": 8, "heads": 2, "depth": 2, "grid": 3, "layers": (-1,)}
        return vit.Encoder(**fields, registers=3, class_position=False, **overrides)


# Counted in transformers 5.23's Dinov2Model, less the mask token that only its pre-training uses.
COUNTS = {
    ("s", 0): 22_056_576 - 384, ("b", 0): 86_580_480 - 768, ("s", 4): 22_058_112 - 384,
    ("l", 4): 304_372_736 - 1024, ("g", 4): 1_136_486_912 - 1536,
}  # fmt: skip


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        pytest.param(*each, marks=pytest.mark.slow if each[0][0] in "lg" else ())
        for each in COUNTS.items()
    ],
)
def test_parameters_are_those_published(which, expected):
    variant, registers = which
    assert contract.count(vit.Encoder(variant=variant, registers=registers)) == expected


@pytest.mark.skipif(not xla.onednn_there(), reason="jaxlib or the processor is without oneDNN's")
def test_positions_are_not_added_by_the_convolution():
    """Where all images share what is added, oneDNN's takes 500 times as long."""
    encoder = vit.Encoder(**SMALL, compute_dtype="bfloat16")
    image = jnp.zeros((2, 56, 56, 3))
    variables = encoder.init(jax.random.key(0), image, train=False)
    traced = jax.jit(lambda v, x: encoder.apply(v, x, train=False)).trace(variables, image)
    text = traced.lower().compile(xla.xla_options("bfloat16")).as_text()
    found = [line for line in text.splitlines() if "__onednn$convolution" in line]
    assert found and not any("BINARY_ADD" in line for line in found)


MASK = r"(embeddings\.)?mask_token"


@pytest.mark.parametrize(
    ("name", "table", "fields"),
    [
        ("huggingface-dinov2_small", names, {}),
        ("huggingface-dinov2_with_registers_small", names, {"registers": 4}),
        ("huggingface-dinov2_gated", names, {"variant": "g", "width": 48, "depth": 1}),
        ("timm-dinov2_small", timm_names, {}),
        ("timm-dinov2_small_registers", timm_names, {"registers": 4, "class_position": False}),
    ],
)
def test_every_published_name_is_used(name, table, fields):
    encoder = vit.Encoder(**fields)
    rules = table.ENCODERS["vit"]({"variant": encoder.variant})
    published.check(name, encoder, rules, unused=MASK)


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


@pytest.mark.parametrize("gated", [False, True])
def test_features_with_registers_are_hugging_faces(gated, float64):
    """At the grid of pre-training: on another theirs shrinks positions with antialiasing."""
    transformers = huggingface.library()
    kind, config = transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig
    small = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
    parity.record_names(
        huggingface.Published(kind(config(**small))), "huggingface-dinov2_with_registers_small"
    )
    fields = {"hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 1, "patch_size": 14}
    whole = transformers.Dinov2Model(
        transformers.Dinov2Config(**fields, use_swiglu_ffn=True, image_size=518)
    )
    parity.record_names(huggingface.Published(whole), "huggingface-dinov2_gated")
    network = parity.randomize(
        kind(config(**fields | {"num_hidden_layers": 3}, use_swiglu_ffn=gated, image_size=56))
    )
    x = parity.image((56, 56))
    states = network(parity.to_torch(x), output_hidden_states=True).hidden_states
    expected = [grid(network.layernorm(states[i + 1]), (56, 56), before=5) for i in SMALL["layers"]]
    encoder = {**SMALL, "width": 48, "registers": 4, "variant": "g" if gated else "s"}
    rules = names.vit({"variant": encoder["variant"]})
    compare(huggingface.Published(network), rules, x, expected, **encoder)


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
    whole = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0)
    parity.record_names(whole, "timm-dinov2_small_registers")


def grid(states, size, before=1):
    """Return [b before+n c] without what stands before the patches as [b c h w]."""
    h, w = (n // 14 for n in size)
    return states[:, before:].reshape(len(states), h, w, -1).permute(0, 3, 1, 2)


def compare(reference, rules, x, expected, **fields):
    encoder = vit.Encoder(**(fields or SMALL), **DOUBLE)
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

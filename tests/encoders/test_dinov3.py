"""DINOv3's ViT: counts, names, Hugging Face's numbers, the authors' file, any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import dinov3
from segjax.errors import ConfigError
from segjax.layers import attention
from segjax.pretrained import convert, facebook
from segjax.pretrained import huggingface as names
from tests import parity
from tests.encoders import contract
from tests.pretrained import huggingface
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
SMALL = {"width": 32, "heads": 2, "depth": 3, "layers": (0, 2), "registers": 2}


class TestContract(contract.EncoderContract):
    dims = (2,)

    def encoder(self, **overrides):
        return dinov3.Encoder(width=16, heads=2, depth=2, layers=(0, -1), **overrides)


# Counted in transformers 5.23's DINOv3ViTModel, less the mask token of pre-training.
COUNTS = {
    "s": 21_596_544 - 384, "s+": 28_692_864 - 384, "b": 85_660_416 - 768, "l": 303_129_600 - 1024,
    "h+": 840_592_640 - 1280,
}  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        pytest.param(*each, marks=pytest.mark.slow if each[0] in "h+ l b" else ())
        for each in COUNTS.items()
    ],
)
def test_parameters_are_those_published(variant, expected):
    assert contract.count(dinov3.Encoder(variant=variant)) == expected


@pytest.mark.parametrize("variant", ["s", "s+"])
def test_every_published_name_is_used(variant):
    name = f"huggingface-dinov3_{variant.replace('+', '_plus')}"
    encoder = dinov3.Encoder(variant=variant)
    published.check(name, encoder, names.dinov3({}), unused=r"embeddings\.mask_token")


def theirs(gated=False, **fields):
    transformers = huggingface.library()
    act = "silu" if gated else "gelu"  # as the published config.json has it
    config = {"num_register_tokens": 4, "use_gated_mlp": gated, "hidden_act": act, **fields}
    return transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**config))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (80, 32), (65, 97)])
def test_features_are_hugging_faces(size, gated, float64):
    huggingface.library()
    import torch

    if size == (64, 64):
        name = "dinov3_s_plus" if gated else "dinov3_s"
        parity.record_names(huggingface.Published(theirs(gated)), f"huggingface-{name}")
    fields = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
    network = parity.randomize(
        theirs(gated, **fields, intermediate_size=128, num_register_tokens=2)
    )
    x = parity.image(size)
    covered = [-(-n // 16) * 16 for n in size]
    image = torch.nn.functional.interpolate(parity.to_torch(x), covered, mode="bilinear")
    states, turns = [network.embeddings(image)], network.rope_embeddings(image)
    for layer in network.model.layer:
        states.append(layer(states[-1], position_embeddings=turns))
    assert torch.equal(network(image).last_hidden_state, network.norm(states[-1]))
    expected = [
        network.norm(state)[:, 3:].reshape(2, covered[0] // 16, -1, 32).permute(0, 3, 1, 2)
        for state in (states[1], states[3])
    ]
    encoder = dinov3.Encoder(variant="s+" if gated else "s", **SMALL, **DOUBLE)
    variables = parity.variables_from(encoder, huggingface.Published(network), names.dinov3({}))
    features = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, x)
    for a, b in zip(features, expected, strict=True):
        parity.assert_close(a, b, 1e-6)


@pytest.mark.parametrize("variant", ["s", "s+"])
def test_the_authors_files_say_the_same_as_hugging_faces(variant):
    """Their arrays of queries, keys and values are one; keys have a bias there, which is zero."""
    encoder = dinov3.Encoder(variant=variant, **SMALL)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    shapes = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), image)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    rules = facebook.dinov3({"variant": variant})
    state = convert.to_torch(variables, rules)
    hidden = ("w1", "w2", "w3") if variant == "s+" else ("fc1", "fc2")
    kinds = {name.split(".", 2)[2] for name in state if name.startswith("blocks.")}
    assert kinds == {
        *(f"{name}.{leaf}" for name in ("norm1", "norm2", "attn.qkv", "attn.proj",
          *(f"mlp.{each}" for each in hidden)) for leaf in ("weight", "bias")),
        "ls1.gamma", "ls2.gamma",
    }  # fmt: skip
    assert {name for name in state if not name.startswith("blocks.")} == {
        "cls_token", "storage_tokens", "patch_embed.proj.weight", "patch_embed.proj.bias",
        "norm.weight", "norm.bias",
    }  # fmt: skip
    bias = state["blocks.1.attn.qkv.bias"]
    assert bias.shape == (96,) and (bias[32:64] == 0).all() and (bias[:32] != 0).all()
    back = convert.from_torch(state, shapes, rules)
    for path, leaf in convert.leaves(variables):
        np.testing.assert_array_equal(back[path], leaf)


def test_turns_keep_lengths_and_tell_distances_only(float64):
    """Products of turned queries and keys depend on how far apart two patches are, no more."""
    rng = np.random.default_rng(0)
    angles = dinov3.turns_of((1, 6), 8)
    turns = (jnp.cos(angles), jnp.sin(angles))
    one, other = (jnp.broadcast_to(rng.normal(size=8), (1, 1, 7, 8)) for _ in range(2))
    a, b = attention.rotate(one, turns), attention.rotate(other, turns)
    np.testing.assert_array_equal(a[0, 0, 0], one[0, 0, 0])  # the first place has no turn
    np.testing.assert_allclose(jnp.linalg.norm(a, axis=-1), jnp.linalg.norm(one, axis=-1))
    products = np.round(a[0, 0, 1:] @ b[0, 0, 1:].T, 9)
    for apart in range(-5, 6):
        assert len(np.unique(np.diagonal(products, apart))) == 1
    assert len(np.unique(products)) == 11


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "7b"}, "variant"),
        ({"width": 8, "heads": 4}, "8 channels for encoder.heads=4, expected a multiple of 4"),
        ({"depth": 2, "layers": (2,)}, "ascending indices of 2 blocks"),
    ],
)
def test_what_cannot_be_built_says_why(fields, message):
    with pytest.raises(ConfigError, match=message):
        contract.count(dinov3.Encoder(**{"depth": 1, **fields}))

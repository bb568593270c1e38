"""EoMT gives the published code's logits and gradients, at any size, in every form it has."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.pretrained import convert
from segjax.pretrained import huggingface as names
from tests import parity
from tests.models import contract
from tests.outside import recorded
from tests.pretrained import huggingface
from tests.pretrained import names as published

VIT = {"type": "vit", "width": 16, "heads": 2, "depth": 3, "grid": 4, "patch": 16}
VIT |= {"registers": 4, "class_position": False}
DINOV3 = {"type": "dinov3", "width": 16, "heads": 2, "depth": 3, "epsilon": 1e-6}
SMALL = {"queries": 6, "blocks": 2, "num_classes": 5}
FORMS = {"vit": VIT, "dinov3": DINOV3}


def build(encoder=VIT, **fields):
    section = {"type": "eomt", "encoder": flax.core.freeze(encoder), **SMALL, **fields}
    num_classes = section.pop("num_classes")
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


def theirs(form, **fields):
    """Return their network for images of 64 x 64."""
    transformers = huggingface.library()
    common = {
        "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "image_size": 64,
        "num_queries": 6, "num_blocks": 2, "num_labels": 5, "patch_size": 16, **fields,
    }  # fmt: skip
    if form == "vit":
        config = transformers.EomtConfig(**common)
        return transformers.EomtForUniversalSegmentation(config)
    common |= {"intermediate_size": 4 * common["hidden_size"], "pos_embed_rescale": None}
    config = transformers.EomtDinov3Config(**common)
    return transformers.EomtDinov3ForUniversalSegmentation(config)


@pytest.mark.parametrize("form", FORMS)
def test_every_published_name_is_used(form):
    unused = r"criterion\.empty_weight|attn_mask_probs"
    rules = names.eomt({"encoder": FORMS[form]})
    published.check(f"huggingface-eomt_{form}", build(FORMS[form]), rules, unused=unused)


# Counted in transformers 5.23: tue-mps/coco_panoptic_eomt_large_640 and …_640_dinov3.
@pytest.mark.slow
@pytest.mark.parametrize(("form", "expected"), [("vit", 316_695_686), ("dinov3", 315_032_710)])
def test_parameters_are_those_published(form, expected):
    large = {"type": form, "variant": "l", "registers": 4, "patch": 16}
    large |= {"grid": 40, "class_position": False} if form == "vit" else {}
    model = build(large, queries=200, blocks=4, num_classes=133)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def prepared(form):
    """Return their network, ours with its weights, the rules and images of the size they know."""
    network = theirs(form)
    parity.record_names(huggingface.Published(network), f"huggingface-eomt_{form}")
    parity.randomize(network)
    if form == "vit":  # its mask is in float32, which the fused attention takes for float64
        network.set_attn_implementation("eager")
    model = build(FORMS[form], **contract.DOUBLE)
    rules = names.eomt({"encoder": FORMS[form]})
    variables = parity.variables_from(model, huggingface.Published(network), rules)
    return network, model, variables, rules


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_hugging_faces(form, float64):
    """With masked attention in training, without it at inference."""
    network, model, variables, _ = prepared(form)
    x = parity.image((64, 64))
    for train in (False, True):
        network.attn_mask_probs.fill_(float(train))
        expected = network.train(train)(parity.to_torch(x))
        found = jax.jit(functools.partial(model.apply, train=train))(variables, x)
        assert len(found.earlier) == 2 * train and found.size == (64, 64)
        parity.assert_close(found.last.masks, expected.masks_queries_logits, 1e-6)
        logits = expected.class_queries_logits.detach().numpy()
        difference = np.abs(np.asarray(found.last.classes) - logits).max()
        assert difference <= 1e-6 * np.abs(logits).max()


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_hugging_faces(form, float64):
    """Of the last layer's logits in training, to 1e-5: their softmax is in float32.

    What is zero there but for rounding is measured by a thousandth of the largest array.
    """
    network, model, variables, rules = prepared(form)
    network.attn_mask_probs.fill_(1.0)
    x, rng = jnp.asarray(parity.image((64, 64))), np.random.default_rng(1)
    masks, classes = rng.normal(size=(2, 16, 16, 6)), rng.normal(size=(2, 6, 6))
    found = network.train()(parity.to_torch(np.asarray(x)))
    total = (found.masks_queries_logits * parity.to_torch(masks)).sum()
    (total + (found.class_queries_logits * to_tensor(classes)).sum()).backward()

    @jax.jit
    @jax.grad
    def gradient(params):
        last = model.apply({"params": params}, x, train=True).last
        return jnp.vdot(last.masks, masks) + jnp.vdot(last.classes, classes)

    ours = gradient(variables["params"])
    state = {name: value.grad.numpy() for name, value in network.named_parameters()}
    expected = convert.from_torch(state, {"params": ours}, rules)
    floor = 1e-3 * max(np.abs(value).max() for value in expected.values())
    for path, value in convert.leaves({"params": ours}):
        scale = max(np.abs(expected[path]).max(), floor)
        assert np.abs(value - expected[path]).max() <= 1e-5 * scale, path


def to_tensor(x):
    import torch

    return torch.from_numpy(x)


def shapes(model, image, *, train):
    init = functools.partial(model.init_with_output, train=train)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    return jax.eval_shape(init, keys, image)


@pytest.mark.slow
def test_queries_see_less_as_often_as_they_are_told():
    """Never: training answers as inference does; always: as without a schedule; by block."""
    model = build(VIT)
    image = jnp.asarray(parity.image((40, 64), count=1), "float32")
    rng = np.random.default_rng(1)
    _, variables = shapes(model, image, train=False)

    def value(path, x):
        spread = np.prod(x.shape[:-1]) ** -0.5 if x.ndim > 1 else 0.1
        ones = path[-1].key.startswith("scale")
        return jnp.asarray(ones + spread * rng.normal(size=x.shape), x.dtype)

    variables = jax.tree.map_with_path(value, variables)

    @recorded.compiled
    def trained(attend):
        rngs = {"dropout": jax.random.key(1)}
        return model.apply(variables, image, train=True, attend=attend, rngs=rngs).last.masks

    @recorded.compiled
    def both(image):
        return [model.apply(variables, image, train=train).last.masks for train in (False, True)]

    plain, always = both(image)
    np.testing.assert_allclose(trained(jnp.ones(2)), always, atol=1e-4)
    np.testing.assert_allclose(trained(jnp.zeros(2)), plain, atol=1e-4)
    first = trained(jnp.asarray([1.0, 0.0]))
    assert jnp.abs(always - plain).max() > 1e-2 < jnp.abs(first - always).max()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"blocks": 4}, "blocks=4: expected at most 3"),
        ({"encoder": {"type": "mit"}}, "type='mit': EoMT expects a ViT"),
        ({"queries": 0}, "queries"),
    ],
)
def test_what_cannot_be_built_says_why(fields, said):
    with pytest.raises(ConfigError, match=said):
        shapes(build(**fields), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32"), train=True)


def test_as_many_probabilities_as_blocks():
    model, image = build(), jnp.zeros((1, 32, 32, 3))
    with pytest.raises(ConfigError, match="annealing is of 3 blocks"):
        model.init(jax.random.key(0), image, train=True, attend=jnp.ones(3))

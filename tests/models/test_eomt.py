"""EoMT gives the published code's logits and gradients, at any size, in every form it has."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.pretrained import convert
from segjax.pretrained import huggingface as names
from tests import parity
from tests.models import contract
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

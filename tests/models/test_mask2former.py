"""Mask2Former gives the published code's answers, by its names; more numbers in tests/outside."""

import functools

import flax
import jax
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.models import mask2former
from segjax.pretrained import huggingface as names
from tests import parity
from tests.models import contract
from tests.pretrained import huggingface
from tests.pretrained import names as published

SMALL = {
    "type": "mask2former", "feature_norm": "layer", "width": 32, "heads": 2, "pixel_layers": 1,
    "pixel_hidden": 24, "layers": 3, "hidden": 40, "queries": 5,
    "encoder": {
        "type": "swin", "width": 8, "head_width": 4, "window": 3, "depths": (2, 0, 0, 1),
        "drop_path": 0.0,
    },
}  # fmt: skip


def build(num_classes=3, **fields):
    section = {**SMALL, **fields}
    section["encoder"] = flax.core.freeze(section["encoder"])
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


def theirs(swin, **fields):
    """Return their network on a Swin."""
    transformers = huggingface.library()
    stages = [f"stage{i}" for i in range(1, 5)]
    backbone = transformers.SwinConfig(**swin, out_features=stages, drop_path_rate=0.0)
    config = transformers.Mask2FormerConfig(backbone_config=backbone, **fields)
    return transformers.Mask2FormerForUniversalSegmentation(config)


# Counted in transformers 5.23, without the layer norm behind Swin that they never call:
# facebook/mask2former-swin-tiny-coco-panoptic and …-swin-large-coco-panoptic.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "queries", "expected"), [("t", 100, 47_435_264), ("l", 200, 215_535_610)]
)
def test_parameters_are_those_published(variant, queries, expected):
    model = whole(variant, queries)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def whole(variant, queries=100):
    encoder = flax.core.freeze({"type": "swin", "variant": variant})
    return mask2former.Model(
        num_classes=133, encoder=encoder, feature_norm="layer", queries=queries
    )


UNUSED = r"criterion\.empty_weight|.*\.swin\.layernorm\..*"


def test_every_published_name_is_used():
    rules = names.mask2former({"encoder": {"type": "swin"}})
    published.check("huggingface-mask2former_swin_tiny", whole("t"), rules, unused=UNUSED)


def test_names_are_hugging_faces():
    network = theirs({"depths": [2, 2, 6, 2]}, num_labels=133, num_queries=100)
    parity.record_names(huggingface.Published(network), "huggingface-mask2former_swin_tiny")


def test_answers_of_all_layers_are_hugging_faces(float64):
    """In training those before the last too, the first of which are of queries that saw nothing."""
    network = theirs(
        {"embed_dim": 8, "depths": [2, 0, 0, 1], "num_heads": [2, 4, 8, 16], "window_size": 3},
        feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=24,
        dim_feedforward=40, encoder_layers=1, decoder_layers=4, num_attention_heads=2,
        num_queries=5, num_labels=3,
    )  # fmt: skip
    parity.randomize(network)
    model = build(**contract.DOUBLE)
    rules = names.mask2former(SMALL)
    variables = parity.variables_from(model, huggingface.Published(network), rules)
    x = parity.image((64, 96))
    expected = network(parity.to_torch(x), output_auxiliary_logits=True)
    found = jax.jit(functools.partial(model.apply, train=True))(variables, x)
    layers = [*expected.auxiliary_logits, expected]
    for ours, theirs_ in zip((*found.earlier, found.last), layers, strict=True):
        parity.assert_close(ours.masks, theirs_["masks_queries_logits"], 1e-6)
        logits = theirs_["class_queries_logits"].detach().numpy()
        difference = np.abs(np.asarray(ours.classes) - logits).max()
        assert difference <= 1e-6 * np.abs(logits).max()


def test_queries_without_a_mask_see_everything():
    masks = np.full((1, 4, 4, 3), -1.0, np.float32)
    masks[0, :2, :2, 1], masks[0, ..., 2] = 1.0, 0.0
    sees = mask2former.sight(jax.numpy.asarray(masks), (2, 2))
    np.testing.assert_array_equal(sees[0], [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoder": {"type": "mit", "output": 3}}, "output"),
        ({"encoder": {"type": "resnet", "depth": 18, "output_stride": 16}}, "mask2former needs"),
        ({"heads": 3}, "a multiple of 4 for each of heads=3"),
    ],
)
def test_what_cannot_be_built_says_why(fields, said):
    with pytest.raises(ConfigError, match=said):
        build(**fields).init(jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3)), train=True)


def test_masked_attention_does_not_end():
    with pytest.raises(ConfigError, match="annealing ends masked attention"):
        build().init(
            jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3)), train=True,
            attend=jax.numpy.ones(3),
        )  # fmt: skip

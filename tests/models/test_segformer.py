"""SegFormer keeps the contract and is Hugging Face's: names, counts, logits, gradients."""

import flax
import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.pretrained import huggingface as names
from tests import parity
from tests.models import contract
from tests.pretrained import huggingface
from tests.pretrained import names as published

TINY = {"widths": (8, 8, 10, 16), "depths": (1, 0, 0, 1), "reduction": (2, 2, 1, 1)}


def build(num_classes=5, encoder=TINY, **fields):
    section = {"type": "segformer", "encoder": flax.core.freeze({"type": "mit", **encoder})}
    section |= {"width": 6, **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


class TestContract(contract.ModelContract):
    idle = "attention/key/bias$"  # adds the same to a query's product with every key
    wide_products = 24  # products of its own matrices
    row_collectives = frozenset({"all-gather"})  # of keys and values: attention sees all rows

    def model(self, **overrides):
        return build(**overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


# Counted in transformers 5.23's SegformerForSemanticSegmentation with 150 classes; the paper's
# table 1 rounds them (3.8, 13.7, 27.5, 47.3, 64.1 and 84.7 million).
COUNTS = {"b0": 3_752_694, "b1": 13_715_798, "b2": 27_461_974}
COUNTS |= {"b3": 47_337_814, "b4": 64_108_374, "b5": 84_708_694}

DEEP = [pytest.param(*item, marks=pytest.mark.slow) for item in list(COUNTS.items())[3:]]


@pytest.mark.parametrize(("variant", "expected"), [*list(COUNTS.items())[:3], *DEEP])
def test_parameters_are_those_published(variant, expected):
    width = 256 if variant in ("b0", "b1") else 768
    model = build(150, {"variant": variant}, width=width)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    _, _, variables = contract.shapes(model, image, train=False)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected


B0 = {"encoder": {"variant": "b0", "drop_path": 0.0}, "width": 256, "dropout": 0.0}
RULES = names.segformer({"encoder": {"type": "mit"}})


def test_every_published_name_is_used():
    published.check("huggingface-segformer_b0", build(150, **B0), RULES)


def hugging_faces(**options):
    """Return their B0 with made-up weights."""
    transformers = huggingface.library()
    config = transformers.SegformerConfig(drop_path_rate=0.0, **options)
    network = transformers.SegformerForSemanticSegmentation(config)
    return huggingface.Published(parity.randomize(network))


SHALLOW = {"depths": (1, 0, 0, 1)}  # compiles in a fraction of the time


@pytest.mark.parametrize(("size", "depths"), [((64, 96), {}), ((65, 97), SHALLOW)])
def test_logits_are_hugging_faces(size, depths, float64):
    parity.record_names(hugging_faces(num_labels=150), "huggingface-segformer_b0")
    reference, model = hugging_faces(num_labels=5, **depths), ours(depths)
    variables, x = parity.variables_from(model, reference, RULES), parity.image(size)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False).logits)(variables, x)
    parity.assert_close(logits, enlarged(reference(parity.to_torch(x)).logits, size))


def test_gradients_are_hugging_faces(float64):
    size = (64, 96)
    reference = hugging_faces(num_labels=5, **SHALLOW)
    parity.assert_gradients_close(
        ours(SHALLOW), reference, RULES, lambda out: [enlarged(out.logits, size)], size=size
    )


def ours(depths):
    """Return our B0 in float64, of other depths."""
    return build(**{**B0, "encoder": {**B0["encoder"], **depths}}, **contract.DOUBLE)


def enlarged(logits, size):
    """Return logits as everyone enlarges theirs."""
    import torch

    return torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)

"""MiT is the published one: shapes, counts, names, Hugging Face's and smp's numbers."""

import jax
import pytest

from segjax.encoders import mit
from segjax.errors import ConfigError
from segjax.pretrained import huggingface as names
from segjax.pretrained import smp as smp_names
from tests import parity
from tests.encoders import contract
from tests.pretrained import huggingface
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


class TestContract(contract.EncoderContract):
    def encoder(self, **overrides):
        return mit.Encoder(widths=(4, 4, 5, 8), depths=(1, 1, 2, 1), **overrides)


# Counted in transformers 5.23's SegformerModel; the paper's table 1 rounds them (3.4 M to 81.4 M).
COUNTS = {"b0": 3_319_392, "b1": 13_151_424, "b2": 24_196_288}
COUNTS |= {"b3": 44_072_128, "b4": 60_842_688, "b5": 81_443_008}

DEEP = [pytest.param(*item, marks=pytest.mark.slow) for item in list(COUNTS.items())[3:]]


@pytest.mark.parametrize(("variant", "expected"), [*list(COUNTS.items())[:3], *DEEP])
def test_parameters_are_those_published(variant, expected):
    assert contract.count(mit.Encoder(variant=variant)) == expected


@pytest.mark.parametrize(
    ("name", "table"), [("huggingface-mit_b0", names), ("smp-mit_b0", smp_names)]
)
def test_every_published_name_is_used(name, table):
    published.check(name, mit.Encoder(variant="b0"), table.ENCODERS["mit"]({}))


SHRUNKEN = {"depths": (1, 1, 2, 1)}


@pytest.mark.parametrize("size", parity.SIZES)
def test_features_are_hugging_faces(size, float64):
    transformers = huggingface.library()
    published = transformers.SegformerModel(transformers.SegformerConfig())
    parity.record_names(huggingface.Published(published), "huggingface-mit_b0")
    config = transformers.SegformerConfig(**SHRUNKEN)
    network = parity.randomize(transformers.SegformerModel(config))
    reference = huggingface.Published(network)
    encoder = mit.Encoder(**SHRUNKEN, **DOUBLE)
    x = parity.image(size)
    expected = reference(parity.to_torch(x), output_hidden_states=True).hidden_states
    compare(encoder, parity.variables_from(encoder, reference, names.mit({})), x, expected)


def test_features_are_smps(float64):
    smp = pytest.importorskip("segmentation_models_pytorch", reason=parity.REASON)
    published = smp.encoders.get_encoder("mit_b0", weights=None)
    parity.record_names(published, "smp-mit_b0")
    options = smp.encoders.encoders["mit_b0"]["params"]
    reference = parity.randomize(type(published)(**{**options, **SHRUNKEN}))
    encoder = mit.Encoder(epsilon=1e-6, **SHRUNKEN, **DOUBLE)
    x = parity.image(parity.SIZES[1])
    variables = parity.variables_from(encoder, reference, smp_names.mit({}))
    compare(encoder, variables, x, reference(parity.to_torch(x))[2:])


def compare(encoder, variables, x, expected):
    features = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, x)
    for ours, theirs in zip(features, expected, strict=True):
        parity.assert_close(ours, theirs, 1e-6)


def test_deeper_blocks_drop_more_often():
    rates = contract.drop_rates(mit.Encoder(depths=(1, 1, 2, 1), drop_path=0.2))
    assert rates == sorted(rates)
    assert (rates[0], max(rates)) == (0, 0.2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "b6"}, "variant"),
        ({"widths": (8, 8)}, "widths"),
        ({"depths": (1, 1, 1)}, "depths"),
        ({"widths": (4, 5, 10, 8)}, "5 channels"),
    ],
)
def test_what_cannot_be_built_says_why(fields, message):
    with pytest.raises(ConfigError, match=message):
        contract.count(mit.Encoder(**fields))


def test_a_volume_needs_a_window_of_places_along_each_axis():
    with pytest.raises(
        ConfigError, match="size 3 x 8 x 8 cannot be reduced by encoder.reduction=8"
    ):
        contract.shapes(mit.Encoder(depths=(1, 0, 0, 1)), (1, 9, 32, 32, 1))

"""What models share: an encoder's features by stride, logits at the image's size, heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.encoders import resnet
from segjax.errors import ConfigError
from segjax.layers import style
from segjax.layers.style import Style
from segjax.models import base
from segjax.structs import Outputs
from tests.models import contract

MODELS = lookup.modules("models")
RESNET = {"type": "resnet", "depth": 18, "width": 4}


class Model(base.EncoderDecoder):
    """Three classes from the last features, auxiliary ones from those chosen."""

    aux: tuple[int, ...] = (-2, 0)

    def decode(self, encoded, *, train):
        logits = self.style.dense(self.num_classes, name="head")(encoded.features[-1])
        return Outputs(logits, self.auxiliary(encoded, train=train))


def test_logits_are_enlarged_and_aux_is_for_training():
    model = Model(num_classes=3, encoder=RESNET)
    image = jax.ShapeDtypeStruct((2, 33, 47, 3), jnp.float32)
    logits, aux, variables = contract.shapes(model, image, train=True)
    assert [y.shape for y in (logits, *aux)] == [(2, 33, 47, 3)] * 3
    assert variables["params"].keys() == {"encoder", "head", "aux0", "aux1"}
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, image)
    assert outputs.aux == () and outputs.logits.shape == (2, 33, 47, 3)


def test_the_encoder_has_the_models_dtypes_and_remat():
    model = Model(num_classes=3, encoder=RESNET, compute_dtype="bfloat16", remat="full")
    seen = []

    def note(call, arguments, options, context):
        if isinstance(context.module, resnet.Encoder):
            seen.append(context.module.style)
        return call(*arguments, **options)

    with nn.intercept_methods(note):
        contract.shapes(model, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32), train=False)
    assert set(seen) == {Style("batch", "full", "bfloat16", "float32")}


def test_features_are_found_by_stride():
    encoder = resnet.Encoder(depth=18, output_stride=8)
    features = tuple(jnp.full((1, 2, 2, 1), float(i)) for i in range(5))
    encoded = base.Encoded(features, encoder, (65, 33))
    assert encoded.strides == (2, 4, 8, 8, 8)
    assert encoded.at(4).max() == 1 and encoded.at(8).max() == 2
    assert encoded.size_at(8) == (9, 5)
    with pytest.raises(ConfigError, match="config.model.encoder: stride=16 is none of 2, 4, 8"):
        encoded.at(16)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_pixels_is_a_segmenter(name):
    model = lookup.resolve("models", name, where="config.model")
    gives = getattr(model, "outputs", "logits")
    assert issubclass(model, base.Segmenter) == (gives == "logits")
    assert issubclass(model, style.Network)
    assert {"norm", "remat", "compute_dtype", "param_dtype"} <= model.__dataclass_fields__.keys()


def test_base_is_no_model():
    assert "base" not in MODELS and "unet" in MODELS
    with pytest.raises(ConfigError, match=r"no module segjax\.models\.base"):
        lookup.resolve("models", "base", where="config.model")

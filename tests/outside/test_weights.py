"""Published weights, whose first layers are recorded, give what the publishers' code gave."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import efficientnet
from segjax.pretrained import convert, smp
from tests import parity
from tests.outside import recorded

FORM = {"padding": "published", "epsilon": 1e-3, "depth": 0.1}
DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
COMPARED = {"weights-lite0", "weights-csmask"}


def features(name, image, **fields):
    """Return our features of an image, by the recorded weights; of later layers they are zeros."""
    section = {"type": "efficientnet", **FORM, **fields}
    encoder = efficientnet.Encoder(**FORM, **fields, **DOUBLE)
    rules = smp.efficientnet(section)
    init = functools.partial(encoder.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.asarray(image))
    state = convert.to_torch(jax.tree.map(lambda x: np.zeros(x.shape), shapes), rules)
    given = {
        key.removeprefix("state/"): array
        for key, array in recorded.case(name).arrays.items()
        if key.startswith("state/")
    }
    assert set(given) <= set(state)
    channels = image.shape[-1]
    variables = parity.variables_of(encoder, state | given, rules, channels=channels)
    return recorded.compiled(functools.partial(encoder.apply, train=False))(
        variables, jnp.asarray(image)
    )


def check(ours, theirs, tolerance):
    difference = np.abs(recorded.sample(np.asarray(ours)) - theirs).max()
    assert difference <= tolerance * np.abs(theirs).max()


def test_efficientnet_lite0(float64):
    case = recorded.case("weights-lite0")
    found = features("weights-lite0", recorded.image(case.about["size"]), variant="lite0")
    check(found[0], case.arrays["0"], 1e-9)
    check(found[1], case.arrays["1"], 1e-9)


@pytest.mark.parametrize("stem_skip", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_encoder_of_csmask(stem_skip, float64):
    """Of float16 weights, by onnxruntime in float32."""
    case = recorded.case("weights-csmask")
    image = recorded.noise("image", (1, *case.about["size"], 4)).astype(np.float32)
    found = features("weights-csmask", image, variant="b4", stem_skip=stem_skip)
    check(found[0], case.arrays["0" if stem_skip else "1"], 1e-5)

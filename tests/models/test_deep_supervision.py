"""Models with `deep_supervision` give logits at 1/2, 1/4, … of the image's size, in training.

The rule: sizes are rounded up for any image, signal or volume, whatever the stem's stride; nothing
else of the model changes, evaluation has none, and more than there are is an error.
"""

import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError

SIZES = [(33, 47), (64, 41), (50,), (5, 33, 40)]
ENCODER = {"type": "resnet", "depth": 18, "width": 8}
MODELS = {
    "unet": ({"type": "unet", "widths": (4, 6, 8, 8), "convs_per_level": 1}, 2),
    "stem of 4": ({"type": "unet", "widths": (4, 6, 8), "stem_stride": 4, "up": "bilinear"}, 1),
    "attention_unet": ({"type": "attention_unet", "widths": (4, 6, 8)}, 1),
    "encoder_unet": ({"type": "encoder_unet", "widths": (8, 8, 8, 4, 4), "encoder": ENCODER}, 4),
}


def shapes(name, size, *, train, **fields):
    section, most = MODELS[name]
    fields = {"deep_supervision": most} | fields
    model = lookup.build("models", section | fields, where="config.model", num_classes=5)
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)

    def both(x):
        variables = model.init(jax.random.key(0), x, train=False)
        rngs = {"dropout": jax.random.key(0)}
        return variables, model.apply(variables, x, train=train, mutable=["batch_stats"], rngs=rngs)

    variables, (outputs, _) = jax.eval_shape(both, image)
    return outputs, variables["params"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(
            name, size, marks=[pytest.mark.slow] * (name != "unet" and i != n), id=f"{name}-{size}"
        )
        for n, name in enumerate(MODELS)
        for i, size in enumerate(SIZES)
    ],
)
def test_logits_of_every_resolution(name, size):
    outputs, params = shapes(name, size, train=True)
    assert outputs.logits.shape == (2, *size, 5) and not outputs.aux
    assert [x.shape for x in outputs.deep] == [
        (2, *(-(-n // 2**level) for n in size), 5) for level in range(1, 1 + MODELS[name][1])
    ]
    assert {key for key in params if "deep" in key} == {
        f"deep{level}" for level in range(1, 1 + MODELS[name][1])
    }


@pytest.mark.parametrize(
    "name", ["unet", *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS if n != "unet")]
)
def test_nothing_else_changes_and_evaluation_has_none(name):
    outputs, params = shapes(name, (33, 47), train=False)
    assert outputs.deep is None
    without, plain = shapes(name, (33, 47), train=True, deep_supervision=0)
    assert without.deep == ()
    assert jax.tree.map(lambda x: x.shape, plain) == jax.tree.map(
        lambda x: x.shape, {key: value for key, value in params.items() if "deep" not in key}
    )


@pytest.mark.parametrize("name", MODELS)
def test_more_than_there_are_is_a_config_error(name):
    most = MODELS[name][1]
    with pytest.raises(ConfigError, match=f"deep_supervision={most + 1}: expected at most {most},"):
        shapes(name, (64, 64), train=True, deep_supervision=most + 1)

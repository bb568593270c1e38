"""A batch norm that sees too little is found before anything is compiled."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from segjax.assemble import batch_norms, program
from segjax.assemble.setup import make_setup
from segjax.errors import ConfigError
from segjax.layers import norm
from segjax.runtime import sharding
from segjax.training import freeze

RESNET = {"type": "resnet", "depth": 18, "width": 4}
POOLING = {
    "deeplabv3": {"type": "deeplabv3", "encoder": RESNET, "width": 8},
    "pspnet": {"type": "pspnet", "encoder": RESNET, "bins": [1, 2]},
    "unet": {"type": "unet", "widths": [4] * 6, "convs_per_level": 1},  # 32 to 1 in five halvings
}
LONE = {"deeplabv3": "aspp/pool", "pspnet": "level0", "unet": "bottom"}
SIZE = {"deeplabv3": [64, 64], "pspnet": [64, 64], "unet": [32]}


def make(tiny_config, name, batch_size, devices=1, **changes):
    """Return a setup of a model whose smallest map has one place, on some of the devices."""
    config = tiny_config(input__batch_size=batch_size)
    config["model"] = POOLING[name]
    config["input"]["size"] = SIZE[name]
    config["input"]["source"].update(dims=len(SIZE[name]), size=[])
    config["augment"] = []
    if len(SIZE[name]) == 1:
        config["normalize"] = {"type": "normalize:per_image"}
    config |= changes
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1, 1), sharding.AXES)
    return make_setup(config, mesh=mesh)[0]


def trace(setup):
    key = jax.random.key(0)
    return program.trace(setup, key, key)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in ("pspnet", "deeplabv3"))) for n in POOLING],
)
def test_one_value_per_channel_is_an_error_and_few_are_a_warning(name, tiny_config):
    """A batch norm needs two values of a channel to train, and eight to be believed.

    The rule for an image pooling (DeepLabv3), a pyramid's bin of 1 (PSPNet) and the bottom of a
    U-Net on signals; the message names the module and what to do.
    """
    with pytest.raises(ConfigError, match=rf"{LONE[name]}.* gets 1 value per channel.*batch_size"):
        trace(make(tiny_config, name, 1))
    (warning,) = trace(make(tiny_config, name, 2)).warnings
    assert LONE[name] in warning and "gets 2 values per channel" in warning
    assert "\n" not in warning
    if name == "unet":  # the others take seconds
        assert trace(make(tiny_config, name, 8)).warnings == []


@pytest.mark.parametrize(
    ("changes", "devices"),
    [({"microbatches": 4}, 1), ({"microbatches": 2}, 2), ({"deterministic_reduction": 4}, 2)],
)
def test_what_divides_a_batch_divides_the_values(changes, devices, tiny_config):
    """Microbatches and parts of fixed order have statistics of their own, devices have not."""
    size = 4 if max(changes.values()) == 4 else 2
    with pytest.raises(ConfigError, match="gets 1 value per channel"):
        trace(make(tiny_config, "unet", size, devices, **changes))
    (warning,) = trace(make(tiny_config, "unet", 2 * size, devices, **changes)).warnings
    assert "gets 2 values" in warning
    (warning,) = trace(make(tiny_config, "unet", 4, devices=4)).warnings
    assert "gets 4 values" in warning


def test_the_crop_of_the_augmentation_counts(tiny_config):
    crop = [{"type": "geometry:affine", "size": [32]}]
    setup = make(tiny_config, "unet", 2)
    config = setup.config | {"input": setup.config["input"] | {"size": [64], "batch_size": 1}}
    whole, _ = make_setup(config, mesh=setup.parts.mesh)
    assert "gets 2 values" in trace(whole).warnings[0]
    cropped, _ = make_setup(config | {"augment": crop}, mesh=setup.parts.mesh)
    with pytest.raises(ConfigError, match="gets 1 value per channel"):
        trace(cropped)


class Two(nn.Module):
    """Two batch norms, one of them on a mean."""

    @nn.compact
    def __call__(self, x, *, train):
        x = norm.BatchNorm(train, name="wide")(x)
        return norm.BatchNorm(train, name="mean")(x.mean((1, 2), keepdims=True))


@pytest.mark.parametrize(
    ("train", "held", "expected"),
    [
        (True, (), {"wide": 20, "mean": 1}),
        (True, ("mean/.*",), {"wide": 20}),
        (False, (), {}),
    ],
)
def test_only_statistics_that_are_taken_count(train, held, expected):
    model, x = Two(), jnp.zeros((1, 4, 5, 3))
    variables = model.init(jax.random.key(0), x, train=False)
    seen = freeze.frozen(model, held)
    with batch_norms.counting() as counts:
        jax.eval_shape(lambda v: seen.apply(v, x, train=train, mutable=["batch_stats"]), variables)
    assert counts == expected
    if counts.get("mean"):
        with pytest.raises(ConfigError, match="batch norm in 'mean' gets 1 value"):
            batch_norms.check(counts)
    else:
        assert batch_norms.check(counts) == []


@pytest.mark.parametrize(
    ("number", "said"), [(1, "'n0' gets"), (3, "'n2' gets"), (9, "and 6 more")]
)
def test_messages_stay_one_short_line(number, said):
    for count in (1, 2):
        counts = {f"n{i}": count for i in range(number)}
        try:
            (text,) = batch_norms.check(counts)
        except ConfigError as error:
            text = str(error)
        assert said in text and "\n" not in text and len(text) < 520

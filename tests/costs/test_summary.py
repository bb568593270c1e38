"""The summary's numbers are the model's."""

import jax
import jax.numpy as jnp
import pytest

from segjax.assemble import program
from segjax.assemble.setup import make_setup
from segjax.commands import cli
from segjax.commands import summary as command
from segjax.costs import summary
from segjax.models import pspnet, unet


def test_rows_add_up():
    model = unet.Model(num_classes=2, widths=(4, 8), convs_per_level=1)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    whole, *rows = summary.modules(model, image, depth=1)
    assert [row.path for row in rows][:3] == ["down0", "bottom", "Dropout_0"]
    assert whole.parameters == sum(row.parameters for row in rows) > 0
    assert whole.flops == sum(row.flops for row in rows) > 0
    assert whole.shapes == ((1, 32, 32, 2),) and whole.bytes == 4 * 32 * 32 * 2
    deeper = summary.modules(model, image, depth=2)
    assert {row.path for row in deeper} >= {"down0/conv0", "enlarge0/conv"}


def test_what_a_method_of_the_model_builds_has_its_flops():
    encoder = {"type": "resnet", "depth": 18, "width": 4}
    model = pspnet.Model(num_classes=2, encoder=encoder, bins=(1, 2))
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    rows = {row.path: row for row in summary.modules(model, image, depth=2)}
    assert rows["level1/conv"].flops == rows["level1"].flops == 2 * (2 * 2) * 32 * 16


@pytest.mark.parametrize("remat", [pytest.param("none", marks=pytest.mark.slow), "full"])
def test_memory_of_a_training_step(remat, tiny_config):
    config = tiny_config()
    config["model"]["remat"] = remat
    setup, _ = make_setup(config)
    size = setup.parts.canvas.size
    key = jax.random.key(0)
    _, step, target = program.make_step(setup, key)
    batch = {
        "image": jax.ShapeDtypeStruct((8, *size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((8, *size), jnp.int32),
        "mask": jax.ShapeDtypeStruct((8,), jnp.bool_),
        "index": jax.ShapeDtypeStruct((8,), jnp.int32),
    }
    memory = step.lower(target, batch, key).compile().memory_analysis()
    held = summary.on_device(target) + sum(x.size * x.dtype.itemsize for x in batch.values()) // 8
    assert memory.argument_size_in_bytes == pytest.approx(held, rel=0.01)
    kept = command.kept(setup, target) / 8
    logits = 4 * 8 * size[0] * size[1]
    assert kept > logits
    if remat == "full":
        config["model"]["remat"] = "none"
        plain, _ = make_setup(config)
        assert kept < 0.8 * command.kept(plain, target) / 8


def test_the_printed_table(capsys):
    assert cli.main(["run.py", "--mode=summary", "--config=configs/quickstart.py:debug"]) == 0
    text = capsys.readouterr().out
    for word in ("down0", "48×48×8", "parameters", "FLOPs of a train step", "memory of a device"):
        assert word in text

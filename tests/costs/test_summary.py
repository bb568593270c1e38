"""The summary's numbers are the model's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from segjax.assemble import program
from segjax.assemble.setup import make_setup
from segjax.commands import cli
from segjax.commands import summary as command
from segjax.costs import summary
from segjax.models import pspnet, unet
from segjax.runtime import sharding


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


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
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


CROPS = {
    "no crop": ([48, 48], [], [48, 48]),
    "a smaller crop": ([96, 96], [{"type": "geometry:affine", "size": [48, 48]}], [48, 48]),
    "a volume": ([24, 48, 48], [{"type": "geometry:affine", "size": [16, 32, 32]}], [16, 32, 32]),
}


def setups(tiny_config, case, number):
    """Return the setup of a case, and that whose canvas is what trains."""
    size, augment, trained = CROPS[case]
    made = []
    for canvas, ops in ((size, augment), (trained, [])):
        config = tiny_config()
        config["input"]["size"], config["augment"] = canvas, ops
        config["input"]["source"].update(dims=len(size), size=[])
        if len(size) == 3:
            config["normalize"] = {"type": "normalize:per_image"}
        mesh = Mesh(np.array(jax.devices()[:number]).reshape(number, 1, 1), sharding.AXES)
        made.append(make_setup(config, mesh=mesh)[0])
    return made


@pytest.mark.parametrize("case", CROPS)
def test_what_is_counted_is_what_trains(case, tiny_config):
    """Activations are those of the crop that the augmentation makes, not of the canvas.

    The rule for no crop, a crop of pictures and one of volumes: the same as with a canvas of the
    crop's size. Only the batch itself comes at the canvas' size.
    """
    setup, small = setups(tiny_config, case, 1)
    facts, expected = command.training(setup), command.training(small)
    for name in facts:
        if "batch" not in name and "memory" not in name and "FLOPs" not in name:
            assert facts[name] == expected[name], name
    sizes = [math.prod(own.batch_shapes()["image"].shape) for own in (setup, small)]
    ratio = sizes[0] / sizes[1]
    counted = [float(own["  batch"].split()[0].replace(",", "")) for own in (facts, expected)]
    assert counted[0] == pytest.approx(ratio * counted[1], abs=0.1 * ratio)


@pytest.mark.slow
@pytest.mark.parametrize("case", CROPS)
def test_summary_and_plan_count_the_same_thing(case, tiny_config):
    """What XLA allocates for a step, as the plan reads it, is near the summary's sum, crop or none.

    Near: XLA fuses, so that of volumes it needs half of what JAX would keep.
    """
    setup, _ = setups(tiny_config, case, 1)
    key = jax.random.key(0)
    planned = sum(program.trace(setup, key, key).compile().costs.memory.values()) / 1e6
    summed = command.training(setup)["memory of a device, estimated"]
    assert 0.4 < planned / float(summed.split()[0].replace(",", "")) < 1.5


@pytest.mark.parametrize("parts", [2, 8])
def test_parts_of_a_fixed_order_are_held_one_at_a_time(parts, tiny_config):
    """A device keeps the activations of one part, be it a microbatch or of a fixed order."""
    config = tiny_config(deterministic_reduction=8 * parts, input__batch_size=8 * parts)
    config["model"]["norm"] = "group"
    fixed = command.training(make_setup(config)[0])
    config |= {"deterministic_reduction": 0, "microbatches": parts}
    accumulated = command.training(make_setup(config)[0])
    name = "  activations kept for the gradient"
    assert fixed[name] == accumulated[name]

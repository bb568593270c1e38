"""timm's classifiers as encoders."""

import functools
from typing import Any

from tests import parity
from tests.golden.outside import of_torchvision, theirs
from tests.outside import recorded

PACKAGES = ("torch", "torchvision", "timm")
CASES: theirs.Cases = {}
SIZE = of_torchvision.SIZE


def library() -> Any:
    """Return timm; parts of it import torchvision."""
    parity.torchvision()
    import timm

    return timm


def features(network: Any, size: tuple[int, int] = SIZE) -> recorded.Case:
    """Return the case of what timm calls a network's intermediate features."""
    forward = functools.partial(network.forward_intermediates, intermediates_only=True)
    return theirs.network(theirs.fill(network), size, forward)


@theirs.register(CASES, "convnext")
def convnext() -> recorded.Case:
    """Return the case of a small ConvNeXt, dilated."""
    form = of_torchvision.CONVNEXT
    network = library().create_model(
        "convnext_tiny", depths=form["depths"], dims=form["widths"], output_stride=8
    )
    return features(network, (65, 97))


@theirs.register(CASES, "swin")
def swin() -> recorded.Case:
    """Return the case of a small Swin's features."""
    form, size = of_torchvision.SWIN, (96, 160)
    network = library().create_model(
        "swin_tiny_patch4_window7_224", img_size=size, window_size=form["window"],
        embed_dim=form["width"], depths=form["depths"], num_heads=(2, 4, 8, 16),
    )  # fmt: skip

    def forward(x: Any) -> list[Any]:
        x = network.patch_embed(x)
        return [(x := layer(x)).permute(0, 3, 1, 2) for layer in network.layers]

    return theirs.network(theirs.fill(network), size, forward)


@theirs.register(CASES, "efficientnet")
def efficientnet() -> recorded.Case:
    """Return the case of an EfficientNet with a block a stage."""
    make = library().models.efficientnet._gen_efficientnet
    return features(make("efficientnet_b0", depth_multiplier=0.1))


@theirs.register(CASES, "mobilenetv3")
def mobilenetv3() -> recorded.Case:
    """Return the case of MobileNetV3-Large."""
    return features(library().create_model("mobilenetv3_large_100"))


@theirs.register(CASES, "vgg16_bn")
def vgg() -> recorded.Case:
    """Return the case of a thin VGG-16."""
    import torch

    make = library().models.vgg.VGG
    network = make(of_torchvision.THIN, norm_layer=torch.nn.BatchNorm2d)
    of_torchvision.keep_odd_edges(network.features)
    return features(network)


@theirs.register(CASES, "vit")
def vit() -> recorded.Case:
    """Return the case of a small DINOv2 on its pre-training's grid: on others timm antialiases."""
    network = library().create_model(
        "vit_small_patch14_dinov2", num_classes=0, img_size=56, depth=3, embed_dim=32, num_heads=2
    )
    forward = functools.partial(network.get_intermediate_layers, n=[0, 2], reshape=True, norm=True)
    return theirs.network(theirs.fill(network), (56, 56), forward)

"""torchvision's classifiers as encoders, its segmentation models, a loss, its addresses."""

import functools
from collections.abc import Callable
from typing import Any

from segjax.pretrained import hub
from tests import parity
from tests.golden.outside import theirs
from tests.outside import recorded

PACKAGES = ("torch", "torchvision")
CASES: theirs.Cases = {}
SIZE = (33, 49)
"""Odd lengths, so that each stride leaves another remainder."""
BLOCKS = {18: (1, 1, 1, 1), 50: (1, 1, 2, 1)}
"""Of ResNets: a block a stage but where dilation differs between the first and the next."""
WIDTH = 8
"""Of the first layers of ResNet and VGG; published ones have 64 channels."""
THIN = (8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M")
"""torchvision's configuration "D" in that width."""
CONVNEXT = {"widths": (8, 12, 16, 20), "depths": (1, 1, 2, 1)}


def thin(base: Any) -> Any:
    """Return a subclass of a ResNet with an eighth of its channels."""
    import torch

    class Thin(base):
        def __init__(self, **options: Any):
            super().__init__(**options)
            self.conv1 = torch.nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(WIDTH)

        def _make_layer(self, block: Any, planes: int, *options: Any, **more: Any) -> Any:
            if planes == 64:
                self.inplanes = WIDTH
            return super()._make_layer(block, planes // 64 * WIDTH, *options, **more)

    return Thin


def resnet(depth: int, output_stride: int = 32) -> Any:
    """Return a thin and short ResNet."""
    parts = parity.torchvision().models.resnet
    dilate = [False, output_stride == 8, output_stride < 32]
    block = parts.BasicBlock if depth == 18 else parts.Bottleneck
    options = {"block": block, "layers": BLOCKS[depth], "replace_stride_with_dilation": dilate}
    return thin(parts.ResNet)(**options)


def along(layers: Any, taken: tuple[int, ...]) -> Callable[[Any], list[Any]]:
    """Return a function that returns what some of a sequence's layers put out."""

    def forward(y: Any) -> list[Any]:
        found = [y := layer(y) for layer in layers]
        return [found[i] for i in taken]

    return forward


def resnet_case(depth: int, output_stride: int) -> recorded.Case:
    """Return the case of a ResNet's features."""
    network = resnet(depth, output_stride)
    parts = [network.conv1, network.bn1, network.relu, network.maxpool]
    parts += [network.layer1, network.layer2, network.layer3, network.layer4]
    forward = along(parts, (2, 4, 5, 6, 7))
    return theirs.network(theirs.fill(network), SIZE, forward)


CASES |= {
    f"resnet{depth}-{stride}": functools.partial(resnet_case, depth, stride)
    for depth, stride in ((18, 32), (50, 8))
}


def keep_odd_edges(layers: Any) -> None:
    """Pool as ours does: theirs drops an odd last row or column."""
    for layer in layers:
        if type(layer).__name__ == "MaxPool2d":
            layer.ceil_mode = True


def vgg(normalized: bool) -> recorded.Case:
    """Return the case of a thin VGG-16's features before each pooling, and behind the last."""
    import torch

    layers = parity.torchvision().models.vgg.make_layers(THIN, batch_norm=normalized)
    keep_odd_edges(layers)
    pools = [i for i, layer in enumerate(layers) if type(layer).__name__ == "MaxPool2d"]
    state = theirs.fill(torch.nn.ModuleDict({"features": layers}))
    return theirs.network(state, SIZE, along(layers, (*(i - 1 for i in pools), pools[-1])))


CASES |= {"vgg16": functools.partial(vgg, False), "vgg16_bn": functools.partial(vgg, True)}


def mobilenet() -> Any:
    """Return a dilated MobileNetV3, as segmentation models take it."""
    return parity.torchvision().models.mobilenet_v3_large(dilated=True)


@theirs.register(CASES, "mobilenetv3-statistics")
def mobilenet_statistics() -> recorded.Case:
    """Return the case of the first blocks' running means after a step.

    PyTorch keeps another variance: n - 1 for n samples.
    """
    network = mobilenet()
    state = theirs.fill(network)
    network.train()(theirs.tensor(recorded.noise("images", (2, *SIZE, 3))))
    means = {
        f"features.{name}": x.numpy()
        for name, x in network.features[:4].state_dict().items()
        if name.endswith("running_mean")
    }
    return theirs.function({"state": state, "size": SIZE}, **means)


@theirs.register(CASES, "efficientnet")
def efficientnet() -> recorded.Case:
    """Return the case of a small EfficientNet's features, dilated by smp's function."""
    parts = parity.torchvision().models.efficientnet
    from segmentation_models_pytorch.encoders import _utils

    blocks, last = parts._efficientnet_conf("efficientnet_b0", width_mult=0.5, depth_mult=0.1)
    network = parts.EfficientNet(blocks, dropout=0.2, last_channel=last)
    for layer in network.features[6:8]:
        _utils.replace_strides_with_dilation(layer, 2)
    return theirs.network(theirs.fill(network), SIZE, along(network.features, (1, 2, 3, 5, 7)))


@theirs.register(CASES, "convnext")
def convnext() -> recorded.Case:
    """Return the case of a small ConvNeXt's features; it drops what fills no whole patch."""
    parts = parity.torchvision().models.convnext
    widths, depths = CONVNEXT["widths"], CONVNEXT["depths"]
    stages = zip(widths, (*widths[1:], None), depths, strict=True)
    network = parts.ConvNeXt([parts.CNBlockConfig(*stage) for stage in stages])
    forward = along(network.features, (1, 3, 5, 7))
    return theirs.network(theirs.fill(network), (65, 97), forward)


SWIN = {"width": 8, "depths": (2, 1, 1, 2), "head_width": 4, "window": 2}


@theirs.register(CASES, "swin")
def swin() -> recorded.Case:
    """Return the case of a small Swin's features, where no grid is as small as a window."""
    heads, window = [2, 4, 8, 16], [SWIN["window"]] * 2
    network = parity.torchvision().models.SwinTransformer(
        [4, 4], SWIN["width"], list(SWIN["depths"]), heads, window
    )
    forward = along(network.features, (1, 3, 5, 7))

    def features(x: Any) -> list[Any]:
        return [y.permute(0, 3, 1, 2) for y in forward(x)]

    return theirs.network(theirs.fill(network), (96, 160), features)


def logits(network: Any) -> recorded.Case:
    """Return the case of a segmentation model's logits."""
    return theirs.network(theirs.fill(network), SIZE, lambda x: network(x)["out"])


def with_heads(parts: Any, base: str, backbone: Any, head: Any, aux: Any) -> Any:
    """Return torchvision's model `base` on a backbone; its own constructors know full widths."""
    layers = {"layer4": "out", "layer3": "aux"}
    return getattr(parts, base)(parts.IntermediateLayerGetter(backbone, layers), head, aux)


@theirs.register(CASES, "fcn_dilated")
def fcn_dilated() -> recorded.Case:
    """Return the case of FCN on a dilated ResNet-50."""
    parts = parity.torchvision().models.segmentation.fcn
    heads = parts.FCNHead(32 * WIDTH, 3), parts.FCNHead(16 * WIDTH, 3)
    return logits(with_heads(parts, "FCN", resnet(50, 8), *heads))


RATES = (2, 3, 4)
"""Of features of 5 x 7 pixels the published rates would see zeros only."""


def deeplabv3_of(backbone: Any, channels: int, rates: tuple[int, ...]) -> Any:
    """Return DeepLabv3 on a backbone that ends with so many channels."""
    segmentation = parity.torchvision().models.segmentation
    parts, aux = segmentation.deeplabv3, segmentation.fcn.FCNHead(channels // 2, 3)
    return with_heads(parts, "DeepLabV3", backbone, parts.DeepLabHead(channels, 3, rates), aux)


@theirs.register(CASES, "deeplabv3")
def deeplabv3() -> recorded.Case:
    """Return the case of DeepLabv3 on a dilated ResNet-50."""
    return logits(deeplabv3_of(resnet(50, 8), 32 * WIDTH, RATES))


@theirs.register(CASES, "deeplabv3-gradients")
def deeplabv3_gradients() -> recorded.Case:
    """Return the case of DeepLabv3's gradients; torchvision dilates bottlenecks only."""
    network = deeplabv3_of(resnet(18), 8 * WIDTH, (1, 2, 3))
    return theirs.gradients(network, SIZE, lambda x: list(network(x).values()))


@theirs.register(CASES, "lraspp")
def lraspp() -> recorded.Case:
    """Return the case of LRASPP on a dilated MobileNetV3."""
    parts = parity.torchvision().models.segmentation.lraspp
    return logits(parts._lraspp_mobilenetv3(mobilenet(), 3))


@theirs.register(CASES, "focal")
def focal() -> recorded.Case:
    """Return the case of the focal loss of two classes, whose softmax is a sigmoid."""
    import torch

    scene, label = theirs.scene(classes=2, images=2)
    z = theirs.tensor(scene).requires_grad_()
    valid = torch.from_numpy(label != 255)
    loss = parity.torchvision().ops.sigmoid_focal_loss(
        (z[:, 1] - z[:, 0])[valid],
        torch.from_numpy(label)[valid].double(),
        alpha=0.3,
        gamma=1.5,
        reduction="sum",
    )
    loss.backward()
    about = {"alpha": 0.3, "gamma": 1.5}
    return theirs.function(
        about, logits=scene, label=label, loss=loss.item(), gradient=theirs.array(z.grad)
    )


@theirs.register(CASES, "addresses")
def addresses() -> recorded.Case:
    """Return the case of the addresses of the weights that our short names stand for."""
    models = parity.torchvision().models
    names = models.list_models(include=["*"])
    known = {weights.url for name in names for weights in models.get_model_weights(name)}
    ours = {name: hub.parse(f"torchvision:{name}").place for name in hub.TORCHVISION}
    return recorded.Case({name: url for name, url in ours.items() if url in known}, {})

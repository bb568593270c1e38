"""Models and losses of segmentation_models.pytorch."""

import functools
from typing import Any

from tests import parity
from tests.golden.outside import of_torchvision, theirs
from tests.outside import recorded

PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch")
CASES: theirs.Cases = {}
SIZE = (32, 64)
"""It refuses sizes that 32 does not divide."""
MIT = {"depths": (2, 0, 0, 1)}
VGG11 = (8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M")
"""Its layers in an eighth of the width."""


def library() -> Any:
    """Return it; parts of it import torchvision."""
    parity.torchvision()
    import segmentation_models_pytorch

    return segmentation_models_pytorch


def model(name: str, encoder: str = "resnet18", **options: Any) -> Any:
    """Return a model of 3 classes on a small encoder, which is added to those it knows."""
    smp, (width, blocks) = library(), (of_torchvision.WIDTH, of_torchvision.BLOCKS[18])
    made, fields = smp.encoders.encoders[encoder]["encoder"], {"depths": (1, 0, 0, 1)}
    if encoder == "resnet18":
        made = of_torchvision.thin(made)
        fields = {"layers": blocks, "out_channels": [3, *(width * n for n in (1, 1, 2, 4, 8))]}
    elif encoder == "vgg11_bn":
        fields = {"config": VGG11, "out_channels": [width * n for n in (1, 2, 4, 8, 8, 8)]}
    params = {**smp.encoders.encoders[encoder]["params"], **fields}
    small = f"{encoder}-small"  # it tells a VGG by how its name begins
    smp.encoders.encoders[small] = {"encoder": made, "params": params, "pretrained_settings": {}}
    return getattr(smp, name)(small, encoder_weights=None, classes=3, **options)


def logits(network: Any, size: tuple[int, int] = SIZE) -> recorded.Case:
    """Return the case of a model's logits."""
    return theirs.network(theirs.fill(network), size, network)


@theirs.register(CASES, "mit")
def mit() -> recorded.Case:
    """Return the case of a shallow MiT-B0's features."""
    parts = library().encoders
    options = parts.encoders["mit_b0"]["params"]
    network = type(parts.get_encoder("mit_b0", weights=None))(**{**options, **MIT})
    return theirs.network(theirs.fill(network), (65, 97), lambda x: network(x)[2:])


@theirs.register(CASES, "deeplabv3")
def deeplabv3() -> recorded.Case:
    """Return the case of DeepLabv3."""
    options = {"decoder_atrous_rates": (2, 3, 4), "decoder_channels": 32}
    network = model("DeepLabV3", **options)
    return logits(network, (40, 56))


PLUS = {"decoder_atrous_rates": (1, 2, 3), "decoder_channels": 32}


@theirs.register(CASES, "deeplabv3plus")
def deeplabv3plus() -> recorded.Case:
    """Return the case of DeepLabv3+."""
    return logits(model("DeepLabV3Plus", **PLUS), (48, 80))


@theirs.register(CASES, "deeplabv3plus-gradients")
def deeplabv3plus_gradients() -> recorded.Case:
    """Return the case of DeepLabv3+'s gradients."""
    network = model("DeepLabV3Plus", **PLUS)
    return theirs.gradients(network, SIZE, lambda x: [network(x)])


@theirs.register(CASES, "pspnet")
def pspnet() -> recorded.Case:
    """Return the case of PSPNet."""
    return logits(model("PSPNet", psp_out_channels=32), (40, 56))


WIDTHS = (32, 16, 8, 8, 4)


def unet(encoder: str) -> recorded.Case:
    """Return the case of U-Net on an encoder."""
    return logits(model("Unet", encoder, decoder_channels=WIDTHS))


CASES |= {
    f"encoder_unet-{encoder}": functools.partial(unet, encoder)
    for encoder in ("resnet18", "vgg11_bn", "mit_b0")
}


@theirs.register(CASES, "unetpp")
def unetpp() -> recorded.Case:
    """Return the case of U-Net++."""
    return logits(model("UnetPlusPlus", decoder_channels=WIDTHS))


REGIONS = {
    "dice": ("DiceLoss", {"smooth": 1.0}),
    "dice-sharp": ("DiceLoss", {"smooth": 0.0}),
    "jaccard": ("JaccardLoss", {"smooth": 0.5}),
    "jaccard-sharp": ("JaccardLoss", {"smooth": 0.0}),
}


def region(name: str, options: dict[str, float]) -> recorded.Case:
    """Return the case of a loss on regions: the mean over classes, of one image.

    Of several images theirs adds the areas before it divides.
    """
    import torch

    scene, label = theirs.scene(classes=3, images=1)
    loss = getattr(library().losses, name)("multiclass", ignore_index=255, **options)
    z = theirs.tensor(scene).requires_grad_()
    value = loss(z, torch.from_numpy(label).long())
    value.backward()
    return theirs.function(
        options, logits=scene, label=label, loss=value.item(), gradient=theirs.array(z.grad)
    )


CASES |= {name: functools.partial(region, *arguments) for name, arguments in REGIONS.items()}

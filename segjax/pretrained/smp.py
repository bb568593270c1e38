"""The names in the weights of segmentation_models.pytorch (Iakubovskii 2019), version 0.5 on."""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.config import lookup
from segjax.encoders import efficientnet as efficientnet_lib
from segjax.pretrained import convert, torchvision
from segjax.pretrained.convert import Rule
from segjax.pretrained.torchvision import unit


def encoder(section: Mapping[str, Any]) -> list[Rule]:
    """Name the encoder of a model."""
    type_ = lookup.choose(section["type"], list(ENCODERS), what="config.model.encoder.type")
    return convert.nested(ENCODERS[type_](section), "encoder", "encoder")


def separable(ours: str, convs: str, norm: str) -> list[Rule]:
    """Name the modules of a `SeparableConv`; a sequence of two there, and a normalisation."""
    return [
        Rule(f"{ours}/depthwise", f"{convs}.0"),
        Rule(f"{ours}/pointwise/conv", f"{convs}.1"),
        Rule(f"{ours}/pointwise/norm", norm),
    ]


def deeplabv3(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/deeplabv3.py` with one convolution behind the pyramid."""
    return [
        *encoder(section["encoder"]),
        *torchvision.aspp("decoder.aspp"),
        Rule("conv0/conv", "decoder.conv"),
        Rule("conv0/norm", "decoder.bn"),
        Rule("head", "segmentation_head.0", "pointwise"),
    ]


def deeplabv3plus(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/deeplabv3plus.py`, separable, one convolution each time."""
    pyramid = r"decoder.aspp.0.convs.\1"
    return [
        *encoder(section["encoder"]),
        *torchvision.aspp("decoder.aspp.0"),
        *separable(r"aspp/branch(\d)", f"{pyramid}.0", f"{pyramid}.1"),
        *separable("pyramid_conv0", "decoder.aspp.1", "decoder.aspp.2"),
        *unit("low", "decoder.block1"),
        *separable("fuse0", "decoder.block2.0", "decoder.block2.1"),
        Rule("head", "segmentation_head.0", "pointwise"),
    ]


def pspnet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/pspnet.py`."""
    return [
        *encoder(section["encoder"]),
        *unit(r"level(\d)", r"decoder.psp.blocks.\1.pool.1"),
        *unit("fuse", "decoder.conv"),
        Rule("head/conv", "segmentation_head.0"),
    ]


def encoder_unet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/encoder_unet.py` (their `Unet`)."""
    return [
        *encoder(section["encoder"]),
        *unit(r"center/conv(\d)", r"decoder.center.\1"),
        *unit(r"up(\d)/conv(\d)", r"decoder.blocks.\1.conv\2"),
        Rule("head/conv", "segmentation_head.0"),
    ]


def unetpp(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/unetpp.py` on an encoder of strides 2 to 32.

    There a node's last number counts rows from the coarsest it makes, its first number says how
    many of them were made before its chain of nodes began.
    """
    names = {"up4": "x_0_4"}
    for last in range(4):
        for first in range(last + 1):
            names[f"x{3 - last}_{last - first + 1}"] = f"x_{first}_{last}"
    nodes = [
        rule
        for ours, theirs in names.items()
        for rule in unit(rf"{ours}/conv(\d)", rf"decoder.blocks.{theirs}.conv\1")
    ]
    return [*encoder(section["encoder"]), *nodes, Rule("head/conv", "segmentation_head.0")]


def mit(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/mit.py`, whose `epsilon` is 1e-6 here."""
    rules = [Rule("embed0/project/conv", "patch_embed1.proj", "stem")]
    for stage in range(4):
        ours, block = rf"block{stage}_(\d+)", rf"block{stage + 1}.\1"
        rules += [
            Rule(f"embed{stage}/project/conv", f"patch_embed{stage + 1}.proj"),
            Rule(f"embed{stage}/norm", f"patch_embed{stage + 1}.norm"),
            Rule(f"norm{stage}", f"norm{stage + 1}"),
            Rule(rf"{ours}/norm(\d)", rf"{block}.norm\2"),
            Rule(f"{ours}/reduce/conv", f"{block}.attn.sr"),
            Rule(f"{ours}/reduce_norm", f"{block}.attn.norm"),
            Rule(f"{ours}/attention/query", f"{block}.attn.q"),
            Rule(f"{ours}/attention/key", f"{block}.attn.kv", "0/2"),
            Rule(f"{ours}/attention/value", f"{block}.attn.kv", "1/2"),
            Rule(f"{ours}/attention/out", f"{block}.attn.proj"),
            Rule(f"{ours}/expand", f"{block}.mlp.fc1"),
            Rule(f"{ours}/depthwise/conv", f"{block}.mlp.dwconv.dwconv"),
            Rule(f"{ours}/contract", f"{block}.mlp.fc2"),
        ]
    return rules


def efficientnet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/efficientnet.py`, as EfficientNet-PyTorch (Melas-Kyriazi) does.

    Blocks are counted through all stages there. The Lite forms' own files have these names too.
    """
    rules = [Rule("stem/conv", "_conv_stem", "stem"), Rule("stem/norm", "_bn0")]
    variant = section.get("variant", efficientnet_lib.Encoder.variant)
    number = 0
    for stage, count in enumerate(efficientnet_lib.block_counts(variant, section.get("depth"))):
        for block in range(count):
            ours, theirs = f"stage{stage}_{block}", f"_blocks.{number}"
            for i, part in enumerate(("expand", "depthwise", "project")):
                rules += [
                    Rule(f"{ours}/{part}/conv", f"{theirs}._{part}_conv"),
                    Rule(f"{ours}/{part}/norm", f"{theirs}._bn{i}"),
                ]
            rules.append(Rule(f"{ours}/se/(reduce|expand)", rf"{theirs}._se_\1", "pointwise"))
            number += 1
    return rules


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "efficientnet": efficientnet,
    "mit": mit,
    "resnet": torchvision.resnet,
    "vgg": torchvision.vgg,
}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "deeplabv3": deeplabv3,
    "deeplabv3plus": deeplabv3plus,
    "encoder_unet": encoder_unet,
    "pspnet": pspnet,
    "unetpp": unetpp,
}

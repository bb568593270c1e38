"""The names in timm's published weights (https://huggingface.co/timm)."""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.pretrained import convert, facebook, torchvision
from segjax.pretrained.convert import Rule


def mobile(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/mobilenetv3.py` and `encoders/efficientnet.py`."""
    # The first stage's block has no expansion there either, and other names for what it has.
    first, block = r"stage0_(\d+)", r"stage(\d)_(\d+)"
    first_theirs, theirs = r"blocks.0.\1", r"blocks.\1.\2"
    return [
        Rule("stem/conv", "conv_stem", "stem"),
        Rule("stem/norm", "bn1"),
        Rule(f"{first}/depthwise/conv", f"{first_theirs}.conv_dw"),
        Rule(f"{first}/depthwise/norm", f"{first_theirs}.bn1"),
        Rule(f"{first}/project/conv", f"{first_theirs}.conv_pw"),
        Rule(f"{first}/project/norm", f"{first_theirs}.bn2"),
        Rule(f"{block}/expand/conv", f"{theirs}.conv_pw"),
        Rule(f"{block}/expand/norm", f"{theirs}.bn1"),
        Rule(f"{block}/depthwise/conv", f"{theirs}.conv_dw"),
        Rule(f"{block}/depthwise/norm", f"{theirs}.bn2"),
        Rule(f"{block}/se/(reduce|expand)", rf"{theirs}.se.conv_\3", "pointwise"),
        Rule(f"{block}/project/conv", f"{theirs}.conv_pwl"),
        Rule(f"{block}/project/norm", f"{theirs}.bn3"),
        Rule("last/conv", "blocks.6.0.conv"),
        Rule("last/norm", "blocks.6.0.bn1"),
    ]


def convnext(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/convnext.py`."""
    block, theirs = r"stage(\d)_(\d+)", r"stages.\1.blocks.\2"
    return [
        Rule("patches0/conv", "stem.0", "stem"),
        Rule("norm0", "stem.1"),
        Rule(r"norm(\d)", r"stages.\1.downsample.0"),
        Rule(r"patches(\d)/conv", r"stages.\1.downsample.1"),
        Rule(f"{block}/depthwise/conv", f"{theirs}.conv_dw"),
        Rule(f"{block}/norm", f"{theirs}.norm"),
        Rule(f"{block}/expand", f"{theirs}.mlp.fc1"),
        Rule(f"{block}/contract", f"{theirs}.mlp.fc2"),
        Rule(f"{block}/gamma", f"{theirs}.gamma"),
    ]


def swin(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/swin.py` (`swin_tiny_patch4_window7_224.ms_in1k`)."""
    block, theirs = r"block(\d)_(\d+)", r"layers.\1.blocks.\2"
    return [
        Rule("embed/conv", "patch_embed.proj", "stem"),
        Rule("embed_norm", "patch_embed.norm"),
        Rule(r"merge(\d)/norm", r"layers.\1.downsample.norm"),
        Rule(r"merge(\d)/reduce", r"layers.\1.downsample.reduction"),
        Rule(rf"{block}/norm(\d)", rf"{theirs}.norm\3"),
        Rule(f"{block}/positions", f"{theirs}.attn.relative_position_bias_table", "raw"),
        *convert.thirds(f"{block}/attention", f"{theirs}.attn.qkv"),
        Rule(f"{block}/attention/out", f"{theirs}.attn.proj"),
        Rule(f"{block}/expand", f"{theirs}.mlp.fc1"),
        Rule(f"{block}/contract", f"{theirs}.mlp.fc2"),
    ]


def vit(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/vit.py` (`vit_small_patch14_dinov2`, `…_reg4_dinov2`)."""
    joined = Rule(r"block(\d+)/gate", r"blocks.\1.mlp.fc1", "0/2")
    gated = [joined, joined._replace(ours=r"block(\d+)/expand", layout="1/2")]
    return [
        Rule("registers", "reg_token", "raw"),
        Rule("positions", "pos_embed", "raw"),
        *(gated if section.get("variant") == "g" else ()),
        *facebook.common(),
    ]


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "resnet": torchvision.resnet,
    "vgg": torchvision.vgg,
    "mobilenetv3": mobile,
    "efficientnet": mobile,
    "convnext": convnext,
    "swin": swin,
    "vit": vit,
}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {}

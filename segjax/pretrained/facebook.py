"""The names in the files that DINOv2's and DINOv3's authors publish (`dl.fbaipublicfiles.com`)."""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.pretrained import convert
from segjax.pretrained.convert import Rule


def vit(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/vit.py` (`dinov2_vits14_reg4_pretrain.pth`)."""
    joined = Rule(r"block(\d+)/gate", r"blocks.\1.mlp.w12", "0/2")
    gated = [
        joined,
        joined._replace(ours=r"block(\d+)/expand", layout="1/2"),
        Rule(r"block(\d+)/contract", r"blocks.\1.mlp.w3"),
    ]
    return [
        Rule("registers", "register_tokens", "raw"),
        Rule("positions", "pos_embed", "raw"),
        *(gated if section.get("variant") == "g" else ()),
        *common(),
    ]


def dinov3(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/dinov3.py` (`dinov3_vits16_pretrain_lvd1689m-….pth`)."""
    gated = [
        Rule(r"block(\d+)/gate", r"blocks.\1.mlp.w1"),
        Rule(r"block(\d+)/expand", r"blocks.\1.mlp.w2"),
        Rule(r"block(\d+)/contract", r"blocks.\1.mlp.w3"),
    ]
    return [
        Rule("registers", "storage_tokens", "raw"),
        *(gated if str(section.get("variant")).endswith("+") else ()),
        *common(),
    ]


def common() -> list[Rule]:
    """Name what all their Vision Transformers have, and timm's."""
    ours, block = r"block(\d+)", r"blocks.\1"
    return [
        Rule("token", "cls_token", "raw"),
        Rule("embed/conv", "patch_embed.proj", "stem"),
        Rule(rf"{ours}/norm(\d)", rf"{block}.norm\2"),
        Rule(rf"{ours}/scale(\d)", rf"{block}.ls\2.gamma"),
        *convert.thirds(f"{ours}/attention", f"{block}.attn.qkv"),
        Rule(f"{ours}/attention/out", f"{block}.attn.proj"),
        Rule(f"{ours}/expand", f"{block}.mlp.fc1"),
        Rule(f"{ours}/contract", f"{block}.mlp.fc2"),
        Rule("norm", "norm"),
    ]


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "dinov3": dinov3,
    "vit": vit,
}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {}

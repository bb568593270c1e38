"""The names in torchvision's published weights (https://docs.pytorch.org/vision, models)."""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.config import lookup
from segjax.encoders import efficientnet as efficientnet_lib
from segjax.encoders import mobilenetv3 as mobilenetv3_lib
from segjax.encoders import vgg as vgg_lib
from segjax.pretrained import convert
from segjax.pretrained.convert import Rule


def resnet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/resnet.py`; ResNet-D's as timm does, ResNeXt's the same."""
    pooled = section.get("pooled_shortcut", False)
    return [
        Rule(r"stem/conv", r"conv1", "stem"),
        Rule(r"stem0/conv", r"conv1.0", "stem"),
        Rule(r"stem0/norm", r"conv1.1"),
        Rule(r"stem1/conv", r"conv1.3"),
        Rule(r"stem1/norm", r"conv1.4"),
        Rule(r"stem2/conv", r"conv1.6"),
        Rule(r"stem2?/norm", r"bn1"),
        Rule(r"layer(\d)_(\d+)/conv(\d)/conv", r"layer\1.\2.conv\3"),
        Rule(r"layer(\d)_(\d+)/conv(\d)/norm", r"layer\1.\2.bn\3"),
        *unit(r"layer(\d)_(\d+)/shortcut", r"layer\1.\2.downsample", first=int(pooled)),
    ]


def convnext(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/convnext.py`."""
    rules = [Rule("patches0/conv", "features.0.0", "stem"), Rule("norm0", "features.0.1")]
    for stage in range(4):
        block, theirs = rf"stage{stage}_(\d+)", rf"features.{2 * stage + 1}.\1"
        rules += [
            Rule(f"norm{stage}", f"features.{2 * stage}.0"),
            Rule(f"patches{stage}/conv", f"features.{2 * stage}.1"),
            Rule(f"{block}/depthwise/conv", f"{theirs}.block.0"),
            Rule(f"{block}/norm", f"{theirs}.block.2"),
            Rule(f"{block}/expand", f"{theirs}.block.3"),
            Rule(f"{block}/contract", f"{theirs}.block.5"),
            Rule(f"{block}/gamma", f"{theirs}.layer_scale", "vector"),
        ]
    return rules


def swin(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/swin.py`."""
    rules = [Rule("embed/conv", "features.0.0", "stem"), Rule("embed_norm", "features.0.2")]
    for stage in range(4):
        block, theirs = rf"block{stage}_(\d+)", rf"features.{2 * stage + 1}.\1"
        rules += [
            Rule(f"merge{stage}/norm", f"features.{2 * stage}.norm"),
            Rule(f"merge{stage}/reduce", f"features.{2 * stage}.reduction"),
            Rule(rf"{block}/norm(\d)", rf"{theirs}.norm\2"),
            Rule(f"{block}/positions", f"{theirs}.attn.relative_position_bias_table", "raw"),
            *convert.thirds(f"{block}/attention", f"{theirs}.attn.qkv"),
            Rule(f"{block}/attention/out", f"{theirs}.attn.proj"),
            Rule(f"{block}/expand", f"{theirs}.mlp.0"),
            Rule(f"{block}/contract", f"{theirs}.mlp.3"),
        ]
    return rules


def unit(ours: str, theirs: str, first: int = 0) -> list[Rule]:
    """Name a `ConvNormAct` that is two of a sequence's modules there, the `first` and the next."""
    return [
        Rule(f"{ours}/conv", f"{theirs}.{first}"),
        Rule(f"{ours}/norm", f"{theirs}.{first + 1}"),
    ]


def vgg(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/vgg.py`; activations and poolings have numbers there too."""
    plain = section.get("norm", vgg_lib.Encoder.norm) == "none"
    rules, number = [], 0
    for stage, convs in enumerate(vgg_lib.CONVS[section.get("depth", vgg_lib.Encoder.depth)]):
        for i in range(convs):
            rules += unit(f"stage{stage}/conv{i}", "features", first=number)
            number += 2 if plain else 3
        number += 1
    return [rules[0]._replace(layout="stem"), *rules[1:]]


def inverted_residual(ours: str, theirs: str, *, expands: bool, squeezes: bool) -> list[Rule]:
    """Name the modules of an `InvertedResidual`, which are a sequence without gaps there."""
    present = {"expand": expands, "depthwise": True, "se": squeezes, "project": True}
    rules = []
    for number, part in enumerate(part for part, there in present.items() if there):
        if part == "se":
            rules += [
                Rule(f"{ours}/se/reduce", f"{theirs}.{number}.fc1", "pointwise"),
                Rule(f"{ours}/se/expand", f"{theirs}.{number}.fc2", "pointwise"),
            ]
        else:
            rules += unit(f"{ours}/{part}", f"{theirs}.{number}")
    return rules


def mobilenetv3(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/mobilenetv3.py`."""
    stem, *rules = unit("stem", "features.0")
    number = 1
    for i, stage in enumerate(mobilenetv3_lib.STAGES):
        for j in range(len(stage.expanded)):
            rules += inverted_residual(
                f"stage{i}_{j}", f"features.{number}.block", expands=i > 0, squeezes=stage.squeezes
            )
            number += 1
    return [stem._replace(layout="stem"), *rules, *unit("last", f"features.{number}")]


def efficientnet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/efficientnet.py`; Lite forms are not among theirs."""
    variants = [name for name, own in efficientnet_lib.VARIANTS.items() if not own.lite]
    variant = section.get("variant", efficientnet_lib.Encoder.variant)
    lookup.choose(variant, variants, what="config.model.encoder.variant")
    stem, *rules = unit("stem", "features.0")
    for i in range(len(efficientnet_lib.STAGES)):
        rules += inverted_residual(
            rf"stage{i}_(\d+)", rf"features.{i + 1}.\1.block", expands=i > 0, squeezes=True
        )
    return [stem._replace(layout="stem"), *rules]


def backbone(section: Mapping[str, Any]) -> list[Rule]:
    """Name a segmentation model's encoder: the classifier's names without its `features`."""
    type_ = lookup.choose(section["type"], list(ENCODERS), what="config.model.encoder.type")
    rules = [
        rule._replace(theirs=rule.theirs.removeprefix("features."))
        for rule in ENCODERS[type_](section)
    ]
    return convert.nested(rules, "encoder", "backbone")


def fcn_head(ours: str, theirs: str) -> list[Rule]:
    """Name the modules of `models/fcn_dilated.py`'s head."""
    return [*unit(f"{ours}/conv", theirs), Rule(f"{ours}/head", f"{theirs}.4", "pointwise")]


def fcn(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/fcn_dilated.py`."""
    return [
        *backbone(section["encoder"]),
        *fcn_head("classifier", "classifier"),
        *fcn_head("aux0", "aux_classifier"),
    ]


def aspp(theirs: str) -> list[Rule]:
    """Name the modules of `models/deeplabv3.py`'s pyramid with three rates."""
    return [
        *unit(r"aspp/branch(\d)", rf"{theirs}.convs.\1"),
        *unit("aspp/pool", f"{theirs}.convs.4", first=1),
        *unit("aspp/project", f"{theirs}.project"),
    ]


def deeplabv3(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/deeplabv3.py` with one convolution behind the pyramid."""
    return [
        *backbone(section["encoder"]),
        *aspp("classifier.0"),
        *unit("conv0", "classifier", first=1),
        Rule("head", "classifier.4", "pointwise"),
        *fcn_head("aux0", "aux_classifier"),
    ]


def lraspp(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/lraspp.py`."""
    return [
        *backbone(section["encoder"]),
        *unit("reduce", "classifier.cbr"),
        Rule("weigh", "classifier.scale.1", "pointwise"),
        Rule("(low|high)", r"classifier.\1_classifier", "pointwise"),
    ]


def mask_rcnn(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/mask_rcnn.py`, whose last class is the first there: none."""
    convs, head = section["box_convs"], "roi_heads.box_head"
    first, second = (f"{head}.{convs + 1}", "") if convs else (f"{head}.fc6", f"{head}.fc7")
    return [
        *detector_backbone(section),
        *unit(r"pyramid/lateral(\d)", r"backbone.fpn.inner_blocks.\1"),
        *unit(r"pyramid/smooth(\d)", r"backbone.fpn.layer_blocks.\1"),
        Rule(r"rpn_conv(\d+)/conv", r"rpn.head.conv.\1.0"),
        Rule("rpn_score", "rpn.head.cls_logits", "pointwise"),
        Rule("rpn_offsets", "rpn.head.bbox_pred", "boxes|pointwise"),
        *unit(r"box_conv(\d+)", rf"{head}.\1"),
        Rule("box_layer0", first, f"flat {section['box_cells'] ** 2}"),
        *([Rule("box_layer1", second)] if second else []),
        Rule("box_score", "roi_heads.box_predictor.cls_score", "background last|"),
        Rule("box_offsets", "roi_heads.box_predictor.bbox_pred", "no background's box|boxes|"),
        *unit(r"mask_conv(\d+)", r"roi_heads.mask_head.\1"),
        Rule("mask_up", "roi_heads.mask_predictor.conv5_mask", "transposed"),
        Rule(
            "mask_score", "roi_heads.mask_predictor.mask_fcn_logits", "no background|pointwise"
        ),
    ]  # fmt: skip


def detector_backbone(section: Mapping[str, Any]) -> list[Rule]:
    """Name the encoder of a detector."""
    encoder = section["encoder"]
    lookup.choose(encoder["type"], ["resnet"], what="config.model.encoder.type")
    return convert.nested(resnet(encoder), "encoder", "backbone.body")


def older_mask_rcnn(section: Mapping[str, Any]) -> list[Rule]:
    """Name the same modules as the file of `maskrcnn_resnet50_fpn` does, from before 2022."""
    older = [
        Rule(r"pyramid/lateral(\d)/conv", r"backbone.fpn.inner_blocks.\1"),
        Rule(r"pyramid/smooth(\d)/conv", r"backbone.fpn.layer_blocks.\1"),
        Rule("rpn_conv0/conv", "rpn.head.conv"),
    ]
    older += [
        Rule(f"mask_conv{i}/conv", f"roi_heads.mask_head.mask_fcn{i + 1}")
        for i in range(section["mask_convs"])
    ]
    return older + mask_rcnn(section)


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "resnet": resnet,
    "vgg": vgg,
    "mobilenetv3": mobilenetv3,
    "efficientnet": efficientnet,
    "convnext": convnext,
    "swin": swin,
}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "fcn_dilated": fcn,
    "deeplabv3": deeplabv3,
    "lraspp": lraspp,
    "mask_rcnn": mask_rcnn,
}
OLDER: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {"mask_rcnn": older_mask_rcnn}
"""Names in files from before theirs changed; torchvision reads both."""

"""The names in detectron2's published weights: pickles of arrays, below `model`.

They are of images with their channels in the order blue, green, red; ours are turned. (Its copies
of torchvision's ResNets are of red, green, blue: take torchvision's own.) Of the classes the last
is no object, as here. Names, means and the order of channels are those of its own defaults and of
other projects' converters; none of its files was at hand.
"""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.config import lookup
from segjax.pretrained import convert
from segjax.pretrained.convert import Rule


def normalized(ours: str, theirs: str, layout: str = "") -> list[Rule]:
    """Name a `ConvNormAct`, whose norm lies in the convolution there."""
    return [Rule(f"{ours}/conv", theirs, layout), Rule(f"{ours}/norm", f"{theirs}.norm")]


def resnet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/resnet.py`."""
    rules = normalized("stem", "stem.conv1", "bgr|stem")
    for stage in range(1, 5):
        ours, theirs = rf"layer{stage}_(\d+)", rf"res{stage + 1}.\1"
        rules += normalized(rf"{ours}/conv(\d)", rf"{theirs}.conv\2")
        rules += normalized(f"{ours}/shortcut", f"{theirs}.shortcut")
    return rules


def mask_rcnn(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/mask_rcnn.py` with heads of linear layers."""
    encoder = section["encoder"]
    lookup.choose(encoder["type"], list(ENCODERS), what="config.model.encoder.type")
    levels = [
        Rule(f"pyramid/{ours}{i}/conv", f"backbone.fpn_{theirs}{i + 2}")
        for ours, theirs in (("lateral", "lateral"), ("smooth", "output"))
        for i in range(4)
    ]
    layers = [
        Rule(f"box_layer{i}", f"roi_heads.box_head.fc{i + 1}",
             "" if i else f"flat {section['box_cells'] ** 2}")
        for i in range(section["box_layers"])
    ]  # fmt: skip
    masks = [
        Rule(f"mask_conv{i}/conv", f"roi_heads.mask_head.mask_fcn{i + 1}")
        for i in range(section["mask_convs"])
    ]
    return [
        *convert.nested(resnet(encoder), "encoder", "backbone.bottom_up"), *levels,
        Rule("rpn_conv0/conv", "proposal_generator.rpn_head.conv"),
        Rule("rpn_score", "proposal_generator.rpn_head.objectness_logits", "pointwise"),
        Rule("rpn_offsets", "proposal_generator.rpn_head.anchor_deltas", "boxes|pointwise"),
        *layers,
        Rule("box_score", "roi_heads.box_predictor.cls_score"),
        Rule("box_offsets", "roi_heads.box_predictor.bbox_pred", "boxes|"),
        *masks,
        Rule("mask_up", "roi_heads.mask_head.deconv", "transposed"),
        Rule("mask_score", "roi_heads.mask_head.predictor", "pointwise"),
    ]  # fmt: skip


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {"resnet": resnet}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {"mask_rcnn": mask_rcnn}

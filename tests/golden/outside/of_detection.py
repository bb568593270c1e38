"""torchvision's parts of detectors, and its Mask R-CNN, whole and while training.

Boxes are recorded as ours are: y before x.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests import parity
from tests.golden.outside import of_torchvision, theirs
from tests.outside import recorded

PACKAGES = ("torch", "torchvision")
CASES: theirs.Cases = {}
SIZE = (64, 96)
CLASSES, WIDTH, LAYER = 3, 8, 24
"""Of objects; channels of the pyramid; numbers of the linear layers."""
ANCHORS = (8, 16, 32, 48, 64)
EVERY = 10**5
"""More than there are anchors or regions: nothing is drawn, all are taken."""


def tensor(x: Any) -> Any:
    """Return an array as a tensor."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x))


def turned(boxes: Any) -> Any:
    """Return boxes, or offsets, with x before y where y was before x, and the other way round."""
    return boxes[..., [1, 0, 3, 2]]


def some_boxes(name: str, count: int, size: Any = SIZE) -> np.ndarray:
    """Return boxes [count 4] within an image of `size`, of sides from 2 pixels to nearly all."""
    places = recorded.noise(name, (count, 4)) / (2 * math.sqrt(3)) + 0.5  # 0..1
    sides = 2 + (np.asarray(size) - 4) * places[:, 2:] ** 2
    corners = (np.asarray(size) - sides) * places[:, :2]
    return np.concatenate([corners, corners + sides], axis=-1)


def detector_parts() -> Any:
    """Return torchvision's modules of detectors."""
    return parity.detection().models.detection


@theirs.register(CASES, "coding")
def coding() -> recorded.Case:
    """Return the case of offsets of boxes, of the boxes that offsets make, and of overlaps."""
    coder = detector_parts()._utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    boxes, around = some_boxes("boxes", 20), some_boxes("around", 20)
    offsets = 12 * recorded.noise("offsets", (20, 4))
    encoded = coder.encode_single(tensor(turned(boxes)), tensor(turned(around)))
    decoded = coder.decode_single(tensor(turned(offsets)), tensor(turned(around)))
    overlaps = parity.detection().ops.box_iou(tensor(boxes), tensor(around))
    return theirs.function(
        {"weights": (10.0, 5.0)}, boxes=boxes, around=around, offsets=offsets,
        encoded=turned(encoded.numpy()), decoded=turned(decoded.numpy()), overlaps=overlaps,
    )  # fmt: skip


@theirs.register(CASES, "suppression")
def suppression() -> recorded.Case:
    """Return the case of what is left of boxes of four classes, the best first."""
    boxes = np.concatenate([some_boxes(f"boxes {i}", 60, (40, 40)) for i in range(2)])
    scores = np.sort(recorded.noise("scores", (len(boxes),)))[::-1]
    groups = np.arange(len(boxes)) // 3 % 4
    ops = parity.detection().ops
    arguments = tensor(turned(boxes)), tensor(scores)
    one = ops.nms(*arguments, 0.5)
    many = ops.batched_nms(*arguments, tensor(groups), 0.3)
    return theirs.function({}, boxes=boxes, groups=groups, one=one, many=many)


def pooled(name: str, pool: Callable, sides: Any, strides: Any, about: Any) -> recorded.Case:
    """Return the case of features of boxes, and of the gradient by every level along noise."""
    features = [recorded.noise(f"{name} {i}", (2, *side, 3)) for i, side in enumerate(sides)]
    levels = [theirs.tensor(x).requires_grad_() for x in features]
    boxes = np.stack([some_boxes(f"{name} boxes {i}", 9) for i in range(2)])
    y = pool(levels, [tensor(turned(each)) for each in boxes])
    found = theirs.array(y)
    slope = recorded.noise(f"{name} slope", found.shape)
    (y * theirs.tensor(slope)).sum().backward()
    return theirs.function(
        {"strides": strides, **about}, boxes=boxes, y=found, slope=slope,
        **{f"x{i}": x for i, x in enumerate(features)},
        **{f"dx{i}": theirs.array(x.grad) for i, x in enumerate(levels)},
    )  # fmt: skip


@theirs.register(CASES, "pool-levels")
def pool_levels() -> recorded.Case:
    """Return the case of boxes that read one of four levels each, which their sizes choose."""
    pool = parity.detection().ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 3, 2, canonical_scale=40)
    sides = [(-(-SIZE[0] // n), -(-SIZE[1] // n)) for n in (4, 8, 16, 32)]

    def forward(levels: Any, boxes: Any) -> Any:
        named = {str(i): x for i, x in enumerate(levels)}
        return pool(named, boxes, [SIZE] * 2)

    about = {"cells": 3, "sampling": 2, "aligned": False, "canonical": 40}
    return pooled("levels", forward, sides, (4, 8, 16, 32), about)


def pool_one(sampling: int, aligned: bool) -> recorded.Case:
    """Return the case of boxes on one level."""

    def forward(levels: Any, boxes: Any) -> Any:
        return parity.detection().ops.roi_align(
            levels[0], boxes, 3, spatial_scale=0.25, sampling_ratio=sampling, aligned=aligned
        )

    about = {"cells": 3, "sampling": sampling, "aligned": aligned, "canonical": 224}
    return pooled("one", forward, [(16, 24)], (4,), about)


CASES |= {
    f"pool-{sampling}-{'aligned' if aligned else 'not_aligned'}": functools.partial(
        pool_one, sampling, aligned
    )
    for sampling in (0, 2, 3)
    for aligned in (False, True)
}


def blobs(name: str, count: int) -> np.ndarray:
    """Return masks [count *SIZE] of ellipses that reach over each other, some over the edge."""
    ys, xs = np.ogrid[: SIZE[0], : SIZE[1]]
    found = []
    for y0, x0, y1, x1 in some_boxes(name, count):
        ry, rx = (y1 - y0) / 2 + 3, (x1 - x0) / 2 + 3
        found.append(((ys - (y0 + y1) / 2) / ry) ** 2 + ((xs - (x0 + x1) / 2) / rx) ** 2 <= 1)
    return np.stack(found)


@theirs.register(CASES, "crop")
def crop() -> recorded.Case:
    """Return the case of masks on grids on boxes, what a mask head is to say."""
    masks, boxes = blobs("masks", 3), some_boxes("boxes", 5)
    objects = np.array([0, 2, 1, 1, 0])
    cropped = detector_parts().roi_heads.project_masks_on_boxes(
        tensor(masks), tensor(turned(boxes)), tensor(objects), 7
    )
    return theirs.function({"cells": 7}, masks=masks, boxes=boxes, objects=objects, y=cropped)


@theirs.register(CASES, "paste")
def paste() -> recorded.Case:
    """Return the case of masks put on to an image, over its edges too."""
    masks = np.round(recorded.noise("masks", (6, 7, 7)) / 4 + 0.5, 6)
    boxes = some_boxes("boxes", 6) * 1.2 - 6
    pasted = detector_parts().roi_heads.paste_masks_in_image(
        tensor(masks)[:, None], tensor(turned(boxes)), SIZE
    )
    inside = np.packbits(pasted[:, 0].numpy() >= 0.5)
    return theirs.function({"size": SIZE}, masks=masks, boxes=boxes, inside=inside)


def matches(each_object: bool) -> recorded.Case:
    """Return the case of boxes matched with the objects they overlap."""
    quality = np.clip(recorded.noise("quality", (4, 50)) / 3 + 0.3, 0, 1)
    quality[3] *= 0.4  # none that any box overlaps by half
    matcher = detector_parts()._utils.Matcher(0.7, 0.4, allow_low_quality_matches=each_object)
    about = {"high": 0.7, "low": 0.4, "each_object": each_object}
    return theirs.function(about, quality=quality, found=matcher(tensor(quality)))


CASES |= {
    f"match-{'each_object' if each else 'thresholds'}": functools.partial(matches, each)
    for each in (False, True)
}


def mask_rcnn(second: bool) -> Any:
    """Return torchvision's first or second Mask R-CNN on a thin and short ResNet-50."""
    import torch

    parts, vision = detector_parts(), parity.detection()
    of, norm = parts.mask_rcnn, torch.nn.BatchNorm2d if second else None
    layers = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    channels = [4 * of_torchvision.WIDTH * 2**i for i in range(4)]
    backbone = parts.backbone_utils.BackboneWithFPN(
        of_torchvision.resnet(50), layers, channels, WIDTH,
        extra_blocks=vision.ops.feature_pyramid_network.LastLevelMaxPool(), norm_layer=norm,
    )  # fmt: skip
    sizes = tuple((side,) for side in ANCHORS)
    anchors = parts.anchor_utils.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    heads = {
        "box_head": parts.faster_rcnn.TwoMLPHead(WIDTH * 7**2, LAYER),
        "mask_head": of.MaskRCNNHeads(WIDTH, (WIDTH,) * 4, 1, norm_layer=norm),
    }
    if second:
        heads["box_head"] = parts.faster_rcnn.FastRCNNConvFCHead(
            (WIDTH, 7, 7), [WIDTH] * 4, [LAYER], norm_layer=norm
        )
    return of.MaskRCNN(
        backbone, rpn_anchor_generator=anchors, **heads,
        rpn_head=parts.rpn.RPNHead(WIDTH, 3, conv_depth=1 + second),
        box_predictor=parts.faster_rcnn.FastRCNNPredictor(LAYER, CLASSES + 1),
        mask_predictor=of.MaskRCNNPredictor(WIDTH, WIDTH, CLASSES + 1),
        rpn_pre_nms_top_n_train=40, rpn_pre_nms_top_n_test=30, rpn_post_nms_top_n_train=25,
        rpn_post_nms_top_n_test=20, box_detections_per_img=10, rpn_batch_size_per_image=EVERY,
        box_batch_size_per_image=EVERY, rpn_fg_iou_thresh=0.5,
        image_mean=[0.0] * 3, image_std=[1.0] * 3, min_size=SIZE[0], max_size=SIZE[1],
    )  # fmt: skip


def found_by(second: bool) -> recorded.Case:
    """Return the case of what a Mask R-CNN proposes and finds in an image."""
    import torch

    network = mask_rcnn(second)
    state = theirs.fill(network)
    images, _ = network.transform([theirs.tensor(recorded.image(SIZE))[0]])
    with torch.no_grad():
        features = network.backbone(images.tensors)
        proposals, _ = network.rpn(images, features)
        (found,), _ = network.roi_heads(features, proposals, images.image_sizes)
    return theirs.function(
        {"state": state, "size": SIZE}, proposals=turned(proposals[0].numpy()),
        boxes=turned(found["boxes"].numpy()), scores=found["scores"], classes=found["labels"] - 1,
        masks=found["masks"][:, 0, ::3, ::3],
    )  # fmt: skip


def found_by_description() -> recorded.Case:
    """Return the case of what detectron2's form proposes and finds, see `detectron2_form`.

    Its images are blue, green, red.
    """
    parity.detection()
    import torch

    from tests.golden.outside import detectron2_form

    network = detectron2_form.MaskRCNN(
        of_torchvision.BLOCKS[50], of_torchvision.WIDTH, WIDTH, LAYER, CLASSES, ANCHORS
    )
    state = theirs.fill(network)
    image = theirs.tensor(recorded.image(SIZE)).flip(1)
    with torch.no_grad():
        levels = network.backbone(image)
        proposals = network.propose(levels, SIZE, before=30, after=20)
        boxes, scores, classes = network.find(levels, proposals, SIZE, 10)
        masks = network.mask(levels, boxes, classes)
    return theirs.function(
        {"state": state, "size": SIZE}, proposals=turned(proposals.numpy()),
        boxes=turned(boxes.numpy()), scores=scores, classes=classes, masks=masks[:, ::3, ::3],
    )  # fmt: skip


def truth() -> list[dict[str, np.ndarray]]:
    """Return the objects of two images: their masks, boxes and classes."""
    made = []
    for i, count in enumerate((3, 1)):
        masks = blobs(f"objects {i}", count)
        spots = [np.argwhere(mask) for mask in masks]
        boxes = [[*spot.min(0), *spot.max(0) + 1] for spot in spots]
        classes = (np.arange(count) + i) % CLASSES
        made.append({"masks": masks, "boxes": np.array(boxes, float), "classes": classes})
    return made


def losses(second: bool) -> recorded.Case:
    """Return the case of the five losses of two images, and of their gradients.

    Norms keep their statistics. Everything is drawn, so that it does not matter how.
    """
    network = mask_rcnn(second)
    state = theirs.fill(network)
    network.train()
    for part in network.modules():
        if type(part).__name__ == "BatchNorm2d":
            part.eval()
    images = [theirs.tensor(recorded.image(SIZE))[0] * factor for factor in (1.0, -0.5)]
    targets = [
        {
            "boxes": tensor(turned(one["boxes"])),
            "labels": tensor(one["classes"] + 1),
            "masks": tensor(one["masks"].astype(np.uint8)),
        }
        for one in truth()
    ]
    terms: Mapping[str, Any] = network(images, targets)
    sum(terms.values()).backward()
    gradients = {name: x.grad.numpy() for name, x in network.named_parameters()}
    return theirs.function(
        {"state": state, "size": SIZE, "names": sorted(gradients)},
        projections=recorded.projections(gradients),
        **{name: value.item() for name, value in terms.items()},
    )


CASES |= {
    "mask_rcnn-first": functools.partial(found_by, False),
    "mask_rcnn-second": functools.partial(found_by, True),
    "mask_rcnn-detectron2": found_by_description,
    "mask_rcnn_losses-first": functools.partial(losses, False),
    "mask_rcnn_losses-second": functools.partial(losses, True),
}

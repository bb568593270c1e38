"""Mask R-CNN on R50-FPN as detectron2's papers and documentation describe it, in plain PyTorch.

This is no code of detectron2's, which has no package for current versions of PyTorch: it is
written anew from the description (He et al. 2017, Lin et al. 2017, and the options of its configs),
with the module names of its files. It shares no code with ours. Boxes are x0 y0 x1 y1.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional

SCALE_CLAMP = math.log(1000 / 16)
"""A side grows no more than that by an offset."""


class FrozenBatchNorm(nn.Module):
    """Batch norm that keeps its statistics: four buffers, epsilon 1e-5."""

    def __init__(self, channels: int):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(channels))

    def forward(self, x: Any) -> Any:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class Conv(nn.Conv2d):
    """A convolution that owns its norm, as `conv1.norm`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = FrozenBatchNorm(outputs)

    def forward(self, input: Any) -> Any:
        return self.norm(super().forward(input))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1. STRIDE_IN_1X1=True: the first one strides, as in MSRA's weights."""

    def __init__(self, inputs: int, middle: int, stride: int):
        super().__init__()
        self.shortcut = Conv(inputs, 4 * middle, 1, stride) if inputs != 4 * middle else None
        self.conv1 = Conv(inputs, middle, 1, stride)
        self.conv2 = Conv(middle, middle, 3)
        self.conv3 = Conv(middle, 4 * middle, 1)

    def forward(self, x: Any) -> Any:
        y = self.conv3(functional.relu(self.conv2(functional.relu(self.conv1(x)))))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Backbone(nn.Module):
    """ResNet and FPN: p2 to p5, and p6 of every second pixel of p5 (LastLevelMaxPool)."""

    def __init__(self, blocks: Sequence[int], narrow: int, width: int):
        super().__init__()
        self.bottom_up = nn.Module()
        self.bottom_up.stem = nn.Module()
        self.bottom_up.stem.conv1 = Conv(3, narrow, 7, 2)
        inputs = narrow
        for stage, count in enumerate(blocks, start=2):
            middle, layers = narrow * 2 ** (stage - 2), []
            for i in range(count):
                layers.append(Bottleneck(inputs, middle, 2 if stage > 2 and i == 0 else 1))
                inputs = 4 * middle
            setattr(self.bottom_up, f"res{stage}", nn.Sequential(*layers))
            setattr(self, f"fpn_lateral{stage}", nn.Conv2d(inputs, width, 1))
            setattr(self, f"fpn_output{stage}", nn.Conv2d(width, width, 3, 1, 1))

    def forward(self, x: Any) -> list[Any]:
        x = functional.relu(self.bottom_up.stem.conv1(x))
        x = functional.max_pool2d(x, 3, 2, 1)
        features = [x := getattr(self.bottom_up, f"res{stage}")(x) for stage in range(2, 6)]
        above, found = None, []
        for stage in range(5, 1, -1):
            y = getattr(self, f"fpn_lateral{stage}")(features[stage - 2])
            if above is not None:
                y = y + functional.interpolate(above, scale_factor=2.0, mode="nearest")
            above = y
            found.insert(0, getattr(self, f"fpn_output{stage}")(y))
        return [*found, functional.max_pool2d(found[-1], 1, 2)]


class MaskRCNN(nn.Module):
    """GeneralizedRCNN with an RPN and the standard heads, at inference."""

    def __init__(
        self,
        blocks: Sequence[int],
        narrow: int,
        width: int,
        layer: int,
        classes: int,
        sizes: Sequence[int],
    ):
        super().__init__()
        self.sizes, self.classes = sizes, classes
        self.backbone = Backbone(blocks, narrow, width)
        self.proposal_generator = nn.Module()
        self.proposal_generator.rpn_head = rpn = nn.Module()
        rpn.conv = nn.Conv2d(width, width, 3, 1, 1)
        rpn.objectness_logits = nn.Conv2d(width, 3, 1)
        rpn.anchor_deltas = nn.Conv2d(width, 12, 1)
        self.roi_heads = heads = nn.Module()
        heads.box_head, heads.box_predictor, heads.mask_head = (nn.Module() for _ in range(3))
        heads.box_head.fc1 = nn.Linear(49 * width, layer)
        heads.box_head.fc2 = nn.Linear(layer, layer)
        heads.box_predictor.cls_score = nn.Linear(layer, classes + 1)  # the background is last
        heads.box_predictor.bbox_pred = nn.Linear(layer, 4 * classes)
        for i in range(1, 5):
            setattr(heads.mask_head, f"mask_fcn{i}", nn.Conv2d(width, width, 3, 1, 1))
        heads.mask_head.deconv = nn.ConvTranspose2d(width, width, 2, 2)
        heads.mask_head.predictor = nn.Conv2d(width, classes, 1)

    def propose(
        self, levels: Sequence[Any], size: Sequence[int], *, before: int, after: int
    ) -> Any:
        """Return the boxes [m 4] of one image that the RPN is surest of."""
        head, boxes, scores, numbers = self.proposal_generator.rpn_head, [], [], []
        for number, (x, side) in enumerate(zip(levels, self.sizes, strict=True)):
            y = functional.relu(head.conv(x))
            logits = head.objectness_logits(y)[0].permute(1, 2, 0).reshape(-1)
            deltas = head.anchor_deltas(y)[0].unflatten(0, (3, 4)).permute(2, 3, 0, 1)
            best, places = logits.topk(min(before, len(logits)))
            moved = decode(deltas.reshape(-1, 4), anchors(side, 4 * 2**number, x.shape[2:]))
            boxes.append(moved[places])
            scores.append(best)
            numbers.append(torch.full((len(best),), number))
        found, best, level = torch.cat(boxes), torch.cat(scores), torch.cat(numbers)
        found = clip(found, size)
        kept = ((found[:, 2:] - found[:, :2]) > 0).all(1)
        found, best, level = found[kept], best[kept], level[kept]
        return found[torchvision.ops.batched_nms(found, best, level, 0.7)[:after]]

    def pool(self, levels: Sequence[Any], boxes: Any, cells: int) -> Any:
        """Return ROIAlignV2's features of boxes: centres at 0.5, as many samples as cells need."""
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        level = torch.floor(4 + torch.log2(area.sqrt() / 224 + 1e-8)).clamp(2, 5).long() - 2
        found = torch.zeros((len(boxes), levels[0].shape[1], cells, cells), dtype=boxes.dtype)
        for number, x in enumerate(levels[:4]):
            mine = level == number
            found[mine] = torchvision.ops.roi_align(
                x, [boxes[mine]], cells, 1 / (4 * 2**number), sampling_ratio=0, aligned=True
            )
        return found

    def find(self, levels: Sequence[Any], proposals: Any, size: Sequence[int], most: int) -> Any:
        """Return boxes, scores and classes of one image, the most probable first."""
        heads = self.roi_heads
        x = self.pool(levels, proposals, 7).flatten(1)
        x = functional.relu(heads.box_head.fc2(functional.relu(heads.box_head.fc1(x))))
        scores = heads.box_predictor.cls_score(x).softmax(-1)[:, :-1]
        offsets = heads.box_predictor.bbox_pred(x).unflatten(1, (-1, 4))
        around = proposals[:, None].expand_as(offsets)
        boxes = decode(offsets.reshape(-1, 4), around.reshape(-1, 4), (10.0, 10.0, 5.0, 5.0))
        boxes = clip(boxes, size).reshape(offsets.shape)
        rows, classes = (scores > 0.05).nonzero(as_tuple=True)
        boxes, scores = boxes[rows, classes], scores[rows, classes]
        kept = torchvision.ops.batched_nms(boxes, scores, classes, 0.5)[:most]
        return boxes[kept], scores[kept], classes[kept]

    def mask(self, levels: Sequence[Any], boxes: Any, classes: Any) -> Any:
        """Return the probability [m 28 28] of each cell of boxes, of one class each."""
        x, head = self.pool(levels, boxes, 14), self.roi_heads.mask_head
        for i in range(1, 5):
            x = functional.relu(getattr(head, f"mask_fcn{i}")(x))
        x = head.predictor(functional.relu(head.deconv(x)))
        return x[torch.arange(len(x)), classes].sigmoid()


def anchors(side: int, stride: int, grid: Sequence[int]) -> Any:
    """Return a level's anchors: at each place one for each ratio of height to width."""
    around = []
    for ratio in (0.5, 1.0, 2.0):
        width = math.sqrt(side**2 / ratio)
        height = ratio * width
        around.append([-width / 2, -height / 2, width / 2, height / 2])
    y, x = torch.meshgrid(*(torch.arange(n).double() * stride for n in grid), indexing="ij")
    places = torch.stack([x, y, x, y], -1)
    return (places[:, :, None] + torch.tensor(around).double()).reshape(-1, 4)


def decode(offsets: Any, around: Any, weights: Sequence[float] = (1.0,) * 4) -> Any:
    """Return the boxes that offsets (dx dy dw dh, each times its weight) make of others."""
    offsets = offsets / torch.tensor(weights).double()
    sides = around[:, 2:] - around[:, :2]
    centres = around[:, :2] + sides / 2 + offsets[:, :2] * sides
    sides = sides * offsets[:, 2:].clamp(max=SCALE_CLAMP).exp()
    return torch.cat([centres - sides / 2, centres + sides / 2], 1)


def clip(boxes: Any, size: Sequence[int]) -> Any:
    """Return boxes cut to an image of height and width `size`."""
    most = torch.tensor([size[1], size[0]] * 2).double()
    return torch.minimum(boxes.clamp(min=0), most)

"""PyTorch's networks that find objects: torchvision's Mask R-CNN and transformers' EoMT.

torchvision's operators in C++ are not in every build of it for a CPU: ROIAlign and suppression are
written here in whole tensors, and timed, so that their share of a step can be told.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from experiments.speed import torch_vision
from experiments.speed.works import CLASSES, Size, Work, objects, shape_of

SECONDS = {"roi_align": 0.0, "nms": 0.0}
"""What the operators took since they were last set to 0."""
COMPILED = {
    "mask_rcnn": (
        "backbone", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor",
        "roi_heads.mask_head", "roi_heads.mask_predictor",
    ),
    "eomt": ("embeddings", "layers", "upscale_block", "mask_head"),
}  # fmt: skip
"""What `torch.compile` is given: all but what depends on the number of objects."""


def make_model(section: dict[str, Any], size: Size) -> nn.Module:
    """Return the network of a segjax `model` section, for images of `size`."""
    if section["type"] == "mask_rcnn":
        return mask_rcnn(shape_of(size))
    torch_vision.declare()
    from transformers import EomtConfig, EomtForUniversalSegmentation

    encoder = section["encoder"]
    config = EomtConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, num_labels=CLASSES,
        image_size=shape_of(size)[0], patch_size=encoder["patch"],
        num_register_tokens=encoder["registers"], num_queries=section["queries"],
        num_blocks=section["blocks"],
    )  # fmt: skip
    network = EomtForUniversalSegmentation(config)
    network.criterion.register_forward_pre_hook(widened, with_kwargs=True)
    return network


def widened(criterion: nn.Module, arguments: tuple, named: dict) -> tuple[tuple, dict]:
    """Return the arguments of EoMT's loss in float32: SciPy matches no bfloat16."""
    return arguments, {
        name: value.float() if isinstance(value, torch.Tensor) else value
        for name, value in named.items()
    }


def mask_rcnn(size: tuple[int, ...]) -> nn.Module:
    """Return torchvision's first Mask R-CNN, all of it trained, batch norm too."""
    torch_vision.declare()
    from torchvision.models import detection

    for name in ("torchvision.ops.poolers", "torchvision.models.detection.roi_heads"):
        sys.modules[name].roi_align = roi_align  # pyright: ignore
    sys.modules["torchvision.ops.boxes"].nms = nms  # pyright: ignore
    return detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1,
        min_size=min(size), max_size=max(size), _skip_resize=True,
    )  # fmt: skip


def compile_parts(model: nn.Module, kind: str) -> None:
    """Compile the parts of a network whose shapes do not depend on what it finds."""
    for name in COMPILED[kind]:
        part = model.get_submodule(name)
        for one in part if isinstance(part, nn.ModuleList) else [part]:
            one.compile(dynamic="roi_heads" in name or None)


def make_loss(
    model: nn.Module, work: Work, size: Size, image: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """Return a function to the loss of the images, with the objects that segjax's side has."""
    made = [objects(size, i) for i in range(len(image))]
    masks = [torch.from_numpy(masks).to(image.device) for masks, _ in made]
    classes = [torch.from_numpy(classes).to(image.device) for _, classes in made]
    if work.model["type"] == "eomt":
        floats = [each.float() for each in masks]
        return lambda: model(image, mask_labels=floats, class_labels=classes).loss
    targets = [
        {"boxes": boxes_of(own), "labels": labels + 1, "masks": own.byte()}
        for own, labels in zip(masks, classes, strict=True)
    ]
    return lambda: sum(model(list(image), targets).values())


def facts_of(work_once: Callable[[], None], steps: int = 1) -> dict[str, float]:
    """Return what share of a step's time each of the operators written here takes."""
    SECONDS.update(dict.fromkeys(SECONDS, 0.0))
    start = time.perf_counter()
    for _ in range(steps):
        work_once()
    seconds = time.perf_counter() - start
    return {f"share_of_{name}": spent / seconds for name, spent in SECONDS.items()}


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Return the boxes x0 y0 x1 y1 of masks, ends exclusive."""
    found = []
    for mask in masks:
        ys, xs = torch.where(mask)
        found.append(torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]))
    return torch.stack(found).float()


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the time of what is inside to `SECONDS`; nothing in it is of bfloat16."""
    start = time.perf_counter()
    with torch.autocast("cpu", enabled=False):
        yield
    SECONDS[name] += time.perf_counter() - start


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Return the boxes that no better one left overlaps, the best first.

    Greedy suppression's only fixed point: it is applied until nothing changes, a few times.
    """
    with timed("nms"), torch.no_grad():
        order = scores.argsort(descending=True, stable=True)
        over = overlapping(boxes[order], iou_threshold)
        keep = torch.ones(len(order))
        while True:
            new = (keep @ over == 0).float()
            if torch.equal(new, keep):
                return order[keep > 0]
            keep = new


def wide(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def overlapping(boxes: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return 1 where a box [i] stands before another [j] and overlaps it, float32."""
    x0, y0, x1, y1 = wide(boxes).unbind(1)
    width = (torch.minimum(x1[:, None], x1) - torch.maximum(x0[:, None], x0)).clamp_(min=0)
    height = (torch.minimum(y1[:, None], y1) - torch.maximum(y0[:, None], y0)).clamp_(min=0)
    common, area = width.mul_(height), (x1 - x0) * (y1 - y0)
    # common / (sum - common) > t is common > t / (1 + t) * sum.
    share = (area[:, None] + area).mul_(threshold / (1 + threshold))
    return (common > share).float().triu_(1)


def roi_align(
    input: torch.Tensor,
    boxes: torch.Tensor,
    output_size: Any,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """Return torchvision's `roi_align`, of boxes [k 5] that begin with the image's number."""
    if aligned:
        raise NotImplementedError("torchvision's models do not ask for it")
    if isinstance(output_size, int):
        output_size = (output_size, output_size)
    spans = wide(boxes[:, 1:]) * spatial_scale
    starts, lengths = spans[:, :2], (spans[:, 2:] - spans[:, :2]).clamp(min=1)
    images = boxes[:, 0].long()
    if sampling_ratio > 0:
        return Pool.apply(input, images, starts, lengths, output_size, sampling_ratio)
    with timed("roi_align"):
        xs, ys = (
            matrix(starts[:, i], lengths[:, i], input.shape[3 - i], output_size[1 - i])
            for i in range(2)
        )
        return torch.einsum("kph,kchw,kqw->kcpq", ys, wide(input[images]), xs)


def matrix(start: torch.Tensor, length: torch.Tensor, extent: int, cells: int) -> torch.Tensor:
    """Return the weights [k cells extent] of places, of as many samples as a cell is long."""
    count = (length / cells).ceil().clamp(min=1)[:, None, None]
    number = torch.arange(int(count.max())).to(start)
    share = (torch.arange(cells)[:, None] + (number + 0.5) / count) / cells
    place = (start[:, None, None] + share * length[:, None, None]).clamp(0, extent - 1)
    low = place.floor().long()
    far = place - low
    there = (number < count) / count
    found = torch.zeros(len(start), cells, extent, dtype=start.dtype)
    found.scatter_add_(2, low, (1 - far) * there)
    return found.scatter_add_(2, (low + 1).clamp(max=extent - 1), far * there)


class Pool(torch.autograd.Function):
    """ROIAlign as weighted sums of rows, an `embedding_bag` of features [places channels]."""

    @staticmethod
    def forward(ctx, input, images, starts, lengths, cells, sampling):
        """Return the features [k c *cells] of boxes."""
        with timed("roi_align"):
            count, channels, height, width = input.shape
            rows = wide(input.permute(0, 2, 3, 1).reshape(-1, channels))
            axes = []
            for i, (extent, n) in enumerate(((width, cells[1]), (height, cells[0]))):
                within = (torch.arange(sampling).to(starts) + 0.5) / sampling
                share = (torch.arange(n)[:, None] + within) / n
                place = starts[:, i, None, None] + share * lengths[:, i, None, None]
                place = place.clamp(0, extent - 1)
                low = place.floor().long()
                far = place - low
                places = torch.stack([low, (low + 1).clamp(max=extent - 1)], -1).flatten(2)
                axes.append((places, torch.stack([1 - far, far], -1).flatten(2) / sampling))
            (xs, of_xs), (ys, of_ys) = axes
            ys = (images[:, None, None] * height + ys) * width
            places = ys[:, :, None, :, None] + xs[:, None, :, None, :]
            weights = of_ys[:, :, None, :, None] * of_xs[:, None, :, None, :]
            taps = (2 * sampling) ** 2
            offsets = torch.arange(0, places.numel(), taps)
            flat = places.flatten(), offsets, False, 0, False, weights.flatten()
            found, bags, sizes, most = torch.ops.aten._embedding_bag(rows, *flat)
            ctx.save_for_backward(flat[0], offsets, bags, sizes, most, flat[5])
            ctx.shape, ctx.dtype = input.shape, input.dtype
            return found.view(len(images), *cells, channels).permute(0, 3, 1, 2).to(input.dtype)

    @staticmethod
    def backward(ctx, slope):
        """Return the gradient by the features."""
        with timed("roi_align"):
            *places, weights = ctx.saved_tensors
            count, channels, height, width = ctx.shape
            rows = wide(slope.permute(0, 2, 3, 1).reshape(-1, channels))
            found = torch.ops.aten._embedding_bag_backward(
                rows, *places, count * height * width, False, 0, False, weights
            )
            found = found.view(count, height, width, channels).permute(0, 3, 1, 2)
            return found.to(ctx.dtype), None, None, None, None, None

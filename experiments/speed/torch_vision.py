"""torchvision's Python part where its operators in C++ are missing, as in each build for a CPU.

segmentation_models.pytorch, timm and transformers import it; they need no more of it here.
"""

import torch

KEPT: list[torch.library.Library] = []
"""Declarations last as long as their object."""


def declare() -> None:
    """Declare the operators whose absence torchvision does not survive being imported."""
    if hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    KEPT.append(library)

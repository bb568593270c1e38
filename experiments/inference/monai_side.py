"""MONAI's side: its sliding-window inferer around the same network, scores by torchmetrics."""

import time
from collections.abc import Callable
from typing import Any

import monai
import torch
import torchmetrics
from monai.inferers import SlidingWindowInferer

from experiments.inference.works import Work
from experiments.speed.torch_side import UNet


def build(work: Work, kind: str, variant: str) -> tuple[Callable, dict]:
    """Return a function that predicts or scores the image once, and facts about it."""
    torch.manual_seed(0)
    dims = len(work.size)
    layout: Any = torch.contiguous_format
    if variant != "eager":
        layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    model: Any = UNet(work.widths, classes=work.classes, channels=work.channels, dims=dims)
    model = model.eval().to(memory_format=layout)
    run = torch.compile(model) if variant.startswith("compile") else model
    cast = torch.autocast("cpu", torch.bfloat16, enabled=variant.endswith("bf16"))
    image = torch.randn(1, work.channels, *work.size).to(memory_format=layout)
    label = torch.randint(0, work.classes, (1, *work.size))
    inferer = SlidingWindowInferer(work.window, overlap=work.overlap, mode="gaussian")
    begun = time.perf_counter()

    def predict() -> torch.Tensor:
        with torch.inference_mode(), cast:
            return inferer(image, run).argmax(1)  # pyright: ignore

    def score() -> torch.Tensor:
        metric = torchmetrics.classification.MulticlassConfusionMatrix(work.classes)
        metric.update(predict(), label)
        return metric.compute()

    once = predict if kind == "predict" else score
    once()
    versions = {"torch": torch.__version__, "monai": monai.__version__}
    versions |= {"torchmetrics": torchmetrics.__version__}
    parameters = sum(p.numel() for p in model.parameters())
    seconds = time.perf_counter() - begun
    return once, {"versions": versions, "first_seconds": seconds, "parameters": parameters}

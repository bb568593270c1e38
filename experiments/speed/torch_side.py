"""PyTorch's side: the same networks as its users have them, a plain training loop's body."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from experiments.speed import torch_objects, torch_vision
from experiments.speed.works import CLASSES, Size, Work, shape_of


def build(work: Work, kind: str, variant: str, size: Size, batch: int) -> tuple[Callable, dict]:
    """Return a function that does the work once and waits for its end, and facts about it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs, as in JAX by default
    torch.backends.cudnn.benchmark = True
    shape = shape_of(size)
    last = {2: torch.channels_last, 3: torch.channels_last_3d}[len(shape)]
    layout = torch.contiguous_format if variant == "eager" else last
    model: Any = make_model(work.model, size).to(device, memory_format=layout)
    image = torch.randn(batch, 3, *shape, device=device).to(memory_format=layout)
    parameters = sum(p.numel() for p in model.parameters())
    start = time.perf_counter()
    compiled = variant.startswith("compile")
    run = torch.compile(model) if compiled and not work.task else model
    if compiled and work.task:
        torch_objects.compile_parts(model, work.model["type"])
    loss_of = make_loss(run, work, size, image)
    cast = torch.autocast(device, torch.bfloat16, enabled=variant.endswith("bf16"))
    model.train(kind == "train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-2, fused=True)

    def train() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with cast:
            loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss

    def infer() -> torch.Tensor:
        with torch.inference_mode(), cast:
            return run(image)

    def work_once() -> None:
        train() if kind == "train" else infer()
        if device == "cuda":
            torch.cuda.synchronize()

    work_once()
    seconds = time.perf_counter() - start
    facts = {
        "versions": {"torch": torch.__version__},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "compile_seconds": seconds,
        "parameters": parameters,
    }
    if work.task:
        facts |= torch_objects.facts_of(work_once)
    return work_once, facts


def make_loss(run: Any, work: Work, size: Size, image: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return a function to the loss of images whose truth is on their device already."""
    if work.task:
        return torch_objects.make_loss(run, work, size, image)
    label = torch.randint(0, CLASSES, (len(image), *shape_of(size)), device=image.device)
    return lambda: functional.cross_entropy(run(image), label)


def make_model(section: dict[str, Any], size: Size) -> nn.Module:
    """Return the network of a segjax `model` section, for images or volumes of `size`."""
    if section["type"] == "unet":
        dims = len(shape_of(size))
        return UNet(section.get("widths", (64, 128, 256, 512, 1024)), dims=dims)
    if section["type"] in torch_objects.COMPILED:
        return torch_objects.make_model(section, size)
    torch_vision.declare()  # the libraries import torchvision
    if section["type"] == "segformer":
        return Segformer(section["encoder"]["variant"])
    if section["type"] == "linear":
        return Linear(section["encoder"]["variant"])
    import segmentation_models_pytorch as smp

    if section["type"] == "encoder_unet":
        name, options = TIMM[section["encoder"]["type"]], {}
        if section["encoder"]["type"] == "swin":
            options["img_size"] = shape_of(size)
        return smp.Unet(f"tu-{name}", encoder_weights=None, classes=CLASSES, **options)
    kind = {"deeplabv3plus": smp.DeepLabV3Plus, "pspnet": smp.PSPNet}[section["type"]]
    return kind("resnet50", encoder_weights=None, classes=CLASSES)


TIMM = {
    "efficientnet": "efficientnet_b0",
    "convnext": "convnext_tiny",
    "swin": "swin_tiny_patch4_window7_224",
}
"""What timm calls the encoders of U-Nets."""


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with padding and batch norm, in two or three dimensions."""

    def __init__(self, widths, *, classes=CLASSES, channels=3, dims=2):
        super().__init__()
        *widths, bottom = widths
        self.pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[dims]
        up = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
        head = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.down = nn.ModuleList(
            level(before, n, dims) for before, n in zip((channels, *widths), widths, strict=False)
        )
        self.bottom = level(widths[-1], bottom, dims)
        above = (*widths[1:], bottom)
        self.enlarge = nn.ModuleList(
            up(wide, n, 2, stride=2) for n, wide in zip(widths, above, strict=True)
        )
        self.up = nn.ModuleList(level(2 * n, n, dims) for n in widths)
        self.head = head(widths[0], classes, 1)

    def forward(self, x):
        skips = []
        for down in self.down:
            skips.append(down(x))
            x = self.pool(skips[-1], 2, ceil_mode=True)
        x = self.bottom(x)
        for skip, enlarge, up in reversed(list(zip(skips, self.enlarge, self.up, strict=True))):
            x = enlarge(x)[(..., *(slice(side) for side in skip.shape[2:]))]
            x = up(torch.cat([skip, x], 1))
        return self.head(x)


def level(channels: int, features: int, dims: int) -> nn.Sequential:
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    layers = []
    for before in (channels, features):
        layers += [conv(before, features, 3, padding=1, bias=False)]
        layers += [norm(features), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Segformer(nn.Module):
    """Hugging Face's, with the logits enlarged to the image as its own loss does."""

    def __init__(self, variant: str):
        super().__init__()
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        sizes = {} if variant == "b0" else {"hidden_sizes": [64, 128, 320, 512]}
        sizes |= {} if variant == "b0" else {"depths": [3, 4, 6, 3], "decoder_hidden_size": 768}
        config = SegformerConfig(num_labels=CLASSES, **sizes)
        self.model = SegformerForSemanticSegmentation(config)

    def forward(self, x):
        logits = self.model(x).logits
        return functional.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)


class Linear(nn.Module):
    """A linear head on the last four blocks of timm's DINOv2, as its paper judges features."""

    def __init__(self, variant: str, *, blocks: int = 4):
        super().__init__()
        import timm

        name = {"s": "vit_small_patch14_dinov2", "b": "vit_base_patch14_dinov2"}[variant]
        self.encoder: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True)
        self.blocks, width = blocks, blocks * self.encoder.embed_dim
        self.norm, self.head = nn.BatchNorm2d(width), nn.Conv2d(width, CLASSES, 1)

    def forward(self, x):
        features = self.encoder.forward_intermediates(
            x, indices=self.blocks, norm=True, intermediates_only=True
        )
        logits = self.head(self.norm(torch.cat(features, 1)))
        return functional.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)

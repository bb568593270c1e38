"""What is timed: networks, sizes, and how each side may run them; free of JAX and PyTorch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

KINDS = ("train", "infer")
Size = int | Sequence[int]


class Work(NamedTuple):
    """One network on images or volumes of one size.

    Attributes:
        title: As papers call it.
        model: The `model` section of a segjax config; the PyTorch side makes the same network.
        cpu: Side of the square images in pixels or the shape of volumes, and how many are in a
            batch, on a CPU.
        gpu: The same on a GPU.
        task: The `task` section of a config that finds objects; empty: classes of pixels.
        kinds: What is timed of it.
    """

    title: str
    model: dict[str, Any]
    cpu: tuple[Size, int]
    gpu: tuple[Size, int]
    task: Mapping[str, Any] = {}
    kinds: Sequence[str] = KINDS


RESNET50 = {"type": "resnet", "depth": 50}


def on(encoder: str, variant: str) -> dict[str, Any]:
    """Return the section of a U-Net on an encoder; no branch is dropped, as in timm by default."""
    section = {"type": encoder, "variant": variant, "drop_path": 0.0}
    return {"type": "encoder_unet", "encoder": section}


WORKS = {
    "unet": Work("U-Net", {"type": "unet"}, (572, 1), (572, 16)),
    "unet_small": Work(
        "U-Net, half as wide",
        {"type": "unet", "widths": (32, 64, 128, 256, 512)},
        (128, 8),
        (128, 64),
    ),
    "unet_3d": Work(
        "3D U-Net, widths 16 to 128",
        {"type": "unet", "widths": (16, 32, 64, 128)},
        ((48, 64, 48), 4),
        ((96, 128, 96), 8),
    ),
    "unet_3d_64": Work(
        "3D U-Net, widths 16 to 128",
        {"type": "unet", "widths": (16, 32, 64, 128)},
        ((64, 64, 64), 2),
        ((128, 128, 128), 4),
    ),
    "deeplabv3plus": Work(
        "DeepLabv3+, ResNet-50",
        {
            "type": "deeplabv3plus", "encoder": {**RESNET50, "output_stride": 16},
            "rates": (12, 24, 36), "pyramid_convs": 1, "fuse_convs": 1, "dropout": 0.5,
        },
        (256, 4),
        (512, 16),
    ),
    "pspnet": Work(
        "PSPNet, ResNet-50",
        {
            "type": "pspnet", "encoder": {**RESNET50, "stages": 3}, "fuse_kernel": 1,
            "head_kernel": 3, "norm_of_mean": "none", "dropout": 0.2, "aux": (),
        },
        (256, 4),
        (512, 16),
    ),
    "segformer_b0": Work(
        "SegFormer-B0",
        {"type": "segformer", "encoder": {"type": "mit", "variant": "b0"}, "width": 256},
        (256, 4),
        (512, 16),
    ),
    "segformer_b2": Work(
        "SegFormer-B2",
        {"type": "segformer", "encoder": {"type": "mit", "variant": "b2"}, "width": 768},
        (256, 2),
        (512, 8),
    ),
    "efficientnet_unet": Work(
        "U-Net, EfficientNet-B0", on("efficientnet", "b0"), (256, 4), (512, 16)
    ),
    "convnext_unet": Work("U-Net, ConvNeXt-T", on("convnext", "tiny"), (256, 2), (512, 16)),
    "swin_unet": Work("U-Net, Swin-T", on("swin", "t"), (224, 2), (448, 16)),
    "dinov2_linear": Work(
        "Linear head, DINOv2 ViT-S",
        {"type": "linear", "encoder": {"type": "vit", "variant": "s", "layers": (-4, -3, -2, -1)}},
        (224, 4),
        (518, 16),
    ),
    "mask_rcnn": Work(
        "Mask R-CNN, ResNet-50 and FPN",
        {"type": "mask_rcnn", "encoder": RESNET50},
        (512, 2),
        (1024, 8),
        {"type": "instance"},
        ("train",),
    ),
    "eomt": Work(
        "EoMT, ViT-B",
        {
            "type": "eomt", "queries": 100, "blocks": 3,
            "encoder": {
                "type": "vit", "variant": "b", "patch": 16, "grid": 32, "registers": 4,
                "class_position": False,
            },
        },
        (512, 2),
        (512, 16),
        {"type": "query_instance", "queries": 100},
        ("train",),
    ),
}  # fmt: skip


def shape_of(size: Size) -> tuple[int, ...]:
    """Return the lengths of the axes of space."""
    return (size, size) if isinstance(size, int) else tuple(size)


def name_of(size: Size) -> str:
    """Return the size as tables have it."""
    return f"{size}²" if isinstance(size, int) else "×".join(map(str, size))


VARIANTS = {
    "segjax": ("float32", "bfloat16"),
    "torch": ("eager", "channels_last", "bf16", "compile", "compile bf16"),
}
"""How each side may run. PyTorch: `channels_last` and all after it keep that layout, `bf16` is
autocast, `compile` is `torch.compile` on top. The fastest of each side counts."""
CLASSES = 19
OBJECTS = 8
"""Of each image, where they are found, every one of a class that is."""


def objects(size: Size, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks bool [OBJECTS *size] and the classes of one image's objects: ellipses.

    Their sides are from a sixteenth of the image's to half of them.
    """
    draw, shape = np.random.default_rng(number), np.asarray(shape_of(size))
    masks = []
    for _ in range(OBJECTS):
        radii = shape * 2.0 ** draw.uniform(-5, -2, len(shape))
        centre = draw.uniform(radii, shape - radii)
        places = [
            ((np.arange(n) + 0.5 - c) / r) ** 2
            for n, c, r in zip(shape, centre, radii, strict=True)
        ]
        masks.append(sum(np.ix_(*places)) <= 1)
    return np.stack(masks), draw.integers(0, CLASSES, OBJECTS)

"""What is timed: networks, sizes, and how each side may run them; free of JAX and PyTorch."""

from typing import Any, NamedTuple


class Work(NamedTuple):
    """One network on images of one size.

    Attributes:
        title: As papers call it.
        model: The `model` section of a segjax config; the PyTorch side makes the same network.
        cpu: Side of the square images in pixels, and images in a batch, on a CPU.
        gpu: The same on a GPU.
    """

    title: str
    model: dict[str, Any]
    cpu: tuple[int, int]
    gpu: tuple[int, int]


RESNET50 = {"type": "resnet", "depth": 50}
WORKS = {
    "unet": Work("U-Net", {"type": "unet"}, (572, 1), (572, 16)),
    "unet_small": Work(
        "U-Net, half as wide",
        {"type": "unet", "widths": (32, 64, 128, 256, 512)},
        (128, 8),
        (128, 64),
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
}  # fmt: skip
KINDS = ("train", "infer")
VARIANTS = {
    "segjax": ("float32", "bfloat16"),
    "torch": ("eager", "channels_last", "bf16", "compile", "compile bf16"),
}
"""How each side may run. PyTorch: `channels_last` and all after it keep that layout, `bf16` is
autocast, `compile` is `torch.compile` on top. The fastest of each side counts."""
CLASSES = 19

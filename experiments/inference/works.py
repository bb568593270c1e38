"""What is timed: one image through one network in windows; free of JAX and PyTorch."""

from typing import Any, NamedTuple


class Work(NamedTuple):
    """One network on one image that is larger than its window.

    Attributes:
        title: What it stands for.
        widths: Of the U-Net.
        classes: Of its logits.
        channels: Of the image.
        size: Of the image.
        window: What the network sees at once.
        overlap: Share of a window that its neighbour sees too.
    """

    title: str
    widths: tuple[int, ...]
    classes: int
    channels: int
    size: tuple[int, ...]
    window: tuple[int, ...]
    overlap: float

    @property
    def model(self) -> dict[str, Any]:
        """The `model` section of a segjax config; the PyTorch side makes the same network."""
        return {"type": "unet", "widths": self.widths}


WORKS = {
    "street": Work(
        "street scene, 19 classes", (32, 64, 128, 256), 19, 3, (512, 1024), (256, 512), 0.25
    ),
    "classes": Work("150 classes", (32, 64, 128, 256), 150, 3, (512, 896), (256, 256), 0.25),
    "half": Work(
        "half overlapping, 8 classes", (32, 64, 128, 256), 8, 3, (512, 768), (256, 256), 0.5
    ),
    "volume": Work("volume, 3 classes", (16, 32, 64, 128), 3, 1, (48, 96, 96), (48, 64, 64), 0.5),
}
KINDS = ("predict", "score")
VARIANTS = {
    "segjax": ("float32", "bfloat16"),
    "monai": ("eager", "channels_last", "bf16", "compile", "compile bf16"),
}
"""How each side may run. MONAI: `eager` is what its tutorials do; `channels_last` and all after it
keep that layout, `bf16` is autocast, `compile` is `torch.compile` on top."""

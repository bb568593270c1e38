"""The names in torchvision's published weights (https://docs.pytorch.org/vision, models)."""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.pretrained.convert import Rule


def resnet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/resnet.py`."""
    return [
        Rule(r"stem/conv", r"conv1", "stem"),
        Rule(r"stem/norm", r"bn1"),
        Rule(r"layer(\d)_(\d+)/conv(\d)/conv", r"layer\1.\2.conv\3"),
        Rule(r"layer(\d)_(\d+)/conv(\d)/norm", r"layer\1.\2.bn\3"),
        Rule(r"layer(\d)_(\d+)/shortcut/conv", r"layer\1.\2.downsample.0"),
        Rule(r"layer(\d)_(\d+)/shortcut/norm", r"layer\1.\2.downsample.1"),
    ]


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {"resnet": resnet}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {}

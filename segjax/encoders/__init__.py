"""Networks that models are built on: one paper a file, each with an `Encoder`."""

from collections.abc import Mapping
from typing import Any

from segjax.config import lookup
from segjax.encoders import base
from segjax.layers.style import Style


def build(section: Mapping[str, Any], style: Style) -> base.Encoder:
    """Return the encoder of `config.model.encoder`, with the dtypes and remat of `style`.

    Raises:
        ConfigError: No such encoder, or a field that it does not have.
    """
    return lookup.build(
        "encoders", section, where="config.model.encoder", remat=style.remat, **style.dtypes,
        name="encoder",
    )  # fmt: skip

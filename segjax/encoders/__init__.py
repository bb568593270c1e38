"""Networks that models are built on: one paper a file, each with an `Encoder`."""

from typing import Any

from segjax.config import lookup
from segjax.layers import conv


def build(model: Any) -> Any:
    """Return the encoder that the field `encoder` of `model` describes, in its dtypes and remat."""
    return lookup.build(
        "encoders", model.encoder, where="config.model.encoder", remat=model.remat,
        **conv.dtypes_of(model), name="encoder",
    )  # fmt: skip

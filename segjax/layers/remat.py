"""Rematerialisation by name: what is kept for the gradient, and what is computed again."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from segjax.config import lookup


def is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    """Return whether an operation is a convolution or a matrix product: dear to compute again."""
    return primitive.name in ("conv_general_dilated", "dot_general")


POLICIES: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "convs": is_product,
    "full": jax.checkpoint_policies.nothing_saveable,
}
"""'none' keeps every activation; 'convs' the outputs of convolutions and products, and normalises
and activates them again; 'full' a block's input only, for a second forward pass."""


def remat(block: type[nn.Module], policy: str) -> Any:
    """Return `block`, called as `block(…)(x, train)`, under the policy of that name."""
    lookup.choose(policy, list(POLICIES), what="remat")
    if policy == "none":
        return block
    # The third argument, `train`, is static: it stands behind the module itself and x.
    return nn.remat(block, policy=POLICIES[policy], static_argnums=(2,))

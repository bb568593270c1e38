"""Rematerialisation by name: what is kept for the gradient, and what is computed again."""

import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import flax.linen as nn
import jax
from jax.extend import core

from segjax.config import lookup, rules

B = TypeVar("B", bound=nn.Module)


def is_product(primitive: core.Primitive, *_: object, **__: object) -> bool:
    """Return whether an operation is a convolution or a matrix product: costly to compute again."""
    return primitive.name in ("conv_general_dilated", "dot_general")


POLICIES: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "convs": is_product,
    "full": jax.checkpoint_policies.nothing_saveable,
}
"""'none' keeps every activation; 'convs' the outputs of convolutions and products, and normalises
and activates them again; 'full' a block's input only, for a second forward pass."""
Policy: TypeAlias = Annotated[str, rules.one_of(*POLICIES)]


def remat(block: type[B], policy: str) -> type[B]:
    """Return `block` under the policy of that name, to be built and called as before.

    Positional arguments of a call are arrays; keyword arguments, such as `train`, are static.
    """
    lookup.choose(policy, list(POLICIES), what="remat")
    if policy == "none":
        return block

    # `wraps` copies Flax's mark of a method that it has prepared: it adds no scope of its own.
    @functools.wraps(block.__call__)
    def call(self: B, *arrays: Any, **static: Any) -> Any:
        @functools.wraps(block.__call__)
        def forward(module: B, *arrays: Any) -> Any:
            return block.__call__(module, *arrays, **static)

        return nn.remat(forward, policy=POLICIES[policy])(self, *arrays)

    return cast(type[B], type(f"Remat{block.__name__}", (block,), {"__call__": call}))

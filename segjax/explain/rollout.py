"""From which patches a transformer's tokens have what they know: attention, rolled out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segjax import encoders
from segjax.errors import ConfigError
from segjax.explain.network import Input, Net
from segjax.kernels import products
from segjax.layers import attention

KEPT = 0.5
"""What a token keeps of itself in each block, by the residual branch beside attention."""


class Step(NamedTuple):
    """One layer of an encoder's attention.

    Attributes:
        weights: Of each token for those that it asks, the mean over heads [n m].
        before: Tokens that are no patches, the first of n and of m.
        grid: Sides of the patches among the n tokens.
        asked: Sides of those among the m, which may be coarser.
    """

    weights: Float[np.ndarray, "n m"]
    before: int
    grid: tuple[int, ...]
    asked: tuple[int, ...]


def steps(net: Net, x: Input) -> list[Step]:
    """Return the layers of attention of a network's encoder, the first one first.

    Raises:
        ConfigError: It has none, or attends in another way than ViT, DINOv3 and MiT do.
    """

    model: Any = net.passes.model

    def run(variables: Any, x: Input) -> list[jax.Array]:
        found: list[jax.Array] = []
        projected: dict[tuple[str, ...], jax.Array] = {}

        def call(method: Callable, arguments: Any, options: Any, context: Any) -> Any:
            output, module = method(*arguments, **options), context.module
            if context.method_name == "__call__" and module.path[:1] == ("encoder",):
                if module.name in ("query", "key"):
                    projected[module.path] = output
                elif isinstance(module, attention.Attention):
                    query, key = (projected[(*module.path, name)] for name in ("query", "key"))
                    own = weights_of(query, key, module.heads, *arguments[2:], **options)
                    found.append(own)
            return output

        with nn.intercept_methods(call):
            model.apply(variables, x, train=False)
        return found

    found = net.passes.once("rollout", lambda: run)(net.variables, x)
    weights = [np.asarray(each) for each in found]
    if not weights:
        raise ConfigError(
            "--method=rollout: follows the attention of an encoder of type vit, dinov3 or mit, and "
            "the network of this run has none. Choose another method."
        )
    encoder: Any = encoders.build(model.encoder, model.style)
    before = getattr(encoder, "before", 0)
    return [_step(each, x.shape[1:-1], encoder.strides, before) for each in weights]


def weights_of(
    query: Float[Array, "b n c"],
    key: Float[Array, "b m c"],
    heads: int,
    sees: Any = None,
    turns: attention.Turns | None = None,
    *,
    bias: Any = None,
    told: Any = None,
) -> Float[Array, "n m"]:
    """Return the weights that `Attention` averages by in the first image, their mean over heads.

    Arguments are what its layers 'query' and 'key' return, and what it is called with itself.
    """
    del told
    query, key = (y.reshape(*y.shape[:2], heads, -1).swapaxes(1, 2) for y in (query, key))
    if turns is not None:
        query, key = attention.rotate(query, turns), attention.rotate(key, turns)
    scores = products.similarity(query, key) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    if sees is not None:
        scores = jnp.where(sees[:, None], scores, attention.UNSEEN)
    return nn.softmax(scores.astype(jnp.float32))[0].mean(axis=0)


def rollout(layers: Sequence[Step], region: np.ndarray) -> Float[np.ndarray, "*grid"]:
    """Return the share of each patch in what the last layer's patches under a region know.

    Attention rollout (Abnar and Zuidema 2020, arXiv:2005.00928, section 3): a layer's tokens are
    a mean of those before, half themselves and half by attention; the products of all layers are
    followed from the region backwards. Where keys are of a coarser grid (MiT), their share is that
    of all patches of their cell; where a stage's grid is finer, a patch's is that of those in it.

    Args:
        layers: See `steps`.
        region: bool [*space], at the size that the network sees.
    """
    last = layers[-1]
    share = np.concatenate([np.zeros(last.before), _coarse(region, last.grid).ravel()])
    share, grid = share / share.sum(), last.grid
    for layer in reversed(layers):
        if layer.grid != grid:  # a finer one
            share, grid = _spread(share.reshape(grid), layer.grid).ravel(), layer.grid
        asked = share @ layer.weights
        if layer.asked != layer.grid:
            asked = _of_cells(asked.reshape(layer.asked), layer.grid).ravel()
        share = KEPT * share + (1 - KEPT) * asked
    return share[layers[0].before :].reshape(grid).astype(np.float32)


def _step(weights: np.ndarray, size: Sequence[int], strides: Sequence[int], before: int) -> Step:
    """Return a layer, its grids found by how many tokens there are.

    Raises:
        ConfigError: They are no grid of patches, as within windows.
    """
    number, asked = (count - before for count in weights.shape)
    for stride in dict.fromkeys(strides):
        grid = tuple(-(-side // stride) for side in size)
        for reduction in range(1, min(grid) + 1):
            coarse = tuple(side // reduction for side in grid)
            if (np.prod(grid), np.prod(coarse)) == (number, asked):
                return Step(weights, before, grid, coarse)
    raise ConfigError(
        f"--method=rollout: a layer of {weights.shape[0]} tokens that ask {weights.shape[1]} is "
        "none of patches of the whole image, as those of windows or with queries are not. Choose "
        "another method."
    )


def _coarse(region: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return how many pixels of a region lie in each patch."""
    found = np.zeros(grid)
    places = np.argwhere(region)
    cells = places * np.asarray(grid) // np.asarray(region.shape)
    np.add.at(found, tuple(cells.T), 1)
    return found


def _spread(share: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return the share of each patch of a finer grid: an equal part of that which it lies in."""
    lies_in = [np.arange(side) * own // side for side, own in zip(grid, share.shape, strict=True)]
    number = np.ones(())
    for places, own in zip(lies_in, share.shape, strict=True):
        number = np.multiply.outer(number, np.bincount(places, minlength=own))
    return (share / np.maximum(number, 1))[np.ix_(*lies_in)]


def _of_cells(share: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return what each patch has of its cell's share; those beyond the last full cell have none."""
    reduction = [side // own for side, own in zip(grid, share.shape, strict=True)]
    found = np.zeros(grid)
    whole = tuple(slice(0, own * r) for own, r in zip(share.shape, reduction, strict=True))
    equal = share / np.prod(reduction)
    for axis, r in enumerate(reduction):
        equal = equal.repeat(r, axis)
    found[whole] = equal
    return found

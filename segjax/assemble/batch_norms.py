"""What the batch norms of a train step see: how many values they take their statistics from."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from segjax.errors import ConfigError
from segjax.layers import norm

FEW = 8
"""Values of a channel below which a batch norm is warned of.

The relative error of a variance estimated from n values of a normal distribution is sqrt(2/(n-1)):
a half at 8, and more than all of it at 2."""
SHOWN = 3
"""How many modules a message names."""
REMEDY = (
    "Raise config.input.batch_size (it is shared out among config.microbatches, and among "
    "config.deterministic_reduction's parts), enlarge the crop, or set config.model.norm='group' "
    "(an encoder has a norm of its own, and PSPNet norm_of_mean='none')."
)


@contextlib.contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Yield the values of a channel that each batch norm is called on in train mode, by its path.

    It fills while a train step is traced, with the shapes that the step really has: a microbatch,
    a shard of a fixed order of sums, the crop of the augmentation. Where the mesh splits a batch,
    its statistics are global, and so is the count. What is held by `optimizer.freeze` uses its
    running statistics, and is left out.
    """
    counts: dict[str, int] = {}

    def listen(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        result, module = call(*arguments, **keywords), context.module
        if isinstance(module, norm.BatchNorm) and module.train:
            (x,) = arguments
            path, count = "/".join(module.path), x.size // x.shape[-1]
            counts[path] = min(count, counts.get(path, count))
        return result

    with nn.intercept_methods(listen):
        yield counts


def check(counts: Mapping[str, int]) -> list[str]:
    """Return a warning if some batch norms see fewer than `FEW` values of a channel, else [].

    Raises:
        ConfigError: Some see a single one, which less its own mean is 0: whatever the image, they
            return their bias, and nothing below them learns, while evaluation uses running
            statistics and sees something else.
    """
    alone = [path for path, count in counts.items() if count == 1]
    if alone:
        raise ConfigError(
            f"config.model: batch norm in {_names(alone)} gets 1 value per channel in a train step,"
            f" expected at least 2, better {FEW}: less its own mean a single value is 0, so nothing"
            f" is learned there. {REMEDY}"
        )
    few = [path for path, count in counts.items() if count < FEW]
    if not few:
        return []
    least = min(counts[path] for path in few)
    return [
        f"warning: batch norm in {_names(few)} gets {least} values per channel in a train step; "
        f"its statistics are poor below {FEW}. {REMEDY}"
    ]


def _names(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(map(repr, paths[:SHOWN])) + more

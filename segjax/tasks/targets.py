"""From a batch's packed masks, moved as its images were, to what detection models train on."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.layers import boxes
from segjax.layers.objects import Targets
from segjax.structs import Key


def targets_of(batch: Mapping[str, Any], things: Sequence[int], key: Key) -> Targets:
    """Return the objects of a batch whose fields are those of `data.core.object_schema`.

    An object without a pixel is none: it lay where augmentation cut the image. Nor is one of a
    class that is no thing.

    Args:
        batch: After augmentation.
        things: The numbers of the classes that are counted object by object; class k of the
            targets is `things[k]`.
        key: Of the step; each example's is made of it and of its global position.
    """
    packed, numbers = batch["object_masks"], batch["object_classes"]
    found, there = jax.vmap(lambda masks: boxes.of_masks(masks, numbers.shape[1]))(packed)
    table = np.full(256, -1, np.int32)
    table[list(things)] = np.arange(len(things))
    classes = jnp.where(there & (numbers >= 0), jnp.asarray(table)[jnp.clip(numbers, 0)], -1)
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])
    crowd = batch["object_crowd"] & (classes >= 0)
    return Targets(found, classes, crowd, packed, keys)

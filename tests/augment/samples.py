"""Ops on single examples of any dimension, for the tests beside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from segjax.augment.sample import Sample
from segjax.data import masks
from segjax.structs import Field


def schema(channels, dtype="uint8"):
    return {
        "image": Field("image", (channels,), dtype),
        "label": Field("classes"),
        "instance": Field("ids"),
        "object_masks": Field("masks", (1,)),
        "spacing": Field("value", (3,), "float32"),
    }


@functools.cache
def over_keys(op, channels, dtype):
    """Compile `op` for one example and many keys."""

    def on_arrays(key, arrays):
        return dict(op(key, Sample(arrays, schema(channels, dtype))).arrays)

    return jax.jit(jax.vmap(on_arrays, (0, None)))


def run_fields(op, image, label, instance, *, keys=32, seed=7, dtype="uint8"):
    """Return all fields of one example after `op` with many keys; classes 1 to 7 are objects."""
    keys = jax.random.split(jax.random.key(seed), keys)
    arrays = {
        "image": jnp.asarray(image, jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
        "instance": jnp.asarray(instance, jnp.int32),
        "object_masks": jnp.asarray(masks.pack(np.stack([label == k for k in range(1, 8)]))),
        "spacing": jnp.arange(3, dtype=jnp.float32),
    }
    out = jax.device_get(over_keys(op, image.shape[-1], dtype)(keys, arrays))
    np.testing.assert_array_equal(out["spacing"], np.tile(np.arange(3), (len(keys), 1)))
    return out


def run(op, image, label, *, keys=32, seed=7):
    """Return image and label of one example after `op` with many keys."""
    out = run_fields(op, image, label, label, keys=keys, seed=seed)
    return out["image"], out["label"]

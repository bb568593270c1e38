"""segjax's side: a compiled op on a batch that lies on the device, other keys each time."""

import itertools
import json
from collections.abc import Callable

import jax
import jaxlib
import numpy as np

from experiments.augment import works
from experiments.speed import segjax_side as speed
from experiments.speed.works import WORKS as NETWORKS
from segjax.augment import compose
from segjax.config import lookup
from segjax.runtime import sharding, xla
from segjax.structs import Field

xla.prepare()


def facts() -> str:
    """Return the versions."""
    return json.dumps({"versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__}})


def build(work: str, variant: str) -> tuple[Callable[[], None], int] | None:
    """Return a function that computes one batch, and how many batches a turn has."""
    if work == works.STEP:
        network = NETWORKS["unet_small"]
        step, _ = speed.build(network, "train", "float32", works.SIDE, works.ROWS)
        return step, 1
    random = np.random.default_rng(0)
    if work == works.POLICY:
        size = [works.PATCH] * 3
        names = [{"type": "policies:nnunet", "size": size}]
        shape, channels, dtype = [works.READ] * 3, 1, "float32"
        image = random.normal(size=(works.VOLUMES, *shape, 1)).astype(np.float32)
    else:
        chain = works.CHAIN if work == works.CHAINED else (work,)
        names = [works.WORKS[name].section for name in chain]
        shape, channels, dtype = [works.SIDE] * 2, 3, "uint8"
        image = random.integers(0, 256, (works.ROWS, *shape, 3)).astype(np.uint8)
    schema = {"image": Field("image", (channels,), dtype), "label": Field("classes")}
    rows = len(image)
    batch = {
        "image": image,
        "label": make_label(shape, rows),
        "mask": np.ones(rows, bool),
        "index": np.arange(rows, dtype=np.int32),
    }
    ops = [
        lookup.build("augment", name, where="work", takes=compose.OP, or_takes=compose.MIXES)
        for name in names
    ]
    mesh = sharding.make_mesh()
    placed = jax.device_put(batch)
    augment = jax.jit(compose.make_augment(ops, schema, mesh))
    keys = map(jax.random.key, itertools.count())

    def once() -> None:
        jax.block_until_ready(augment(next(keys), placed))

    return once, works.CALLS


def make_label(shape: list[int], rows: int) -> np.ndarray:
    """Return maps of four classes in boxes."""
    places = np.indices(shape) // 24
    return np.stack([places.sum(0) % 4] * rows).astype(np.int32)

"""segjax's side: what `--mode=predict` and an evaluator call."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jaxlib
import numpy as np

from experiments.inference.works import Work
from segjax.assemble import parts as parts_lib
from segjax.config import schema, sections
from segjax.data import core
from segjax.inference.layout import Plan
from segjax.inference.network import Network
from segjax.runtime import xla
from segjax.structs import Classes


class One:
    """A source of one example.

    Args:
        work: Says how large.
    """

    palette: core.Palette = ()

    def __init__(self, work: Work):
        draw = np.random.default_rng(0)
        self.class_names = tuple(map(str, range(work.classes)))
        self.schema = core.semantic_schema(work.channels)
        self.image = draw.integers(0, 256, (*work.size, work.channels), np.uint8)
        self.label = draw.integers(0, work.classes, work.size).astype(np.uint8)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return {"image": self.image, "label": self.label, "name": "image"}


def make_network(work: Work, variant: str, **inference: Any) -> Network:
    """Return the network with parameters of a seed, and windows blended by Gaussians."""
    config = sections.section(schema.defaults())
    config["model"] = {**work.model, "compute_dtype": variant}
    config["input"] |= {"size": work.window, "fit": "pad"}
    config["normalize"] = {
        "type": "normalize:fixed", "mean": [128.0] * work.channels, "std": [64.0] * work.channels
    }  # fmt: skip
    config["optimizer"] = {"type": "sgd", "lr": 0.1, "schedule": {"type": "constant"}}
    own = {"overlap": work.overlap, "blend": "gaussian"} | inference
    config["inference"] |= own
    classes = Classes(tuple(map(str, range(work.classes))), (), work.channels)
    parts = parts_lib.make_parts(config, classes)
    shape = parts.image_shape().shape
    draw = jax.jit(lambda key: parts.model.init(key, jax.numpy.zeros(shape), train=False))
    return Network(parts.forward, draw(jax.random.key(0)))


def build(work: Work, kind: str, variant: str) -> tuple[Callable, dict]:
    """Return a function that predicts or scores the image once, and facts about it."""
    xla.prepare()
    network, source = make_network(work, variant), One(work)
    forward, begun = network.forward, time.perf_counter()
    shape, count = (1, *work.window, work.channels), len(Plan(work.size, forward.layout).pieces)
    window = jax.device_put(np.zeros(shape, np.uint8), forward.placement["image"])

    def predict() -> None:
        _ = network(source.image).classes

    def score() -> None:
        for _ in network.measure(source, batch_size=1, threads=1):
            pass

    def bare() -> None:
        """Send as many windows through the network, and do nothing else."""
        (run,) = network.members
        jax.block_until_ready([run(window) for _ in range(count)][-1])

    once = {"predict": predict, "score": score, "bare": bare}[kind]
    once()
    facts = {
        "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
        "first_seconds": time.perf_counter() - begun,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(network.variables["params"])),
        "windows": count,
    }
    return once, facts

"""Runs that nobody trained, of every model of the zoo: what is exported of them is compared."""

import dataclasses
import functools
import json

import jax
import numpy as np

from configs import camvid
from segjax.assemble import parts as parts_lib
from segjax.config import schema, sections
from segjax.data.synthetic import Source
from segjax.runs.run import Run

SIZES = ((48, 64), (33, 41), (96, 130), (64, 64), (150, 70))


@dataclasses.dataclass(frozen=True)
class Untrained(Run):
    """A run of a config that was never trained: every variable is drawn."""

    @functools.cached_property
    def _restored(self):
        shapes = self.parts.variable_shapes()
        draw = np.random.default_rng(0)

        def fill(path, leaf):
            name = str(path[-1].key)
            spread = np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
            values = draw.normal(0, spread, leaf.shape)  # scores of about 1
            if name in ("var", "scale"):
                values = 1 + np.abs(values)
            return jax.device_put(values.astype(leaf.dtype), leaf.sharding)

        return 3, jax.tree.map_with_path(fill, shapes), 3

    def find(self):
        return 3


def untrained(config, folder, *, dtype="uint8"):
    """Return a run of a config in a new folder; its images are of `dtype`."""
    config = schema.fill(config)
    config["mesh"] = dict(data=1, fsdp=1, space=1) | {"data": -1}
    source = Source(split="val", num_examples=2, size=(48, 64))
    classes = parts_lib.classes_of(source)
    resolved = dict(classes._asdict(), batch_size=8, num_examples=8, total_steps=2)
    del resolved["things"], resolved["amounts"]
    config = sections.plain(config | {"resolved": sections.plain(resolved)})
    config["mesh"]["data"] = jax.device_count()
    (folder / "run").mkdir(parents=True, exist_ok=True)
    facts = {"reading": {"dtype": dtype}, "image_scales": [1.0, 1.0]}
    (folder / "run" / "run.json").write_text(json.dumps(facts))
    return Untrained(folder / "run", config)


def of_model(name, folder):
    """Return a run of a model of the zoo at its `debug` size, where that has all its parts."""
    config = sections.plain(camvid.get_config(f"model={name},size=debug"))
    if name == "attention_unet":
        config["model"]["widths"] = (8, 8, 16)  # the finest skip has no gate
    config["input"]["fit"] = "pad"
    config["input"]["source"]["root"] = "nowhere"  # the check then takes noise
    if "losses" in config["task"]:
        config["task"]["losses"] = [dict(type="pixel:cross_entropy", weight=1.0)]
    return untrained(config, folder)


def images(dtype=np.uint8, *, count=1):
    """Return images of each of five sizes: squares of one colour each under noise."""
    draw = np.random.default_rng(1)
    found = []
    for height, width in SIZES * count:
        colours = draw.uniform(0, 200, (height // 16 + 1, width // 16 + 1, 3))
        squares = colours.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        found.append((squares + draw.uniform(0, 55, squares.shape)).astype(dtype))
    return found


def classes_seen(run) -> int:
    """Return how many classes a run answers on the images; of one alone nothing can differ."""
    predict = run.predictor()
    return len({int(k) for image in images() for k in np.unique(predict(image).classes)})

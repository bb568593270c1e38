"""A model and a config that train in a second: each pixel by itself."""

import pathlib

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from PIL import Image

from configs import quickstart
from segjax.config import schema, sections
from segjax.structs import Outputs


class Late(nn.Module):
    """Return what it is given, and after two batches NaN."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        gain = self.param("gain", nn.initializers.ones, ())
        seen = self.variable("batch_stats", "seen", jnp.zeros, ())
        factor = jnp.where(seen.value >= 2, jnp.nan, 1.0)
        if train and not self.is_initializing():
            seen.value += 1
        return x * gain * factor


class Model(nn.Module):
    """Two layers with a batch norm between them; with `explodes` not finite at the third step."""

    num_classes: int
    width: int = 4
    explodes: bool = False
    compute_dtype: str = "float32"

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = nn.Dense(self.width, name="first")(image)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = Late(name="late")(x, train=train) if self.explodes else x
        return Outputs(nn.Dense(self.num_classes, name="head")(nn.relu(x)))


def draw(root: pathlib.Path) -> None:
    """Draw a data set of ten images in a folder."""
    noise = np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 2)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for i in range(number):
            label = np.zeros((32, 32), np.uint8)
            label[4 + i : 20 + i, 8:24] = 1
            image = 90 * label[..., None] + noise.integers(0, 60, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{i}.png")
            Image.fromarray(label).save(root / split / "labels" / f"{i}.png")


def config_on(root: pathlib.Path, **changes) -> dict:
    """Return the config of three steps on such a folder; `a__b=1` changes `a.b`."""
    config = sections.plain(quickstart.get_config("debug"))
    names = ["ground", "thing"]
    config["input"]["source"] = {"type": "folder", "root": str(root), "class_names": names}
    config["input"] |= {"size": [32, 32], "batch_size": 8}
    config["augment"] = [{"type": "geometry:flip", "horizontal": 0.5}]
    config["model"] = {"type": "tests.runs.pixels:Model"}
    config["task"]["losses"] = [{"type": "pixel:cross_entropy", "weight": 1.0}]
    config["evals"]["val"] = {"type": "semantic", "split": "val", "batch_size": 8}
    config["checkpoint"] = {"save_steps": 1, "keep_last": 3}
    config |= {"total_steps": 3, "log_steps": 1, "log_batch_hashes": True, "ema_decay": 0.9}
    flat = [f"{key.replace('__', '.')}={value!r}" for key, value in changes.items()]
    return sections.override(schema.fill(config), flat)

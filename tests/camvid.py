"""A made-up data set in CamVid's layout, for configs and commands that want the real one."""

import json
import pathlib

import numpy as np
from PIL import Image

NAMES = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist"


def write(root: pathlib.Path, *, size: tuple[int, int] = (360, 480)) -> None:
    """Write four noise images for each of CamVid's splits, with its classes, to `root`/camvid."""
    folder = root / "camvid"
    folder.mkdir()
    meta = {"class_names": NAMES.split(), "ignore_index": 11}
    (folder / "meta.json").write_text(json.dumps(meta))
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for part, shape, high in (("images", (*size, 3), 256), ("labels", size, 12)):
            (folder / split / part).mkdir(parents=True)
            for i in range(4):
                array = random.integers(0, high, shape, np.uint8)
                Image.fromarray(array).save(folder / split / part / f"{i}.png")

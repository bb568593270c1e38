"""2018 Data Science Bowl (Caicedo et al. 2019): nuclei under the microscope, each by itself.

export SEGJAX_DATA=<folder that holds dsb2018/>
python run.py --config=configs/dsb2018.py --workdir=runs/dsb2018

The 541 fluorescence images that StarDist's authors and others report on, as folders `train`, `val`
and `test` in dsb2018/, each with images/ and instances/: 16-bit PNG, 0 background, 1, 2, … nuclei.
Every nucleus is found: its interior, its boundary and the background are told apart by a U-Net or
any other model of pixels of configs/zoo.py, and objects are grown of interiors.

`:data=stage1` takes all 670 images as they were published
(https://www.kaggle.com/c/data-science-bowl-2018, stage1_train.zip, unpacked as stage1_train/): a
folder for each image, with a mask for each nucleus. They have no published split: by the place of
their names modulo 10 there are 469 to train, 67 to validate and 134 to test. With `:task=semantic`
nuclei are one class beside the background, and pixels are scored.
"""

from types import SimpleNamespace
from typing import Any

import ml_collections

from configs import benchmark
from segjax.config import lookup

NAMES = ("background", "nucleus")
MOST = 128
"""Room for the nuclei of a window; an image may have 375, a window of 256 x 256 some 90."""
WIDTHS = {"full": (32, 64, 128, 256, 512), "cpu": (16, 32, 64, 128), "debug": (8, 16)}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = benchmark.arguments(arg, task="instance", data="")
    tasks = {"instance": instances, "semantic": pixels}
    return tasks[lookup.choose(arg.task, list(tasks), what="config argument task")](arg)


def source_of(arg: SimpleNamespace, *, objects: int) -> dict[str, Any]:
    """Return the section of the images."""
    published = dict(
        type="objects",
        root="$SEGJAX_DATA/stage1_train",
        class_names=NAMES,
        expected=dict(train=469, val=67, test=134, all=670),
    )
    fluorescence = dict(
        type="instances",
        root="$SEGJAX_DATA/dsb2018",
        class_names=NAMES,
        channels=1,
        expected=dict(train=407, val=54, test=80),
    )
    sources = {"stage1": published, "fluorescence": fluorescence}
    name = lookup.choose(arg.data or "fluorescence", list(sources), what="config argument data")
    return sources[name] | (dict(objects=objects) if objects else {})


def pixels(arg: SimpleNamespace) -> ml_collections.ConfigDict:
    """Tell nuclei from the background."""
    return benchmark.make_small(arg, source_of(arg, objects=0), side=512, crop=256, steps=8_000)


def instances(arg: SimpleNamespace) -> ml_collections.ConfigDict:
    """Find every nucleus."""
    config = benchmark.make_small(
        arg, source_of(arg, objects=MOST), side=256, crop=256, steps=20_000
    )
    debug = arg.size == "debug"
    config.input.fit = "window"  # at their own scale
    config.input.intensity = [dict(type="percentile", low=1.0, high=99.8)]
    config.normalize = dict(type="normalize:fixed", mean=0.3, std=0.3)
    config.augment[1] = dict(type="photometric:gamma", exponent=(0.6, 1.6))
    config.augment.append(dict(type="photometric:gaussian_noise", std=(0.0, 0.05)))
    config.augment[0]["fill"] = 0.0
    # Chosen on val, where interiors of 0.5 and objects from 8 pixels score AP@0.5 0.662, and these
    # 0.720: a high bar tells nuclei apart that touch. The fluorescence images have none below 21.
    config.task.update(type="interior", interior=0.9, smallest=8 if arg.data == "stage1" else 20)
    if arg.size == "cpu":
        config.total_steps = 2_000
        config.input.batch_size = 4
    if arg.model == "unet":
        config.model.update(widths=WIDTHS[arg.size], stem_stride=1)
    for section in config.evals.values():
        section.type = "instance"
    config.checkpoint.keep_best = "" if debug else "val/AP"
    return config

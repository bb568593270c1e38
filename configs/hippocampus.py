"""Hippocampus (Medical Segmentation Decathlon, task 4): MR volumes of about 36 x 50 x 35 voxels.

export SEGJAX_DATA=<folder that holds hippocampus/>
python run.py --config=configs/hippocampus.py:size=cpu --workdir=runs/hippocampus

`<root>/{train,val,test}/{images,labels}/*.nii.gz` with equal names, and `meta.json`: 182, 26 and 52
volumes. The publisher's test set has no labels, so splits are one's own: those of configs/msd.py,
which reads the publisher's own folder. A 3D U-Net (Çiçek et al. 2016) sees a whole volume at a
time, at its own 1 mm. Intensities differ by orders of magnitude between volumes, so each is brought
to its own percentiles. `size=cpu` takes less than 15 minutes on two cores; `size=full` is nnU-Net's
width and length of training, for an accelerator. Scores are mean Dice of the two structures, on
whole volumes: `dice` is over all classes, `per_class` has each.
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup, schema
from segjax.config.sections import parse_arg

WIDTHS = {"full": (32, 64, 128, 256), "cpu": (16, 32, 64, 128), "debug": (8, 16)}
STEPS = {"full": 20_000, "cpu": 1_300, "debug": 2}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `size` is `full`, `cpu` or `debug`."""
    arg = parse_arg(arg, size="full", root="$SEGJAX_DATA/hippocampus")
    size = lookup.choose(arg.size, list(WIDTHS), what="size")
    config = schema.defaults()
    config.total_steps = STEPS[size]
    source = dict(
        type="folder",
        root=arg.root,
        dtype="float32",
        expected=dict(train=182, val=26, test=52),
    )
    canvas = (32, 32, 32) if size == "debug" else (40, 56, 40)
    config.input.update(
        source=benchmark.counted(source, debug=size == "debug"),
        size=canvas,
        fit="window",
        pad_value=0,
        intensity=[dict(type="percentile", low=0.5, high=99.5)],
        batch_size=2,
        cache=True,
    )
    config.normalize = dict(type="normalize:fixed", mean=(0.5,), std=(0.25,))
    config.augment = [
        dict(
            type="geometry:flip", horizontal=0.5
        ),  # left and right: front and back are the classes
        dict(type="geometry:affine", size=canvas, scale=(0.9, 1.1), rotate=10.0, p=0.5),
        dict(type="photometric:gamma", exponent=(0.8, 1.25)),
    ]
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0),
        dict(type="region:dice", weight=1.0),
    ]
    config.model = dict(type="unet", widths=WIDTHS[size])
    config.optimizer.update(
        type="adamw",
        lr=3e-3,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.1),
    )
    config.inference.size = canvas if size == "debug" else (48, 64, 48)  # nearly all in one window
    config.inference.flips = [2]
    for split in ("val", "test"):
        config.evals[split] = dict(type="semantic", split=split, batch_size=2)
    config.evals.val.every_percent = 50
    config.evals.test.every_percent = 100
    config.evals.test.metrics = (
        [] if size == "debug" else [dict(type="matrix:fbeta", beta=1.0), "hd95"]
    )
    return config

"""ISBI 2012 (Cardona et al. 2010): 30 slices of electron microscopy, 512 x 512, and membranes.

export SEGJAX_DATA=<folder that holds isbi2012/>
python run.py --config=configs/isbi2012.py:model=unet --workdir=runs/isbi2012

train-volume.tif and train-labels.tif of the challenge, in isbi2012/. In the masks 255 is the inside
of a cell and 0 a membrane; nothing is void. The challenge kept the labels of its test stack, so
slices are divided by their place modulo 10: 21 to train, 3 to validate (7, 17 and 27), 6 to test.
Neighbouring slices resemble each other, which flatters. `from=folder` reads slices as
isbi2012/<split>/{images,labels}, 24 and 6, with classes as numbers. Models and sizes:
configs/zoo.py.

The published U-Net of NVIDIA's DeepLearningExamples has 0.8902 for shuffled folds of all 30 slices,
after 6,400 steps of batches of 8, its last checkpoint, no post-processing. It is the mean Dice of
both classes, of probabilities and averaged over slices of 388 x 388; `val/per_image/dice` is that
of class maps, on the slices' own pixels:

python run.py --mode=crossval --config=configs/isbi2012.py --folds=5 --splits=all --workdir=runs/cv
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = benchmark.arguments(arg, **{"from": "stack"})
    origin = lookup.choose(vars(arg)["from"], ["stack", "folder"], what="config argument from")
    names = ("cell", "membrane")
    source = dict(
        type="planes",
        root="$SEGJAX_DATA/isbi2012",
        images="train-volume.tif",
        labels="train-labels.tif",
        class_names=names,
        label_map={"255": 0, "0": 1},
        expected=dict(train=21, val=3, test=6, all=30),
    )
    if origin == "folder":
        source = dict(
            type="folder", root="$SEGJAX_DATA/isbi2012", class_names=names,
            expected=dict(train=24, val=6),
        )  # fmt: skip
    small = arg.size == "cpu"
    config = benchmark.make_small(
        arg, source, side=512, crop=256 if small else 384, steps=1_500 if small else 4_000
    )
    if small and arg.model == "unet":  # membranes are three pixels wide
        config.model.update(stem_stride=2, widths=(16, 32, 64, 128))
    if origin == "folder":
        del config.evals["test"]
    return config

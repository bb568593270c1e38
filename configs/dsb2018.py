"""2018 Data Science Bowl (Caicedo et al. 2019): 670 microscope images of nuclei, as two classes.

export SEGJAX_DATA=<folder that holds stage1_train/>
python run.py --config=configs/dsb2018.py:model=unet --workdir=runs/dsb2018

https://www.kaggle.com/c/data-science-bowl-2018 (stage1_train.zip, unpacked): a folder for each
image, with a mask for each nucleus, whose union is the class. Nothing is void. Images have no
published split: by the place of their names modulo 10 there are 469 to train, 67 to validate and
134 to test. The challenge itself scored objects; this one pixels. Models and sizes: configs/zoo.py.
"""

import ml_collections

from configs import benchmark


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = benchmark.arguments(arg)
    source = dict(
        type="objects",
        root="$SEGJAX_DATA/stage1_train",
        class_names=("background", "nucleus"),
        expected=dict(train=469, val=67, test=134, all=670),
    )
    return benchmark.make_small(arg, source, side=512, crop=256, steps=8_000)

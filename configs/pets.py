"""Oxford-IIIT Pets (Parkhi et al. 2012): 3,680 / 3,669 photographs of cats and dogs, and outlines.

export SEGJAX_DATA=<folder that holds pets/>
python run.py --config=configs/pets.py:model=unet --workdir=runs/pets

https://www.robots.ox.ac.uk/~vgg/data/pets (images.tar.gz and annotations.tar.gz, unpacked into
pets/). In its trimaps 1 is the pet, 2 the background, and 3 a rim that is not classified: void, or
with `border=class` a class of its own, as many tutorials have it. The publisher's splits are
`trainval` and `test`; there is no third to choose by. `from=tfds` reads what TFDS has prepared as
oxford_iiit_pet, whose splits are `train` and `test`. Models and sizes: configs/zoo.py.
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup

BORDERS = {
    "void": (("pet", "background"), {"1": 0, "2": 1}, 3),
    "class": (("pet", "background", "border"), {"1": 0, "2": 1, "3": 2}, -1),
}
"""Names, the class of each number, and the void one."""


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    own = {"from": "folder", "border": "void", "protocol": "as_trained"}
    arg = benchmark.arguments(arg, **own)
    borders = lookup.choose(arg.border, list(BORDERS), what="config argument border")
    names, label_map, void = BORDERS[borders]
    origin = lookup.choose(vars(arg)["from"], ["folder", "tfds"], what="config argument from")
    train = "trainval" if origin == "folder" else "train"
    source = dict(class_names=names, label_map=label_map, ignore_index=void)
    if origin == "tfds":
        source |= dict(type="tfds", name="oxford_iiit_pet")
    else:
        source |= dict(
            type="folder",
            root="$SEGJAX_DATA/pets",
            images="images",
            labels="annotations/trimaps",
            split_file="annotations/{split}.txt",
            split_column=1,
            channels=3,
        )
    source["expected"] = {train: 3_680, "test": 3_669}
    config = benchmark.make(
        arg, source, canvas=(384, 384), fit="resize", crop=384, lr=1e-2, total_steps=20_000
    )
    config.input.split = train
    config.evals.val.split = "test"
    return config

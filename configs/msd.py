"""Medical Segmentation Decathlon (Antonelli et al. 2022): ten tasks of CT and MR volumes.

export SEGJAX_DATA=<folder that holds Task04_Hippocampus/ and so on>
python run.py --config=configs/msd.py:task=Task04_Hippocampus --workdir=runs/msd04

http://medicaldecathlon.com. `dataset.json` of a task names its classes and its training images,
which are counted; modalities are channels. The publisher keeps the labels of the test images, so
splits are of the training images, by their place modulo 10: 7 of 10 to train, 1 to validate, 2 to
test. CT is clipped to -1000 to 1000 HU, MR to each volume's own percentiles. Windows are at a
volume's own spacing; a third of them hold something. Scored by nnU-Net's windows, on whole volumes;
`per_class` has the Dice of each structure. `size=full` is for an accelerator of 80 GB, `size=cpu`
a smaller network; neither was run here.
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup
from segjax.config.sections import parse_arg

CT, MR = "ct", "mr"
TASKS = {
    "Task01_BrainTumour": MR, "Task02_Heart": MR, "Task03_Liver": CT, "Task04_Hippocampus": MR,
    "Task05_Prostate": MR, "Task06_Lung": CT, "Task07_Pancreas": CT, "Task08_HepaticVessel": CT,
    "Task09_Spleen": CT, "Task10_Colon": CT,
}  # fmt: skip
INTENSITY = {
    CT: dict(type="window", centre=0, width=2000),
    MR: dict(type="percentile", low=0.5, high=99.5),
}
COUNTS = {"Task04_Hippocampus": dict(train=182, val=26, test=52, all=260)}
"""Of splits; without them `dataset.json` alone says how many volumes there are."""
SMALL = {"Task04_Hippocampus": (48, 64, 48), "Task05_Prostate": (16, 256, 256)}
"""Windows of tasks whose volumes are smaller than the others'."""


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `task` is the publisher's folder, `size` is `full`, `cpu` or `debug`."""
    arg = parse_arg(arg, task="Task04_Hippocampus", size="full")
    task = lookup.choose(arg.task, list(TASKS), what="config argument task")
    source = dict(type="decathlon", root=f"$SEGJAX_DATA/{task}", expected=COUNTS.get(task, {}))
    window = SMALL.get(task, (96, 128, 128))
    return benchmark.make_volumes(
        arg.size, source, window=window, intensity=[INTENSITY[TASKS[task]]], steps=50_000
    )

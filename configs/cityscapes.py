"""Cityscapes (Cordts et al. 2016): 2,975 / 500 street scenes of 1024 x 2048, 19 classes.

export SEGJAX_DATA=<folder that holds cityscapes/>
python run.py --config=configs/cityscapes.py:model=pspnet --workdir=runs/cityscapes

https://www.cityscapes-dataset.com: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip,
unpacked into cityscapes/. The masks are the publisher's own `labelIds`; their numbers become the
19 train ids here and the rest void, so nothing has to be prepared. `protocol=cityscapes_sliding`
scores in windows of 769 (configs/protocols.py). `labels=coarse` trains on gtCoarse.zip, and
`split=train_extra` on the 19,998 scenes that have coarse masks alone (leftImg8bit_trainextra.zip);
scores are of the fine masks. Models and sizes: configs/zoo.py.
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup

IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23,
    "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32,
    "bicycle": 33,
}  # fmt: skip
"""The class numbers in the publisher's files, in the order of the train ids."""

COLOURS = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
    (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
    (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
"""The publisher's, in the same order."""


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = benchmark.arguments(arg, split="train", labels="fine", protocol="cityscapes")
    lookup.choose(arg.split, ["train", "train_extra"], what="config argument split")
    lookup.choose(arg.labels, ["fine", "coarse"], what="config argument labels")
    coarse = arg.labels == "coarse" or arg.split == "train_extra"
    source = dict(
        type="folder",
        root="$SEGJAX_DATA/cityscapes",
        images="leftImg8bit/{split}",
        labels="gtFine/{split}",
        image_suffix="_leftImg8bit",
        label_suffix="_gtFine_labelIds",
        class_names=tuple(IDS),
        palette=COLOURS,
        label_map={str(number): train_id for train_id, number in enumerate(IDS.values())},
        ignore_index=(*(n for n in range(34) if n not in IDS.values()), 255),  # 255: license plates
        expected=dict(train=2_975, train_extra=19_998, val=500),
    )
    if coarse:
        source["labels_of"] = {arg.split: (f"gtCoarse/{arg.split}", "_gtCoarse_labelIds")}
    config = benchmark.make(
        arg, source, canvas=(1024, 2048), fit="pad", crop=769, lr=1e-2, total_steps=40_000
    )
    config.input.split = arg.split
    config.evals.val.batch_size = min(2, config.evals.val.batch_size)
    return config

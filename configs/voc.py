"""PASCAL VOC 2012 (Everingham et al. 2010): 1,464 / 1,449 photographs, 20 kinds of things.

export SEGJAX_DATA=<folder that holds VOCdevkit/>
python run.py --config=configs/voc.py:model=deeplabv3plus --workdir=runs/voc

http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (VOCtrainval_11-May-2012.tar). Its masks have a
palette; 255, the borders of things, is void. `split=trainaug` trains on the
10,582 of Hariharan et al. 2011 (SBD), as nearly all published scores did, from SBD's own files:
unpack benchmark.tgz beside VOCdevkit/ (benchmark_RELEASE/dataset/{cls,train.txt,val.txt}).
`masks=png` takes them from PNG files instead: put those into SegmentationClassAug, and their list
into ImageSets/Segmentation/trainaug.txt. Scores are of VOC's own masks of `val`.
`protocol=voc_multi_scale` is DeepLab's with test-time augmentation (configs/protocols.py). Models
and sizes: configs/zoo.py.
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = benchmark.arguments(arg, split="train", masks="sbd", protocol="voc")
    lookup.choose(arg.split, ["train", "trainaug"], what="config argument split")
    lookup.choose(arg.masks, ["sbd", "png"], what="config argument masks")
    source = dict(
        root="$SEGJAX_DATA/VOCdevkit/VOC2012",
        class_names=NAMES,
        ignore_index=255,
        expected=dict(train=1_464, trainaug=10_582, val=1_449),
    )
    if arg.split == "trainaug" and arg.masks == "sbd":
        source |= dict(type="sbd", sbd="$SEGJAX_DATA/benchmark_RELEASE/dataset")
    else:
        source |= dict(
            type="folder",
            images="JPEGImages",
            labels="SegmentationClass",
            split_file="ImageSets/Segmentation/{split}.txt",
        )
    if arg.split == "trainaug" and arg.masks == "png":
        source["labels_of"] = {"trainaug": ("SegmentationClassAug", "")}
    config = benchmark.make(
        arg, source, canvas=(513, 513), fit="pad", crop=513, lr=7e-3, total_steps=30_000
    )
    config.input.split = arg.split
    return config

"""Cityscapes panoptic (Cordts et al. 2016): 2,975 / 500 street scenes, 8 things and 11 of stuff.

export SEGJAX_DATA=<folder that holds cityscapes/>
python run.py --config=configs/cityscapes_panoptic.py --workdir=runs/cityscapes_panoptic

https://www.cityscapes-dataset.com: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip,
unpacked into cityscapes/. Classes and objects are read of the publisher's own `instanceIds`; groups
of things that nobody told apart are crowds. Nothing has to be prepared.

EoMT-L on DINOv3 by Mask2Former's recipe for these images (Cheng et al. 2022): 90,000 steps of 16
crops of 512 x 1024, scaled by 0.5 to 2. Their own model's published scores (their model zoo, not
run here): PQ 62.1 on ResNet-50, 66.6 on Swin-L. No score of EoMT on this benchmark was found.
`configs/cityscapes.py` tells the same classes apart pixel by pixel.
"""

import ml_collections

from configs import benchmark, cityscapes
from segjax.config import lookup, schema
from segjax.config.sections import parse_arg

THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
MOST = 128
"""Room for objects; the smallest of a scene that has more are not learned."""


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config in one of its sizes, `full` without an argument."""
    arg = parse_arg(arg, size="full", pretrained="")
    lookup.choose(arg.size, benchmark.OBJECT_SIZES, what="config argument size")
    config = schema.defaults()
    ids = cityscapes.IDS
    source = dict(
        type="instances",
        root="$SEGJAX_DATA/cityscapes",
        images="leftImg8bit/{split}",
        instances="gtFine/{split}",
        image_suffix="_leftImg8bit",
        instance_suffix="_gtFine_instanceIds",
        class_names=tuple(ids),
        palette=cityscapes.COLOURS,
        label_map={str(number): train_id for train_id, number in enumerate(ids.values())},
        ignore_index=(*(n for n in range(34) if n not in ids.values()), 255),
        divisor=1000,
        things=THINGS,
        objects=MOST,
        expected=dict(train=2_975, val=500),
    )
    config.input.source = benchmark.counted(source, debug=arg.size == "debug")
    config.input.update(size=(1024, 2048), fit="pad")
    config.augment = [
        dict(
            type="geometry:affine", size=(512, 1024), scale=(0.5, 2.0), horizontal=0.5, fill=0.45
        ),
        dict(
            type="photometric:color_jitter", brightness=0.125, contrast=0.5, saturation=0.5,
            hue=0.05,
        ),
    ]  # fmt: skip
    benchmark.eomt(config, arg.size, task="query_panoptic", steps=90_000, queries=200)
    benchmark.start_from(config, arg.pretrained)
    config.evals.val = dict(type="panoptic", split="val", batch_size=2, every_percent=10)
    config.checkpoint.keep_best = "" if arg.size == "debug" else "val/PQ"
    if arg.size == "debug":
        benchmark.shrink(config)
    return config

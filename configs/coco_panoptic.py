"""COCO 2017 panoptic (Kirillov et al. 2019): 118,287 / 5,000 photographs, 80 things, 53 of stuff.

export SEGJAX_DATA=<folder that holds coco/>
python run.py --config=configs/coco_panoptic.py --workdir=runs/coco_panoptic

https://cocodataset.org/#download: train2017.zip, val2017.zip and
panoptic_annotations_trainval2017.zip, with the zipped PNG files in it unpacked, in
coco/annotations/. Things are found one by one, stuff as one region each; what no segment covers is
void. `configs/coco.py:labels=panoptic` tells the same classes apart pixel by pixel.

EoMT-L on DINOv3 at 640 x 640 (Kerssies et al. 2025): 12 epochs in batches of 16, images scaled by
0.1 to 2, masked attention annealed block by block. Published scores are its authors' (their model
zoo, not run here, hours not given): PQ 56.0 at 640 x 640 and 58.3 at 1280 x 1280 (`side=1280`) with
DINOv2. `pretrained=hf:facebook/dinov3-vitl16-pretrain-lvd1689m` starts from published weights;
without such nothing like these scores is to be expected.
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup, schema
from segjax.config.sections import parse_arg

MOST = 100
"""Room for objects: no image of train2017 has more than 93 and their crowds."""


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config in one of its sizes, `full` without an argument."""
    arg = parse_arg(arg, size="full", side=640, pretrained="")
    lookup.choose(arg.size, benchmark.OBJECT_SIZES, what="config argument size")
    config = schema.defaults()
    source = dict(
        type="panoptic",
        root="$SEGJAX_DATA/coco",
        objects=MOST,
        expected=dict(train=118_287, val=5_000),
    )
    config.input.source = benchmark.counted(source, debug=arg.size == "debug")
    benchmark.jitter(config, arg.side, scale=(0.1, 2.0))
    benchmark.eomt(config, arg.size, task="query_panoptic", epochs=12, queries=200)
    benchmark.start_from(config, arg.pretrained)
    config.evals.val = dict(type="panoptic", split="val", batch_size=8, every_percent=10)
    config.checkpoint.keep_best = "" if arg.size == "debug" else "val/PQ"
    if arg.size == "debug":
        benchmark.shrink(config)
    return config

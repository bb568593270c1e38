"""U-Net on CamVid (Brostow et al. 2009; SegNet's 367/101/233 split, 11 classes, void ignored).

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/unet_camvid.py --workdir=runs/unet_camvid
python run.py --config=configs/unet_camvid.py:cpu --workdir=runs/unet_camvid_cpu

`:cpu`: two cores, float32, under 25 minutes; the score is in experiments/results.jsonl.
Without: one accelerator of 80 GB, bfloat16; written from the literature, not run yet. Target: test
mIoU 0.66 from scratch; 0.70 is the goal.

Published on this test split from scratch, void ignored (Jégou et al. 2017, table 3): a plain up-
sampling network 0.552, FC-DenseNet56 0.589, FC-DenseNet67 0.658, FC-DenseNet103 0.669. The recipe
starts from theirs (crops, mirroring, weight decay, dropout, long training) and adds what later
work found to matter on few images: scales 0.5 to 2 (PSPNet, DeepLab); colour jitter, because the
test clips differ in daylight from the others; 600 epochs of one-cycle AdamW and an averaged
model, so that a long run does not over-fit late; a Dice term, which weighs rare classes as mIoU
does. Val is one clip of frames between training frames: it flatters, so compare on test.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one 80-GB accelerator; `cpu`: for two cores, `debug`: two steps."""
    arg = parse_arg(arg, cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(type="unet", widths=(64, 128, 256, 512, 1024), dropout=0.3)
    if arg.cpu:  # at a quarter of the resolution
        config.total_steps = 2800
        config.model = dict(type="unet", widths=(32, 64, 128, 256), stem_stride=4)
    if arg.debug:
        config.model = dict(type="unet", widths=(8, 16))
    config.model.compute_dtype = common.precision(arg)
    return config

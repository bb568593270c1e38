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
from segjax.config import parse_arg

# The square root of ENet's weights 1 / ln(1.02 + share of the training pixels) (Paszke et al. 2016,
# section 5.1), scaled to mean 1: rare classes count more, but not so much that they spread.
CLASS_WEIGHTS = (0.56, 0.49, 1.36, 0.43, 0.92, 0.70, 1.32, 1.33, 0.85, 1.45, 1.56)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one 80-GB accelerator; `cpu`: for two cores, `debug`: two steps."""
    arg = parse_arg(arg, cpu=False, debug=False)
    config = common.base()
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0, class_weights=CLASS_WEIGHTS),
        dict(type="region:dice", weight=1.0),
    ]
    config.input.source = dict(type="folder", root="$SEGJAX_DATA/camvid")
    config.input.size = (360, 480)
    config.input.fit = "pad"
    config.input.batch_size = 8
    config.input.cache = True
    config.evals.val = dict(type="semantic", split="val", batch_size=8, every_percent=50)
    config.evals.test = dict(type="semantic", split="test", batch_size=8, every_steps=0)
    config.optimizer = dict(
        type="adamw",
        lr=4e-3,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.2),
    )
    if arg.cpu or arg.debug:
        for_two_cores(config)
    else:
        for_an_accelerator(config)
    if arg.debug:
        config.total_steps = 2
        config.model.widths = (8, 16)
    return config


def for_two_cores(config: ml_collections.ConfigDict) -> None:
    """Work at a quarter of the resolution, on crops: the most different pixels per FLOP."""
    config.total_steps = 2800
    config.augment = [
        dict(type="geometry:affine", size=(240, 320), scale=(0.6, 1.3), horizontal=0.5, fill=0.45),
        dict(
            type="photometric:color_jitter", brightness=0.5, contrast=0.5, saturation=0.5, hue=0.05
        ),
    ]
    config.model = dict(type="unet", widths=(32, 64, 128, 256), stem_stride=4)


def for_an_accelerator(config: ml_collections.ConfigDict) -> None:
    """Train the classic U-Net at full resolution in bfloat16, long and strongly augmented."""
    config.total_epochs = 600
    config.ema_decay = 0.999
    config.augment = [
        dict(
            type="geometry:affine", size=(360, 480), scale=(0.5, 2.0), aspect=(0.8, 1.25),
            rotate=10, horizontal=0.5, fill=0.45,
        ),
        dict(
            type="photometric:color_jitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05
        ),
        dict(type="photometric:gaussian_blur", sigma=(0.1, 1.5), p=0.3),
    ]  # fmt: skip
    config.model = dict(
        type="unet", widths=(64, 128, 256, 512, 1024), dropout=0.3, compute_dtype="bfloat16"
    )
    config.optimizer.update(lr=1e-3, weight_decay=5e-2)
    config.evals.val.every_percent = 5

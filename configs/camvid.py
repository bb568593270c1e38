"""CamVid (Brostow et al. 2009; SegNet's 367/101/233 split, 11 classes, void ignored).

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/camvid.py:model=unet --workdir=runs/unet_camvid
python run.py --config=configs/camvid.py:model=unet,size=cpu --workdir=runs/unet_camvid_cpu
python run.py --config=configs/camvid.py:model=unet,size=cpu,best --workdir=runs/unet_camvid_best

Models and arguments: configs/zoo.py. `model=unet,size=cpu`: two cores, float32, under 25 minutes;
with `best` half the resolution instead of a quarter, 142 epochs and bfloat16, under 40 minutes
where oneDNN computes it (jax 0.12, Python 3.12). Both scores are in experiments/results.jsonl.
`size=full`: one accelerator of 80 GB, bfloat16; written from the literature, not run yet. Target of
the U-Net: test mIoU 0.66 from scratch; 0.70 is the goal. No other model has been measured yet.

Published on this test split from scratch, void ignored (Jégou et al. 2017, table 3): a plain up-
sampling network 0.552, FC-DenseNet56 0.589, FC-DenseNet67 0.658, FC-DenseNet103 0.669. The recipe
starts from theirs (crops, mirroring, weight decay, dropout, long training) and adds what later
work found to matter on few images: scales 0.5 to 2 (PSPNet, DeepLab); colour jitter, because the
test clips differ in daylight from the others; 600 epochs of one-cycle AdamW and an averaged
model, so that a long run does not over-fit late; a Dice term, which weighs rare classes as mIoU
does. Val is one clip of frames between training frames: it flatters, so compare on test.
"""

import ml_collections

from configs import zoo
from segjax.config import schema
from segjax.config.sections import parse_arg
from segjax.errors import ConfigError

# The square root of ENet's weights 1 / ln(1.02 + share of the training pixels) (Paszke et al. 2016,
# section 5.1), scaled to mean 1: rare classes count more, but not so much that they spread.
CLASS_WEIGHTS = (0.56, 0.49, 1.36, 0.43, 0.92, 0.70, 1.32, 1.33, 0.85, 1.45, 1.56)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = parse_arg(arg, best=False, **zoo.ARGUMENTS)
    if arg.best and (arg.model, arg.size) != ("unet", "cpu"):
        raise ConfigError("config argument best: it is of model=unet,size=cpu alone. Leave it out.")
    config = schema.defaults()
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0, class_weights=CLASS_WEIGHTS),
        dict(type="region:dice", weight=1.0),
    ]
    config.input.update(
        source=dict(
            type="folder",
            root="$SEGJAX_DATA/camvid",
            expected=dict(train=367, val=101, test=233),
        ),
        size=(360, 480),
        fit="pad",
        batch_size=8,
        cache=True,
    )
    config.optimizer.update(
        type="adamw",
        lr=4e-3,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.2),
    )
    config.evals.val = dict(type="semantic", split="val", batch_size=8, every_percent=50)
    config.evals.test = dict(type="semantic", split="test", batch_size=8, every_steps=0)
    if arg.size == "full":
        _for_an_accelerator(config)
    else:
        _for_two_cores(config, total_steps=2800 if arg.model == "unet" else 1200)
    if arg.size == "debug":
        config.total_steps = 2
        del config.input.source["expected"]
        config.input.update(size=(64, 96), fit="resize", batch_size=2, cache=False)
        config.augment[0]["size"] = (64, 64)
        config.evals.val.batch_size = config.evals.test.batch_size = 2
    zoo.put(config, arg)
    if arg.best:
        _at_half_resolution(config)
    return config


def _for_two_cores(config: ml_collections.ConfigDict, *, total_steps: int) -> None:
    """Train on crops: the most different pixels per FLOP."""
    config.total_steps = total_steps
    config.augment = [
        dict(type="geometry:affine", size=(240, 320), scale=(0.6, 1.3), horizontal=0.5, fill=0.45),
        dict(
            type="photometric:color_jitter", brightness=0.5, contrast=0.5, saturation=0.5, hue=0.05
        ),
    ]


def _at_half_resolution(config: ml_collections.ConfigDict) -> None:
    """See poles and signs, and each image twice as often, in twice the time on two cores.

    What is coarse has more levels, for its width, than what is fine, for its cost; the model is
    averaged, and predicts a mirrored image too.
    """
    config.total_steps = 3250
    config.ema_decay = 0.998
    config.input.batch_size = 16
    config.augment[0]["scale"] = (0.6, 1.5)
    config.inference.flips = (1,)
    config.evals.val.every_percent = 33
    config.model.update(
        widths=(16, 32, 64, 128, 256, 256), stem_stride=2, dropout=0.2, compute_dtype="bfloat16"
    )


def _for_an_accelerator(config: ml_collections.ConfigDict) -> None:
    """Train at full resolution, long and strongly augmented, and average the model."""
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
    config.optimizer.update(lr=1e-3, weight_decay=5e-2)
    config.evals.val.every_percent = 5

"""U-Net on CamVid (Brostow et al. 2009; SegNet's 367/101/233 split, 11 classes, void ignored).

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/unet_camvid.py --workdir=runs/unet_camvid
python run.py --config=configs/unet_camvid.py:cpu --workdir=runs/unet_camvid_cpu
"""

import ml_collections

from configs import common
from segjax.config import parse_arg

# Share of the training pixels (meta.json of the split) under ENet's weighting, 1 / ln(1.02 + share)
# (Paszke et al. 2016, section 5.1), scaled to mean 1.
CLASS_WEIGHTS = (0.27, 0.21, 1.61, 0.16, 0.74, 0.42, 1.51, 1.54, 0.62, 1.82, 2.11)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config."""
    arg = parse_arg(arg, cpu=False, debug=False)
    config = common.base()
    config.total_epochs = 24
    config.ema_decay = 0.99
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0, class_weights=CLASS_WEIGHTS),
        dict(type="region:dice", weight=0.5),
    ]
    config.input.source = dict(type="folder", root="$SEGJAX_DATA/camvid")
    config.input.size = (360, 480)
    config.input.fit = "pad"
    config.input.batch_size = 4
    config.input.cache = True
    config.augment = [
        dict(type="geometry:affine", size=(360, 480), scale=(0.75, 1.5), horizontal=0.5, fill=0.45),
        dict(type="photometric:color_jitter", brightness=0.2, contrast=0.2, saturation=0.2),
    ]
    config.model = dict(
        type="unet", widths=(32, 64, 128, 256), stem_stride=4, compute_dtype="float32"
    )
    config.optimizer = dict(
        type="adamw",
        lr=4e-3,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.2),
    )
    config.evals.val = dict(type="semantic", split="val", batch_size=4, every_percent=25)
    config.evals.test = dict(type="semantic", split="test", batch_size=4, every_steps=0)
    if arg.debug:
        config.total_steps = 2
        del config.total_epochs
    return config

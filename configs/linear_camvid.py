"""A linear head on DINOv2 (Oquab et al. 2023) on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/linear_camvid.py --workdir=runs/linear_camvid

Without an argument a frozen ViT-S/14, whose weights `pretrained=hf:facebook/dinov2-small` names;
`:cpu` is the same on crops. Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator.

    `cpu`: smaller; `debug`: two steps; `pretrained`: see above.
    """
    arg = parse_arg(arg, pretrained="", cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(
        type="linear", encoder=dict(type="vit", variant="s", layers=(-4, -3, -2, -1))
    )
    if arg.debug:
        config.model.encoder.update(width=16, heads=2, depth=2, grid=4, layers=(-1,))
    if arg.pretrained:
        common.pretrain(config, arg.pretrained, publisher="huggingface")
        config.optimizer.freeze = ("encoder/.*",)
    config.model.compute_dtype = common.precision(arg)
    return config

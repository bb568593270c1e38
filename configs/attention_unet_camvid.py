"""Attention U-Net (Oktay et al. 2018) on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/attention_unet_camvid.py --workdir=runs/attention_unet_camvid

The recipe of unet_camvid.py with attention gates on the skips; `:cpu` works at a quarter of the
resolution. Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator; `cpu`: smaller, `debug`: two steps."""
    arg = parse_arg(arg, cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(type="attention_unet", widths=(64, 128, 256, 512, 1024), dropout=0.3)
    if arg.cpu:
        config.model = dict(type="attention_unet", widths=(32, 64, 128, 256), stem_stride=4)
    if arg.debug:
        config.model.widths = (8, 16)
    config.model.compute_dtype = common.precision(arg)
    return config

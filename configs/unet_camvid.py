"""U-Net on CamVid (Brostow et al. 2009; SegNet's 367/101/233 split, 11 classes, void ignored).

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/unet_camvid.py --workdir=runs/unet_camvid
python run.py --config=configs/unet_camvid.py:cpu --workdir=runs/unet_camvid_cpu
"""

import ml_collections

from configs import common
from segjax.config import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config."""
    arg = parse_arg(arg, cpu=False, debug=False)
    config = common.base()
    config.total_steps = 2000
    return config

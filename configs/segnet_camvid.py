"""SegNet (Badrinarayanan, Kendall and Cipolla 2017) on CamVid, its own data set.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/segnet_camvid.py --workdir=runs/segnet_camvid

Without an argument the VGG16 form with batch norm on one 80-GB accelerator; `:cpu` narrows it
four times. Published on this split: 0.464 (Jégou et al. 2017, table 3; with ImageNet weights).
`pretrained=torchvision:vgg16_bn` starts the encoder from published weights, with a tenth of the
rate. Not measured yet.
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
    config.model = dict(type="segnet", encoder=dict(type="vgg", depth=16, norm="batch"))
    if arg.cpu or arg.debug:
        config.model.encoder.width = 4 if arg.debug else 16
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

"""DeepLabv3+ (Chen et al. 2018) with a ResNet encoder, on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/deeplabv3plus_camvid.py --workdir=runs/deeplabv3plus_camvid

Without an argument ResNet-50 at output stride 16 on one 80-GB accelerator; `:cpu` takes ResNet-18
on crops. `pretrained=torchvision:resnet50` starts the encoder from published weights, with a
tenth of the rate. Not measured yet.
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
        type="deeplabv3plus",
        encoder=dict(type="resnet", depth=18 if arg.cpu else 50, output_stride=16),
    )
    if arg.debug:
        config.model.update(width=8, low_width=4, encoder=dict(type="resnet", depth=18, width=4))
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

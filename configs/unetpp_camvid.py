"""U-Net++ (Zhou et al. 2018) on a ResNet encoder, on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/unetpp_camvid.py --workdir=runs/unetpp_camvid

Without an argument ResNet-34 on one 80-GB accelerator; `:cpu` takes a narrow ResNet-18.
`pretrained=torchvision:resnet34` starts the encoder from published weights, with a tenth of the
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
    config.model = dict(type="unetpp", encoder=dict(type="resnet", depth=34))
    if arg.cpu or arg.debug:
        narrow = 4 if arg.debug else 16
        config.model.encoder = dict(type="resnet", depth=18, width=narrow)
        config.model.widths = tuple(narrow * factor for factor in (4, 3, 2, 1, 1))
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

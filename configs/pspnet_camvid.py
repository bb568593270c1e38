"""PSPNet (Zhao et al. 2017) with a dilated ResNet encoder, on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/pspnet_camvid.py --workdir=runs/pspnet_camvid

Without an argument ResNet-50 at output stride 8 with the auxiliary head on one 80-GB accelerator;
`:cpu` takes ResNet-18 at output stride 16 on crops. `pretrained=torchvision:resnet50` starts the
encoder from published weights, with a tenth of the rate. Not measured yet.
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
        type="pspnet",
        encoder=dict(
            type="resnet", depth=18 if arg.cpu else 50, output_stride=16 if arg.cpu else 8
        ),
    )
    if arg.debug:
        config.model.update(width=8, encoder=dict(type="resnet", depth=18, width=4))
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

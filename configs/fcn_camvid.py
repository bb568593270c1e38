"""FCN (Long, Shelhamer and Darrell 2015) on CamVid: FCN-8s on VGG16, or on a dilated ResNet.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/fcn_camvid.py --workdir=runs/fcn_camvid

Without an argument FCN-8s on VGG16 with batch norm, on one 80-GB accelerator; `:dilated` is the
form that torchvision publishes, ResNet-50 at output stride 8 with an auxiliary head. `:cpu`
narrows either. Published on this split from scratch: FCN-8s 0.570 (Jégou et al. 2017, table 3;
with ImageNet weights). `pretrained=torchvision:vgg16_bn` starts the encoder from published
weights, with a tenth of the rate. Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator.

    `cpu`: smaller; `debug`: two steps; `dilated`, `pretrained`: see above.
    """
    arg = parse_arg(arg, dilated=False, pretrained="", cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(type="fcn", encoder=dict(type="vgg", depth=16, norm="batch"))
    if arg.dilated:
        encoder = dict(type="resnet", depth=50, output_stride=8, dilate_first=False)
        config.model = dict(type="fcn_dilated", encoder=encoder)
    if arg.cpu or arg.debug:
        narrow = 4 if arg.debug else 16
        config.model.encoder.width = narrow
        if not arg.dilated:
            config.model.update(width=16 * narrow, window=3)
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

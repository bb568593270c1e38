"""U-Net on a published encoder, on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/encoder_unet_camvid.py --workdir=runs/encoder_unet_camvid

Without an argument ResNet-34 on one 80-GB accelerator; `:encoder=NAME` takes another of the table
below, `:cpu` a narrow ResNet-18. `pretrained=torchvision:resnet34` starts the encoder from
published weights, with a tenth of the rate. Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg

ENCODERS = {
    "resnet18": dict(type="resnet", depth=18),
    "resnet34": dict(type="resnet", depth=34),
    "resnet50": dict(type="resnet", depth=50),
    "vgg16_bn": dict(type="vgg", depth=16, norm="batch"),
    "mobilenetv3": dict(type="mobilenetv3"),
    "efficientnet_b0": dict(type="efficientnet", variant="b0"),
    "convnext_tiny": dict(type="convnext", variant="tiny"),
    "mit_b0": dict(type="mit", variant="b0"),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator.

    `cpu`: smaller; `debug`: two steps; `encoder`, `pretrained`: see above.
    """
    arg = parse_arg(arg, encoder="resnet34", pretrained="", cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(type="encoder_unet", encoder=dict(ENCODERS[arg.encoder]))
    if arg.cpu or arg.debug:
        narrow = 4 if arg.debug else 16
        config.model.encoder = dict(type="resnet", depth=18, width=narrow)
        config.model.widths = tuple(narrow * factor for factor in (8, 4, 2, 1, 1))
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

"""DeepLabv3 (Chen et al. 2017) with a dilated ResNet encoder, on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/deeplabv3_camvid.py --workdir=runs/deeplabv3_camvid

Without an argument ResNet-50 at output stride 8 with multi-grid and an auxiliary head on one
80-GB accelerator; `:cpu` takes ResNet-18 at output stride 16 on crops.
`pretrained=torchvision:resnet50` starts the encoder from published weights, with a tenth of the
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
    config.model = dict(
        type="deeplabv3",
        encoder=dict(type="resnet", depth=50, output_stride=8, multi_grid=(1, 2, 4)),
        rates=(12, 24, 36),
        aux=(-2,),
    )
    if arg.cpu:
        config.model.encoder = dict(type="resnet", depth=18, output_stride=16)
        config.model.update(rates=(6, 12, 18), aux=())
    if arg.debug:
        config.model.update(width=8, encoder=dict(type="resnet", depth=18, width=4))
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

"""LR-ASPP on MobileNetV3-Large (Howard et al. 2019) on CamVid, for small devices.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/lraspp_camvid.py --workdir=runs/lraspp_camvid

Without an argument on one 80-GB accelerator; `:cpu` takes half the width on crops.
`pretrained=torchvision:mobilenet_v3_large` starts the encoder from published weights, with a
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
        type="lraspp", encoder=dict(type="mobilenetv3", output_stride=16, first_blocks=True)
    )
    if arg.cpu:
        config.model.encoder.width = 0.5
    if arg.debug:
        config.model.update(width=8)
        config.model.encoder.width = 0.25
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

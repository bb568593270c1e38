"""UPerNet (Xiao et al. 2018) on ConvNeXt (Liu et al. 2022), on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/upernet_camvid.py --workdir=runs/upernet_camvid

Without an argument ConvNeXt-T on one 80-GB accelerator, `:variant=base` the largest; `:cpu` takes
a shallow, narrow one. `pretrained=torchvision:convnext_tiny` starts the encoder from published
weights, with a tenth of the rate. Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator.

    `cpu`: smaller; `debug`: two steps; `variant`, `pretrained`: see above.
    """
    arg = parse_arg(arg, variant="tiny", pretrained="", cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(
        type="upernet", encoder=dict(type="convnext", variant=arg.variant), feature_norm="layer"
    )
    config.optimizer.lr = 6e-4
    if arg.cpu or arg.debug:
        narrow = 4 if arg.debug else 24
        config.model.encoder.update(
            widths=tuple(narrow * factor for factor in (1, 2, 4, 8)), depths=(1, 1, 2, 1)
        )
        config.model.update(width=4 * narrow, aux_width=2 * narrow)
    common.pretrain(config, arg.pretrained)
    config.model.compute_dtype = common.precision(arg)
    return config

"""SegFormer (Xie et al. 2021) on CamVid.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/segformer_camvid.py --workdir=runs/segformer_camvid

Without an argument B0 on one 80-GB accelerator, `:variant=b5` the largest; `:cpu` keeps B0 on
crops. `pretrained=hf:nvidia/mit-b0` starts the encoder from published weights, with a tenth of
the rate. Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator.

    `cpu`: smaller; `debug`: two steps; `variant`, `pretrained`: see above.
    """
    arg = parse_arg(arg, variant="b0", pretrained="", cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(
        type="segformer",
        encoder=dict(type="mit", variant=arg.variant),
        width=256 if arg.variant in ("b0", "b1") else 768,
    )
    config.optimizer.lr = 6e-4
    if arg.debug:
        small = dict(type="mit", variant="b0", widths=(8, 8, 10, 16), depths=(1, 1, 1, 1))
        config.model.update(width=8, encoder=small)
    common.pretrain(config, arg.pretrained, publisher="huggingface")
    config.model.compute_dtype = common.precision(arg)
    return config

"""BiSeNetV2 (Yu et al. 2021) on CamVid, in real time.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/bisenetv2_camvid.py --workdir=runs/bisenetv2_camvid

Without an argument the published widths on one 80-GB accelerator; `:cpu` halves the heads.
Chosen over Fast-SCNN for its accuracy, see experiments/LOG.md. Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator; `cpu`: smaller, `debug`: two steps."""
    arg = parse_arg(arg, cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(type="bisenetv2")
    config.task.aux_weight = 1.0  # the booster heads count fully
    if arg.cpu:
        config.model.update(head_width=256, aux_width=64)
    if arg.debug:
        config.model.update(
            detail_widths=(4, 4, 8), semantic_widths=(4, 4, 8, 8), semantic_layers=(1, 1, 1),
            expansion=2, head_width=8, aux_width=4,
        )  # fmt: skip
    config.model.compute_dtype = common.precision(arg)
    return config

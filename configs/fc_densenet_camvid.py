"""FC-DenseNet (Jégou et al. 2017) on CamVid, the from-scratch record of its day.

export SEGJAX_DATA=<folder that holds camvid/>
python run.py --config=configs/fc_densenet_camvid.py --workdir=runs/fc_densenet_camvid

Without an argument FC-DenseNet103 (growth 16) on one 80-GB accelerator, what normalises computed
again for the gradient; `:cpu` takes FC-DenseNet56 with growth 6. Published: FC-DenseNet56 0.589, 67
0.658, 103 0.669 (table 3). Not measured yet.
"""

import ml_collections

from configs import common
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config for one accelerator; `cpu`: smaller, `debug`: two steps."""
    arg = parse_arg(arg, cpu=False, debug=False)
    config = common.camvid(arg)
    config.model = dict(type="fc_densenet", remat="convs")
    if arg.cpu:
        config.model.update(layers=(4,) * 11, growth=6, stem_width=24)
    if arg.debug:
        config.model.update(layers=(1, 1, 1), growth=4, stem_width=4)
    config.model.compute_dtype = common.precision(arg)
    return config

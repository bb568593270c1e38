"""A U-Net on procedural scenes: no network, no files, four minutes on two CPU cores.

python run.py --config=configs/quickstart.py --workdir=runs/quickstart

`:debug` is the same with a tiny network and two steps.
"""

import ml_collections

from segjax.config import schema
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `debug` shrinks it to two steps."""
    arg = parse_arg(arg, debug=False)
    config = schema.defaults()
    config.total_steps = 2 if arg.debug else 500
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0),
        dict(type="region:dice", weight=0.5),
    ]
    size = (48, 48) if arg.debug else (128, 128)
    config.input.source = dict(type="synthetic", size=size, num_examples=8 if arg.debug else 0)
    config.input.size = size
    config.input.batch_size = 8 if arg.debug else 12
    config.augment = [dict(type="geometry:flip", horizontal=0.5, vertical=0.5)]
    config.model = dict(
        type="unet", widths=(8, 16) if arg.debug else (24, 48, 96, 192), stem_stride=2
    )
    config.optimizer.update(
        type="adamw",
        lr=4e-3,
        weight_decay=1e-3,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.15),
    )
    config.evals.val = dict(type="semantic", split="val", batch_size=8, every_percent=25)
    return config

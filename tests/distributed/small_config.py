"""A tiny run with all that could depend on the number of processes; SGD keeps it comparable."""

from configs import quickstart
from segjax.config.sections import parse_arg


def get_config(arg: str = ""):
    """Return the config; `float64`: computed in float64, `data`: next to no model."""
    arg = parse_arg(arg, float64=False, data=False)
    config = quickstart.get_config("debug")
    config.total_steps = 20
    config.log_steps = 1
    config.log_batch_hashes = True
    config.input.source = dict(type="synthetic", size=(32, 32), num_examples=24)
    config.input.size = (32, 32)
    config.input.batch_size = 16
    config.microbatches = 2
    config.augment = [
        dict(type="geometry:affine", size=(32, 32), scale=(0.7, 1.4), rotate=10.0, horizontal=0.5),
        dict(type="geometry:elastic", std=3.0),
        dict(type="photometric:color_jitter", brightness=0.4, contrast=0.4, saturation=0.4),
        dict(type="photometric:gamma", exponent=(0.7, 1.4)),
        dict(type="photometric:gaussian_blur", sigma=(0.1, 1.0)),
        dict(type="photometric:gaussian_noise", std=(0.0, 0.05)),
        dict(type="photometric:cutout", size=(0.1, 0.3)),
    ]
    config.optimizer = dict(
        type="sgd", lr=0.02, momentum=0.9, clip_norm=0.0, schedule=dict(type="constant")
    )
    config.evals.val = dict(type="semantic", split="val", batch_size=8, every_steps=0)
    if arg.float64:
        config.evals.val.metrics, config.evals.val.intervals = ["hd95", "kappa", "ece"], 10
        config.inference.update(short_side=48, blend="gaussian", flips=(1,))  # several windows
        config.model.compute_dtype = config.model.param_dtype = "float64"
    if arg.data:
        config.augment, config.microbatches, config.model.widths = [], 1, (2, 4)
    return config

"""A U-Net on procedural data: no network, no files, four minutes on two CPU cores.

python run.py --config=configs/quickstart.py --workdir=runs/quickstart

`:dims=3` is the same on volumes and `:dims=1` on signals, each in its own few minutes. With
`:multilabel` things shine through each other, and every pixel may be of several classes or none.
With `:task=instance` each thing is found by itself, in less than ten minutes. `:model=kmeans` and
its like fit a classical method in seconds, see docs/classical.md. `:debug` is the same with a tiny
network and two steps.
"""

import ml_collections

from configs.zoo import CLASSICAL, put_classical
from segjax.config import lookup, schema
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `debug` shrinks it to two steps."""
    arg = parse_arg(arg, dims=2, task="semantic", multilabel=False, model="unet", debug=False)
    lookup.choose(arg.model, ["unet", *CLASSICAL], what="config argument model")
    config = schema.defaults()
    config.total_steps = 500
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0),
        dict(type="region:dice", weight=0.5),
    ]
    config.optimizer.update(
        type="adamw",
        lr=4e-3,
        weight_decay=1e-3,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.15),
    )
    config.evals.val = dict(type="semantic", split="val", batch_size=8, every_percent=25)
    kinds = {1: signals, 2: pictures, 3: volumes}
    kinds[lookup.choose(arg.dims, list(kinds), what="dims")](config)
    if lookup.choose(arg.task, ("semantic", "instance"), what="task") == "instance":
        find_objects(config)
    if arg.multilabel:
        config.input.source.multilabel = True
        config.task.type = config.evals.val.type = "multilabel"
        for loss in config.task.losses:
            loss["activation"] = "sigmoid"  # each class by itself, not one of all
    if arg.debug:
        config.total_steps = 2
        config.input.batch_size = 8
        config.model.widths = (8, 16)
        config.report.page = False  # of two steps there is nothing to say
        fit(config, {1: (96,), 2: (48, 48), 3: (16, 32, 32)}[arg.dims], num_examples=8)
    if arg.model != "unet":
        put_classical(config, arg.model, debug=arg.debug)
    return config


def pictures(config: ml_collections.ConfigDict) -> None:
    """Train on pictures of things."""
    config.input.source = dict(type="synthetic")
    config.input.batch_size = 12
    config.augment = [dict(type="geometry:flip", horizontal=0.5, vertical=0.5)]
    config.model = dict(type="unet", widths=(24, 48, 96, 192), stem_stride=2)
    fit(config, (128, 128))


def find_objects(config: ml_collections.ConfigDict) -> None:
    """Find each thing by itself: its interior, its boundary and the background told apart."""
    config.total_steps = 1200
    config.input.source.objects = 16
    config.task.type = "interior"
    config.evals.val.type = "instance"
    config.checkpoint.keep_best = "val/AP"


def volumes(config: ml_collections.ConfigDict) -> None:
    """Train on volumes of solids."""
    config.total_steps = 300
    config.input.source = dict(type="synthetic", dims=3)
    config.input.batch_size = 4
    config.augment = [
        dict(type="geometry:flip", horizontal=0.5, vertical=0.5, depth=0.5),
        dict(type="geometry:affine", size=(), scale=(0.8, 1.25), fill=0.5),
        dict(type="photometric:gaussian_noise", std=(0.0, 0.03)),
    ]
    config.normalize = dict(type="normalize:per_image", epsilon=1e-3)
    config.model = dict(type="unet", widths=(16, 32, 64), stem_stride=2)
    config.evals.val.batch_size = 4
    fit(config, (32, 48, 48))


def signals(config: ml_collections.ConfigDict) -> None:
    """Train on signals with events."""
    config.input.source = dict(type="synthetic", dims=1)
    config.input.batch_size = 32
    config.augment = [
        dict(type="geometry:flip", horizontal=0.5),
        dict(type="geometry:affine", size=(), scale=(0.8, 1.25), fill=0.5),
        dict(type="photometric:gaussian_noise", std=(0.0, 0.02)),
    ]
    config.normalize = dict(type="normalize:per_image", epsilon=1e-3)
    config.model = dict(type="unet", widths=(16, 32, 64, 128), stem_stride=1)
    fit(config, (512,))


def fit(config: ml_collections.ConfigDict, size: tuple[int, ...], *, num_examples: int = 0) -> None:
    """Give all that has a size this one."""
    config.input.source.update(size=size, num_examples=num_examples)
    config.input.size = size
    for op in config.augment:
        if "size" in op:
            op["size"] = size

"""What every config starts from, so that each file says only what is its own."""

from types import SimpleNamespace

import ml_collections

# The square root of ENet's weights 1 / ln(1.02 + share of the training pixels) (Paszke et al. 2016,
# section 5.1), scaled to mean 1: rare classes count more, but not so much that they spread.
CAMVID_WEIGHTS = (0.56, 0.49, 1.36, 0.43, 0.92, 0.70, 1.32, 1.33, 0.85, 1.45, 1.56)


def base() -> ml_collections.ConfigDict:
    """Return the sections that rarely differ; model, data and lengths are each file's own."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.microbatches = 1
    config.ema_decay = 0.0
    config.deterministic_reduction = 0
    config.log_steps = 20
    config.log_batch_hashes = False
    config.task = dict(
        type="semantic", losses=[dict(type="pixel:cross_entropy", weight=1.0)], aux_weight=0.4
    )
    config.input = dict(
        source=dict(), split="train", batch_size=8, size=(0, 0), fit="resize", pad_value=124,
        threads=2, workers=0, cache=False,
    )  # fmt: skip
    config.augment = []
    config.normalize = dict(
        type="normalize:fixed", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    config.mesh = dict(data=-1, fsdp=1, space=1)
    config.trials = dict(seed=(), lr=())
    config.checkpoint = dict(
        save_percent=10, keep_last=2, keep_best="val/miou", mode="max", root=""
    )
    config.evals = dict()
    return config


def camvid(arg: SimpleNamespace) -> ml_collections.ConfigDict:
    """Return all but the model for CamVid (Brostow et al. 2009; SegNet's split, void ignored).

    `$SEGJAX_DATA/camvid` holds the data. Without an argument: one accelerator of 80 GB, long and
    strongly augmented; `arg.cpu`: crops for two cores; `arg.debug`: two steps on small pictures.
    """
    config = base()
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0, class_weights=CAMVID_WEIGHTS),
        dict(type="region:dice", weight=1.0),
    ]
    config.input.source = dict(type="folder", root="$SEGJAX_DATA/camvid")
    config.input.size = (360, 480)
    config.input.fit = "pad"
    config.input.batch_size = 8
    config.input.cache = True
    config.evals.val = dict(type="semantic", split="val", batch_size=8, every_percent=50)
    config.evals.test = dict(type="semantic", split="test", batch_size=8, every_steps=0)
    config.optimizer = dict(
        type="adamw",
        lr=4e-3,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.2),
    )
    if arg.cpu or arg.debug:
        _for_two_cores(config)
    else:
        _for_an_accelerator(config)
    if arg.debug:
        config.total_steps = 2
        config.input.update(size=(64, 96), fit="resize", batch_size=2, cache=False)
        config.augment[0]["size"] = (64, 64)
        config.evals.val.batch_size = config.evals.test.batch_size = 2
    return config


def _for_two_cores(config: ml_collections.ConfigDict) -> None:
    """Train on crops: the most different pixels per FLOP."""
    config.total_steps = 1200
    config.augment = [
        dict(type="geometry:affine", size=(240, 320), scale=(0.6, 1.3), horizontal=0.5, fill=0.45),
        dict(
            type="photometric:color_jitter", brightness=0.5, contrast=0.5, saturation=0.5, hue=0.05
        ),
    ]


def _for_an_accelerator(config: ml_collections.ConfigDict) -> None:
    """Train at full resolution, long and strongly augmented, and average the model."""
    config.total_epochs = 600
    config.ema_decay = 0.999
    config.augment = [
        dict(
            type="geometry:affine", size=(360, 480), scale=(0.5, 2.0), aspect=(0.8, 1.25),
            rotate=10, horizontal=0.5, fill=0.45,
        ),
        dict(
            type="photometric:color_jitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05
        ),
        dict(type="photometric:gaussian_blur", sigma=(0.1, 1.5), p=0.3),
    ]  # fmt: skip
    config.optimizer.update(lr=1e-3, weight_decay=5e-2)
    config.evals.val.every_percent = 5


def precision(arg: SimpleNamespace) -> str:
    """Return the dtype to compute in: bfloat16 on accelerators, float32 on CPUs."""
    return "float32" if arg.cpu or arg.debug else "bfloat16"


def pretrain(
    config: ml_collections.ConfigDict, weights: str, *, publisher: str = "torchvision"
) -> None:
    """Start the encoder from `weights`, with a tenth of the learning rate; empty: from scratch."""
    if weights:
        config.model.pretrained = dict(weights=weights, publisher=publisher, part="encoder")
        config.optimizer.lr_factors = (("encoder/.*", 0.1),)

"""What every config starts from, so that each file says only what is its own."""

import ml_collections


def base() -> ml_collections.ConfigDict:
    """Return the sections that rarely differ; model, data and lengths are each file's own."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.microbatches = 1
    config.ema_decay = 0.0
    config.log_steps = 20
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
    config.checkpoint = dict(save_percent=10, keep_last=2, keep_best="val/miou", mode="max")
    config.evals = dict()
    return config

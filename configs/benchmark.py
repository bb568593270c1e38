"""What the files of published benchmarks of photographs share: their recipe, and how it shrinks.

The recipe is that of DeepLabv3 (Chen et al. 2017) and PSPNet (Zhao et al. 2017), which most of the
literature has kept: SGD with momentum, a rate that falls as (1 - t)^0.9, scales from 0.5 to 2,
mirrored, cropped; colours jittered as in SSD. Written from the papers, not run here: their images
and accelerators are not at hand.
"""

from types import SimpleNamespace

import ml_collections

from configs import protocols, zoo
from segjax.config import schema
from segjax.config.sections import parse_arg


def arguments(arg: str, **own: object) -> SimpleNamespace:
    """Return the arguments of a benchmark's file: its own, `protocol`, and those of the zoo."""
    return parse_arg(arg, **own, **zoo.ARGUMENTS)


def make(
    arg: SimpleNamespace,
    source: dict[str, object],
    *,
    canvas: tuple[int, int],
    fit: str,
    crop: int,
    lr: float,
    total_steps: int,
) -> ml_collections.ConfigDict:
    """Return a benchmark's config.

    Args:
        arg: See `arguments`; `protocol` is the benchmark's own where it is not said.
        source: Its section `input.source`.
        canvas: What images are brought to before they are cropped.
        fit: How.
        crop: Of the square that training sees of it.
        lr: For batches of 16.
        total_steps: In batches of 16.
    """
    config = schema.defaults()
    debug = arg.size == "debug"
    config.total_steps = 2 if debug else total_steps
    config.input.update(
        source=source,
        size=(64, 96) if debug else canvas,
        fit="resize" if debug else fit,
        batch_size=2 if debug else 16,
    )
    crop = 64 if debug else crop
    config.augment = [
        dict(
            type="geometry:affine", size=(crop, crop), scale=(0.5, 2.0), horizontal=0.5, fill=0.45
        ),
        dict(
            type="photometric:color_jitter",
            brightness=0.125,
            contrast=0.5,
            saturation=0.5,
            hue=0.05,
        ),
    ]
    config.optimizer.update(
        type="sgd",
        lr=lr,
        momentum=0.9,
        weight_decay=1e-4,
        schedule=dict(type="poly", power=0.9),
    )
    config.evals.val = dict(
        type="semantic", split="val", batch_size=2 if debug else 8, every_percent=10
    )
    if not debug:
        protocols.put(config, arg.protocol)
    zoo.put(config, arg)
    return config

"""What the files of published benchmarks share: their recipes, and how these shrink.

That of photographs is the recipe of DeepLabv3 (Chen et al. 2017) and PSPNet (Zhao et al. 2017),
which most of the literature has kept: SGD with momentum, a rate that falls as (1 - t)^0.9, scales
from 0.5 to 2, mirrored, cropped; colours jittered as in SSD. Written from the papers, not run
here: their images and accelerators are not at hand.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ml_collections

from configs import protocols, zoo
from segjax.config import lookup, schema
from segjax.config.sections import parse_arg
from segjax.errors import ConfigError


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
    source = counted(source, debug=debug)
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


def counted(source: dict[str, object], *, debug: bool) -> dict[str, object]:
    """Return a source; a test of two steps does not count the examples of its splits."""
    return {key: value for key, value in source.items() if key != "expected" or not debug}


def make_small(
    arg: SimpleNamespace, source: dict[str, object], *, side: int, crop: int, steps: int
) -> ml_collections.ConfigDict:
    """Return the config of a data set of few pictures that look alike, such as a microscope's.

    Dice beside cross-entropy weighs classes alike; squares of images are turned and mirrored.

    Args:
        arg: As of `make`, without `protocol`.
        source: Its section `input.source`.
        side: Of the square that images are scaled to.
        crop: Of the square that training sees of it.
        steps: In batches of 8.
    """
    config = schema.defaults()
    debug = arg.size == "debug"
    config.total_steps = 2 if debug else steps
    side, crop = (64, 64) if debug else (side, crop)
    config.input.update(
        source=counted(source, debug=debug),
        size=(side, side),
        fit="resize",
        batch_size=2 if debug else 8,
        cache=True,
    )
    config.task.losses = _cross_entropy_and_dice()
    config.augment = [
        dict(
            type="geometry:affine",
            size=(crop, crop),
            scale=(0.7, 1.4),
            rotate=180.0,
            horizontal=0.5,
            fill=0.5,
        ),
        dict(type="photometric:color_jitter", brightness=0.3, contrast=0.3),
    ]
    config.normalize = dict(type="normalize:per_image", epsilon=1e-3)
    _adamw(config, lr=2e-3)
    for split in ("val", "test"):
        config.evals[split] = dict(type="semantic", split=split, batch_size=2 if debug else 8)
    config.evals.val.every_percent = 10
    config.evals.test.every_percent = 100
    zoo.put(config, arg)
    return config


VOLUME_WIDTHS = {"full": (32, 64, 128, 256, 320), "cpu": (16, 32, 64), "debug": (8, 16)}


def make_volumes(
    size: str,
    source: dict[str, object],
    *,
    window: Sequence[int],
    intensity: Sequence[dict[str, Any]],
    steps: int,
) -> ml_collections.ConfigDict:
    """Return the config of scans: a 3D U-Net on windows, a third of them around something.

    Args:
        size: `full`, `cpu` or `debug`.
        source: Its section `input.source`.
        window: Depth, height and width that the network sees at a time.
        intensity: What brings scans to one scale.
        steps: In batches of 2.
    """
    lookup.choose(size, list(VOLUME_WIDTHS), what="config argument size")
    config = schema.defaults()
    debug = size == "debug"
    config.total_steps = 2 if debug else steps
    window = (16, 32, 32) if debug else tuple(window)
    config.input.update(
        source=counted(source, debug=debug),
        size=window,
        fit="window",
        pad_value=0,
        intensity=list(intensity),
        batch_size=2,
    )
    config.input.window.share = 1 / 3
    config.normalize = dict(type="normalize:fixed", mean=(0.5,), std=(0.25,))
    config.augment = [
        dict(type="geometry:flip", horizontal=0.5, vertical=0.5, depth=0.5),
        dict(
            type="geometry:affine", size=window, scale=(0.85, 1.2), rotate=15.0, shift=0.05, p=0.7
        ),
        dict(type="photometric:gamma", exponent=(0.7, 1.5)),
        dict(type="photometric:gaussian_noise", std=(0.0, 0.05)),
    ]
    config.task.losses = _cross_entropy_and_dice()
    config.model = dict(type="unet", widths=VOLUME_WIDTHS[size])
    _adamw(config, lr=1e-3)
    for split in ("val", "test"):
        config.evals[split] = dict(type="semantic", split=split, batch_size=2)
    config.evals.val.every_percent = 25
    config.evals.test.every_percent = 100
    if not debug:
        protocols.put(config, "msd")
    config.inference.size = window
    return config


def _cross_entropy_and_dice() -> list[dict[str, Any]]:
    return [
        dict(type="pixel:cross_entropy", weight=1.0),
        dict(type="region:dice", weight=1.0),
    ]


def _adamw(config: ml_collections.ConfigDict, *, lr: float) -> None:
    config.optimizer.update(
        type="adamw",
        lr=lr,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.1),
    )


OBJECT_SIZES = ("full", "debug")
"""Of the recipes that find objects."""


def jitter(config: ml_collections.ConfigDict, side: int, *, scale: tuple[float, float]) -> None:
    """Scale images into a square, then by a random factor; crop or pad them to it, and mirror."""
    config.input.update(size=(side, side), fit="resize")
    config.augment = [
        dict(
            type="geometry:affine", size=(side, side), scale=scale, horizontal=0.5, fill=0.45
        )
    ]  # fmt: skip


def mask_rcnn(size: str, *, normed: bool, pretrained: str) -> dict[str, Any]:
    """Return the section of Mask R-CNN on ResNet-50 and a pyramid, in detectron2's form.

    Args:
        size: `full` or `debug`.
        normed: Whether pyramid and heads are normalised, as in the recipes of long trainings.
        pretrained: Weights of the encoder; empty: none.
    """
    if size == "debug":
        return dict(
            type="mask_rcnn", encoder=dict(type="resnet", depth=18, width=8), width=16,
            box_width=32, mask_convs=1, proposals_before=(64, 64), proposals=(32, 32),
            rpn_samples=32, box_samples=16, candidates=64, detections=8, sampling=1,
        )  # fmt: skip
    heads = dict(norm="batch", rpn_convs=2, box_convs=4, box_layers=1) if normed else {}
    own = dict(weights=pretrained, publisher="torchvision", part="encoder")
    return dict(
        type="mask_rcnn", encoder=dict(type="resnet", depth=50), rounded_anchors=False,
        aligned=True, proposals_before=(2000, 1000), proposals=(1000, 1000),
        compute_dtype="bfloat16", **heads, **(dict(pretrained=own) if pretrained else {}),
    )  # fmt: skip


BLOCKS, DEPTH, DECAY = 4, 24, 0.8
"""Of EoMT-L: blocks that see queries, all blocks, and what each has of the rate of the next."""


def eomt(
    config: ml_collections.ConfigDict,
    size: str,
    *,
    task: str,
    queries: int,
    epochs: int = 0,
    steps: int = 0,
) -> None:
    """Train EoMT-L on DINOv3 as its authors do (their recipe for COCO), for a number of steps.

    Masked attention ends block by block in the second to the fifth sixth of the training. The rate
    of each block of the encoder is 0.8 times that of the next.

    Args:
        config: With its data already.
        size: `full` or `debug`.
        task: Its type.
        queries: The most regions of an image.
        epochs: Of COCO in batches of 16; 0: `steps` says it.
        steps: In batches of 16.
    """
    config.total_steps, config.input.batch_size = steps or epochs * 7392, 16
    small = size == "debug"
    encoder = dict(type="dinov3", variant="l")
    if small:
        encoder = dict(type="dinov3", variant="s")
    spans = zoo.annealing(BLOCKS)
    config.task = dict(type=task, queries=queries, annealing_percent=spans)
    config.model = dict(
        type="eomt", encoder=encoder, queries=queries, blocks=BLOCKS,
        compute_dtype="float32" if small else "bfloat16",
    )  # fmt: skip
    config.optimizer.update(
        type="adamw", lr=1e-4, weight_decay=0.05, clip_norm=0.01,
        schedule=dict(type="poly", power=0.9, warmup_steps=500),
    )  # fmt: skip
    depth = 12 if small else DEPTH
    below = [(f"encoder/block{i}/.*", DECAY ** (depth - 1 - i)) for i in range(depth)]
    config.optimizer.lr_factors = (*below, ("encoder/.*", DECAY**depth))


MASK2FORMER = tuple(zoo.ZOO["mask2former"].choices["encoder"])
"""Its encoders."""


def mask2former(
    config: ml_collections.ConfigDict, size: str, *, task: str, encoder: str, steps: int
) -> None:
    """Train Mask2Former as its authors do (Cheng et al. 2022, section 4.1), for a number of steps.

    The encoder's rate is a tenth of the others'.

    Args:
        config: With its data already.
        size: `full` or `debug`.
        task: Its type.
        encoder: One of `MASK2FORMER`.
        steps: In batches of 16.
    """
    config.total_steps, config.input.batch_size = steps, 16
    entry = zoo.ZOO["mask2former"]
    options = entry.choices["encoder"]
    lookup.choose(encoder, MASK2FORMER, what="config argument encoder")
    small = size == "debug"
    section = entry.debug if small else {**entry.full, **options[encoder]}
    config.model = dict(
        type="mask2former", **section, compute_dtype="float32" if small else "bfloat16"
    )
    config.task = dict(type=task, queries=section["queries"])
    config.optimizer.update(
        type="adamw", lr=1e-4, weight_decay=0.05, clip_norm=0.01,
        schedule=dict(type="poly", power=0.9, warmup_steps=10),
        lr_factors=(("encoder/.*", 0.1),),
    )  # fmt: skip


def refuse_encoder(arg: SimpleNamespace) -> None:
    """Raise `ConfigError` where the argument `encoder` chooses one for a model that has its own."""
    if arg.encoder:
        raise ConfigError(
            f"config argument encoder={arg.encoder!r}: model={arg.model} offers no choice. Leave "
            "it out."
        )


def start_from(config: ml_collections.ConfigDict, weights: str) -> None:
    """Start the encoder from published weights, if any are named."""
    if weights:
        publisher = "torchvision" if weights.startswith("torchvision:") else "huggingface"
        config.model.pretrained = dict(weights=weights, publisher=publisher, part="encoder")


def shrink(config: ml_collections.ConfigDict) -> None:
    """Make a test of two steps of a recipe that finds objects."""
    config.total_steps, config.input.batch_size = 2, 2
    config.input.update(size=(64, 96), fit="resize")
    config.augment[0]["size"] = (64, 64)
    config.optimizer.schedule.warmup_steps = 0
    config.evals.val.batch_size = 2
    if "queries" in config.task:
        config.task.update(queries=10, num_points=64)
        config.model.queries = 10
    if "annealing_percent" in config.task:
        config.task.annealing_percent = ()

"""The zoo: each model of segjax/models in three sizes, with what of a recipe is its own.

A data set's file takes the arguments below and calls `put`, and so has every model:

    python run.py --config=configs/camvid.py:model=deeplabv3plus,size=cpu --workdir=runs/x

`model` is a name in `ZOO`, or in `CLASSICAL` for a method that is fitted. `size=full` is the
published one, in bfloat16, for an accelerator of 80 GB; `size=cpu` is for two cores; `size=debug`
for a test of two steps. `encoder` and `variant` choose among what a model of the zoo offers.
`pretrained=torchvision:resnet50` starts the encoder from published weights, with a tenth of the
learning rate.
"""

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import ml_collections

from segjax.config import lookup
from segjax.errors import ConfigError

ARGUMENTS = dict(model="unet", size="full", encoder="", variant="", pretrained="")
"""What a data set's file takes beside arguments of its own, for `parse_arg`."""
SIZES = ("full", "cpu", "debug")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the zoo. Its name is its `type`.

    Attributes:
        full: Its arguments as published.
        debug: Its arguments for a test.
        cpu: Its arguments for two cores; None: as published.
        choices: What each value of an argument (`encoder`, `variant`) changes in `full`.
        recipe: Values elsewhere in the config that belong to the model, whatever the data.
        publisher: Who names the arrays of weights for `pretrained`.
        freeze: Parameters that are held once they are pretrained.
        task: The task that its outputs are for, where not the data set's own of pixels' logits.
    """

    full: Mapping[str, Any]
    debug: Mapping[str, Any]
    cpu: Mapping[str, Any] | None = None
    choices: Mapping[str, Mapping[str, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    publisher: str = "torchvision"
    freeze: tuple[str, ...] = ()
    task: str = ""


def put(config: ml_collections.ConfigDict, arg: SimpleNamespace) -> None:
    """Put `config.model`, and what of the recipe belongs to it, into a config.

    Args:
        config: With its own `optimizer` and `task` already.
        arg: The `ARGUMENTS`, parsed.

    Raises:
        ConfigError: No such model, size or choice, or one that does not go with the others.
    """
    lookup.choose(arg.model, [*ZOO, *CLASSICAL], what="config argument model")
    size = lookup.choose(arg.size, SIZES, what="config argument size")
    if arg.model in CLASSICAL:
        if given := [name for name in ("encoder", "variant", "pretrained") if getattr(arg, name)]:
            raise ConfigError(
                f"config argument {given[0]}: is of networks, and model={arg.model} is none. Leave "
                "it out."
            )
        put_classical(config, arg.model, debug=size == "debug")
        return
    entry = ZOO[arg.model]
    same = size == "full" or (size == "cpu" and entry.cpu is None)
    section = dict(type=arg.model, **(entry.full if same else getattr(entry, size)))
    for argument in ("encoder", "variant"):
        if not (name := getattr(arg, argument)):
            continue
        what = f"config argument {argument}"
        if argument not in entry.choices or not same:
            raise ConfigError(f"{what}={name!r}: model={arg.model},size={size} offers no choice.")
        options = entry.choices[argument]
        section |= options[lookup.choose(name, list(options), what=what)]
    if arg.pretrained:
        if "encoder" not in section:
            raise ConfigError(
                f"config argument pretrained={arg.pretrained!r}: {arg.model} has no encoder."
            )
        section["pretrained"] = dict(
            weights=arg.pretrained, publisher=entry.publisher, part="encoder"
        )
        config.optimizer.lr_factors = (("encoder/.*", 0.1),)
        config.optimizer.freeze = entry.freeze
    section["compute_dtype"] = "bfloat16" if size == "full" else "float32"
    config.model = section
    if entry.task:
        config.task = dict(type=entry.task, queries=section["queries"])
        if "blocks" in section:
            config.task.annealing_percent = annealing(section["blocks"])
        if size == "debug":
            config.task.num_points = 128
    config.update_from_flattened_dict(entry.recipe)


CLASSICAL: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(
        ("otsu", "multi_otsu", "adaptive", "canny", "watershed", "random_walker", "chan_vese"), {}
    ),
    "kmeans": dict(clusters=4, pixels=200),
    "slic": dict(clusters=4, pixels=200, segments=40),
    "random_forest": dict(trees=3, depth=4, pixels=50, sigma=2.0),
}
"""Methods without a network, `model=<name>` as well, with their arguments for a test."""


def put_classical(config: ml_collections.ConfigDict, name: str, *, debug: bool) -> None:
    """Put a classical method in a model's place: one step is the fit, which augments nothing."""
    config.model = dict(type=f"classical:{name}")
    if debug:
        config.model.update(CLASSICAL[name], examples=4)
    for key in [key for key in config if key.startswith("total_")]:
        del config[key]
    config.total_steps = config.log_steps = 1


def annealing(blocks: int) -> tuple[tuple[float, float], ...]:
    """Return when masked attention ends in each of EoMT's blocks, in percent of the training.

    As published, one after the other: of as many equal parts as there are blocks and two, all but
    the first and the last.
    """
    ends = [round(100 * i / (blocks + 2), 3) for i in range(1, blocks + 2)]
    return tuple(zip(ends, ends[1:], strict=False))


def _dinov2(variant: str, **more: Any) -> dict[str, Any]:
    return dict(type="vit", variant=variant, registers=4, **more)


def _eomt(*variants: str) -> dict[str, Any]:
    blocks = dict(s=3, b=3, l=4)
    return {
        f"{name}_{variant}": dict(encoder=make(variant), blocks=blocks[variant])
        for name, make in (("dinov2", _dinov2), ("dinov3", _dinov3))
        for variant in variants
    }


def _dinov3(variant: str, **more: Any) -> dict[str, Any]:
    return dict(type="dinov3", variant=variant, **more)


LAST = (-4, -3, -2, -1)
"""The blocks whose features a linear head sees."""


def _resnet(depth: int, **more: Any) -> dict[str, Any]:
    return dict(type="resnet", depth=depth, **more)


def _vgg(**more: Any) -> dict[str, Any]:
    return {"type": "vgg", "depth": 16, "norm": "batch", **more}


def _dilated(depth: int, **more: Any) -> dict[str, Any]:
    return _resnet(depth, output_stride=8, dilate_first=False, **more)


def _swin(variant: str, **more: Any) -> dict[str, Any]:
    """Return Swin's section, with what Mask2Former and UPerNet do to its features."""
    return dict(encoder=dict(type="swin", variant=variant, **more), feature_norm="layer")


def _convnext(*, narrow: int) -> dict[str, Any]:
    widths = (narrow, 2 * narrow, 4 * narrow, 8 * narrow)
    return dict(type="convnext", variant="tiny", widths=widths, depths=(1, 1, 2, 1))


ZOO = {
    # U-Net (Ronneberger, Fischer and Brox 2015) at its published widths; for two cores at a quarter
    # of the resolution.
    "unet": Entry(
        full=dict(widths=(64, 128, 256, 512, 1024), dropout=0.3),
        cpu=dict(widths=(32, 64, 128, 256), stem_stride=4),
        debug=dict(widths=(8, 16)),
    ),
    # Attention U-Net (Oktay et al. 2018): gates on the skips.
    "attention_unet": Entry(
        full=dict(widths=(64, 128, 256, 512, 1024), dropout=0.3),
        cpu=dict(widths=(32, 64, 128, 256), stem_stride=4),
        debug=dict(widths=(8, 16), dropout=0.3),
    ),
    # U-Net on a published encoder, ResNet-34 if none is chosen.
    "encoder_unet": Entry(
        full=dict(encoder=_resnet(34)),
        cpu=dict(encoder=_resnet(18, width=16), widths=(128, 64, 32, 16, 16)),
        debug=dict(encoder=_resnet(18, width=4), widths=(32, 16, 8, 4, 4)),
        choices=dict(
            encoder=dict(
                resnet18=dict(encoder=_resnet(18)),
                resnet34=dict(encoder=_resnet(34)),
                resnet50=dict(encoder=_resnet(50)),
                vgg16_bn=dict(encoder=_vgg()),
                mobilenetv3=dict(encoder=dict(type="mobilenetv3")),
                efficientnet_b0=dict(encoder=dict(type="efficientnet", variant="b0")),
                efficientnet_b4=dict(encoder=dict(type="efficientnet", variant="b4")),
                convnext_tiny=dict(encoder=dict(type="convnext", variant="tiny")),
                mit_b0=dict(encoder=dict(type="mit", variant="b0")),
                swin_t=dict(encoder=dict(type="swin", variant="t")),
            )
        ),
    ),
    # U-Net++ (Zhou et al. 2018) on ResNet-34.
    "unetpp": Entry(
        full=dict(encoder=_resnet(34)),
        cpu=dict(encoder=_resnet(18, width=16), widths=(64, 48, 32, 16, 16)),
        debug=dict(encoder=_resnet(18, width=4), widths=(16, 12, 8, 4, 4)),
    ),
    # FCN-8s (Long, Shelhamer and Darrell 2015) on VGG16 with batch norm. Published on CamVid with
    # ImageNet weights: 0.570 (Jégou et al. 2017, table 3).
    "fcn": Entry(
        full=dict(encoder=_vgg()),
        cpu=dict(encoder=_vgg(width=16), width=256, window=3),
        debug=dict(encoder=_vgg(width=4), width=64, window=3),
    ),
    # FCN in the form that torchvision publishes: ResNet-50 at output stride 8, an auxiliary head.
    "fcn_dilated": Entry(
        full=dict(encoder=_dilated(50)),
        cpu=dict(encoder=_dilated(50, width=16)),
        debug=dict(encoder=_dilated(50, width=4)),
    ),
    # SegNet (Badrinarayanan, Kendall and Cipolla 2017) on VGG16 with batch norm; four times
    # narrower for two cores. Published on CamVid, its own data set, with ImageNet weights: 0.464
    # (Jégou et al. 2017, table 3).
    "segnet": Entry(
        full=dict(encoder=_vgg()),
        cpu=dict(encoder=_vgg(width=16)),
        debug=dict(encoder=_vgg(width=4)),
    ),
    # PSPNet (Zhao et al. 2017): ResNet-50 at output stride 8 with the auxiliary head.
    "pspnet": Entry(
        full=dict(encoder=_resnet(50, output_stride=8)),
        cpu=dict(encoder=_resnet(18, output_stride=16)),
        debug=dict(encoder=_resnet(18, output_stride=8, width=4), width=8),
    ),
    # DeepLabv3 (Chen et al. 2017): output stride 8, multi-grid, an auxiliary head.
    "deeplabv3": Entry(
        full=dict(
            encoder=_resnet(50, output_stride=8, multi_grid=(1, 2, 4)),
            rates=(12, 24, 36),
            aux=(-2,),
        ),
        cpu=dict(encoder=_resnet(18, output_stride=16), rates=(6, 12, 18), aux=()),
        debug=dict(
            encoder=_resnet(18, output_stride=8, multi_grid=(1, 2, 4), width=4),
            rates=(12, 24, 36),
            aux=(-2,),
            width=8,
        ),
    ),
    # DeepLabv3+ (Chen et al. 2018) at output stride 16.
    "deeplabv3plus": Entry(
        full=dict(encoder=_resnet(50, output_stride=16)),
        cpu=dict(encoder=_resnet(18, output_stride=16)),
        debug=dict(encoder=_resnet(18, output_stride=16, width=4), width=8, low_width=4),
    ),
    # LR-ASPP on MobileNetV3-Large (Howard et al. 2019), for small devices.
    "lraspp": Entry(
        full=dict(encoder=dict(type="mobilenetv3", output_stride=16, first_blocks=True)),
        cpu=dict(encoder=dict(type="mobilenetv3", output_stride=16, first_blocks=True, width=0.5)),
        debug=dict(
            encoder=dict(type="mobilenetv3", output_stride=16, first_blocks=True, width=0.25),
            width=8,
        ),
    ),
    # HED (Xie and Tu 2015): a side output at each of VGG-16's scales, each with a loss that counts
    # as much as that of their fusion.
    "hed": Entry(
        full=dict(encoder=_vgg(norm="none")),
        cpu=dict(encoder=_vgg(width=16)),
        debug=dict(encoder=_vgg(width=4)),
        recipe={"task.aux_weight": 1.0},
    ),
    # FC-DenseNet (Jégou et al. 2017): FC-DenseNet103 with growth 16, what normalises computed again
    # for the gradient; FC-DenseNet56 with growth 6 for two cores. Published on CamVid from scratch
    # (table 3): FC-DenseNet56 0.589, 67 0.658, 103 0.669.
    "fc_densenet": Entry(
        full=dict(remat="convs"),
        cpu=dict(remat="convs", layers=(4,) * 11, growth=6, stem_width=24),
        debug=dict(remat="convs", layers=(1, 1, 1), growth=4, stem_width=4),
    ),
    # BiSeNetV2 (Yu et al. 2021), in real time; its booster heads count fully.
    "bisenetv2": Entry(
        full=dict(),
        cpu=dict(head_width=256, aux_width=64),
        debug=dict(
            detail_widths=(4, 4, 8), semantic_widths=(4, 4, 8, 8), semantic_layers=(1, 1, 1),
            expansion=2, head_width=8, aux_width=4,
        ),
        recipe={"task.aux_weight": 1.0},
    ),
    # SegFormer (Xie et al. 2021), B0 if no variant is chosen. Weights: hf:nvidia/mit-b0.
    "segformer": Entry(
        full=dict(encoder=dict(type="mit", variant="b0"), width=256),
        debug=dict(
            encoder=dict(type="mit", variant="b0", widths=(8, 8, 10, 16), depths=(1, 1, 1, 1)),
            width=8,
        ),
        choices=dict(
            variant={
                name: dict(encoder=dict(type="mit", variant=name), width=width)
                for name, width in dict(b0=256, b1=256, b2=768, b3=768, b4=768, b5=768).items()
            }
        ),
        recipe={"optimizer.lr": 6e-4},
        publisher="huggingface",
    ),
    # UPerNet (Xiao et al. 2018) on ConvNeXt (Liu et al. 2022), ConvNeXt-T if no variant is chosen,
    # or on Swin (Liu et al. 2021).
    "upernet": Entry(
        full=dict(encoder=dict(type="convnext", variant="tiny"), feature_norm="layer"),
        cpu=dict(encoder=_convnext(narrow=24), feature_norm="layer", width=96, aux_width=48),
        debug=dict(encoder=_convnext(narrow=4), feature_norm="layer", width=16, aux_width=8),
        choices=dict(
            variant={
                name: dict(encoder=dict(type="convnext", variant=name))
                for name in ("tiny", "small", "base")
            },
            encoder={
                f"swin_{variant}": dict(**_swin(variant, drop_path=rate), feature_epsilon=1e-5)
                for variant, rate in dict(t=0.2, s=0.3, b=0.3).items()
            },
        ),
        recipe={"optimizer.lr": 6e-4},
    ),
    # A linear head on DINOv2 ViT-S/14 (Oquab et al. 2023), which hf:facebook/dinov2-small fills and
    # the run then holds.
    "linear": Entry(
        full=dict(encoder=dict(type="vit", variant="s", layers=(-4, -3, -2, -1))),
        debug=dict(
            encoder=dict(
                type="vit", variant="s", width=16, heads=2, depth=2, grid=4, layers=(-1,)
            )
        ),
        choices=dict(
            encoder=dict(
                dinov2_s=dict(encoder=dict(type="vit", variant="s", layers=LAST)),
                dinov2_s_registers=dict(encoder=_dinov2("s", layers=LAST)),
                dinov3_s=dict(encoder=_dinov3("s", layers=LAST)),
                dinov3_b=dict(encoder=_dinov3("b", layers=LAST)),
            )
        ),
        publisher="huggingface",
        freeze=("encoder/.*",),
    ),
    # EoMT (Kerssies et al. 2025) on DINOv2 ViT-B/14 with registers, semantic: published on ADE20K
    # with ViT-L: 58.4. hf:facebook/dinov2-with-registers-base fills the encoder.
    "eomt": Entry(
        full=dict(encoder=_dinov2("b"), queries=100, blocks=3),
        cpu=dict(encoder=_dinov2("s"), queries=100, blocks=3),
        debug=dict(
            encoder=_dinov2("s", width=16, heads=2, depth=2, grid=4), queries=12, blocks=1
        ),
        choices=dict(encoder=_eomt("s", "b", "l")),
        recipe={"optimizer.lr": 1e-4, "optimizer.weight_decay": 5e-2},
        publisher="huggingface",
        task="query_semantic",
    ),
    # Mask2Former (Cheng et al. 2022), ResNet-50 if no encoder is chosen. Published on ADE20K's
    # classes: 47.2 on ResNet-50, 47.7 on Swin-T, 56.1 on Swin-L.
    "mask2former": Entry(
        full=dict(encoder=_resnet(50), queries=100),
        cpu=dict(
            encoder=_resnet(18), queries=50, width=128, heads=4, pixel_layers=2, pixel_hidden=256,
            layers=3, hidden=512,
        ),
        debug=dict(
            encoder=_resnet(18, width=4), queries=12, width=32, heads=2, pixel_layers=1,
            pixel_hidden=32, layers=1, hidden=32,
        ),
        choices=dict(
            encoder=dict(
                resnet50=dict(encoder=_resnet(50)),
                resnet101=dict(encoder=_resnet(101)),
                swin_t=_swin("t"),
                swin_s=_swin("s", drop_path=0.3),
                swin_b=_swin("b", drop_path=0.3),
                swin_l=dict(**_swin("l", drop_path=0.3), queries=200),
            )
        ),
        recipe={"optimizer.lr": 1e-4, "optimizer.weight_decay": 5e-2},
        task="query_semantic",
    ),
}  # fmt: skip

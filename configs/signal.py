"""Sound and text through the same U-Net: where something begins, where it ends, and what it is.

python run.py --config=configs/signal.py --workdir=runs/sounds
python run.py --config=configs/signal.py:scene=texts --workdir=runs/texts

`scene=sounds`: tones, chirps and bursts of noise in a noisy room, drawn here. `scene=texts`: dates,
sums of money and addresses among invented words, a sample for each character. Both need no files.

Of your own, `root=<folder>,classes=other+speech+music`: `<root>/{train,val}/images/` with WAV
files, or texts (.txt), and `<root>/{train,val}/labels/` with a file of labelled spans for each: a
table `start,end,label` (.csv), Audacity's label track (.txt) or brat's standoff (.ann); see
docs/data.md. `length` is that of a training window, in samples or characters.
"""

import ml_collections

from segjax.config import lookup, schema
from segjax.config.sections import parse_arg

LENGTHS = {"sounds": 4096, "texts": 512}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `debug` shrinks it to two steps."""
    arg = parse_arg(arg, scene="sounds", root="", classes="", length=0, debug=False)
    scene = lookup.choose(arg.scene, list(LENGTHS), what="scene")
    config = schema.defaults()
    config.total_steps = 2 if arg.debug else 400
    length = 1024 if arg.debug else arg.length or LENGTHS[scene]
    source = dict(type="synthetic", dims=1, scene=scene, size=(length,))
    if arg.debug:
        source["num_examples"] = 8
    if arg.root:
        source = dict(type="folder", root=arg.root, dims=1)
        if arg.classes:
            source["class_names"] = arg.classes.split("+")
    config.input.update(
        source=source,
        size=(length,),
        fit="window" if arg.root else "pad",
        pad_value=0,
        batch_size=4 if arg.debug else 16,
    )
    if scene == "sounds":
        config.input.intensity = [dict(type="per_image")]  # any loudness
        config.augment = [dict(type="geometry:flip", horizontal=0.5)]
        config.normalize = dict(type="normalize:fixed", mean=(0.0,), std=(1.0,))
        widths = (16, 32, 48, 64, 96, 128)  # a pixel of the bottom sees some 20 ms
    else:
        config.normalize = dict(type="normalize:fixed", mean=(0.5,) * 21, std=(0.5,) * 21)
        widths = (48, 96, 144)
    config.model = dict(type="unet", widths=(8, 16) if arg.debug else widths)
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
    config.evals.val = dict(type="semantic", split="val", batch_size=16, every_percent=25)
    return config

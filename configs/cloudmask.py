"""Clouds and their shadows in a Sentinel-2 scene of six bands (test data of dlr-eoc/ukis-csmask).

export SEGJAX_DATA=<folder that holds cloudmask/>
python run.py --config=configs/cloudmask.py --workdir=runs/cloudmask

From scratch a small U-Net; or the published one, as it is, of the package ukis-csmask
(`pip download --no-deps ukis-csmask==1.0.0`, Apache-2.0): EfficientNet-B4, 4 or 6 bands, Level-1C
or -2A.

C=configs/cloudmask.py:pretrained=<folder>/model_4b_l1c.onnx
python run.py --mode=adopt --config=$C --as_published --workdir=runs/csmask
python run.py --mode=eval --workdir=runs/csmask

One file, `sentinel2.npz`, holds the image `img` (512 x 512 x 6, float32 reflectance) and the mask
`msk` (4: cloud, 0: cloud shadow, 1 to 3: clear). There is a single scene, so scores are of what was
trained on: this config shows bands that are named and chosen, and a mask in its image's file.
"""

import ml_collections

from segjax.config import schema
from segjax.config.sections import parse_arg

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `debug` shrinks it to two steps."""
    arg = parse_arg(arg, root="$SEGJAX_DATA/cloudmask", pretrained="", debug=False)
    config = schema.defaults()
    config.total_steps = 2 if arg.debug else 300
    config.input.update(
        source=dict(
            type="folder",
            root=arg.root,
            images=".",
            labels=".",
            split_file="*",
            image_array="img",
            label_array="msk",
            band_names=BANDS,
            bands=BANDS,
            class_names=("clear", "cloud", "cloud shadow"),
            label_map={"1-3": 0, "4": 1, "0": 2},
        ),
        size=(64, 64) if arg.debug else (128, 128),
        fit="window",
        pad_value=0,
        batch_size=2 if arg.debug else 8,
        intensity=[dict(type="percentile", low=1.0, high=99.0)],
        cache=True,
    )
    config.input.window.share = 0.5
    config.normalize = dict(type="normalize:fixed", mean=(0.5,) * 6, std=(0.25,) * 6)
    config.augment = [dict(type="geometry:flip", horizontal=0.5, vertical=0.5)]
    config.task.losses = [
        dict(type="pixel:cross_entropy", weight=1.0),
        dict(type="region:dice", weight=1.0),
    ]
    config.model = dict(type="unet", widths=(8, 16) if arg.debug else (16, 32, 64, 128))
    config.optimizer.update(
        type="adamw",
        lr=2e-3,
        weight_decay=1e-2,
        clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.2),
    )
    config.evals.val = dict(
        type="semantic", split="val", batch_size=1, every_percent=50,
        metrics=[dict(type="matrix:kappa")],
    )  # fmt: skip
    if arg.pretrained:
        _published(config, arg.pretrained, debug=arg.debug)
    return config


def _published(config: ml_collections.ConfigDict, weights: str, *, debug: bool) -> None:
    """Take the network of ukis-csmask, which sees tiles of 256 pixels, to score or to fine-tune."""
    encoder = dict(
        type="efficientnet", variant="b4", padding="published", epsilon=1e-3, stem_skip=True
    )
    config.model = dict(
        type="encoder_unet",
        encoder=encoder,
        pretrained=dict(weights=weights, publisher="smp", part="model"),
    )
    config.input.source.bands = BANDS[:4] if "4b" in weights else BANDS
    config.normalize = dict(
        type="normalize:fixed", mean=(0.5,) * len(config.input.source.bands), std=0.25
    )
    config.input.update(size=(64, 64) if debug else (256, 256), batch_size=2 if debug else 4)
    config.inference.overlap = 0.0
    config.optimizer.lr = 1e-4

"""How published scores were taken: what of an image the network saw, and how windows were joined.

Each is a section for `config.inference`. All are scored on the labels' own pixels, every one once,
void left out, as mean IoU over the whole split. A data set's file names one by
`protocol=cityscapes_sliding`; a run is scored by another one without training it again:

    python run.py --mode=eval --workdir=runs/x --override=inference.blend=flat …

`as_trained` is the default: the window and scale of training.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from segjax.config import lookup

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "as_trained": {},
    # DeepLabv3 (Chen et al. 2017, section 4.1): the whole image at its own scale; no image of VOC
    # has a side of more than 500 pixels.
    "voc": dict(size=(513, 513), fit="pad"),
    # Its table of test-time augmentation: scores of six scales and their mirror images, averaged.
    "voc_multi_scale": dict(
        size=(513, 513), fit="pad", flips=(1,), scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        overlap=1 / 3, place="stride", blend="flat",
    ),
    # mmsegmentation's for windows (SETR, Segmenter, BEiT): the shorter side 512, the longer one at
    # most 2048; windows of 512 each 341 pixels, scores averaged.
    "ade20k": dict(
        size=(512, 512), fit="pad", short_side=512, long_side=2048,
        overlap=1 / 3, place="stride", blend="flat",
    ),
    "ade20k_multi_scale": dict(
        size=(512, 512), fit="pad", short_side=512, long_side=2048,
        overlap=1 / 3, place="stride", blend="flat",
        flips=(1,), scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    ),
    # The image as it is, 1024 x 2048, at once.
    "cityscapes": dict(size=(1024, 2048), fit="pad"),
    # mmsegmentation's for crops of 769: windows each 513 pixels, scores averaged.
    "cityscapes_sliding": dict(
        size=(769, 769), fit="pad", overlap=1 / 3, place="stride", blend="flat"
    ),
    # nnU-Net's for the Medical Segmentation Decathlon (Isensee et al. 2021): windows that overlap
    # by half, weighted by a Gaussian, mirrored along every axis.
    "msd": dict(fit="pad", overlap=0.5, blend="gaussian", flips=(0, 1, 2)),
}  # fmt: skip


def put(config: ml_collections.ConfigDict, name: str) -> None:
    """Put a protocol into a config.

    Raises:
        ConfigError: There is none of that name.
    """
    config.inference.update(PROTOCOLS[lookup.choose(name, list(PROTOCOLS), what="protocol")])

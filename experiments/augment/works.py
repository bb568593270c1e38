"""What is timed: one op on photographs, and nnU-Net's whole set on volumes; free of any library."""

from typing import Any, NamedTuple

ROWS, SIDE = 8, 256
"""Photographs of a batch, and their sides."""
VOLUMES, PATCH, READ = 2, 96, 154
"""Volumes of a batch, their sides, and what nnU-Net reads to turn them (`get_patch_size` of 96)."""
CALLS = 16
"""Batches of volumes a turn: what is rare must show in its mean."""


class Work(NamedTuple):
    """One op.

    Attributes:
        section: That of `config.augment`.
        theirs: The class of albumentations, and its arguments; empty: it has none.
        torchvision: That of torchvision's transforms v2, likewise.
    """

    section: dict[str, Any]
    theirs: tuple[str, dict[str, Any]] | tuple[()] = ()
    torchvision: tuple[str, dict[str, Any]] | tuple[()] = ()


def _of(type_: str, **arguments: Any) -> dict[str, Any]:
    return {"type": type_, **arguments}


BOX = {"size": (SIDE, SIDE)}
WORKS = {
    "flip": Work(
        _of("geometry:flip", horizontal=0.5),
        ("HorizontalFlip", {"p": 0.5}),
        ("RandomHorizontalFlip", {"p": 0.5}),
    ),
    "scaled crop": Work(
        _of("geometry:affine", **BOX, scale=(0.7, 1.4)),
        ("Affine", {"scale": (0.7, 1.4), "p": 1}),
        ("RandomAffine", {"degrees": 0, "scale": (0.7, 1.4), "interpolation": 2}),
    ),
    "rotate and scale": Work(
        _of("geometry:affine", **BOX, scale=(0.7, 1.4), rotate=30),
        ("Affine", {"scale": (0.7, 1.4), "rotate": (-30, 30), "p": 1}),
        ("RandomAffine", {"degrees": 30, "scale": (0.7, 1.4), "interpolation": 2}),
    ),
    "elastic": Work(
        _of("geometry:elastic", std=10.0),
        ("ThinPlateSpline", {"num_control_points": 3, "p": 1}),
        ("ElasticTransform", {"alpha": 50.0, "sigma": 5.0}),
    ),
    "perspective": Work(
        _of("geometry:perspective", distortion=0.3),
        ("Perspective", {"scale": (0.05, 0.15), "p": 1}),
        ("RandomPerspective", {"distortion_scale": 0.3, "p": 1}),
    ),
    "grid distortion": Work(
        _of("geometry:grid_distortion"),
        ("GridDistortion", {"num_steps": 5, "distort_limit": 0.3, "p": 1}),
    ),
    "rotate, elastic, perspective": Work(_of("")),
    "color jitter": Work(
        _of("photometric:color_jitter", brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
        ("ColorJitter", {"hue": (-0.1, 0.1), "p": 1}),
        ("ColorJitter", {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1}),
    ),
    "gamma": Work(
        _of("photometric:gamma", exponent=(0.7, 1.4)),
        ("RandomGamma", {"gamma_limit": (70, 140), "p": 1}),
    ),
    "blur": Work(
        _of("photometric:gaussian_blur", sigma=(0.5, 2.0)),
        ("GaussianBlur", {"blur_limit": (13, 13), "sigma_limit": (0.5, 2.0), "p": 1}),
        ("GaussianBlur", {"kernel_size": 13, "sigma": (0.5, 2.0)}),
    ),
    "noise": Work(
        _of("photometric:gaussian_noise", std=(0.02, 0.1)),
        ("GaussNoise", {"std_range": (0.02, 0.1), "p": 1}),
        ("GaussianNoise", {"sigma": 0.06}),
    ),
    "cutout": Work(
        _of("photometric:cutout", size=(0.1, 0.3), count=2),
        ("CoarseDropout", {"num_holes_range": (2, 2), "p": 1}),
        ("RandomErasing", {"p": 1, "scale": (0.01, 0.09)}),
    ),
    "posterize": Work(
        _of("photometric:posterize", bits=(4, 4)),
        ("Posterize", {"num_bits": 4, "p": 1}),
        ("RandomPosterize", {"bits": 4, "p": 1}),
    ),
    "solarize": Work(
        _of("photometric:solarize", threshold=(0.5, 0.5)),
        ("Solarize", {"p": 1}),
        ("RandomSolarize", {"threshold": 128, "p": 1}),
    ),
    "equalize": Work(
        _of("photometric:equalize"),
        ("Equalize", {"mode": "pil", "p": 1}),
        ("RandomEqualize", {"p": 1}),
    ),
    "sharpness": Work(
        _of("photometric:sharpness", factor=(1.2, 2.0)),
        ("Sharpen", {"p": 1}),
        ("RandomAdjustSharpness", {"sharpness_factor": 2.0, "p": 1}),
    ),
    "channel shuffle": Work(
        _of("photometric:channel_shuffle"),
        ("ChannelShuffle", {"p": 1}),
        ("RandomChannelPermutation", {}),
    ),
    "channel dropout": Work(_of("photometric:channel_dropout"), ("ChannelDropout", {"p": 1})),
    "jpeg": Work(
        _of("degrade:jpeg", quality=(40, 90)),
        ("ImageCompression", {"quality_range": (40, 90), "p": 1}),
    ),
    "low resolution": Work(
        _of("degrade:low_resolution", scale=(0.25, 0.5)),
        ("Downscale", {"scale_range": (0.25, 0.5), "p": 1}),
    ),
    "fog": Work(_of("degrade:fog", density=(0.5, 2.0)), ("RandomFog", {"p": 1})),
    "shadow": Work(_of("degrade:shadow", darkness=(0.3, 0.7)), ("RandomShadow", {"p": 1})),
    "CutMix": Work(_of("mixing:cutmix")),
    "ClassMix": Work(_of("mixing:classmix")),
    "mosaic": Work(_of("mixing:mosaic")),
    "RandAugment": Work(_of("policies:rand_augment")),
    "TrivialAugment": Work(_of("policies:trivial_augment")),
}
CHAINED = "rotate, elastic, perspective"
CHAIN = ("rotate and scale", "elastic", "perspective")
"""What that work is made of: three ops, one interpolation."""
POLICY, STEP = "nnU-Net", "train step"
EVERY = (*WORKS, POLICY, STEP)

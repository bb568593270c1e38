"""What does each kind of augmentation add? On CamVid, whose test clips have another light."""

from typing import Any

CROP = {"type": "geometry:affine", "size": (240, 320), "fill": 0.45}
MIRROR, SCALE = {"horizontal": 0.5}, {"scale": (0.6, 1.3)}
COLOUR = {
    "type": "photometric:color_jitter", "brightness": 0.5, "contrast": 0.5, "saturation": 0.5,
    "hue": 0.05,
}  # fmt: skip
BLUR = {"type": "photometric:gaussian_blur", "sigma": (0.1, 1.5), "p": 0.3}
ROWS = {
    "crops alone": [CROP],
    "mirrored": [CROP | MIRROR],
    "scaled": [CROP | SCALE],
    "rotated": [CROP | {"rotate": 10.0}],
    "colours": [CROP, COLOUR],
    "blurred": [CROP, BLUR],
    "mirrored, scaled": [CROP | MIRROR | SCALE],
    "mirrored, scaled, colours": [CROP | MIRROR | SCALE, COLOUR],
}
"""What `config.augment` is, by name; the last is that of configs/camvid.py for two cores."""


def get_study(arg: str = "") -> dict[str, Any]:
    """Return the study; `arg` is that of configs/camvid.py."""
    return {
        "title": "Augmentation of a small U-Net on CamVid, 400 steps",
        "config": f"configs/camvid.py:{arg or 'model=unet,size=cpu'}",
        "overrides": [
            "total_steps=400",
            "evals.val.every_percent=100",
            "report.page=False",
            "model.compute_dtype=bfloat16",
        ],
        "metrics": ["test/miou", "val/miou", "test/pixel_accuracy"],
        "baseline": "crops alone",
        "rows": [
            {"name": name, "overrides": [f"augment={steps!r}"]} for name, steps in ROWS.items()
        ],
    }

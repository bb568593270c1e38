"""Which loss should a small network train with where classes are rare? On CamVid."""

from typing import Any

from configs.camvid import CLASS_WEIGHTS

CROSS_ENTROPY = {"type": "pixel:cross_entropy", "weight": 1.0}
WEIGHTED = CROSS_ENTROPY | {"class_weights": CLASS_WEIGHTS}
DICE = {"type": "region:dice", "weight": 1.0}
ROWS = {
    "cross-entropy": [CROSS_ENTROPY],
    "weighted cross-entropy": [WEIGHTED],
    "focal": [{"type": "pixel:focal", "weight": 1.0}],
    "hardest quarter": [{"type": "pixel:top_k", "weight": 1.0, "share": 0.25}],
    "Dice": [DICE],
    "cross-entropy + Dice": [CROSS_ENTROPY, DICE],
    "weighted cross-entropy + Dice": [WEIGHTED, DICE],
    "cross-entropy + Tversky": [CROSS_ENTROPY, {"type": "region:tversky", "weight": 1.0}],
    "cross-entropy + Lovász": [CROSS_ENTROPY, {"type": "lovasz:softmax", "weight": 1.0}],
}
"""What `config.task.losses` is, by name."""


def get_study(arg: str = "") -> dict[str, Any]:
    """Return the study; `arg` is that of configs/camvid.py."""
    return {
        "title": "Losses of a small U-Net on CamVid, 400 steps",
        "config": f"configs/camvid.py:{arg or 'model=unet,size=cpu'}",
        "overrides": [
            "total_steps=400", "evals.val.every_percent=100", "report.page=False",
            "model.compute_dtype=bfloat16",
        ],
        "metrics": [
            "test/miou", "test/mean_accuracy", "test/pixel_accuracy", "test/iou/Pole",
            "test/iou/Bicyclist",
        ],
        "baseline": "cross-entropy",
        "rows": [
            {"name": name, "overrides": [f"task.losses={losses!r}"]}
            for name, losses in ROWS.items()
        ],
    }  # fmt: skip

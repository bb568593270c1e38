"""How much does the recipe for imbalance find of threads that are 1 % of the pixels?

    python run.py --mode=study --study=experiments/imbalance/study.py --workdir=runs/imbalance

All rows have the same network, batches and steps: `experiments/imbalance/config.py`, which is what
configs/auto.py would write, and of it other losses.
"""

from typing import Any

CROSS_ENTROPY = {"type": "pixel:cross_entropy", "weight": 1.0}
DICE = {"type": "region:dice", "weight": 1.0}
ROWS = {
    "cross-entropy": [CROSS_ENTROPY],
    "cross-entropy, median frequency": [CROSS_ENTROPY | {"class_weights": "median_frequency"}],
    "focal": [{"type": "pixel:focal", "weight": 1.0}],
    "cross-entropy + Dice": [CROSS_ENTROPY, DICE],
}
"""What `config.task.losses` is, by name."""
RECIPE = "the recipe"


def get_study(arg: str = "") -> dict[str, Any]:
    """Return the study: the two rows that are compared, with `all` those of other losses too."""
    rows = [
        {"name": name, "overrides": [f"task.losses={losses!r}"]}
        for name, losses in ROWS.items()
        if name == "cross-entropy" or arg == "all"
    ]
    return {
        "title": "Threads that are 1 % of the pixels, the same steps",
        "config": "experiments/imbalance/config.py",
        "metrics": ["test/iou/thread", "test/miou", "test/precision", "test/recall"],
        "baseline": "cross-entropy",
        "rows": [*rows, {"name": RECIPE}],
    }

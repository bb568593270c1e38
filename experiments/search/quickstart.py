"""A search on the quickstart: learning rate, weight decay, widths and the weight of a loss.

python run.py --mode=search --search=experiments/search/quickstart.py --workdir=runs/search

The U-Net is small and trains for 200 steps, so that a trial takes less than a minute on two CPU
cores. `:debug` makes three trials of two steps.
"""

from typing import Any

from segjax.config.sections import parse_arg


def get_search(arg: str = "") -> dict[str, Any]:
    """Return the search; `debug` shrinks it."""
    arg = parse_arg(arg, debug=False)
    return {
        "config": "configs/quickstart.py:debug" if arg.debug else "configs/quickstart.py",
        "overrides": [
            "evals.val.every_percent=50" if arg.debug else "evals.val.every_percent=10",
            "total_steps=2" if arg.debug else "total_steps=200",
        ],
        "metric": "val/miou",
        "mode": "max",
        "method": "tpe",
        "trials": 3 if arg.debug else 30,
        "pruner": {"type": "median", "startup": 5, "warmup_percent": 20},
        "seed": 0,
        "space": {
            "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "optimizer.weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
            "model.widths": {"choices": [[8, 16, 32], [12, 24, 48], [16, 32, 64]]},
            "task.losses[1].weight": {"low": 0.0, "high": 2.0},
        },
    }

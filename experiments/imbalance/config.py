"""The config that writes itself, for threads that are one pixel in a hundred.

python run.py --config=experiments/imbalance/config.py --workdir=runs/threads
"""

import ml_collections

from segjax.auto import derive
from segjax.auto.layout import Layout
from segjax.auto.sizing import Budget
from segjax.config.sections import parse_arg

WHERE = Layout(
    dict(type="experiments.imbalance.threads:Source"),
    {"train": "train", "val": "val", "test": "test"},
    {"source": "drawn"},
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `steps` is its length."""
    steps = parse_arg(arg, steps=200).steps
    found = derive.of_layout(WHERE, Budget(minutes=3.0, cores=2), steps=steps)
    return ml_collections.ConfigDict(found.config)

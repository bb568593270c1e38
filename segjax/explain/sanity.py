"""Does a map depend on what the network has learned? It must not look alike without that."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from scipy import stats

from segjax.explain.network import Input, Net

SEED = 20181
"""Of weights that have learned nothing."""
SAMPLE = 20_000
"""Values of a map that are ranked."""


def randomized(net: Net, x: Input) -> Net:
    """Return a network with new weights and statistics in the place of those that were learned.

    The model parameter randomisation test of Adebayo et al. 2018 (arXiv:1810.03292, section 3), of
    all layers at once.
    """
    model = net.passes.model

    def init(key: jax.Array, x: Input) -> Mapping[str, Any]:
        return model.init(key, x, train=False)

    found = net.passes.once("init", lambda: init)(jax.random.key(SEED), x)
    variables = {"params": found["params"], "batch_stats": found.get("batch_stats", {})}
    return Net(net.passes, variables)


def likeness(first: Float[np.ndarray, "..."], second: Float[np.ndarray, "..."]) -> float:
    """Return the rank correlation (Spearman) of two maps' absolute values, from -1 to 1.

    Near 1 the second says the same as the first, and the first nothing of what was learned. A map
    of one value says nothing: 0.
    """
    step = max(1, first.size // SAMPLE)
    a, b = (np.abs(each).ravel()[::step] for each in (first, second))
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    found: Any = stats.spearmanr(a, b)
    return float(found.statistic)

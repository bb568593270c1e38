"""Check a publisher's rules against the recorded names and shapes of the published network."""

import functools
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.pretrained import convert
from tests import parity


def check(name: str, module: Any, rules: Any, *, unused: str = "", channels: int = 3) -> None:
    """Name every leaf of `module`, each by a recorded name of its shape; use up all names.

    Args:
        name: The golden table (`tests/golden/names/<name>.txt`).
        module: Our network, at the published size.
        rules: The publisher's table.
        unused: Regular expression of recorded names that our network has no use for.
        channels: Input channels.
    """
    lines = (parity.NAMES / f"{name}.txt").read_text().splitlines()
    recorded = {key: tuple(json.loads(shape)) for key, shape in (x.split(" ", 1) for x in lines)}
    image = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    made = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    written = convert.to_torch(made, rules)
    state = {k: v.shape for k, v in written.items() if not k.endswith("num_batches_tracked")}
    left = {k for k in recorded if not (unused and re.fullmatch(unused, k))}
    assert set(state) == left, sorted(set(state) ^ left)[:9]
    assert state == {key: recorded[key] for key in left}
    back = convert.from_torch(written, shapes, rules)
    assert set(back) == {path for path, _ in convert.leaves(shapes)}

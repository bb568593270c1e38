"""What other people's code computed, read from files; and the numbers that both sides make.

Each `tests/golden/outside/<family>.npz` holds the cases of one family: `<case>/about` is JSON, each
other array of a case is an input or an output. Weights and images are not stored: `weights` and
`image` give the same bits wherever they are computed.
"""

import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

FOLDER = pathlib.Path(__file__).parents[1] / "golden" / "outside"
FAMILIES = (
    "torch", "torchvision", "detection", "timm", "smp", "huggingface", "surface_distance", "hdf5",
    "weights", "cleanlab", "captum",
)  # fmt: skip
SAMPLES = 600
"""At most so many numbers of each output of a network are kept."""


class Case(NamedTuple):
    """One recorded case.

    Attributes:
        about: What it takes to compute the same: of a network `state` (names and shapes of its
            weights), `size` of the image and `shapes` of the outputs; of a function its options.
        arrays: Of a function its inputs and outputs, whole; of a network its outputs, `sample`d.
    """

    about: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


@functools.cache
def load(family: str) -> tuple[dict[str, str], dict[str, Case]]:
    """Return the versions that a family was recorded with, and its cases by name."""
    with np.load(FOLDER / f"{family}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    versions = json.loads(arrays.pop("versions").item())
    abouts = {key.removesuffix("/about"): x for key, x in arrays.items() if key.endswith("/about")}
    cases = {
        name: Case(
            json.loads(about.item()),
            {
                key.removeprefix(f"{name}/"): x
                for key, x in arrays.items()
                if key.startswith(f"{name}/") and key != f"{name}/about"
            },
        )
        for name, about in abouts.items()
    }
    return versions, cases


def case(name: str) -> Case:
    """Return the case `<family>-<case>`."""
    family, _, rest = name.partition("-")
    return load(family)[1][rest]


def save(family: str, versions: Mapping[str, str], cases: Mapping[str, Case]) -> None:
    """Write a family's file; the same cases give the same bytes."""
    arrays = {"versions": np.array(json.dumps(versions))}
    for name, case in cases.items():
        arrays[f"{name}/about"] = np.array(json.dumps(case.about))
        arrays |= {f"{name}/{key}": value for key, value in case.arrays.items()}
    np.savez_compressed(FOLDER / f"{family}.npz", allow_pickle=False, **arrays)


def noise(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return float64 of mean 0 and variance 1, between -1.74 and 1.74, made of a name and a shape.

    Only the bits of PCG64 are used: NumPy promises those for all versions, not its distributions.
    """
    text = f"{name} {[int(length) for length in shape]}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    bits = np.random.PCG64(seed).random_raw(math.prod(shape)) >> np.uint64(11)
    return ((bits.astype(np.float64) * 2**-52 - 1) * math.sqrt(3)).reshape(shape)


def weights(state: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Return made-up weights and statistics for a state dict's names and shapes.

    Scales and variances lie around 1, biases, means and layer scales around 0; of kernels the
    outputs have about the variance of the inputs.
    """
    return {name: weight(name, shape) for name, shape in state.items()}


def weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return the array of one name."""
    values = noise(name, shape)
    if len(shape) > 1:
        return values / math.sqrt(math.prod(shape[1:]))
    if name.endswith(("running_var", "weight")):
        return 1 + 0.3 * values
    return 0.1 * values


def image(size: Sequence[int]) -> np.ndarray:
    """Return a made-up image [1 h w 3] in float64."""
    return noise("image", (1, *size, 3))


def points(count: int) -> np.ndarray:
    """Return made-up points [count 2] between 0 and 1."""
    return noise("points", (count, 2)) / (2 * math.sqrt(3)) + 0.5


def sample(values: np.ndarray) -> np.ndarray:
    """Return at most `SAMPLES` numbers of an array, evenly spread over its places and channels."""
    step = -(-values.size // SAMPLES)
    while math.gcd(step, values.size) > 1:  # it would pass over some channels or columns
        step += 1
    return values.ravel()[::step]


def projections(gradients: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return two numbers of each gradient in the order of names: along made-up noise, and its norm.

    A gradient differs from the recorded one where its number along noise does, but for a share of
    its norm.
    """
    pairs = [
        (np.vdot(noise(f"along {name}", value.shape), value), np.linalg.norm(value))
        for name, value in sorted(gradients.items())
    ]
    return np.array(pairs)


QUICK = {"xla_backend_optimization_level": 0}
"""Of a compilation without XLA's optimisations, which take longer than what is recorded runs."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `QUICK`ly."""
    return jax.jit(function, compiler_options=QUICK)

"""h5py's files: as Keras writes weights by it, in the old form and the newer one."""

import io
from typing import Any

import numpy as np

from tests.golden.outside import theirs
from tests.outside import recorded

PACKAGES = ("h5py",)
CASES: theirs.Cases = {}
GROUPS = ("layers.conv2d.vars", "layers.conv2d_1.vars", "dense.vars")


def arrays() -> dict[str, np.ndarray]:
    """Return what the files hold, by dotted name."""
    rng = np.random.Generator(np.random.PCG64(0))
    found: dict[str, Any] = {}
    for i, group in enumerate(GROUPS):
        found[f"{group}.0"] = rng.integers(-99, 99, (3, 3, 2, 4 + i)).astype("f4")
        found[f"{group}.1"] = rng.integers(-99, 99, 4 + i).astype("f4")
    found["kinds.big"] = np.arange(5, dtype=">i2")
    found["kinds.half"] = np.arange(3).astype("f2")
    found["kinds.scalar"] = np.array(7, "u8")
    found["kinds.empty"] = np.zeros((0, 3))
    return found


def written(libver: str) -> bytes:
    """Return the bytes of a file of them, with attributes beside."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=libver) as file:
        for name, array in arrays().items():
            file[name.replace(".", "/")] = array
        file["dense/vars"].attrs["name"] = "dense"
    return stream.getvalue()


def case(libver: str) -> recorded.Case:
    """Return the bytes of a file."""
    return recorded.Case({"libver": libver}, {"file": np.frombuffer(written(libver), np.uint8)})


@theirs.register(CASES, "earliest")
def earliest() -> recorded.Case:
    """Return the case of the form that h5py has written by default."""
    return case("earliest")


@theirs.register(CASES, "v108")
def v108() -> recorded.Case:
    """Return the case of the newer form."""
    return case("v108")

"""PyTorch references beside ours: made-up weights, converted, must give the same numbers."""

import functools
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.pretrained import convert

SIZES = ((64, 96), (65, 97))
NAMES = pathlib.Path(__file__).parent / "golden" / "names"
REASON = "PyTorch is not installed: `pip install -r requirements-parity.txt` for parity tests"


def torchvision() -> Any:
    """Return torchvision, which has no CPU build: the missing custom ops are defined by hand."""
    torch = pytest.importorskip("torch", reason=REASON)
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)  # it lasts as long as its object
    return pytest.importorskip("torchvision", reason=REASON)


KEPT: list[Any] = []


def randomize(module: Any, seed: int = 0) -> Any:
    """Give a reference network made-up weights and statistics, in float64 and eval mode."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.copy_(1 + 0.3 * noise.tanh())
            elif tensor.ndim > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.1 * noise)
    return module


def numpy_state(module: Any) -> convert.State:
    """Return a reference network's state dict as NumPy arrays."""
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def variables_from(module: Any, reference: Any, rules: Any, *, channels: int = 3) -> Any:
    """Return our variables with the reference's weights; every leaf must be named by a rule."""
    image = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float64)
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    found = convert.from_torch(numpy_state(reference), shapes, rules)
    return jax.tree.map_with_path(
        lambda path, _: jnp.asarray(found["/".join(str(k.key) for k in path[1:])]), shapes
    )


def image(size: tuple[int, int], *, channels: int = 3, count: int = 2) -> np.ndarray:
    """Return noise [b h w c] in float64."""
    return np.random.default_rng(0).normal(size=(count, *size, channels))


def to_torch(x: np.ndarray) -> Any:
    """Return channels-last NumPy as a channels-first tensor."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-4) -> None:
    """Compare [b h w k] with [b k h w]: largest difference relative to the largest value."""
    expected = np.moveaxis(theirs.detach().numpy(), 1, -1)
    assert ours.shape == expected.shape
    difference = np.abs(np.asarray(ours) - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, difference


def record_names(reference: Any, name: str) -> None:
    """Hold the golden table of a reference's parameter names and shapes, or write it anew.

    `SEGJAX_GOLDEN=write` writes. `tests/pretrained/names.py` checks our rules against the table
    where there is no PyTorch.
    """
    lines = [f"{key} {list(value.shape)}" for key, value in sorted(numpy_state(reference).items())]
    text = "\n".join(line for line in lines if "num_batches_tracked" not in line) + "\n"
    path = NAMES / f"{name}.txt"
    if os.environ.get("SEGJAX_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text

"""PyTorch references beside ours: made-up weights, converted, must give the same numbers."""

import functools
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import resnet
from segjax.pretrained import convert

SIZES = ((64, 96), (65, 97))
NAMES = pathlib.Path(__file__).parent / "golden" / "names"
REASON = "PyTorch is not installed: see requirements-parity.txt"


def torchvision() -> Any:
    """Return torchvision, which has no CPU build: the missing custom ops are declared by hand."""
    pytest.importorskip("torch", reason=REASON)
    from experiments.speed import torch_vision

    torch_vision.declare()
    return pytest.importorskip("torchvision", reason=REASON)


KEPT: list[Any] = []


def detection() -> Any:
    """Return torchvision with the two operators of detectors that its Python part lacks on a CPU.

    ROIAlign is its own form in Python, not compiled; suppression is written by its definition.
    """
    import sys

    vision, torch = torchvision(), pytest.importorskip("torch", reason=REASON)
    align, boxes = sys.modules["torchvision.ops.roi_align"], sys.modules["torchvision.ops.boxes"]
    plain: Any = align
    plain._roi_align = getattr(plain._roi_align, "__wrapped__", plain._roi_align)
    plain.is_compile_supported = lambda device: True
    suppressing: Any = boxes
    suppressing._assert_has_ops = lambda: None
    if not any(kept == "nms" for kept in KEPT):

        def nms(dets: Any, scores: Any, iou_threshold: float) -> Any:
            kept: list[int] = []
            overlaps = vision.ops.box_iou(dets, dets)
            for i in torch.sort(scores, stable=True, descending=True)[1].tolist():
                if not any(overlaps[i, j] > iou_threshold for j in kept):
                    kept.append(i)
            return torch.tensor(kept, dtype=torch.int64)

        library = torch.library.Library("torchvision", "IMPL")
        library.impl("nms", nms, "CPU")
        KEPT.extend([library, "nms"])
    return vision


def randomize(module: Any, seed: int = 0) -> Any:
    """Give a reference network made-up weights and statistics, in float64 and eval mode."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point() or "inv_freq" in name:  # what no file holds
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
    return variables_of(module, numpy_state(reference), rules, channels=channels)


def variables_of(module: Any, state: convert.State, rules: Any, *, channels: int = 3) -> Any:
    """Return our variables with the weights of a state dict."""
    image = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float64)
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    found = convert.from_torch(state, shapes, rules)
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


def one_block_each(reference: Any, monkeypatch: Any) -> Any:
    """Leave one block a stage in the ResNet-18 of a segmentation model, and in ours."""
    monkeypatch.setitem(resnet.BLOCKS, 18, (1, 1, 1, 1))
    for name in ("layer1", "layer2", "layer3", "layer4"):
        setattr(reference.encoder, name, getattr(reference.encoder, name)[:1])
    return reference


def assert_logits_close(
    module: Any, reference: Any, rules: Any, *, size: tuple[int, int], head: Any = lambda y: y
) -> None:
    """Compare the logits of our network in eval mode with theirs in float64.

    Ours in float32 will do where sums are short; XLA convolves float64 40 times as slowly on a CPU.

    Args:
        module: Our network.
        reference: Theirs, after `randomize`.
        rules: The publisher's table.
        size: Of the images.
        head: From the reference's outputs to its logits.
    """
    variables, x = variables_from(module, reference, rules), image(size)
    outputs = jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, x)
    assert_close(outputs.logits, head(reference(to_torch(x))))


def assert_gradients_close(
    module: Any, reference: Any, rules: Any, heads: Any, *, size: tuple[int, int] = (64, 96)
) -> None:
    """Compare gradients of a scalar in train mode, parameter by parameter, to 1e-3 of the largest.

    Args:
        module: Our network in float64, its dropout 0.
        reference: Theirs, after `randomize`; its dropout is set to 0.
        rules: The publisher's table.
        heads: From the reference's outputs to its logits, as many as ours: main, then auxiliary.
        size: Of the images.
    """
    import torch

    for part in reference.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
    variables, x = variables_from(module, reference, rules), jnp.asarray(image(size))
    rng = np.random.default_rng(1)
    logits = heads(reference.train()(to_torch(image(size))))
    slopes = [rng.normal(size=(2, *size, each.shape[1])) for each in logits]
    sum((a * to_torch(b)).sum() for a, b in zip(logits, slopes, strict=True)).backward()
    state = {name: value.grad.numpy() for name, value in reference.named_parameters()}

    @jax.jit
    @jax.grad
    def gradient(params):
        held = {**variables, "params": params}
        outputs, _ = module.apply(held, x, train=True, mutable=["batch_stats"])
        ours = (outputs.logits, *outputs.aux)
        return sum(jnp.vdot(a, b) for a, b in zip(ours, slopes, strict=True))

    ours = jax.device_get(gradient(variables["params"]))
    theirs = convert.from_torch(state, {"params": ours}, rules)
    # What normalisation cancels is zero but for rounding: no tensor is measured by less than this.
    floor = 1e-6 * max(np.abs(value).max() for value in theirs.values())
    for path, value in convert.leaves({"params": ours}):
        scale = max(np.abs(theirs[path]).max(), floor)
        assert np.abs(value - theirs[path]).max() <= 1e-3 * scale, path


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

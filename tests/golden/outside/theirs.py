"""Run other people's networks on the weights and images of `tests/outside/recorded.py`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.outside import recorded

Cases = dict[str, Callable[[], recorded.Case]]
"""What a family's script records, by name."""


def register(cases: Cases, name: str) -> Callable[[Callable[[], recorded.Case]], Any]:
    """Return a decorator that adds a function to a family's cases."""

    def add(make: Callable[[], recorded.Case]) -> Callable[[], recorded.Case]:
        cases[name] = make
        return make

    return add


def fill(network: Any, names: Mapping[str, str] | None = None) -> dict[str, list[int]]:
    """Give a network the weights of its names, in float64 and eval mode; return names and shapes.

    Args:
        network: Theirs.
        names: The published names by those that its state dict has, where they differ.
    """
    import torch

    network.double().eval()
    state = {}
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                published = names[name] if names else name
                state[published] = list(tensor.shape)
                tensor.copy_(torch.from_numpy(recorded.weight(published, state[published])))
    return state


def tensor(x: np.ndarray) -> Any:
    """Return channels-last NumPy as a channels-first tensor."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def array(x: Any) -> np.ndarray:
    """Return a channels-first tensor as channels-last NumPy."""
    return np.ascontiguousarray(np.moveaxis(x.detach().numpy(), 1, -1))


def network(
    state: Mapping[str, Sequence[int]],
    size: Sequence[int],
    forward: Callable[[Any], Any],
) -> recorded.Case:
    """Return the case of a filled network's outputs for the image of `size`.

    Args:
        state: What `fill` returned.
        size: Of the image.
        forward: From the image to one tensor [1 c h w], or several in our order.
    """
    import torch

    with torch.no_grad():
        outputs = forward(tensor(recorded.image(size)))
    outputs = [array(x) for x in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]
    shapes = [list(x.shape) for x in outputs]
    arrays = {str(i): recorded.sample(x) for i, x in enumerate(outputs)}
    return recorded.Case({"state": state, "size": size, "shapes": shapes}, arrays)


def gradients(
    network: Any,
    size: Sequence[int],
    forward: Callable[[Any], Sequence[Any]],
    *,
    names: Mapping[str, str] | None = None,
) -> recorded.Case:
    """Return the case of a network's gradients in train mode, without dropout.

    They are those of the logits' sum along made-up noise.

    Args:
        network: Theirs.
        size: Of the images, of which there are two.
        forward: From the images to logits, as many as ours: main, then auxiliary.
        names: As for `fill`.
    """
    import torch

    state = fill(network, names)
    for part in network.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
    network.train()
    logits = forward(tensor(recorded.noise("images", (2, *size, 3))))
    slopes = [tensor(recorded.noise(f"slope {i}", array(x).shape)) for i, x in enumerate(logits)]
    sum((x * slope).sum() for x, slope in zip(logits, slopes, strict=True)).backward()
    found = {
        names[name] if names else name: value.grad.numpy()
        for name, value in network.named_parameters()
        if value.grad is not None  # what no output is made of
    }
    return recorded.Case(
        {"state": state, "size": size}, {"projections": recorded.projections(found)}
    )


def function(about: Mapping[str, Any], **arrays: Any) -> recorded.Case:
    """Return the case of a function: its options, and its inputs and outputs whole."""
    return recorded.Case(about, {name: np.asarray(x) for name, x in arrays.items()})


def scene(*, classes: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits [b 3 5 k] and labels, uint8, with void ones; every class occurs in each."""
    logits = 3 * recorded.noise("logits", (images, 3, 5, classes))
    label = np.arange(images * 15).reshape(images, 3, 5) % classes
    label[:, 1, ::2] = 255
    return logits, label.astype(np.uint8)

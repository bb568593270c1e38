"""What of an image a number of a network's scores comes from: by gradients, and by hiding parts."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from segjax.explain.network import Input, Net, Objective, Passes, resized

AT_ONCE = 8
"""Inputs that go through the network together."""
COMPLETE = 0.01
"""What attributions may miss of the difference that they share out."""
MOST_STEPS = 512

Tell = Callable[[], None]


def quiet() -> None:
    """Tell nobody."""


def grad_cam(
    net: Net, x: Input, objective: Objective, *, module: str
) -> Float[np.ndarray, "*space"]:
    """Return where a module's features speak for the objective: at least 0, at the input's size.

    Seg-Grad-CAM (Vinogradova, Dibrov and Myers 2020, arXiv:2002.11434, equation 2): features are
    weighted by the mean over places of the objective's gradient, added up, and what is below 0 is
    cut off.

    Args:
        net: Of what is explained.
        x: One image [1 *space c].
        objective: Of its scores.
        module: The path of a module, see `network.choose`.
    """

    run = net.passes.once(("gradcam", module), lambda: _make_cam(net.passes, module))
    return np.asarray(run(net.variables, x, objective))


def _make_cam(passes: Passes, module: str) -> Callable[..., jax.Array]:
    def cam(variables: Any, x: Input, objective: Objective) -> jax.Array:
        def explained(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
            seen: list[jax.Array] = []

            def listen(path: str, output: jax.Array) -> jax.Array:
                if path != module:
                    return output
                seen.append(output)
                return output + shift

            scores = passes.scores(variables, x, listen=listen)
            return objective(scores)[0], seen[0]

        # A shift of 0 has the gradient of the features themselves.
        shape = jax.eval_shape(lambda: explained(jnp.zeros(()))[1])
        shift = jnp.zeros(shape.shape, shape.dtype)
        gradient, features = jax.grad(explained, has_aux=True)(shift)
        weights = gradient.mean(axis=tuple(range(1, gradient.ndim - 1)), keepdims=True)
        shown = jax.nn.relu((features * weights).sum(axis=-1, keepdims=True))[0]
        return resized(shown, x.shape[1:-1])[..., 0]

    return cam


class Integrated(NamedTuple):
    """Integrated gradients, and how complete they are.

    Attributes:
        map: Of each pixel, its channels added up [*space].
        total: The objective of the image less that of the baseline, which they share out.
        missing: By how much their sum differs from it, as a share of it.
        steps: Points of the path at which gradients were taken.
    """

    map: Float[np.ndarray, "*space"]
    total: float
    missing: float
    steps: int


def integrated_gradients(
    net: Net,
    x: Input,
    objective: Objective,
    *,
    baseline: Input,
    steps: int = 32,
    most: int = MOST_STEPS,
    tell: Tell = quiet,
) -> Integrated:
    """Share out the objective among pixels by gradients along the way from a baseline.

    Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv:1703.01365, equation 1) with the
    points of Gauss and Legendre. Steps are doubled until the shares miss at most 1 % of the
    difference of image and baseline (their axiom of completeness), or there are `most`.

    Args:
        net: Of what is explained.
        x: One image [1 *space c].
        objective: Of its scores.
        baseline: An image of which nothing is to be seen.
        steps: The first number of points.
        most: The last.
        tell: Called after each of `AT_ONCE` points.
    """
    first, other = _values(net, jnp.concatenate([x, baseline]), objective).tolist()
    total = first - other
    while True:
        points, weights = np.polynomial.legendre.leggauss(steps)
        mean = np.zeros(x.shape[1:], np.float64)
        for chosen in _chunks(steps):
            at = jnp.asarray((1 + points[chosen]) / 2, x.dtype)
            along = baseline + at.reshape(-1, *[1] * (x.ndim - 1)) * (x - baseline)
            found = net.gradient(along, objective).astype(np.float64)
            mean += np.tensordot(weights[chosen] / 2, found, axes=1)
            tell()
        shares = (mean * np.asarray((x - baseline)[0], np.float64)).sum(axis=-1)
        missing = abs(shares.sum() - total) / max(abs(total), 1e-12)
        if missing <= COMPLETE or 2 * steps > most:
            return Integrated(shares.astype(np.float32), total, float(missing), steps)
        steps *= 2


def occlusion(
    net: Net,
    x: Input,
    objective: Objective,
    *,
    baseline: Input,
    window: Sequence[int],
    stride: Sequence[int],
    tell: Tell = quiet,
) -> Float[np.ndarray, "*space"]:
    """Return by how much the objective falls where a window of the image is hidden.

    Zeiler and Fergus 2014 (arXiv:1311.2901, section 4.2); a pixel has the mean over the windows
    that hide it.

    Args:
        net: Of what is explained.
        x: One image [1 *space c].
        objective: Of its scores.
        baseline: What is seen in the place of what is hidden.
        window: Its sides.
        stride: How far windows are apart; not more than their sides.
        tell: Called after each of `AT_ONCE` windows.
    """
    before, whole = float(_values(net, x, objective)[0]), x.shape[1:-1]
    total, count = np.zeros(whole), np.zeros(whole)
    places = windows(whole, window, stride)
    for chosen in _chunks(len(places)):
        own = places[chosen]
        hidden = np.zeros((AT_ONCE, *whole, 1), bool)  # one shape: compiled once
        for number, place in enumerate(own):
            hidden[(number, *place)] = True
        after = net.value(jnp.where(hidden, baseline, x), objective)
        for place, score in zip(own, after, strict=False):
            total[place] += before - score
            count[place] += 1
        tell()
    return (total / np.maximum(count, 1)).astype(np.float32)


def windows(
    whole: Sequence[int], window: Sequence[int], stride: Sequence[int]
) -> list[tuple[slice, ...]]:
    """Return the places of windows that cover an image; the last of an axis may be cut off."""
    axes = [
        [
            slice(start * step, min(start * step + side, length))
            for start in range(1 + max(0, -(-(length - side) // step)))
        ]
        for length, side, step in zip(whole, window, stride, strict=True)
    ]
    return list(itertools.product(*axes))


def rounds(count: int) -> int:
    """Return how often `tell` is called for so many points or windows."""
    return -(-count // AT_ONCE)


def _values(net: Net, images: Input, objective: Objective) -> Float[np.ndarray, " b"]:
    """Return the objective of a few images, in a batch of `AT_ONCE`: one shape is compiled."""
    more = AT_ONCE - len(images)
    rows = jnp.concatenate([images, jnp.broadcast_to(images[:1], (more, *images.shape[1:]))])
    return net.value(rows, objective)[: len(images)]


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + AT_ONCE) for start in range(0, count, AT_ONCE)]

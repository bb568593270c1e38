"""The methods of `--mode=explain`: from an image and what is asked of it to maps on its grid."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from segjax.explain import attribution, network, rollout, sanity
from segjax.explain.attribution import Tell
from segjax.explain.draw import Kind
from segjax.explain.network import Input, Net, Objective
from segjax.explain.seen import Seen, Target

COMPONENTS = 3


@dataclasses.dataclass(frozen=True)
class Options:
    """What else the methods are told.

    Attributes:
        module: Whose features are looked at; empty: see `network.choose`.
        baseline: 'mean': what is 0 after `config.normalize`, the mean colour as a rule; 'black'.
        window: Side of what occlusion hides, in pixels that the network sees; 0: an eighth.
        stride: How far apart these are; 0: half of it.
        steps: Of integrated gradients, at first.
        members: Of MC dropout.
    """

    module: str = ""
    baseline: str = "mean"
    window: int = 0
    stride: int = 0
    steps: int = 32
    members: int = 8


@dataclasses.dataclass(frozen=True)
class Asked:
    """One image and what is asked of it.

    Attributes:
        seen: The image in a window.
        x: What the network sees [1 *window c].
        black: The same of an image of zeros.
        target: What is asked.
        region: The target's pixels in the window.
        options: See `Options`.
        tell: Called as a long method goes on.
    """

    seen: Seen
    x: Input
    black: Input
    target: Target
    region: np.ndarray
    options: Options
    tell: Tell = attribution.quiet

    @property
    def objective(self) -> Objective:
        """The mean score of the class over its region."""
        return network.objective_of(self.target.number, self.region)

    @property
    def baseline(self) -> Input:
        """An image of which nothing is to be seen."""
        return self.black if self.options.baseline == "black" else jnp.zeros_like(self.x)


class Map(NamedTuple):
    """What a method found.

    Attributes:
        values: On the image's grid, float32 [*space], of 'colours' [*space 3].
        kind: How it is drawn.
        facts: Numbers that belong to it.
    """

    values: Float[np.ndarray, "..."]
    kind: Kind
    facts: Mapping[str, Any] = {}


Method = Callable[[Net, Asked], Map]


def gradcam(net: Net, asked: Asked) -> Map:
    """Return Seg-Grad-CAM, see `attribution.grad_cam`."""
    module = network.choose(net, asked.x, asked.options.module).path
    found = attribution.grad_cam(net, asked.x, asked.objective, module=module)
    return Map(_on_image(found, asked), "above", {"module": module})


def integrated_gradients(net: Net, asked: Asked) -> Map:
    """Return integrated gradients, see `attribution.integrated_gradients`."""
    found = attribution.integrated_gradients(
        net, asked.x, asked.objective, baseline=asked.baseline, steps=asked.options.steps,
        tell=asked.tell,
    )  # fmt: skip
    facts = {"sum_expected": found.total, "missing": found.missing, "steps": found.steps}
    return Map(_on_image(found.map, asked), "signed", facts)


def occlusion(net: Net, asked: Asked) -> Map:
    """Return what hiding windows costs, see `attribution.occlusion`."""
    window, stride = sides_of(asked)
    found = attribution.occlusion(
        net, asked.x, asked.objective, baseline=asked.baseline, window=window, stride=stride,
        tell=asked.tell,
    )  # fmt: skip
    facts = {"window": list(window), "stride": list(stride)}
    return Map(_on_image(found, asked), "signed", facts)


def sides_of(asked: Asked) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return sides and stride of the windows of occlusion along each axis."""
    own = asked.options
    window = [min(own.window or max(4, side // 8), side) for side in asked.seen.window]
    stride = [min(own.stride or max(1, side // 2), side) for side in window]
    return tuple(window), tuple(stride)


def rolled_out(net: Net, asked: Asked) -> Map:
    """Return attention rollout from the target's region, see `rollout.rollout`."""
    layers = rollout.steps(net, asked.x)
    found = rollout.rollout(layers, asked.region)
    whole = network.resized(jnp.asarray(found)[..., None], asked.seen.window)[..., 0]
    return Map(_on_image(np.asarray(whole), asked), "above", {"layers": len(layers)})


def features(net: Net, asked: Asked) -> Map:
    """Return the three main components of a module's features, as the image's own varies most."""
    module = network.choose(net, asked.x, asked.options.module).path
    found = np.asarray(network.features(net, asked.x, module)[0], np.float64)
    components, shares = principal(found.reshape(-1, found.shape[-1]))
    shown = components.reshape(*found.shape[:-1], COMPONENTS)
    whole = np.asarray(network.resized(jnp.asarray(shown, jnp.float32), asked.seen.window))
    facts = {"module": module, "variance": shares.round(4).tolist()}
    return Map(asked.seen.on_image(whole), "colours", facts)


def principal(values: Float[np.ndarray, "n f"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the main components of features [n 3], and their shares of the variance [3].

    Of fewer features the others are 0. The largest loading of a component is above 0.
    """
    centred = values - values.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :COMPONENTS]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    shares = np.maximum(variances[::-1][:COMPONENTS], 0) / max(variances.sum(), 1e-30)
    missing = COMPONENTS - axes.shape[1]
    return np.pad(centred @ axes, ((0, 0), (0, missing))), np.pad(shares, (0, missing))


ATTRIBUTIONS: dict[str, Method] = {
    "gradcam": gradcam,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "rollout": rolled_out,
    "features": features,
}
"""Methods that look into a network; each is made again of weights that have learned nothing."""
UNCERTAINTIES = ("tta", "dropout", "ensemble")
"""Methods that ask several members, see `uncertainty`."""


def maps(net: Net, asked: Asked, method: str) -> Iterator[tuple[str, Map]]:
    """Yield the map of a method, and that of a network that has learned nothing, `<method>_random`.

    The second has as `likeness` how much the first looks like it.
    """
    make = ATTRIBUTIONS[method]
    found = make(net, asked)
    yield method, found
    other = make(sanity.randomized(net, asked.x), asked)
    like = {"likeness": sanity.likeness(found.values, other.values)}
    yield f"{method}_random", other._replace(facts={**other.facts, **like})


def _on_image(values: np.ndarray | jax.Array, asked: Asked) -> np.ndarray:
    return asked.seen.on_image(np.asarray(values)[..., None])[..., 0]

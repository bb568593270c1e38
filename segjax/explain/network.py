"""A network as what is asked about: its scores as a function, and what its modules return."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.tasks.base import DenseTask

COARSEST = 32
"""The largest stride of features by default: what is coarser was pooled over the whole image."""

Input = Float[Array, "b *space c"]
Listen = Callable[[str, Any], Any]
"""`(path, output) → output` of a module whenever one was called."""


class Objective(NamedTuple):
    """What is explained of scores: the mean of a class over a region, one number for each image.

    Attributes:
        number: The class, int32.
        region: 1 in the region and 0 elsewhere, float32 [*space], at the size that is seen.
    """

    number: Any
    region: Any

    def __call__(self, scores: Float[Array, "b *space k"]) -> Float[Array, " b"]:
        """Return it of the scores of some images."""
        own = jnp.take(scores, self.number, axis=-1) * self.region
        return own.sum(axis=tuple(range(1, own.ndim))) / self.region.sum()


def objective_of(number: int, region: np.ndarray) -> Objective:
    """Return the objective of a class and a region, bool [*space]."""
    return Objective(jnp.int32(number), jnp.asarray(region, jnp.float32))


class Passes:
    """What a network computes of any weights, each compiled once for a size of images.

    Args:
        model: The network.
        task: Says what its outputs are worth.
        options: Of XLA.

    Attributes:
        value: `(variables, x, objective) → numbers [b]`.
        gradient: Of their sum, by `x`.
    """

    def __init__(self, model: nn.Module, task: DenseTask, options: Mapping[str, Any] | None = None):
        self.model, self.task = model, task
        self.jit = functools.partial(jax.jit, compiler_options=dict(options or {}) or None)

        def value(variables: Any, x: Input, objective: Objective) -> jax.Array:
            return objective(self.scores(variables, x))

        def total(x: Input, variables: Any, objective: Objective) -> jax.Array:
            return value(variables, x, objective).sum()

        self.value, self._gradient = self.jit(value), self.jit(jax.grad(total))
        self.compiled: dict[Any, Any] = {}

    def gradient(self, variables: Any, x: Input, objective: Objective) -> jax.Array:
        """Return the gradient of the objective of each image by that image."""
        return self._gradient(x, variables, objective)

    def once(self, name: Any, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """Return a function that was made and compiled before under that name, or is now."""
        if name not in self.compiled:
            self.compiled[name] = self.jit(make())
        return self.compiled[name]

    def scores(
        self, variables: Any, x: Input, *, listen: Listen | None = None
    ) -> Float[Array, "b *space k"]:
        """Return the scores that are compared to decide for a class, float32; logits as a rule.

        Args:
            variables: `{'params', 'batch_stats'}`.
            x: What the network sees.
            listen: Hears, and may change, what each module returns.
        """

        def call(method: Callable, arguments: Any, options: Any, context: Any) -> Any:
            output = method(*arguments, **options)
            if listen is None or context.method_name != "__call__":
                return output
            return listen("/".join(context.module.path), output)

        with nn.intercept_methods(call):
            return self.task.scores(self.model.apply(variables, x, train=False))


@dataclasses.dataclass(frozen=True)
class Net:
    """A network with its weights, which sees what `normalize` made of images.

    Attributes:
        passes: What it computes.
        variables: `{'params', 'batch_stats'}`.
    """

    passes: Passes
    variables: Mapping[str, Any]

    def value(self, x: Input, objective: Objective) -> np.ndarray:
        """Return the objective of each image."""
        return np.asarray(self.passes.value(self.variables, x, objective))

    def gradient(self, x: Input, objective: Objective) -> np.ndarray:
        """Return its gradient by each image."""
        return np.asarray(self.passes.gradient(self.variables, x, objective))


def make(model: nn.Module, task: DenseTask, variables: Mapping[str, Any]) -> Net:
    """Return a network to be asked, which computes in float32 and keeps what it computes.

    With rematerialisation what its modules return could not be seen.
    """
    own: Any = model
    changed = {"remat": "none", "compute_dtype": "float32"}
    known = {name: value for name, value in changed.items() if hasattr(own, name)}
    return Net(Passes(own.clone(**known) if known else own, task), variables)


class Features(NamedTuple):
    """What a module returns that has the axes of an image.

    Attributes:
        path: Of the module, such as 'encoder/stem'.
        shape: Of what it returns.
    """

    path: str
    shape: tuple[int, ...]


def modules(net: Net, x: Input) -> list[Features]:
    """Return the modules that make features with the axes of the image, in the order they end.

    Those that are called several times are left out, and dropout, which does nothing here. Nothing
    is computed.
    """
    found: dict[str, list[tuple[int, ...]]] = {}

    def listen(path: str, output: Any) -> Any:
        shape = getattr(output, "shape", ())
        found.setdefault(path, []).append(tuple(shape))
        return output

    jax.eval_shape(lambda x: net.passes.scores(net.variables, x, listen=listen), x)
    return [
        Features(path, shapes[0])
        for path, shapes in found.items()
        if path and len(shapes) == 1 and len(shapes[0]) == x.ndim
        if not path.rpartition("/")[2].startswith("Dropout_")
    ]


def choose(net: Net, x: Input, path: str) -> Features:
    """Return the module of a path; without one the last of those with the coarsest features.

    Vinogradova et al. 2020 find that these, at the bottleneck, say most of what a network looks
    for. Features beyond a stride of 32 do not count: they were pooled over the whole image.

    Raises:
        ConfigError: There is no such module, or none that makes features.
    """
    known = modules(net, x)
    if path:
        names = [each.path for each in known]
        if path not in names:
            raise ConfigError(
                f"--module={path}: no module that returns features of the image's axes once."
                f"{lookup.suggest(path, names)} See --mode=summary."
            )
        return known[names.index(path)]
    least = [-(-side // COARSEST) for side in x.shape[1:-1]]
    large = [f for f in known if all(a >= b for a, b in zip(f.shape[1:-1], least, strict=True))]
    large = [each for each in large if min(each.shape[1:-1]) > 1] or large
    if not large:
        raise ConfigError(
            "--method: the network has no module that returns features of the image's axes, as "
            "gradcam and features need. Choose another method."
        )
    coarsest = min(_pixels(each.shape) for each in large)
    return [each for each in large if _pixels(each.shape) == coarsest][-1]


def features(net: Net, x: Input, path: str) -> Float[Array, "b *cells f"]:
    """Return what a module makes of images."""

    def make() -> Callable[..., Any]:
        def run(variables: Any, x: Input) -> Any:
            seen: list[Any] = []

            def listen(here: str, output: Any) -> Any:
                seen.extend([output] * (here == path))
                return output

            net.passes.scores(variables, x, listen=listen)
            return seen[0]

        return run

    return net.passes.once(("features", path), make)(net.variables, x)


def resized(values: Float[Array, "*cells f"], size: Sequence[int]) -> Float[Array, "*space f"]:
    """Return maps at another size, linearly between the middles of cells."""
    return jax.image.resize(values.astype(jnp.float32), (*size, values.shape[-1]), "linear")


def _pixels(shape: Sequence[int]) -> int:
    return math.prod(shape[1:-1])

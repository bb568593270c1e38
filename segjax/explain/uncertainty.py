"""How sure a network is; whether the image is ambiguous, or the network knows too little."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float

from segjax.errors import ConfigError
from segjax.inference.outputs.maps import by_rows, entropy
from segjax.inference.predictor import Image, Predictor
from segjax.layers import conv
from segjax.runtime import quirks

Member = Callable[[Image], Float[np.ndarray, "*space k"]]
"""Predicts the probabilities of an image."""


class Uncertainty(NamedTuple):
    """How sure some members are together, as shares of the largest entropy of k classes.

    Attributes:
        entropy: Of their mean prediction: all that is not known.
        expected: Their mean entropy: what each of them finds ambiguous (aleatoric).
        mutual: The difference: what they disagree about (epistemic), the mutual information of
            prediction and member (Houlsby et al. 2011; Gal, Islam and Ghahramani 2017).
        mean: Their mean prediction [*space k].
    """

    entropy: Float[np.ndarray, "*space"]
    expected: Float[np.ndarray, "*space"]
    mutual: Float[np.ndarray, "*space"]
    mean: Float[np.ndarray, "*space k"]


def of_members(found: Iterator[Float[np.ndarray, "*space k"]]) -> Uncertainty:
    """Return how sure members are whose probabilities come one after the other."""
    first = next(found)
    total, expected, count = first.astype(np.float64), by_rows(first, entropy), 1
    for probabilities in found:
        total += probabilities
        expected = expected + by_rows(probabilities, entropy)
        count += 1
    mean = (total / count).astype(np.float32)
    whole, expected = by_rows(mean, entropy), (expected / count).astype(np.float32)
    return Uncertainty(whole, expected, np.maximum(whole - expected, 0), mean)


def flips(predictor: Predictor, dims: int) -> list[Member]:
    """Return the image and its mirror images as members, their answers turned back.

    Along the last two axes in space, or of a signal the one: test-time augmentation (Wang et al.
    2019, doi:10.1016/j.neucom.2019.01.103).
    """
    axes = range(max(0, dims - 2), dims)
    sets = [
        tuple(a for a in axes if chosen >> (a - axes[0]) & 1) for chosen in range(2 ** len(axes))
    ]

    def member(flipped: tuple[int, ...]) -> Member:
        def ask(image: Image) -> np.ndarray:
            found = predictor(np.ascontiguousarray(np.flip(np.asarray(image), flipped)))
            return np.flip(found.probabilities(), flipped)

        return ask

    return [member(flipped) for flipped in sets]


class Dropping(nn.Module):
    """A network whose dropout stays on when it predicts, by a key among its variables.

    MC dropout (Gal and Ghahramani 2016, arXiv:1506.02142). Batch norm and all else are as ever.

    Attributes:
        model: The network.
    """

    model: nn.Module

    @property
    def compute_dtype(self) -> str:
        """That of the network."""
        model: Any = self.model
        return model.compute_dtype

    @nn.nowrap
    def apply(self, variables: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """Return what `model.apply` does, having dropped what the key in `variables` says."""
        own = {name: tree for name, tree in variables.items() if name != "dropout"}

        def call(method: Callable, arguments: Any, given: Any, context: Any) -> Any:
            if isinstance(context.module, nn.Dropout):
                quirks.set_field(context.module, "deterministic", False)
            elif isinstance(context.module, conv.DropPath) and context.method_name == "__call__":
                given = {**given, "train": True}
            return method(*arguments, **given)

        key = jax.random.wrap_key_data(variables["dropout"])
        with nn.intercept_methods(call):
            return self.model.apply(own, *args, rngs={"dropout": key}, **options)


def keys(count: int) -> list[jax.Array]:
    """Return so many keys for `Dropping`, the same ones every time."""
    return [jax.random.key_data(key) for key in jax.random.split(jax.random.key(0), count)]


def check_drops(members: Sequence[Float[np.ndarray, "*space k"]]) -> None:
    """Raise `ConfigError` where two members of MC dropout are alike: there is nothing to drop."""
    if np.array_equal(members[0], members[1]):
        raise ConfigError(
            "--method=dropout: the network of this run drops nothing, so all its members are the "
            "same. Train with config.model.dropout above 0, or use --method=tta or ensemble."
        )

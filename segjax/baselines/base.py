"""What all classical methods share, and how a run holds one where others hold a network.

A method is built like a model, from `config.model`, and its fitted numbers are arrays of shapes
that the config decides: they are saved, restored and hashed as the parameters of a network are, and
nothing of another library is ever unpickled.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32

from segjax.config import lookup, rules
from segjax.data import components, masks
from segjax.errors import ConfigError, DataError, extra
from segjax.inference.predictor import Image
from segjax.structs import IGNORE_LABEL, Objects

Numbers = Mapping[str, np.ndarray]
"""What was fitted, float32."""


class Seen(NamedTuple):
    """One example that a method is fitted to.

    Attributes:
        image: [*space c], in its own type.
        label: Classes 0..K-1 [*space], 255 where void.
    """

    image: Image
    label: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """A method that segments an image at its own size, by a few numbers fitted to examples.

    Attributes:
        examples: How many of the training split it is fitted to, spread evenly over it.
        smallest: The fewest pixels of an object, where objects are found.
        num_classes: Of the data.
    """

    outputs: ClassVar[str] = "logits"
    """What a task takes from it: probabilities of classes stand for logits."""
    compute_dtype: ClassVar[str] = "float32"
    dims: ClassVar[Sequence[int]] = (1, 2, 3)
    """The axes in space that images may have."""
    channels: ClassVar[Sequence[int]] = ()
    """The channels that images may have; empty: any."""

    examples: Annotated[int, rules.whole(1)] = 100
    smallest: Annotated[int, rules.whole(1)] = 8
    num_classes: int

    @abc.abstractmethod
    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array that `fit` makes, for images of so many channels."""

    @abc.abstractmethod
    def fit(self, examples: Iterable[Seen], *, seed: int) -> dict[str, np.ndarray]:
        """Return the method's numbers, float32, having seen each example once.

        Args:
            examples: Of the training split.
            seed: Decides all that is drawn.

        Raises:
            DataError: Nothing can be learned of these examples.
        """

    @abc.abstractmethod
    def predict(self, numbers: Numbers, image: Image) -> Float[np.ndarray, "*space k"]:
        """Return the probability of each class of each pixel of an image [*space c], float32."""

    def divide(self, mask: Bool[np.ndarray, "*space"]) -> Int32[np.ndarray, "*space"]:
        """Return of which object each pixel of a class is, 1, 2, …, and 0 outside of the class.

        Those that touch are one, unless a method knows better.
        """
        return components.find(mask)[0]

    def find(self, numbers: Numbers, image: Image, *, things: Sequence[int]) -> Objects:
        """Return the objects of some classes; no method says how sure it is, so all scores are 1.

        Args:
            numbers: What was fitted.
            image: [*space c].
            things: The classes that are counted object by object.
        """
        classes = self.predict(numbers, image).argmax(axis=-1)
        found = np.zeros(classes.shape, np.int32)
        about: dict[int, masks.About] = {}
        for thing in things:
            own = self.divide(classes == thing)
            own[np.bincount(own.ravel())[own] < self.smallest] = 0
            found = np.where(own > 0, own + found.max(initial=0), found)
            about |= {int(n): masks.About(thing) for n in np.unique(found) if n and n not in about}
        return masks.of_map(found, about)

    def check(self, *, dims: int, channels: int) -> None:
        """Refuse images that the method cannot see.

        Raises:
            ConfigError: Their axes or channels; or scikit-image is not installed.
        """
        with extra("classical", what=f"config.model.type={title(self)!r}"):
            import skimage  # noqa: F401
        if dims not in self.dims:
            raise ConfigError(
                f"config.model.type={title(self)!r}: segments images of {_either(self.dims)} axes "
                f"in space, and these have {dims}. Use another method, or a network."
            )
        if self.channels and channels not in self.channels:
            raise ConfigError(
                f"config.model.type={title(self)!r}: sees grey or RGB images, of "
                f"{_either(self.channels)} channels, and these have {channels}. Use "
                "'classical:kmeans' or 'classical:random_forest', which take any, or a network."
            )

    def init(self, key: Any, image: Any, *, train: bool) -> dict[str, dict[str, jax.Array]]:
        """Return numbers that are not fitted yet as a network returns its variables.

        Args:
            key: Not used.
            image: [b *space c], or its shape.
            train: Not used.

        Raises:
            ConfigError: As `check`.
        """
        del key, train
        self.check(dims=len(image.shape) - 2, channels=image.shape[-1])
        shapes = self.shapes(image.shape[-1])
        return {"params": {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}}

    def apply(self, *arguments: Any, **options: Any) -> Any:
        """Raise `ConfigError`: what asks for a network's outputs cannot have them of a method."""
        del arguments, options
        raise ConfigError(
            f"config.model.type={title(self)!r}: is a classical method, which is fitted, scored "
            "and asked for predictions, and has no network to train, export, count or explain. Use "
            "a network here."
        )


def title(method: Method) -> str:
    """Return the `type` by which a config names a method."""
    return f"classical:{lookup.snake_case(type(method).__name__)}"


def is_method(section: Mapping[str, Any]) -> bool:
    """Return whether the section `config.model` names a classical method."""
    return str(section.get("type", "")).partition(":")[0] == "classical"


def check_network(model: Any) -> None:
    """Refuse a classical method where a network is trained on, looked into or written out.

    Raises:
        ConfigError: It is one.
    """
    if isinstance(model, Method):
        model.apply()


ALONE = (("flips", ()), ("scales", (1.0,)), ("short_side", 0))


def check_config(config: Mapping[str, Any], *, multilabel: bool) -> None:
    """Refuse what a config asks of a network and no method does.

    Raises:
        ConfigError: The first such key.
    """
    type_ = config["model"]["type"]
    if multilabel:
        raise ConfigError(
            f"config.model.type={type_!r}: gives every pixel one class, and those of config.task "
            "overlap (multi-label). Use a network."
        )
    for key, alone in ALONE:
        value = config["inference"][key]
        if (tuple(value) if isinstance(alone, tuple) else value) != alone:
            raise ConfigError(
                f"config.inference.{key}={rules.shown(value)}: is how a network sees images, and "
                f"{type_!r} sees each once, at its own size. Set it to {rules.shown(alone)}."
            )
    if config["input"]["spacing"]:
        raise ConfigError(
            f"config.input.spacing={rules.shown(config['input']['spacing'])}: brings images to a "
            f"network's spacing, and {type_!r} sees each on its own grid. Set it to []."
        )


def samples(
    values: Float[np.ndarray, "*space f"],
    label: np.ndarray,
    *,
    most: int,
    draw: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return values [n f] and classes [n] of at most so many pixels of an image, none of them void.

    Args:
        values: What is known of each pixel.
        label: Of the image.
        most: Pixels.
        draw: Chooses them.
    """
    inside = np.flatnonzero(label.ravel() != IGNORE_LABEL)
    chosen = draw.permutation(inside)[:most]
    return values.reshape(-1, values.shape[-1])[chosen], label.ravel()[chosen]


def together(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples of several images as one.

    Raises:
        DataError: There is none.
    """
    if not sum(len(classes) for _, classes in found):
        raise DataError(
            "config.model: there is nothing to fit: every pixel of the examples is void. Use "
            "another config.input.split, or more config.model.examples."
        )
    values, classes = zip(*found, strict=True)
    return np.concatenate(values), np.concatenate(classes)


def shares(groups: np.ndarray, classes: np.ndarray, *, count: int, num_classes: int) -> np.ndarray:
    """Return the share of each class in each of `count` groups, float32 [count k].

    A group without a pixel has the shares of all pixels.
    """
    counts = np.zeros((count, num_classes))
    np.add.at(counts, (groups, classes.astype(np.int64)), 1)
    counts[counts.sum(axis=1) == 0] = counts.sum(axis=0)
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))

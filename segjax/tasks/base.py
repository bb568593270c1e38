"""What the loop, the step and evaluation know of a task; what tasks with a loss of pixels share."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Integer

from segjax import structs
from segjax.config import annotations, kinds, lookup, rules
from segjax.errors import ConfigError
from segjax.losses.base import Loss, as_loss
from segjax.structs import Batch, Key, Kind, Label, Labels, Objects, Scalar, Term
from segjax.tasks import balance

Outputs = Any
"""What a model returns: a pytree that only its task opens."""
Step: TypeAlias = Int32[Array, ""] | int
"""Of the optimiser."""


@runtime_checkable
class Task(Protocol):
    """What a run does with a model's outputs.

    Attributes:
        needs: The fields of a batch that it reads beside `image`, and of what kind they must be.
        num_classes: Of the model's answers: all classes of the data, or those that it finds.
    """

    needs: Mapping[str, Kind]
    num_classes: int

    def inputs(self, batch: Batch, key: Key, step: Step) -> dict[str, Any]:
        """Return what the model is given beside the image in training, by name.

        Most get nothing. What finds objects may be given the true ones to choose proposals by, each
        example with a key of its own; `step` counts the optimiser's steps.
        """
        ...

    def weights(self, batch: Batch) -> dict[str, Scalar]:
        """Return the weights that labels alone decide, over all of `batch`."""
        ...

    def loss(self, outputs: Outputs, batch: Batch, key: Key) -> dict[str, Term]:
        """Return the terms of the loss; `key` is for what is drawn, such as proposals."""
        ...


@runtime_checkable
class DenseTask(Task, Protocol):
    """A task with a score for every pixel and class, so that windows can be joined."""

    def scores(self, outputs: Outputs) -> Float[Array, "b *space k"]:
        """Return what may be resized and blended before the largest is chosen, float32."""
        ...

    def probabilities(self, scores: Float[Array, "*space k"]) -> Float[Array, "*space k"]:
        """Return the probability of each class that scores stand for."""
        ...

    def decide(self, scores: Float[Array, "b *space k"]) -> Integer[Array, "b ..."]:
        """Return what is answered of every pixel, by its scores alone.

        Its class [b *space]; or where classes overlap 0 or 1 for each of them [b *space k].
        """
        ...

    def compare(
        self, pred: Integer[Array, "b ..."], label: Label | Labels
    ) -> Int32[Array, "b k *cells"]:
        """Return the counts of each example that scores are made of; those of its parts add up."""
        ...


@runtime_checkable
class ObjectTask(Task, Protocol):
    """A task whose answer is a set of objects, found on the canvas."""

    def find(self, outputs: Outputs) -> Any:
        """Return candidates as a pytree of arrays [b m ...] of fixed shapes, see `Candidates`."""
        ...

    def objects(self, row: Any, covered: Sequence[int], size: Sequence[int], /) -> Objects:
        """Return the objects of one image on its own grid, the highest score first; on the host.

        Args:
            row: Candidates of the image, as NumPy arrays.
            covered: The sides of the part of the canvas that it covers, in the low corner.
            size: Its own sides.
        """
        ...


@runtime_checkable
class GroupingTask(DenseTask, Protocol):
    """A task whose scores of pixels are grouped to objects, so that windows can be joined."""

    def group(self, probabilities: Float[np.ndarray, "*space k"]) -> Objects:
        """Return the objects of one image, the highest score first; on the host."""
        ...


@runtime_checkable
class PanopticTask(ObjectTask, Protocol):
    """A task that says of every pixel of which object or region it is."""

    def segments(
        self, row: Any, covered: Sequence[int], size: Sequence[int], /
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the segment of every pixel, 1..s or 0, int32 [*space], and their classes [s].

        Arguments are those of `objects`.
        """
        ...


LossSections: TypeAlias = Annotated[Sequence[kinds.Section], rules.length(1, 100)]
"""Of `Supervised`: each with a `weight`, its factor in the sum."""
DeepWeights: TypeAlias = Annotated[Sequence[kinds.NotNegative], rules.length(0, 16)]


class Supervised:
    """What tasks share that weigh losses of logits against a label of every pixel.

    Args:
        losses: Sections such as `dict(type='pixel:cross_entropy', weight=1.0)`; the loss is their
            sum, each times its `weight`. Two of one type are logged as `tversky` and `tversky-2`.
        num_classes: Classes of the data set, void not counted.
        aux_weight: Factor of the same losses on every auxiliary head (PSPNet and FCN use 0.4).
        deep_weights: Deep supervision: factors of the losses on the logits, and on the model's deep
            ones at a half, a quarter, … of the resolution, divided by their sum. nnU-Net's are
            (1, 0.5, 0.25, …). The label is taken at the pixel nearest to the middle of each cell.
            Empty: the model has none.
        amounts: How much of each class the data has; None: it is not known. A loss whose
            `class_weights` name a scheme of `balance` needs it.

    Raises:
        ConfigError: No loss, one without a weight of at least 0, one twice, one that cannot be
            built or used for such labels, or no weight above 0.
    """

    multilabel = False
    """Whether the label has a map for each class."""

    def __init__(
        self,
        losses: LossSections,
        *,
        num_classes: int,
        aux_weight: kinds.NotNegative,
        deep_weights: DeepWeights,
        amounts: structs.Amounts | None = None,
    ):
        self.num_classes, self.aux_weight = num_classes, aux_weight
        if deep_weights and not any(deep_weights):
            raise ConfigError(
                f"config.task.deep_weights={rules.shown(list(deep_weights))}: expected one above "
                "0. Use (1, 0.5, 0.25) with two deep logits, or () without."
            )
        self.deep_shares = tuple(float(w / sum(deep_weights)) for w in deep_weights)
        self.losses: dict[str, tuple[float, Loss]] = {}
        seen: list[dict[str, Any]] = []
        for number, section in enumerate(losses):
            own = dict(section)
            where = f"config.task.losses[{number}]"
            if "weight" not in own:
                raise ConfigError(
                    f"{where}: needs 'weight', its factor in the sum. Add weight=1.0."
                )
            factor = own.pop("weight")
            if wrong := annotations.fault(kinds.NotNegative, factor, f"{where}.weight"):
                raise ConfigError(
                    f"{wrong.where}={rules.shown(factor)}: expected {wrong.expected}. 1.0 is "
                    "common, 0 leaves it out."
                )
            name = str(own.get("type", "")).rpartition(":")[2]
            if own in seen:
                raise ConfigError(f"{where}: {name!r} stands twice. Put its weight in one place.")
            seen.append(own)
            same = sum(other["type"] == own["type"] for other in seen if "type" in own)
            name = f"{name}-{same}" if same > 1 else name
            own = balance.numbered(own, amounts, where=where)
            takes = ("logits", "label")
            loss = as_loss(lookup.build("losses", own, where=where, takes=takes, also=["weight"]))
            loss.check(num_classes, multilabel=self.multilabel)
            self.losses[name] = factor, loss
        if not any(factor for factor, _ in self.losses.values()):
            raise ConfigError(
                "config.task.losses: every weight is 0, expected one above 0: nothing is learned. "
                "Set weight=1.0."
            )

    def inputs(self, batch: Batch, key: Key, step: Step) -> dict[str, Any]:
        """Return nothing: the model sees the image alone."""
        del batch, key, step
        return {}

    def weights(self, batch: Batch) -> dict[str, Scalar]:
        """Return the weight of each loss, and of each at every resolution of deep supervision."""
        return {
            f"deep{level}_{name}" if level else name: loss.weight(
                self._label(batch, level), num_classes=self.num_classes, multilabel=self.multilabel
            )
            for level in range(max(1, len(self.deep_shares)))
            for name, (_, loss) in self.losses.items()
        }

    def loss(self, outputs: structs.Outputs, batch: Batch, key: Key) -> dict[str, Term]:
        """Return a term for each loss, on the logits and on those of every head beside them.

        Raises:
            ConfigError: The model has more or fewer deep logits than `deep_weights` says.
        """
        del key  # nothing is drawn
        first, *deep = self._shares(outputs)
        heads = [("", 0, first, outputs.logits)]
        heads += [(f"aux{i}_", 0, self.aux_weight, logits) for i, logits in enumerate(outputs.aux)]
        levels = zip(deep, outputs.deep or (), strict=True)
        heads += [(f"deep{i}_", i, *pair) for i, pair in enumerate(levels, start=1)]
        terms = {}
        for head, level, share, logits in heads:
            label = self._label(batch, level)
            for name, (factor, loss) in self.losses.items():
                total, weight = loss(logits, label)
                divisor = f"deep{level}_{name}" if level else name
                terms[head + name] = Term(total, weight, share * factor, divisor=divisor)
        return terms

    def _shares(self, outputs: structs.Outputs) -> tuple[float, ...]:
        """Return the shares of the logits and of the deep ones, which there are in training."""
        if outputs.deep is None:
            return (1.0,)
        shares = self.deep_shares or (1.0,)
        if len(shares) != 1 + len(outputs.deep):
            levels = range(1 + len(outputs.deep) if outputs.deep else 0)
            usual = tuple(0.5**level for level in levels)
            raise ConfigError(
                f"config.task.deep_weights has {len(self.deep_shares)} weights, but the model "
                f"gives its logits and {len(outputs.deep)} deep ones. Set deep_weights={usual}, "
                f"or config.model.deep_supervision={len(shares) - 1}."
            )
        return shares

    def label(self, batch: Batch) -> Label | Labels:
        """Return what the logits are held against: the label of the data."""
        return batch["label"]

    def _label(self, batch: Batch, level: int) -> Label | Labels:
        """Return the label at 1 / 2^level of its resolution, rounded up."""
        label = self.label(batch)
        for axis in range(1, label.ndim - self.multilabel):
            if level:
                label = jnp.take(label, middles(label.shape[axis], 2**level), axis, mode="clip")
        return label


def middles(length: int, stride: int) -> np.ndarray:
    """Return the pixel in the middle of each cell of `stride` pixels; the last may be cut off."""
    return np.minimum(np.arange(0, length, stride) + stride // 2, length - 1)

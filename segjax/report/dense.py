"""Look at examples whose every pixel is of a class, or of several (multi-label)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer
from markupsafe import Markup
from scipy import ndimage

from segjax.errors import DataError
from segjax.evaluators import semantic
from segjax.evaluators.report import Scored
from segjax.inference import preview, several
from segjax.inference.predictor import Prediction
from segjax.metrics import base, confusion, intervals
from segjax.report import show
from segjax.report.seen import Region, Seen, about, case_of, groups, no_levels
from segjax.structs import IGNORE_LABEL
from segjax.views import colour, overlaps
from segjax.views.colour import Colour

RESAMPLES = 1000
PROBABILITIES = 1 << 28
"""Of an image, at most, that are held at once: of a larger one the uncertainty is not known."""
ANSWERS = 1 << 16
"""Pixels of an example, about, by which runs are compared."""


class ClassEye:
    """Looks at class maps.

    Args:
        evaluator: Knows the classes.

    Attributes:
        exact: Whether each class has its own colour in the pictures.
    """

    score = "IoU"
    parts: Sequence[str] = confusion.MARGINS
    exact = True

    def __init__(self, evaluator: semantic.Evaluator):
        self.class_names: Sequence[str] = evaluator.classes.class_names
        self.palette = distinct(evaluator.classes.palette)

    def __call__(self, place: int, example: Mapping[str, Any], predictor: Scored, /) -> Seen:
        """Return what there is to say of an example."""
        image, label = example["image"], np.asarray(example["label"])
        known = math.prod(image.shape[:-1]) * len(self.class_names) <= PROBABILITIES
        found: Prediction = several.several(
            predictor, [image], probabilities=[0] if known else [], most=1
        )[0]
        pred = np.asarray(found.classes)
        if pred.shape != label.shape:
            raise DataError(
                f"{example['name']}: a prediction of {pred.shape} for a label of {label.shape}, "
                "expected one grid. Use labels of the size of their images."
            )
        probabilities = np.asarray(found.probabilities(), np.float32) if known else None
        margins = self.margins(pred, label)
        unsure = None if probabilities is None else self.entropy(probabilities)
        pictures, plot = self.show(image, label, pred, unsure, str(example["name"]))
        return Seen(
            place,
            str(example["name"]),
            float(confusion.example_miou(margins[:, None])[0]),
            ious(margins),
            math.nan if unsure is None else float(unsure.mean()),
            margins,
            no_levels() if probabilities is None else self.levels(probabilities, pred, label),
            self.regions(pred, label),
            self.answers(thinned(pred, axes=len(image.shape) - 1)),
            pictures,
            plot,
            case=case_of(example),
        )

    def margins(self, pred: np.ndarray, label: np.ndarray) -> Int64[np.ndarray, "parts k"]:
        """Return what an example's scores are made of."""
        counts = confusion.counts_of(pred, label, num_classes=len(self.class_names))
        return confusion.margins(counts)

    def entropy(self, probabilities: Float[np.ndarray, "*space k"]) -> Float[np.ndarray, "*space"]:
        """Return the entropy of each pixel, as a share of the most that it can be."""
        most = math.log(max(2, probabilities.shape[-1]))
        return -_xlogx(probabilities).sum(axis=-1) / most

    def levels(
        self, probabilities: np.ndarray, pred: np.ndarray, label: np.ndarray
    ) -> Int64[np.ndarray, "2 levels"]:
        """Return how many pixels were wrong and right by how sure they were."""
        valid = label != IGNORE_LABEL
        return counted(probabilities.max(axis=-1)[valid], (pred == label)[valid])

    def answers(self, pred: np.ndarray) -> np.ndarray:
        """Return a number for each pixel by which answers are compared."""
        return pred

    def regions(self, pred: np.ndarray, label: np.ndarray) -> list[Region]:
        """Return the connected regions of all classes but the first."""
        inside = base.foreground(len(self.class_names), background=False)
        there = [k for k in np.unique(label).tolist() if k in inside]
        return [each for k in there for each in regions_of(label == k, pred == k)]

    def show(
        self,
        image: Any,
        label: np.ndarray,
        pred: np.ndarray,
        unsure: np.ndarray | None,
        name: str,
    ) -> tuple[show.Shown, Markup]:
        """Return the pictures of an example, or of a signal its plot."""
        return shown(image, label, pred, unsure, self.palette, name)

    def whole(self, seen: Sequence[Seen], /) -> list[float | None]:
        """Return the 95 % interval of the mean IoU."""
        counts = np.stack([one.kept for one in seen], axis=1)
        own = intervals.scores_of_margins(binary="known" in self.parts)["miou"]
        scores = {"miou": intervals.of_margins(counts, score=own)}
        return intervals.bootstrap(scores, groups(seen), resamples=RESAMPLES)["miou"]

    def legend(self) -> list[tuple[str, str]]:
        """Return what the colours of its pictures mean."""
        own = dict(zip(self.class_names, self.palette, strict=True))
        own |= {"void": colour.spare(self.palette)} if self.exact else {}
        own |= {"error: right": colour.CORRECT, "error: wrong": colour.WRONG}
        return [(name, colour.code(shade)) for name, shade in own.items()]

    def intervals(self, seen: Sequence[Seen], /) -> dict[str, list[float | None]]:
        """Return the 95 % interval of each class's IoU, see `metrics.intervals`."""
        counts = np.stack([one.kept for one in seen], axis=1)
        found = intervals.of_classes(counts, ious, resamples=RESAMPLES, groups=groups(seen))
        return dict(zip(self.class_names, found, strict=True))

    def table(self, seen: Sequence[Seen], /) -> Mapping[str, Any]:
        """Return a report's content of single examples."""
        counts = np.stack([one.kept for one in seen], axis=1)
        rows = dict(zip(self.parts, counts.tolist(), strict=True))
        values = {
            f"IoU of {name}": [[base.number(one.per_class[k])] for one in seen]
            for k, name in enumerate(self.class_names)
        }
        return {"per_example": {**about(seen), "values": values, **rows}}

    def compared(self) -> Sequence[str]:
        """Return what runs are compared by."""
        own = [f"IoU of {name}" for name in self.class_names]
        return ["miou", "dice", "pixel_accuracy", *own]


class LabelEye(ClassEye):
    """Looks at multi-label maps: each class by itself, 0 or 1."""

    parts = confusion.BINARY_MARGINS
    exact = False

    def margins(self, pred: np.ndarray, label: np.ndarray) -> Int64[np.ndarray, "parts k"]:
        """Return what an example's scores are made of."""
        return confusion.binary_margins(confusion.binary_counts_of(pred, label))

    def entropy(self, probabilities: Float[np.ndarray, "*space k"]) -> Float[np.ndarray, "*space"]:
        """Return the mean entropy of each pixel's answers, as a share of one bit."""
        both = _xlogx(probabilities) + _xlogx(1 - probabilities)
        return -both.mean(axis=-1) / math.log(2)

    def levels(
        self, probabilities: np.ndarray, pred: np.ndarray, label: np.ndarray
    ) -> Int64[np.ndarray, "2 levels"]:
        """Return how many answers were wrong and right by how sure they were."""
        valid = label <= 1
        return counted(np.maximum(probabilities, 1 - probabilities)[valid], (pred == label)[valid])

    def answers(self, pred: np.ndarray) -> np.ndarray:
        """Return a number for each pixel: that of its set of classes."""
        numbers = np.random.default_rng(0).integers(1 << 62, size=pred.shape[-1])
        return (pred != 0) @ numbers  # sums of two sets are equal by chance alone, 1 in 2^62

    def regions(self, pred: np.ndarray, label: np.ndarray) -> list[Region]:
        """Return the connected regions of all classes."""
        numbers = range(len(self.class_names))
        return [each for k in numbers for each in regions_of(label[..., k] == 1, pred[..., k] == 1)]

    def show(
        self,
        image: Any,
        label: np.ndarray,
        pred: np.ndarray,
        unsure: np.ndarray | None,
        name: str,
    ) -> tuple[show.Shown, Markup]:
        """Return the pictures of an example: each combination of classes has a colour."""
        flat = overlaps.flatten([(label, pred)], self.palette, self.class_names)
        return shown(image, *flat.pairs[0], unsure, flat.palette, name)

    def compared(self) -> Sequence[str]:
        """Return what runs are compared by."""
        own = [f"IoU of {name}" for name in self.class_names]
        return ["miou", "dice", "label_accuracy", *own]


def shown(
    image: Any,
    label: np.ndarray,
    pred: np.ndarray,
    unsure: np.ndarray | None,
    palette: Sequence[Any],
    name: str,
) -> tuple[show.Shown, Markup]:
    """Return pictures of class maps, or of a signal a plot; of a large example every so manyth."""
    if label.ndim == 1:
        signal = np.asarray(image)
        return [], show.of_signal(signal, label, pred, palette, title=f"signal {name}")
    step = max(1, max(label.shape) // (2 * show.SIDE))
    image = preview.thinned(image, step, dims=label.ndim)  # a large one is never read whole
    thin = (slice(None, None, step),) * label.ndim
    unsure = None if unsure is None else unsure[thin]
    return show.of_maps(image, label[thin], pred[thin], unsure, palette), Markup("")


def distinct(palette: Sequence[Colour]) -> list[Colour]:
    """Return a palette without two equal colours, each as near to its own as can be."""
    found: list[Colour] = []
    for shade in palette:
        while shade in found:
            shade = (shade[0], shade[1], (shade[2] + 1) % 256)
        found.append(shade)
    return found


def ious(margins: Integer[np.ndarray, "parts *n k"]) -> Float[np.ndarray, "*n k"]:
    """Return the IoU of each class; NaN of one that is in neither label nor prediction."""
    hit, label, pred = margins[:3]
    union = label + pred - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def counted(
    sure: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> Int64[np.ndarray, "2 levels"]:
    """Return how many answers were wrong and right by how sure they were."""
    place = base.quantised(sure) + (base.LEVELS + 1) * right
    return np.bincount(place, minlength=2 * (base.LEVELS + 1)).reshape(2, -1)


def regions_of(label: Bool[np.ndarray, "*space"], pred: Bool[np.ndarray, "*space"]) -> list[Region]:
    """Return the connected regions of a class, and how much of each was found."""
    found: Any = ndimage.label(label)
    numbers, count = found
    sizes, hits = (
        np.bincount(each, minlength=count + 1)[1:].tolist()
        for each in (numbers.ravel(), numbers[pred])
    )
    return [Region(size, hit / size) for size, hit in zip(sizes, hits, strict=True)]


def thinned(pred: np.ndarray, *, axes: int) -> np.ndarray:
    """Return every so manyth pixel of a prediction, so that few are left."""
    step = max(1, math.ceil((math.prod(pred.shape[:axes]) / ANSWERS) ** (1 / axes)))
    return pred[(slice(None, None, step),) * axes].copy()


def _xlogx(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.maximum(values, np.finfo(np.float32).tiny))

"""Decide whether a retrained model takes the place of the one in use."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from segjax.feedback.doubts import Doubts
from segjax.metrics.intervals import Comparison, describe

RESAMPLES = 10_000


class Bounds(NamedTuple):
    """What a candidate must reach.

    Attributes:
        least_gain: How much better it must be on feedback that it has not seen.
        largest_p: How likely other images may gain nothing, see `better`. The score of a few images
            together is decided by whichever holds a rare class, so it is not what is tested.
        most_loss: How much worse it may be on the frozen hold-out.
        least_fit: Its score on feedback as a share of that on the hold-out. Masks that are noise
            cannot be learned: what is trained on them stays far below.
        least_classes: How many classes the masks must show, see `suspected` for this and the next.
        most_moved: The share of masks that may fit predictions better elsewhere.
        most_renamed: By how much more classes may agree with predictions under other names.
    """

    least_gain: float = 0.01
    largest_p: float = 0.05
    most_loss: float = 0.01
    least_fit: float = 0.5
    least_classes: int = 2
    most_moved: float = 0.5
    most_renamed: float = 0.25


class Verdict(NamedTuple):
    """What was decided.

    Attributes:
        promoted: Whether the candidate takes over.
        reasons: Why not, or on what grounds, a line each.
        bounds: What it had to reach.
        holdout: Old against new on the frozen hold-out.
        feedback: Likewise on feedback that neither has seen.
        images: Likewise, the mean over its images of each one's score; `p_value` is that of
            `better`.
        doubts: What the model in use says of all corrections.
    """

    promoted: bool
    reasons: list[str]
    bounds: Bounds
    holdout: Comparison
    feedback: Comparison
    images: Comparison
    doubts: Doubts

    def as_json(self) -> Mapping[str, Any]:
        """Return it as plain data."""
        return {
            "promoted": self.promoted, "reasons": self.reasons, "bounds": self.bounds._asdict(),
            "holdout": self.holdout._asdict(), "feedback": self.feedback._asdict(),
            "images": self.images._asdict(), "doubts": self.doubts._asdict(),
        }  # fmt: skip


def better(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Return how likely other images of the same kind would not gain in the mean.

    The share of bootstrap samples (Efron 1979) whose mean gain is not above 0. New versions often
    mend a few images altogether and leave the others; tests that exchange versions take such gains
    for the spread of chance, and see nothing in a dozen images. Images without a score say nothing;
    without others it is 1.
    """
    gains = second - first
    gains = gains[np.isfinite(gains)]
    if not len(gains):
        return 1.0
    drawn = np.random.default_rng(0).integers(len(gains), size=(RESAMPLES, len(gains)))
    return float(np.mean(gains[drawn].mean(axis=1) <= 0))


def decide(
    holdout: Comparison, feedback: Comparison, images: Comparison, doubts: Doubts, bounds: Bounds
) -> Verdict:
    """Return whether a candidate is promoted.

    Args:
        holdout: Of the model in use and the candidate, in this order, on the frozen hold-out.
        feedback: Likewise, on feedback that the candidate was not trained on.
        images: Likewise, of the mean over images.
        doubts: What the model in use says of the corrections.
        bounds: What it must reach.
    """
    against = suspected(doubts, bounds)
    if not feedback.difference >= bounds.least_gain:
        against.append(
            f"on feedback it gains {feedback.difference:+.4f}, at least {bounds.least_gain:g} is "
            "asked for"
        )
    elif images.p_value > bounds.largest_p or not images.difference > 0:
        against.append(
            f"its gain on feedback may be chance: image by image it is {images.difference:+.4f}, "
            f"p = {images.p_value:.3f}, at most "
            f"{bounds.largest_p:g} is asked for"
        )
    if not holdout.difference >= -bounds.most_loss:
        against.append(
            f"on the hold-out it loses {-holdout.difference:.4f}, at most {bounds.most_loss:g} is "
            "allowed"
        )
    if not feedback.second >= bounds.least_fit * holdout.second:
        against.append(
            f"on feedback it reaches {feedback.second:.4f}, less than {bounds.least_fit:g} of its "
            f"{holdout.second:.4f} on the hold-out: the masks cannot be learned"
        )
    grounds = [
        f"{where} {describe(each)}"
        for where, each in (("hold-out", holdout), ("feedback", feedback), ("feedback", images))
    ]
    return Verdict(not against, against or grounds, bounds, holdout, feedback, images, doubts)


def suspected(doubts: Doubts, bounds: Bounds) -> list[str]:
    """Return why corrections should be looked at before anything is learned from them."""
    found = []
    if doubts.classes < bounds.least_classes:
        found.append(
            f"the corrections show {doubts.classes} of the classes, at least "
            f"{bounds.least_classes} are asked for (--least_classes): the others would be unlearned"
        )
    if doubts.moved > bounds.most_moved:
        down, right = doubts.move
        found.append(
            f"{doubts.moved:.0%} of the masks fit what is predicted better elsewhere, at most "
            f"{bounds.most_moved:.0%} are allowed (--most_moved): look whether they lie some "
            f"{down:+d} pixels down and {right:+d} right of where they belong"
        )
    if doubts.renamed > bounds.most_renamed:
        names = ", ".join(f"{own!r} where {other!r} is predicted" for own, other in doubts.names)
        found.append(
            f"{doubts.renamed:.0%} more of some classes agree with what is predicted under other "
            f"names, at most {bounds.most_renamed:.0%} are allowed (--most_renamed): look whether "
            f"names were exchanged: {names}"
        )
    return found

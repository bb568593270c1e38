"""Decide whether a retrained model takes the place of the one in use."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from segjax.metrics.intervals import Comparison, describe


class Bounds(NamedTuple):
    """What a candidate must reach.

    Attributes:
        least_gain: How much better it must be on feedback that it has not seen.
        largest_p: Of the paired permutation test of the images' scores. That of a few images
            together is decided by whichever holds a rare class, so it is not what is tested.
        most_loss: How much worse it may be on the frozen hold-out.
        least_fit: Its score on feedback as a share of that on the hold-out. Masks that are noise
            cannot be learned: what is trained on them stays far below.
    """

    least_gain: float = 0.01
    largest_p: float = 0.05
    most_loss: float = 0.01
    least_fit: float = 0.5


class Verdict(NamedTuple):
    """What was decided.

    Attributes:
        promoted: Whether the candidate takes over.
        reasons: Why not, or on what grounds, a line each.
        bounds: What it had to reach.
        holdout: Old against new on the frozen hold-out.
        feedback: Likewise on feedback that neither has seen.
        images: Likewise, the mean over its images of each one's score.
    """

    promoted: bool
    reasons: list[str]
    bounds: Bounds
    holdout: Comparison
    feedback: Comparison
    images: Comparison

    def as_json(self) -> Mapping[str, Any]:
        """Return it as plain data."""
        return {
            "promoted": self.promoted, "reasons": self.reasons, "bounds": self.bounds._asdict(),
            "holdout": self.holdout._asdict(), "feedback": self.feedback._asdict(),
            "images": self.images._asdict(),
        }  # fmt: skip


def decide(
    holdout: Comparison, feedback: Comparison, images: Comparison, bounds: Bounds
) -> Verdict:
    """Return whether a candidate is promoted.

    Args:
        holdout: Of the model in use and the candidate, in this order, on the frozen hold-out.
        feedback: Likewise, on feedback that the candidate was not trained on.
        images: Likewise, of the mean over images.
        bounds: What it must reach.
    """
    against = []
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
    return Verdict(not against, against or grounds, bounds, holdout, feedback, images)

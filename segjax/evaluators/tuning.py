"""Choose post-processing on a split: a step is kept only where it helps beyond doubt.

Every candidate is compared with the prediction without it, on the same images and probabilities.
Whether it helps is judged by what it adds to the mean IoU of the split, and by an interval of that:
a paired bootstrap over images, 95 % for all candidates together (Bonferroni), because the best of
many looks good by chance.
"""

import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from segjax.data import core, resample
from segjax.errors import DataError
from segjax.inference import postprocess
from segjax.inference.postprocess import State, Step
from segjax.inference.predictor import Predictor
from segjax.metrics import confusion
from segjax.runtime import files
from segjax.views.progress import Progress

Section = dict[str, Any]
THRESHOLDS = (0.3, 0.4, 0.6, 0.7)
AREAS = (16, 64, 256)
"""Pixels, voxels or samples of the image itself."""
FIELDS = ({"colour_weight": 4.0}, {"colour_weight": 10.0}, {"colour_weight": 0.0})
CONFIDENCE = 0.95
LEAST_IMAGES = 8
"""With fewer a bootstrap says nothing."""
RESAMPLES, AT_ONCE = 20_000, 500


class Trial(NamedTuple):
    """What a candidate does to the scores.

    Attributes:
        steps: Its sections.
        gain: What it adds to the split's mean IoU.
        low: The lower end of its interval.
        high: The upper end.
    """

    steps: list[Section]
    gain: float
    low: float
    high: float


class Choice(NamedTuple):
    """What was chosen and why.

    Attributes:
        steps: The sections for `config.inference.postprocess`; none where nothing helps.
        plain: Mean IoU of the split without any.
        chosen: Mean IoU of the split with them.
        gain: What they do together, as of a candidate.
        images: How many were compared.
        trials: Each candidate alone.
        order: What was kept, one after the other, each compared with all before it.
    """

    steps: list[Section]
    plain: float
    chosen: float
    gain: Trial
    images: int
    trials: list[Trial]
    order: list[Trial]

    def lines(self) -> list[str]:
        """Return what to show of it."""
        helping = sum(trial.low > 0 for trial in self.trials)
        found = [f"{len(self.trials)} candidates on {self.images} images, {helping} help for sure"]
        found += [
            f"kept: {describe(trial.steps)}: mIoU {trial.gain:+.4f} "
            f"(95 % interval {trial.low:+.4f} to {trial.high:+.4f})"
            for trial in self.order
        ]
        if not self.steps:
            best = max(self.trials, key=lambda trial: trial.gain)
            return [*found, (
                f"nothing is kept; the best, {describe(best.steps)}, changes it by "
                f"{best.gain:+.4f} ({best.low:+.4f} to {best.high:+.4f})"
            )]  # fmt: skip
        return [*found, f"mIoU of the split {self.plain:.4f} → {self.chosen:.4f}"]

    def write(self, path: pathlib.Path, about: Mapping[str, Any]) -> None:
        """Write the choice and its numbers, with `about` what else decided it.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        content = {
            "postprocess": self.steps,
            **about,
            "images": self.images,
            "miou": {"plain": self.plain, "chosen": self.chosen},
            "gain": {"miou": self.gain.gain, "low": self.gain.low, "high": self.gain.high},
            "order": [trial._asdict() for trial in self.order],
            "candidates": [trial._asdict() for trial in self.trials],
        }
        files.write_json(path, content)


def describe(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return steps in a few words: `minimum_area(pixels=16, classes=['cell'])`."""
    texts = [
        f"{step['type']}({', '.join(f'{k}={v}' for k, v in step.items() if k != 'type')})"
        for step in steps
    ]
    return ", ".join(texts) or "none"


def candidates(class_names: Sequence[str]) -> list[Section]:
    """Return what is tried: three fields, and for each class thresholds, areas and shapes."""
    found: list[Section] = [{"type": "crf", **field} for field in FIELDS]
    for name in class_names:
        found += [{"type": "thresholds", "values": [[name, value]]} for value in THRESHOLDS]
        found += [{"type": "minimum_area", "pixels": pixels, "classes": [name]} for pixels in AREAS]
        found += [{"type": kind, "classes": [name]} for kind in ("largest_component", "fill_holes")]
    return found


def choose(predictor: Predictor, source: core.Source, *, shown: bool = False) -> Choice:
    """Return the post-processing that helps a predictor on a split.

    Args:
        predictor: Without any.
        source: The split. Each image goes through the predictor once, and once more where several
            candidates help and are tried together.
        shown: Show the progress.

    Raises:
        DataError: Fewer than `LEAST_IMAGES` images with a valid pixel.
    """
    names = tuple(source.class_names)
    tried = candidates(names)
    chains = [(), *[(i,) for i in range(len(tried))]]
    counts = count(states(predictor, source, "tune", shown), tried, chains, names)
    images = int((counts[0].sum(axis=(1, 2)) > 0).sum())
    if images < LEAST_IMAGES:
        raise DataError(
            f"{images} images with a label: too few to tell what helps. Expected at least "
            f"{LEAST_IMAGES}: choose on a larger split."
        )
    trials = judge([[section] for section in tried], counts)
    pieces = merge(trials)
    if not pieces:
        return finish([], judge([[]], counts[[0, 0]])[0], counts[[0, 0]], trials, names)
    if len(pieces) == 1 and pieces[0] in tried:  # what it does alone is known
        at = tried.index(pieces[0])
        return finish([trials[at]], trials[at], counts[[0, 1 + at]], trials, names)
    numbers = range(len(pieces))
    chains = [c for n in range(len(pieces) + 1) for c in itertools.combinations(numbers, n)]
    counts = count(states(predictor, source, "together", shown), pieces, chains, names)
    kept, at = grow(pieces, dict(zip(chains, counts, strict=True)))
    pair = counts[[0, chains.index(at)]]
    (together,) = judge([[pieces[i] for i in at]], pair)
    return finish(kept, together, pair, trials, names)


def states(
    predictor: Predictor, source: core.Source, title: str, shown: bool
) -> Iterator[tuple[State, np.ndarray]]:
    """Yield the prediction of each image and its label."""
    with Progress(len(source), unit="images", title=title, enabled=shown) as bar:
        for number in range(len(source)):
            example = resample.with_spacing(source[number])
            yield postprocess.predict(predictor, example["image"]), np.asarray(example["label"])
            bar.update(number + 1)


def finish(
    kept: list[Trial],
    together: Trial,
    pair: Int64[np.ndarray, "2 images k k"],
    trials: list[Trial],
    names: Sequence[str],
) -> Choice:
    """Return a choice with the scores of the split before and after, from their counts."""
    plain, chosen = (
        confusion.summarize(each.sum(axis=0), class_names=names)["miou"] for each in pair
    )
    return Choice(together.steps, plain, chosen, together, pair.shape[1], trials, kept)


def count(
    found: Iterator[tuple[State, np.ndarray]],
    sections: Sequence[Section],
    chains: Sequence[tuple[int, ...]],
    names: Sequence[str],
) -> Int64[np.ndarray, "chains images k k"]:
    """Return the counts of each image after each chain of steps.

    Args:
        found: Predictions and labels.
        sections: The steps.
        chains: Numbers of steps, in order. What chains have in common at their beginning is
            computed once.
        names: Of the classes.
    """
    steps: list[Step] = [postprocess.make_steps([section], names)[0] for section in sections]
    longest, counts = max(map(len, chains)), []
    for state, label in found:
        after: dict[tuple[int, ...], State] = {(): state}
        own: dict[tuple[int, ...], np.ndarray] = {}
        for chain in sorted(chains, key=len):
            now = postprocess.apply([steps[i] for i in chain[-1:]], after[chain[:-1]])
            own[chain] = confusion.counts_of(now.classes, label, num_classes=len(names))
            if len(chain) < longest:  # something may go on from it
                after[chain] = now
        counts.append([own[chain] for chain in chains])
    return np.array(counts).reshape(-1, len(chains), len(names), len(names)).swapaxes(0, 1)


def judge(
    steps: Sequence[list[Section]], counts: Int64[np.ndarray, "chains images k k"]
) -> list[Trial]:
    """Return what each candidate adds to the mean IoU, with its interval.

    The intervals hold together: each is the wider, the more candidates change anything.

    Args:
        steps: Of each candidate.
        counts: Of each image without it, first, and with each of them.
    """
    parts = np.stack(
        [np.diagonal(counts, axis1=2, axis2=3), counts.sum(axis=3), counts.sum(axis=2)], axis=2
    ).astype(np.float64)  # [chains images 3 k]: hits, label, prediction
    changing = (parts[1:] != parts[:1]).any(axis=(1, 2, 3)).sum()
    tail = (1 - CONFIDENCE) / 2 / max(1, changing)
    images, key = counts.shape[1], np.random.default_rng(0)
    flat = parts.swapaxes(0, 1).reshape(images, -1)
    drawn = []
    for _ in range(RESAMPLES // AT_ONCE):
        times = key.multinomial(images, np.full(images, 1 / images), AT_ONCE)
        drawn.append(gains(times @ flat, parts.shape))
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    (found,) = gains(flat.sum(axis=0)[None], parts.shape)
    return [
        Trial(own, float(gain), float(a), float(b))
        for own, gain, a, b in zip(steps, found, low, high, strict=True)
    ]


def gains(
    sums: Float[np.ndarray, "draws parts"], shape: tuple[int, ...]
) -> Float[np.ndarray, "draws others"]:
    """Return by how much the mean IoU of each chain is above the first's, from summed parts."""
    chains, _, three, k = shape
    hit, label, pred = np.moveaxis(sums.reshape(-1, chains, three, k), 2, 0)
    union = label + pred - hit
    iou = (hit / np.maximum(union, 1)).sum(axis=-1) / np.maximum((union > 0).sum(axis=-1), 1)
    return iou[:, 1:] - iou[:, :1]


def merge(trials: Sequence[Trial]) -> list[Section]:
    """Return the candidates that help, the best of each kind and class, as few sections.

    In the order in which steps may follow each other.
    """
    best: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        (section,) = trial.steps
        of = section.get("classes", [pair[0] for pair in section.get("values", [])])
        place = (section["type"], *of)
        if trial.low > 0 and (place not in best or trial.gain > best[place].gain):
            best[place] = trial
    merged: dict[str, Section] = {}
    for trial in best.values():
        (section,) = trial.steps
        same = merged.setdefault(
            f"{section['type']} {section.get('pixels', '')}",
            {key: [] if isinstance(value, list) else value for key, value in section.items()},
        )
        for key in ("classes", "values"):
            if key in section:
                same[key] = [*same[key], *section[key]]
    order = ("crf", "thresholds", "minimum_area", "largest_component", "fill_holes")
    return sorted(merged.values(), key=lambda section: order.index(section["type"]))


def grow(
    pieces: Sequence[Section], counts: Mapping[tuple[int, ...], np.ndarray]
) -> tuple[list[Trial], tuple[int, ...]]:
    """Return which pieces are kept together: again and again the best, as long as it helps.

    Args:
        pieces: The steps.
        counts: Of each set of them.

    Returns:
        What each did beyond those before it, and the numbers of all.
    """
    kept: list[Trial] = []
    now: tuple[int, ...] = ()
    while len(now) < len(pieces):
        others = [i for i in range(len(pieces)) if i not in now]
        chains = [tuple(sorted((*now, i))) for i in others]
        own = np.stack([counts[now], *(counts[chain] for chain in chains)])
        trials = judge([[pieces[i]] for i in others], own)
        best = max(range(len(others)), key=lambda i: trials[i].gain)
        if trials[best].low <= 0:
            break
        kept.append(trials[best])
        now = chains[best]
    return kept, now

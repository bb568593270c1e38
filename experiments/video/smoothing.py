"""Which way to smooth class maps over time flickers least, and what it costs in accuracy.

python -m experiments.video.smoothing --workdir=runs/quickstart
python -m experiments.video.smoothing --table                  # only draw the table again

Scenes of the quickstart's family in motion, whose truth is known: things move over a still ground
("still camera"), or the camera moves over a large scene ("moving camera"), with the noise and the
trembling light of a cheap camera. A run of the quickstart predicts every frame by itself; each way
of smoothing is then applied to the same predictions.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator

import numpy as np

from segjax.views import progress

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "smoothing.jsonl", HERE / "README.md"
BEGIN, END = "<!-- smoothing: written by smoothing.py -->", "<!-- end of smoothing -->"
SIDE, FRAMES, SCENES, VOID = 128, 40, 8, 255
NOISE, LIGHT = 8.0, 0.03
KINDS = ("still camera", "moving camera")
METHODS = {
    "none": ("none", 1, False),
    "vote of 3": ("vote", 3, True), "vote of 5": ("vote", 5, True), "vote of 7": ("vote", 7, True),
    "vote of 5, no gate": ("vote", 5, False),
    "average 0.5": ("ema", 0.5, True), "average 0.3": ("ema", 0.3, True),
    "average 0.15": ("ema", 0.15, True), "average 0.3, no gate": ("ema", 0.3, False),
}  # fmt: skip
"""By their title: vote of so many frames, or the weight of a frame in a moving average of
probabilities; and whether places that have changed are left out."""


def clip(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames uint8 [n h w 3] and their labels uint8 [n h w]."""
    from segjax.data import scenes  # jax comes with it

    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == "moving camera":
        image, label, _ = scenes.render(rng, (SIDE, SIDE))
        wide = [scenes.render(rng, (SIDE, SIDE)) for _ in range(2)]
        image = np.concatenate([image, *(each[0] for each in wide)], axis=1)
        label = np.concatenate([label, *(each[1] for each in wide)], axis=1)
        label[:, [SIDE - 1, SIDE, 2 * SIDE - 1, 2 * SIDE]] = VOID  # no edge of the world
        starts = np.rint(np.arange(FRAMES) * rng.uniform(1, 3)).astype(int)
        frames = np.stack([image[:, left : left + SIDE] for left in starts])
        labels = np.stack([label[:, left : left + SIDE] for left in starts])
    else:
        image, label, _ = scenes.render(rng, (SIDE, SIDE))
        other, kinds, things = scenes.render(rng, (SIDE, SIDE))
        frames, labels = image[None].repeat(FRAMES, 0), label[None].repeat(FRAMES, 0)
        for number in range(1, int(things.max()) + 1)[:3]:
            speed = rng.uniform(-2.5, 2.5, 2)
            inside, rim = things == number, near(things == number) & (kinds == VOID)
            for at in range(FRAMES):
                shift = np.rint(speed * at).astype(int)
                paste(frames[at], other, inside | rim, shift)
                paste(labels[at], kinds, inside | rim, shift)
    noise = rng.normal(0, NOISE, frames.shape)
    light = 1 + rng.normal(0, LIGHT, (FRAMES, 1, 1, 1))
    return np.clip(np.rint(frames * light + noise), 0, 255).astype(np.uint8), labels


def near(mask: np.ndarray) -> np.ndarray:
    """Return a mask with all pixels up to two away."""
    from scipy import ndimage

    return ndimage.binary_dilation(mask, iterations=2)


def paste(target: np.ndarray, source: np.ndarray, mask: np.ndarray, shift: np.ndarray) -> None:
    """Copy the pixels of a mask to where they lie after a shift, as far as that is inside."""
    y, x = np.nonzero(mask)
    to_y, to_x = y + shift[0], x + shift[1]
    inside = (to_y >= 0) & (to_y < SIDE) & (to_x >= 0) & (to_x < SIDE)
    target[to_y[inside], to_x[inside]] = source[y[inside], x[inside]]


def averaged(
    images: np.ndarray, shares: list[np.ndarray], weight: float, gate: bool
) -> Iterator[np.ndarray]:
    """Yield class maps of a moving average of probabilities, begun anew where the picture changes.

    It needs no later frame; its memory is that of all classes' probabilities.
    """
    from segjax.inference.video import smoothing

    total, before = None, None
    for image, share in zip(images, shares, strict=True):
        grey = smoothing._grey(image)
        if total is None or before is None:
            total = share
        else:
            mixed = weight * share + (1 - weight) * total
            alike = np.abs(grey - before)[..., None] <= smoothing.ALIKE
            total = np.where(alike, mixed, share) if gate else mixed
        before = grey
        yield total.argmax(axis=-1).astype(np.uint8)


def voted(
    images: np.ndarray, maps: list[np.ndarray], count: int, gate: bool
) -> Iterator[np.ndarray]:
    """Yield class maps after the vote, see `segjax.inference.video.smoothing`."""
    from segjax.inference.video import smoothing

    shown = images if gate else np.zeros_like(images)  # all alike
    for _, classes in smoothing.vote(zip(range(len(maps)), shown, maps, strict=True), count):
        yield classes


def measure(clips: list, predictions: list, method: str) -> dict[str, float]:
    """Return mIoU over all frames, and the flicker: the share of pixels whose class changes.

    Of those pixels whose truth does not, void left out.
    """
    from segjax.metrics import confusion

    how, amount, gate = METHODS[method]
    matrix, changed, steady = np.zeros((8, 8), np.int64), 0, 0
    for (images, labels), found in zip(clips, predictions, strict=True):
        maps = [each.classes for each in found]
        if how == "vote":
            maps = list(voted(images, maps, int(amount), gate))
        elif how == "ema":
            shares = [each.probabilities() for each in found]
            maps = list(averaged(images, shares, amount, gate))
        for pred, label in zip(maps, labels, strict=True):
            matrix += confusion.counts_of(pred, label.astype(np.int32), num_classes=8)
        for at in range(1, len(maps)):
            same = (labels[at] == labels[at - 1]) & (labels[at] != VOID)
            changed += int((maps[at] != maps[at - 1])[same].sum())
            steady += int(same.sum())
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return {"miou": float((np.diag(matrix) / union).mean()), "flicker": changed / steady}


def table(records: list[dict]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        f"| smoothing | {' | '.join(f'{kind}: flicker | mIoU' for kind in KINDS)} |",
        f"| --- |{' ---: |' * 2 * len(KINDS)}",
    ]
    for method in METHODS:
        cells = [
            f"{record['flicker']:.2%} | {record['miou']:.3f}"
            for kind in KINDS
            for record in records
            if (record["kind"], record["method"]) == (kind, method)
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def latest(path: pathlib.Path, *keys: str) -> list[dict]:
    """Return the last record of a file for each value of some keys."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return list({tuple(record[key] for key in keys): record for record in records}.values())


def redraw(text: str, begin: str, end: str, drawn: str) -> str:
    """Return a text with a table in its place between two marks."""
    before, after = text.split(begin)[0], text.split(end)[1]
    return f"{before}{begin}\n{drawn}\n{end}{after}"


def about() -> dict:
    """Return what every record says of where it comes from."""
    import jax

    return {
        "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0],
        "python": platform.python_version(), "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def main() -> None:
    """Predict the scenes, measure every way of smoothing, draw the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", help="a run of configs/quickstart.py")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        from segjax.runtime import xla

        xla.prepare()
        from segjax.runs import run

        opened = run.open_run(arguments.workdir)
        predictor = opened.predictor()
        with (
            progress.Progress(len(KINDS) * SCENES, unit="scenes") as bar,
            RESULTS.open("a") as log,
        ):
            for number, kind in enumerate(KINDS):
                clips, found = [], []
                for seed in range(SCENES):
                    clips.append(clip(kind, seed))
                    found.append(predictor.several(clips[-1][0], probabilities=range(FRAMES)))
                    bar.update(number * SCENES + seed + 1)
                for method in METHODS:
                    record = {
                        "kind": kind, "method": method, **measure(clips, found, method),
                        "scenes": SCENES, "frames": FRAMES, "noise": NOISE, "light": LIGHT,
                        "step": opened.step, **about(),
                        "command": "python -m experiments.video.smoothing",
                    }  # fmt: skip
                    log.write(json.dumps(record) + "\n")
    drawn = table(latest(RESULTS, "kind", "method"))
    README.write_text(redraw(README.read_text(), BEGIN, END, drawn))


if __name__ == "__main__":
    sys.exit(main())

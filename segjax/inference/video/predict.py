"""Predict videos, and write what was asked for with the times of their frames."""

import contextlib
import dataclasses
import itertools
import pathlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from segjax.data.decode import Reading
from segjax.errors import DataError, printable
from segjax.inference import folder, paths
from segjax.inference import several as several_lib
from segjax.inference.outputs import areas
from segjax.inference.outputs import kinds as image_kinds
from segjax.inference.outputs.found import Found
from segjax.inference.predictor import ObjectPredictor, Predictor
from segjax.inference.video import kinds, smoothing, stages
from segjax.inference.video.frames import Frame, Pictures, Video
from segjax.runtime import files as files_lib
from segjax.structs import Classes
from segjax.views import progress


@dataclasses.dataclass(frozen=True)
class Work:
    """What is done to each video.

    Attributes:
        predictor: Makes what predicts one image, or finds its objects.
        classes: What it predicts.
        reading: How the data set of its training reads images.
        step: Of its training, for the JSON.
        run: The folder of the training, for the JSON.
        outputs: Keys of `kinds.KNOWN`.
        multilabel: Whether a pixel may be of several classes, or of none.
        finds: What the predictor finds; beside nothing it is an `ObjectPredictor`.
        least_score: From which score on objects are painted.
        without: Classes that contours leave out.
        foreground: Classes that are cut out.
        rate: Frames a second of pictures, and of videos in place of their own times; None: theirs.
        smooth: Frames that vote on each class map, an odd number, see `smoothing`; 1: no vote.
        batch: Frames that go through the network at once.
    """

    predictor: Callable[[], Predictor | ObjectPredictor]
    classes: Classes
    reading: Reading
    step: int
    run: pathlib.Path | None = None
    outputs: Sequence[str] = image_kinds.DEFAULT
    multilabel: bool = False
    finds: image_kinds.Finds = ""
    least_score: float = 0.5
    without: Collection[int] = ()
    foreground: Collection[int] = ()
    rate: Fraction | None = None
    smooth: int = 1
    batch: int = 2

    @property
    def facts(self) -> dict[str, Any]:
        """What the JSON says of the run."""
        return {"step": self.step, **({"run": str(self.run.resolve())} if self.run else {})}


class Counts(NamedTuple):
    """What became of videos.

    Attributes:
        used: Videos that were to be predicted.
        predicted: Those that were, from begin to end.
        in_part: Those of which something could not be read.
        skipped: Those of which nothing was written.
        frames: Of all that were predicted.
    """

    used: int
    predicted: int
    in_part: int
    skipped: int
    frames: int

    def describe(self) -> str:
        """Return them in one line."""
        return (
            f"{self.predicted} of {self.used} videos predicted, {self.in_part} in part, "
            f"{self.skipped} skipped; {self.frames} frames"
        )


def open_video(
    file: pathlib.Path, inputs: paths.Inputs, reading: Reading, rate: Fraction | None
) -> Video:
    """Return a video file, or the pictures of a folder as one, opened.

    Raises:
        DataError: It cannot be read, or is none that the run can see.
    """
    if file in inputs.frames:
        return Pictures(file, inputs.frames[file], reading, rate or Fraction(25))
    from segjax.inference.video import decoding  # it needs PyAV

    return decoding.File(file, reading, rate)


def predict(inputs: paths.Inputs, output: pathlib.Path, work: Work) -> Counts:
    """Segment videos and write what was found into `output`, made if it is not there.

    Of each video `<name>.json` (frames, rate, pixels and share of each class over all frames) and
    what `work.outputs` asks for. Frames are decoded, predicted and written at the same time, a few
    of each; memory does not grow with the video. A video that cannot be read is reported and
    skipped; of one that is broken in its middle the good frames are predicted, and it is said.

    Raises:
        UserError: An output that there is not; `output` cannot be written, or holds files of others
            (see `paths.check_free`), and nothing was written; or the disk ran full.
    """
    chosen = kinds.choose(work.outputs, multilabel=work.multilabel, finds=work.finds)
    names = paths.output_names(inputs.files)
    paths.check_free(output, names, run=work.facts.get("run", ""))
    paths.make_folder(output)
    predictor = work.predictor()
    predicted = in_part = skipped = frames = 0
    _say(inputs.describe())
    for number, (file, name) in enumerate(names.items()):
        try:
            video = open_video(file, inputs, work.reading, work.rate)
        except DataError as error:
            skipped += 1
            _say(f"skipped: {error}")
            continue
        title = f"video {number + 1}/{len(names)}" if len(names) > 1 else "predict"
        about = video.about
        with (
            contextlib.closing(video),
            progress.Progress(about.expected, unit="frames", title=title) as bar,
        ):
            bar.message(f"{file}: {about.describe()}")
            for note in about.notes:
                bar.message(f"{file} {note}")
            try:
                count = _one(video, output / name, chosen, work, predictor, bar)
            except DataError as error:
                skipped += 1
                bar.message(f"skipped: {error}")
                continue
            for problem in video.problems:
                bar.message(f"warning: {file}: {problem}")
        frames, in_part = frames + count, in_part + bool(video.problems)
        predicted += not video.problems
    counts = Counts(len(names), predicted, in_part, skipped, frames)
    _say(f"{counts.describe()} to {output}")
    return counts


def _one(
    video: Video, base: pathlib.Path, chosen: Sequence[kinds.Kind], work: Work,
    predictor: Predictor | ObjectPredictor, bar: progress.Progress,
) -> int:  # fmt: skip
    """Predict a video and write what is chosen of it; return how many frames it has."""
    pixels = np.zeros(256, np.int64)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        adds = [
            stack.enter_context(
                kind.open(base.with_name(base.name + kind.ending), video.about, bar.message)
            )
            for kind in chosen
        ]

        def write(item: tuple[Frame, Found]) -> None:
            for add in adds:
                add(*item)
            own = areas.pixels_of(item[1].label, dims=2)
            pixels[: len(own)] += own

        count, expected = 0, video.about.expected
        with (
            stages.behind(write, work.batch) as give,
            contextlib.closing(stages.ahead(video.frames(), 2 * work.batch)) as frames,
        ):
            for count, item in enumerate(predicted_frames(frames, video, work, predictor), start=1):
                give(item)
                if count < expected or not expected:  # it is an estimate of some files
                    bar.update(count)
        bar.finish(count)
        facts = _facts(video, count, pixels, work)
        facts["outputs"] = [f"{base.name}{kind.ending}{'/' * bool(kind.inside)}" for kind in chosen]
        files_lib.write_json(base.with_name(base.name + image_kinds.FACTS), facts)  # whose it is
    seconds = time.monotonic() - begun
    bar.message(f"{video.about.file}: {count} frames in, {count} out, {count / seconds:.1f} fps")
    return count


def predicted_frames(
    frames: Iterable[Frame], video: Video, work: Work, predictor: Predictor | ObjectPredictor
) -> Iterator[tuple[Frame, Found]]:
    """Yield each frame with what is found in it, smoothed if that is asked for."""
    found = _found(frames, video, work, predictor)
    if work.smooth == 1:
        return found
    each = ((item, item[0].image, item[1].label) for item in found)
    return (
        (frame, dataclasses.replace(one, prediction=one.prediction._replace(classes=classes)))
        for (frame, one), classes in smoothing.vote(each, work.smooth)
    )


def _found(
    frames: Iterable[Frame], video: Video, work: Work, predictor: Predictor | ObjectPredictor
) -> Iterator[tuple[Frame, Found]]:
    """Yield each frame with what is found in it; some at a time go through the network."""
    rest = iter(frames)
    reads = [kind for kind in work.outputs if kind in image_kinds.OF_PIXELS]
    first = True
    while chunk := list(itertools.islice(rest, work.batch)):
        images = [frame.image for frame in chunk]
        if not first:  # the last ones have the shape of the others, for which all is compiled
            images += [images[-1]] * (work.batch - len(images))
        first = False
        answers = several_lib.several(
            predictor, images, most=work.batch,
            probabilities=range(len(images)) if reads else (),
        )  # fmt: skip
        for frame, answer in zip(chunk, answers, strict=False):
            yield frame, Found(
                video.about.file, video.about.file.name, classes=work.classes,
                without=frozenset(work.without), foreground=frozenset(work.foreground),
                **folder.answered(
                    frame.image, answer, work.classes, least_score=work.least_score
                ),
            )  # fmt: skip


def _facts(video: Video, count: int, pixels: np.ndarray, work: Work) -> dict[str, Any]:
    about, names = video.about, work.classes.class_names
    height, width = about.size
    return {
        "file": str(about.file), "size": [height, width], "frames": count,
        "fps": float(about.rate), "smooth": work.smooth,
        "classes": areas.areas_of(pixels, names, whole=(max(1, count), height, width)),
        "notes": [*about.notes, *video.problems], **work.facts,
    }  # fmt: skip


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)

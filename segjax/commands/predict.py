"""Segment images or videos of --input with a checkpoint of the run in --workdir, into --output.

Writes <name>.json (pixels and share of each class) and what --outputs asks for, at each image's own
size; of videos see docs/video.md. Images are read as the run's data set reads them. Needs nothing
of the training but the run's folder. Other files are never overwritten. The exit code is 2 where a
file had to be skipped, or a part of a video.
"""

import math
from typing import TYPE_CHECKING, Any

from absl import flags

from segjax.commands import options
from segjax.config import lookup, rules
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

if TYPE_CHECKING:
    from segjax.inference.layout import Layout
    from segjax.inference.paths import Inputs
    from segjax.runs.run import Run
    from segjax.structs import Classes

NEEDS = options.TRAINED | {"input": "--input='photos/*.jpg'", "output": "--output=out"}
SHARED = False
LEAST_SCORE = 0.5
BATCH = 2
MOST_VOTES = 31
OUTPUTS = (
    "What to write, with commas between: label, overlay, probabilities:npy (or :png, :zarr), "
    "alpha, confidence, entropy, contours:geojson (or :labelme, :coco), areas:csv; of objects "
    "instances, segments, objects:csv (or :coco), segments:coco; of videos label:video, alpha:mov, "
    "alpha:png as well. See docs/predict.md and docs/video.md."
)


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    options.model(values)
    text = "An image, video, volume or signal, a folder of them (searched recursively) or a glob."
    flags.DEFINE_string("input", "", text, flag_values=values)
    flags.DEFINE_string("output", "", "The folder to write to.", flag_values=values)
    flags.DEFINE_list("outputs", "label,overlay", OUTPUTS, flag_values=values)
    text = "Classes that contours leave out, with commas between, such as 'background'."
    flags.DEFINE_list("contours_without", "", text, flag_values=values)
    text = "From which score on objects are painted and outlined; tables hold all."
    flags.DEFINE_float("least_score", LEAST_SCORE, text, flag_values=values)
    text = "Size of a pixel along each axis, of all images; for a model with input.spacing."
    flags.DEFINE_list("spacing", "", text, flag_values=values)
    text = "Classes that alpha cuts out; by default all but the first, or all kinds of objects."
    flags.DEFINE_list("foreground", "", text, flag_values=values)
    text = "Frames a second: the pictures of a folder are a video then. Of videos: not their own."
    flags.DEFINE_string("fps", "", text, flag_values=values)
    text = "Frames of a video that vote on each class map, an odd number; 1: each is by itself."
    flags.DEFINE_integer("smooth", 1, text, flag_values=values)
    text = "Frames of a video that go through the network at once."
    flags.DEFINE_integer("batch", BATCH, text, 1, 1024, flag_values=values)
    text = "List what would be written, and write nothing; no checkpoint is read."
    flags.DEFINE_bool("dry_run", False, text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Predict all files."""
    from segjax.inference import dry_run, folder, paths
    from segjax.inference.outputs import kinds

    xla.prepare()
    from segjax.runs import as_trained, workdir

    opened = options.open_trained(values)
    class_names = opened.config["resolved"]["class_names"]
    reading, suffix = as_trained.reading_of(opened)
    dims = reading.dims
    multilabel, finds = opened.parts.multilabel, kinds.finds_of(opened.parts.task)
    check_score(values.least_score, finds=finds)
    without = numbers_of(values.contours_without, class_names, flag="contours_without")
    foreground = numbers_of(values.foreground, class_names, flag="foreground") or foreground_of(
        opened.parts.classes, multilabel=multilabel
    )
    output = options.path(values.output)
    inputs = paths.list_inputs(
        values.input, output=output, label_suffix=suffix, class_names=class_names,
        dims=dims, as_frames=bool(values.fps),
    )  # fmt: skip
    if inputs.unit == "videos":
        return predict_videos(
            values, opened, inputs, reading=reading, multilabel=multilabel, finds=finds,
            without=without, foreground=foreground,
        )  # fmt: skip
    check_of_videos(values)
    kinds.choose(values.outputs, dims=dims, multilabel=multilabel, finds=finds)
    if values.dry_run:
        for line in dry_run.lines(
            inputs, output, class_names=class_names, reading=reading, run=opened.path,
            outputs=values.outputs, multilabel=multilabel, finds=finds,
        ):  # fmt: skip
            print(printable(line))
        return 0
    paths.make_folder(output)  # before a checkpoint is read and anything compiled
    for note in opened.notes():
        print(printable(note))
    counts = folder.predict(
        inputs,
        output,
        predictor=opened.predictor(),
        classes=opened.parts.classes,
        reading=reading,
        step=opened.step,
        layout=opened.parts.layout,
        run=opened.path,
        scales_seen=workdir.image_scales(opened.facts()),
        outputs=values.outputs,
        without=without,
        multilabel=multilabel,
        finds=finds,
        least_score=values.least_score,
        spacing=spacing_of(values.spacing, opened.parts.layout),
        foreground=foreground,
    )
    return 2 if counts.skipped else 0


def predict_videos(values: flags.FlagValues, opened: "Run", inputs: "Inputs", **about: Any) -> int:
    """Predict videos.

    Args:
        values: The flags.
        opened: The run.
        inputs: The videos.
        about: What else `video.predict.Work` takes of the run.

    Raises:
        UserError: A flag that videos have not, and as `video.predict.predict`.
    """
    from segjax.inference import paths
    from segjax.inference.video import encoding, frames, kinds, plan, predict  # noqa: F401  PyAV

    if values.spacing:
        raise ConfigError("--spacing: is of images, and --input holds videos. Leave it out.")
    if about["reading"].dims != 2:
        raise ConfigError(
            f"--fps={values.fps}: makes videos of pictures, and the run's images have "
            f"{about['reading'].dims} axes in space. Leave it out."
        )
    check_smooth(values.smooth, finds=about["finds"])
    kinds.choose(values.outputs, multilabel=about["multilabel"], finds=about["finds"])
    output, rate = options.path(values.output), frames.rate_of(values.fps)
    work = predict.Work(
        predictor=opened.predictor, classes=opened.parts.classes, step=opened.step,
        run=opened.path, outputs=values.outputs, least_score=values.least_score, rate=rate,
        smooth=values.smooth, batch=values.batch, **about,
    )  # fmt: skip
    if values.dry_run:
        for line in plan.lines(inputs, output, work):
            print(printable(line))
        return 0
    paths.make_folder(output)  # before a checkpoint is read and anything compiled
    for note in opened.notes():
        print(printable(note))
    counts = predict.predict(inputs, output, work)
    return 2 if counts.skipped or counts.in_part else 0


def foreground_of(classes: "Classes", *, multilabel: bool) -> list[int]:
    """Return the classes that are cut out if none are named."""
    everything = range(len(classes.class_names))
    return list(classes.things or (everything if multilabel else everything[1:]))


def check_of_videos(values: flags.FlagValues) -> None:
    """Raise `ConfigError` for flags of videos where there are images only."""
    for name, usual in (("smooth", 1), ("batch", BATCH)):
        if (given := getattr(values, name)) != usual:
            raise ConfigError(
                f"--{name}={given}: is of videos, and --input holds images. Leave it "
                "out; --fps=25 makes a video of the pictures of a folder."
            )


def check_smooth(count: int, *, finds: str) -> None:
    """Raise `ConfigError` for a `--smooth` that is no odd number, or of a run of objects."""
    if not 1 <= count <= MOST_VOTES or not count % 2:
        raise ConfigError(
            f"--smooth={count}: expected an odd number of frames from 1 to {MOST_VOTES}. Change it."
        )
    if finds and count > 1:
        raise ConfigError(
            f"--smooth={count}: is of classes of pixels, and the run finds objects. Leave it out."
        )


def spacing_of(texts: list[str], layout: "Layout") -> tuple[float, ...]:
    """Return `--spacing` as numbers.

    Raises:
        ConfigError: They are none, or the model has no use for them.
    """
    try:
        found = tuple(map(float, texts))
    except ValueError:
        found = (0.0,)
    dims, shown = len(layout.canvas.size), ",".join(map(str, texts))
    right = len(found) == dims and all(0 < step < math.inf for step in found)
    if layout.spacing and found and not right:
        raise ConfigError(
            f"--spacing={rules.cut(shown)}: expected {dims} numbers above 0, the size of a pixel "
            f"along each axis: the model was trained at input.spacing={list(layout.spacing)}."
        )
    if found and not layout.spacing:
        raise ConfigError(
            f"--spacing={rules.cut(shown)}: the model was trained with input.spacing=[], at no "
            "spacing. Leave it out."
        )
    return found


def check_score(score: float, *, finds: str) -> None:
    """Raise `ConfigError` for a `--least_score` that is none, or of a run that finds no objects."""
    if not 0 <= score <= 1:
        raise ConfigError(f"--least_score={score:g}: expected a number from 0 to 1. Change it.")
    if not finds and score != LEAST_SCORE:
        raise ConfigError(
            f"--least_score={score:g}: is of objects, and the run finds none. Leave it out."
        )


def numbers_of(names: list[str], class_names: list[str], *, flag: str) -> list[int]:
    """Return the numbers of classes that a flag names.

    Raises:
        ConfigError: One that there is not.
    """
    for name in names:
        if name not in class_names:
            raise ConfigError(
                f"--{flag}={rules.cut(name)}: no such class.{lookup.suggest(name, class_names)}"
            )
    return [class_names.index(name) for name in names]

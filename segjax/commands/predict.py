"""Segment the images of --input with a checkpoint of the run in --workdir, into --output.

Writes <name>_label.png (class ids at the image's own size), <name>_overlay.png and <name>.json
(pixels and share of each class); of volumes and signals (.npy) <name>_label.npy. Images are read as
the run's data set reads them. Needs nothing of the training but the run's folder. Other files are
never overwritten. The exit code is 2 where a file had to be skipped.
"""

from absl import flags

from segjax.commands import options
from segjax.runtime import xla

NEEDS = options.WORKDIR | {"input": "--input='photos/*.jpg'", "output": "--output=out"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    text = "An image, a folder (searched recursively) or a glob; .npy for volumes and signals."
    flags.DEFINE_string("input", "", text, flag_values=values)
    flags.DEFINE_string("output", "", "The folder to write to.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Predict all files."""
    from segjax.data.decode import Reading
    from segjax.inference import folder, paths

    xla.prepare()
    from segjax.runs import workdir

    opened = options.open_run(values)
    source = opened.config["input"]["source"]
    names = ("exif", "dtype", "label_suffix")
    as_trained = {name: source[name] for name in names if name in source}
    suffix = as_trained.pop("label_suffix", "")
    output = options.path(values.output)
    inputs = paths.list_inputs(values.input, output=output, label_suffix=suffix)
    paths.make_folder(output)  # before a checkpoint is read and anything compiled
    counts = folder.predict(
        inputs,
        output,
        predictor=opened.predictor(),
        classes=opened.parts.classes,
        reading=Reading(channels=opened.parts.classes.channels, **as_trained),
        step=opened.step,
        layout=opened.parts.layout,
        run=opened.path,
        scales_seen=workdir.image_scales(opened.path),
    )
    return 2 if counts.skipped else 0

"""Show why the run in --workdir answers as it does for the images of --input, into --output.

Writes <name>_<method>.png and .npy of each map on the image's own grid, the same of a network that
has learned nothing (_random), explain.json and index.html. See docs/explain.md.
"""

from typing import Any

from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = options.WORKDIR | {"input": "--input='photos/*.jpg'", "output": "--output=out"}
SHARED = False
METHODS = (
    "With commas between: gradcam, integrated_gradients, occlusion, rollout, features; of how sure "
    "it is tta, dropout, ensemble."
)


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    text = "An image, a volume or a signal, a folder of them (searched recursively) or a glob."
    flags.DEFINE_string("input", "", text, flag_values=values)
    flags.DEFINE_string("output", "", "The folder to write to.", flag_values=values)
    flags.DEFINE_list("method", "gradcam", METHODS, flag_values=values)
    text = (
        "What is explained: <class> where it is predicted, <class>@40,60 at a pixel, "
        "<class>@0:40,60:90 in a box, <class>@all. Default: the class of most pixels."
    )
    flags.DEFINE_string("target", "", text, flag_values=values)
    text = "Whose features gradcam and features show, as 'encoder/stem'. Default: the bottleneck."
    flags.DEFINE_string("module", "", text, flag_values=values)
    text = "What integrated_gradients and occlusion put in the image's place: 'mean' or 'black'."
    flags.DEFINE_enum("baseline", "mean", ["mean", "black"], text, flag_values=values)
    text = "Side of what occlusion hides, in pixels that the network sees; 0: an eighth."
    flags.DEFINE_integer("window", 0, text, 0, 1 << 16, flag_values=values)
    text = "How far apart these windows are; 0: half of one."
    flags.DEFINE_integer("stride", 0, text, 0, 1 << 16, flag_values=values)
    text = "Steps of integrated_gradients at first; they are doubled until it is complete."
    flags.DEFINE_integer("steps", 32, text, 1, 4096, flag_values=values)
    text = "Members of dropout."
    flags.DEFINE_integer("members", 8, text, 2, 1024, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Explain all files."""
    xla.prepare()
    from segjax.explain import folder
    from segjax.explain.methods import Options
    from segjax.inference import paths
    from segjax.runs import as_trained

    chosen = folder.check_methods(values.method)
    opened = options.open_run(values)
    folder.check_run(opened, chosen)
    own, suffix = as_trained.reading_of(opened)
    output = options.path(values.output)
    inputs = paths.list_inputs(
        values.input, output=output, label_suffix=suffix, dims=own.dims,
        class_names=opened.config["resolved"]["class_names"],
    )  # fmt: skip
    if inputs.unit == "videos":
        raise ConfigError(
            "--input: holds videos, and images are explained. Name pictures of them, as "
            "ffmpeg -i clip.mp4 frames/%04d.png makes them."
        )
    for note in opened.notes():
        print(printable(note))
    names = ("module", "baseline", "window", "stride", "steps", "members")
    given: dict[str, Any] = {name: values[name].value for name in names}
    counts = folder.explain(
        opened, inputs, output, chosen=chosen, target=values.target, options=Options(**given)
    )
    return 2 if counts.skipped else 0

"""Write a checkpoint of the run in --workdir to the file --output, for PyTorch or another run."""

from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = options.WORKDIR | {
    "output": "--output=out/quickstart.safetensors",
    "publisher": "--publisher=segjax",
}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    flags.DEFINE_string(
        "output",
        "",
        "The file to write: of safetensors, or ….pkl as detectron2 reads.",
        flag_values=values,
    )
    text = "Whose names the arrays get: segjax, torchvision, timm, smp, huggingface, facebook or "
    text += "detectron2."
    flags.DEFINE_string("publisher", "", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Export the weights."""
    xla.prepare()
    from segjax.export import weights

    opened = options.open_run(values)
    if opened.others:
        raise ConfigError(
            f"--workdir={values.workdir} --checkpoint={values.checkpoint}: an ensemble, expected "
            "one checkpoint of one run: a file holds the weights of one. Name it."
        )
    text = weights.write(opened, options.path(values.output), publisher=values.publisher)
    print(printable(text))
    return 0

"""Write a checkpoint of the run in --workdir to the file --output, for other programs.

--format=stablehlo: the network as a program with its weights, which predicts without the code of
the network: --mode=eval and predict take it as --model. It is run on images beside the run before
it is kept. --format=weights: the weights alone, for PyTorch or another run, by the names of a
--publisher.
"""

from absl import flags

from segjax.commands import options
from segjax.config import lookup
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = options.WORKDIR | {"output": "--output=out/quickstart.segjax"}
SHARED = False
FORMATS = ("stablehlo", "weights")


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    flags.DEFINE_string("output", "", "The file to write.", flag_values=values)
    text = "stablehlo: a program; weights: a safetensors file, which --publisher says as well."
    flags.DEFINE_string("format", "", text, flag_values=values)
    text = "Whose names the arrays get: segjax, torchvision, timm, smp, huggingface or facebook."
    flags.DEFINE_string("publisher", "", text, flag_values=values)
    text = "On which a program is to run: cpu, cuda, rocm, tpu."
    flags.DEFINE_list("platforms", "cpu,cuda,tpu", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Export the run."""
    form = values.format or ("weights" if values.publisher else "stablehlo")
    lookup.choose(form, FORMATS, what="--format")
    for name in values.platforms:
        lookup.choose(name, ("cpu", "cuda", "rocm", "tpu"), what="--platforms")
    if (form == "weights") != bool(values.publisher):
        raise ConfigError(
            f"--format={form}: --publisher={values.publisher!r} does not go with it. Weights need "
            "one, such as --publisher=segjax; a program has none."
        )
    xla.prepare()
    from segjax.export import exported, weights

    opened = options.open_run(values)
    if opened.others:
        raise ConfigError(
            f"--workdir={values.workdir} --checkpoint={values.checkpoint}: an ensemble, expected "
            "one checkpoint of one run: a file holds the weights of one. Name it."
        )
    output = options.path(values.output)
    if form == "weights":
        lines = [weights.write(opened, output, publisher=values.publisher)]
    else:
        lines = exported.write(opened, output, platforms=values.platforms)
    for line in lines:
        print(printable(line))
    return 0

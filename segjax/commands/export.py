"""Write a checkpoint of the run in --workdir to the file --output, for other programs.

--format=stablehlo: the network as a program with its weights, which predicts without the code of
the network: --mode=eval and predict take it as --model. --format=onnx: likewise for onnxruntime and
OpenVINO; --int8 computes in integers. Images as they are stored go in, scores, probabilities and
classes come out; --bare: the network alone. Both are run on images beside the run before they are
kept. --format=weights: the weights alone, for PyTorch or another run, by the names of a
--publisher.
"""

from absl import flags

from segjax.commands import options
from segjax.config import lookup
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = options.WORKDIR | {"output": "--output=out/quickstart.segjax"}
SHARED = False
FORMATS = ("stablehlo", "onnx", "weights")
LARGEST_LOSS = 0.05


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    text = "The file to write; of weights a safetensors file, or ….pkl as detectron2 reads."
    flags.DEFINE_string("output", "", text, flag_values=values)
    text = "stablehlo: a program; onnx: a graph, which a name in .onnx says as well; weights: the "
    text += "arrays alone, which --publisher says as well."
    flags.DEFINE_string("format", "", text, flag_values=values)
    text = "Whose names the arrays get: segjax, torchvision, timm, smp, huggingface, facebook or "
    text += "detectron2."
    flags.DEFINE_string("publisher", "", text, flag_values=values)
    text = "On which a program is to run: cpu, cuda, rocm, tpu."
    flags.DEFINE_list("platforms", "cpu,cuda,tpu", text, flag_values=values)
    text = "Of a program or graph: the network alone, from normalised float32 images to scores."
    flags.DEFINE_bool("bare", False, text, flag_values=values)
    text = "Of onnx: compute in 8-bit integers, calibrated on training images."
    flags.DEFINE_bool("int8", False, text, flag_values=values)
    text = "Of --int8: how many training images say which ranges there are."
    flags.DEFINE_integer("calibration_images", 64, text, lower_bound=1, flag_values=values)
    text = "Of --int8: how much of the first score may be lost, such as 0.05 of the mIoU."
    flags.DEFINE_float("largest_loss", LARGEST_LOSS, text, lower_bound=0.0, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Export the run."""
    form = format_of(values)
    xla.prepare()
    from segjax.baselines import base as baselines
    from segjax.export import exported, quantize, weights

    opened = options.open_run(values)
    baselines.check_network(opened.parts.model)
    if opened.others:
        raise ConfigError(
            f"--workdir={values.workdir} --checkpoint={values.checkpoint}: an ensemble, expected "
            "one checkpoint of one run: a file holds the weights of one. Name it."
        )
    output = options.path(values.output)
    if form == "weights":
        lines = [weights.write(opened, output, publisher=values.publisher)]
    elif values.int8:
        lines = quantize.write(
            opened, output, images=values.calibration_images, largest_loss=values.largest_loss
        )
    elif form == "onnx":
        lines = exported.write_onnx(opened, output, bare=values.bare)
    else:
        lines = exported.write(opened, output, platforms=values.platforms, bare=values.bare)
    for line in lines:
        print(printable(line))
    return 0


def format_of(values: flags.FlagValues) -> str:
    """Return the format that the flags ask for.

    Raises:
        ConfigError: There is none such, or other flags do not go with it.
    """
    named = "weights" if values.publisher else "stablehlo"
    form = values.format or ("onnx" if values.output.endswith(".onnx") else named)
    lookup.choose(form, FORMATS, what="--format")
    for name in values.platforms:
        lookup.choose(name, ("cpu", "cuda", "rocm", "tpu"), what="--platforms")
    if (form == "weights") != bool(values.publisher):
        raise ConfigError(
            f"--format={form}: --publisher={values.publisher!r} does not go with it. Weights need "
            "one, such as --publisher=segjax; a program has none."
        )
    if values.int8 and form != "onnx":
        raise ConfigError(f"--format={form}: --int8 is of --format=onnx alone. Leave it out.")
    if values.bare and form == "weights":
        raise ConfigError("--format=weights: --bare is of programs and graphs. Leave it out.")
    if values.bare and values.int8:
        raise ConfigError("--bare and --int8 do not go together. Leave one of them out.")
    if form == "onnx" and not values.output.endswith(".onnx"):
        raise ConfigError(
            f"--output={values.output}: expected a name in .onnx for --format=onnx, by which other "
            "programs know it. Name it so."
        )
    return form

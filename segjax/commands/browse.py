"""Draw what the network of --config is trained on, augmented, with its masks: one PNG, --output.

The batches are those of a training with the same seed, step by step from --step on: what is shown
is what it sees. Nothing is trained.
"""

from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = options.CONFIG | {"output": "--output=sheet.png"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    flags.DEFINE_string("output", "", "The PNG to write.", flag_values=values)
    text = "The first step whose batch is shown."
    flags.DEFINE_integer("step", 0, text, lower_bound=0, flag_values=values)
    text = "How many examples are shown."
    flags.DEFINE_integer("count", 16, text, lower_bound=1, upper_bound=256, flag_values=values)
    text = "Show them as they are augmented; --noaugment: as the data has them, on the canvas."
    flags.DEFINE_bool("augment", True, text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Draw the sheet, and say what is on it."""
    output = options.path(values.output)
    if output.suffix.lower() != ".png":
        raise ConfigError(f"--output={values.output}: expected a file that ends with .png.")
    config = options.read_config(values)
    xla.prepare()
    from segjax.assemble import samples
    from segjax.assemble import setup as setup_lib
    from segjax.config import trials
    from segjax.inference import paths
    from segjax.views import sheet
    from segjax.views.progress import Progress

    (first, *_) = trials.configs(config)  # of several the first: their data is the same
    setup, source = setup_lib.make_setup(first)
    if not samples.can_be_shown(setup):
        raise ConfigError(
            f"--config={values.config}: classes that overlap have no one colour for a pixel. "
            "Expected a data set with one class for each."
        )
    paths.make_folder(output.parent)
    with Progress(values.count, unit="examples", title="browse", leave=False) as bar:
        found = samples.of_training(
            setup, source, step=values.step, count=values.count, augment=values.augment,
            tell=bar.update,
        )  # fmt: skip
    shown = samples.shown(found)
    classes = setup.parts.classes
    sheet.draw(output, shown, palette=classes.palette, class_names=classes.class_names)
    steps = sorted({each.step for each in found})
    size = "x".join(map(str, shown[0].label.shape))
    print(
        printable(
            f"{len(source)} examples found; {len(shown)} of steps {steps[0]} to {steps[-1]} shown, "
            f"{'augmented' if values.augment else 'not augmented'}, {size} pixels, in {output}"
        )
    )
    return 0

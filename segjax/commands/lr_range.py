"""Find a learning rate for --config: raise it at every step until the loss grows (Smith 2017).

The table lr_range.csv and the figure lr_range.png go to --output. The rate that is suggested is the
one at which the smoothed loss fell fastest, and at most a tenth of the one at which it diverged. It
is a peak for a schedule that rises and falls; for a constant rate take less.
"""

import math

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runtime import xla

NEEDS = options.CONFIG | {"output": "--output=rates"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    text = "The folder for the table and the figure."
    flags.DEFINE_string("output", "", text, flag_values=values)
    flags.DEFINE_float("start", 1e-6, "The rate of the first step.", flag_values=values)
    flags.DEFINE_float("end", 10.0, "The rate of the last step.", flag_values=values)
    text = "How many steps; it ends earlier where the loss diverges."
    flags.DEFINE_integer("steps", 200, text, lower_bound=10, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Take the steps, print the rates, write the table and the figure."""
    config, folder = options.read_config(values), options.path(values.output)
    xla.prepare()
    from segjax.runs import lr_range
    from segjax.views import progress, rates

    own = lr_range.config_of(config, start=values.start, end=values.end, steps=values.steps)
    steps = progress.over(lr_range.sweep(own), total=values.steps, unit="step", title="lr_range")
    found = lr_range.find(steps)
    found.write(folder / "lr_range.csv")
    suggested = found.suggested()
    rates.draw_range(
        folder / "lr_range.png", found.rates, found.losses, found.smoothed,
        suggested=suggested, diverged=found.diverged,
    )  # fmt: skip
    ended = f"diverged at {found.diverged:.3g}"
    if math.isnan(found.diverged):
        ended = f"did not diverge up to {found.rates[-1]:.3g}; a higher --end would show more"
    print(printable(f"{len(found.rates)} of {values.steps} steps; the loss {ended}"))
    print(printable(f"steepest at {found.steepest:.3g}; suggested: optimizer.lr={suggested:.2g}"))
    print(printable(f"written to {folder}: lr_range.csv, lr_range.png"))
    return 0

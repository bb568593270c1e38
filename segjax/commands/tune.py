"""Choose post-processing for the run in --workdir on a split, and keep it with the run.

Tries thresholds, the largest component, a least area and the filling of holes for each class, and a
conditional random field. A step is kept only where the lower end of the 95 % interval of what it
adds to the mean IoU of an image is above 0. The choice and all numbers are in
<workdir>/postprocess.json; eval and predict then use it, and say so.
"""

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runtime import xla

NEEDS = options.WORKDIR
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    text = "A key of config.evals or the split that it scores; best not the one of the final test."
    flags.DEFINE_string("split", "val", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Choose, print why, write the choice."""
    xla.prepare()
    from segjax.runs import workdir

    opened = options.open_run(values)
    choice = opened.tune(values.split, shown=True)
    about = opened.parts.about_scores(opened.step, opened.overrides) | {"split": values.split}
    del about["inference"]["postprocess"]  # that of the run before, which was not used
    written = opened.path / workdir.POSTPROCESS
    choice.write(written, about)
    for line in (*choice.lines(), f"written to {written}; --mode=eval scores the run with it"):
        print(printable(line))
    return 0

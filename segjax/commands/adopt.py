"""Make a run in --workdir of the published weights that --config names, untrained.

Then --mode=eval, predict, export, serve and train take it like any other run.
"""

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runs import workdir
from segjax.runtime import xla

NEEDS = options.CONFIG | options.WORKDIR
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    options.as_published(values)
    options.workdir(values)


def run(values: flags.FlagValues) -> int:
    """Write the run and say what was loaded."""
    path = options.path(values.workdir)
    workdir.check_free(path)
    config = options.read_config(values)
    xla.prepare()
    config = options.published(values, config)
    from segjax.runs import adopt

    for line in adopt.adopt(path, config):
        print(printable(line))
    return 0

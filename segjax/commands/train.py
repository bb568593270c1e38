"""Train what --config describes in --workdir, continuing what is there."""

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runs import workdir
from segjax.runtime import xla

NEEDS = options.CONFIG | options.WORKDIR
SHARED = True


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    options.as_published(values)
    options.workdir(values)
    options.job(values)
    text = "Go on in a workdir that another config made."
    flags.DEFINE_bool("allow_config_change", False, text, flag_values=values)
    text = "first:last: trace these steps, both included, into <workdir>/profile."
    flags.DEFINE_string("profile_steps", "", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Train; return 0, or after a saved checkpoint 75, or 130 where Ctrl-C ended it."""
    path = options.path(values.workdir)
    workdir.check_free(path)  # before the seconds that importing jax takes
    config = options.read_config(values)
    xla.prepare()
    config = options.published(values, config)
    from segjax.report import ending
    from segjax.runs import train

    code = train.run(
        path,
        config,
        allow_config_change=values.allow_config_change,
        profile_steps=values.profile_steps,
        at_end=ending.write,
    )
    if code == train.DONE:
        from segjax.watch import reference

        for line in reference.after_training(path, config):
            print(printable(line))
    return code

"""Train what --config describes in --workdir, continuing what is there."""

from absl import flags

from segjax.commands import options
from segjax.runtime import xla

NEEDS = options.CONFIG | options.WORKDIR
SHARED = True


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    options.workdir(values)
    options.job(values)
    text = "Go on in a workdir that another config made."
    flags.DEFINE_bool("allow_config_change", False, text, flag_values=values)
    text = "first:last: trace these steps, both included, into <workdir>/profile."
    flags.DEFINE_string("profile_steps", "", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Train; return 0, or 75 when preempted after a saved checkpoint."""
    xla.prepare(keep_memory=True)
    from segjax.runs import train

    return train.run(
        options.path(values.workdir),
        options.read_config(values),
        allow_config_change=values.allow_config_change,
        profile_steps=values.profile_steps,
    )

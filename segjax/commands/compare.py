"""Test whether the two runs of --workdir differ on a split, example by example; writes nothing.

Both were scored with evals.<name>.intervals, so that their eval/<name>.json tell of each example.
The interval is that of the difference, the p-value that of a paired permutation test.
"""

from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = {"workdir": "--workdir=runs/a,runs/b"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    text = "The folders of two runs, separated by a comma."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "The name of the evaluation, eval/<name>.json."
    flags.DEFINE_string("split", "val", text, flag_values=values)
    text = "What is compared, such as miou or hd95; several, separated by commas."
    flags.DEFINE_list("metric", ["miou"], text, flag_values=values)
    text = "Of the bootstrap and of the permutation test."
    flags.DEFINE_integer(
        "resamples", 10_000, text, lower_bound=1, upper_bound=1_000_000, flag_values=values
    )


def run(values: flags.FlagValues) -> int:
    """Print a line for each metric."""
    xla.prepare()
    from segjax.metrics import intervals
    from segjax.views import progress

    folders = [options.path(text) for text in values.workdir.split(",")]
    if len(folders) != 2:
        raise ConfigError(
            f"--workdir={values.workdir}: {len(folders)} folders, expected two, separated by a "
            "comma: --workdir=runs/a,runs/b."
        )
    reports = [folder / "eval" / f"{values.split}.json" for folder in folders]
    for metric in progress.over(
        values.metric, total=len(values.metric), unit="metrics", title="compare"
    ):
        found = intervals.compare(*reports, metric=metric, resamples=values.resamples)
        print(printable(intervals.describe(found)))
    return 0

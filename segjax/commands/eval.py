"""Score a checkpoint of the run in --workdir on all its splits; write eval/ and figures/.

An exported file, --model, is scored instead: its reports go to a folder of its name. Scores of
another checkpoint or with --override go to files of their own.
"""

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runtime import distributed, xla

NEEDS = options.TRAINED
SHARED = True


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    options.model(values)
    options.job(values)


def run(values: flags.FlagValues) -> int:
    """Evaluate, print the headlines, write the reports."""
    xla.prepare()

    first = distributed.is_first()
    opened = options.open_trained(values)
    for note in opened.notes() if first else ():
        print(printable(note))
    for report in opened.evaluate(shown=first, draw=True):
        if first:
            written = report.write(opened.path, variant=opened.variant())
            for line in (*report.lines(), f"written to {written}"):
                print(printable(line))
    return 0

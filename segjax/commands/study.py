"""Run what the study in --study lacks, and draw its table from the results.

A study is a Python file with get_study: rows of configs, and the seeds that each is trained with.
Each run is a folder below --workdir. The same command goes on where it was ended, and beside
itself: several shells, the tasks of a SLURM job or array, the pods of an indexed job share the runs
by locks in that folder. A run that fails is reported, does not stop the rest, and makes the exit
code 1.
"""

import os

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runtime import xla

NEEDS = {"study": "--study=experiments/losses/study.py", "workdir": "--workdir=runs/losses"}
SHARED = None


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    text = "The study: experiments/<question>/study.py[:argument,…]."
    flags.DEFINE_string("study", "", text, flag_values=values)
    text = "Where its runs are trained, a folder each."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "Where results, table and plots are written. Default: the folder of the study's file."
    flags.DEFINE_string("output", "", text, flag_values=values)
    text = "Only say what is missing; trains and writes nothing."
    flags.DEFINE_bool("dry_run", False, text, flag_values=values)
    text = "Only draw table and plots from the results that there are."
    flags.DEFINE_bool("draw", False, text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Train, draw, and say what became of all runs."""
    from segjax.studies import definition

    found = definition.read(values.study)
    xla.prepare()
    from segjax.studies import study

    output = options.path(values.output) if values.output else found.path.parent
    if values.dry_run:
        lacking = study.missing(found, output)
        for cell in lacking:
            print(printable(f"{cell.name}: {cell.command}"))
        print(printable(f"{len(found.cells)} runs, {len(lacking)} missing; nothing was written"))
        return 0
    code = 0
    if not values.draw:
        root = options.path(values.workdir)
        tally = study.run(found, root, output, say=lambda line: print(printable(line), flush=True))
        print(printable(f"runs: {tally.line()}"))
        for name, reason in tally.failed.items():
            print(printable(f"{name}: failed: {reason}"))
        code = tally.code or int(bool(tally.failed))
        if not study.records_of(found, output):
            return code
    written = [os.path.relpath(path) for path in study.draw(found, output)]
    print(printable(f"drawn from {output / study.RESULTS}: {', '.join(written)}"))
    return code

"""Write what the run in --workdir is like as one HTML page; of several runs how they differ.

Scores of classes with intervals, what is taken for what, calibration, scores by size, the worst and
the least sure examples, curves, time and memory, data, versions, command. The page needs no
network. Training writes it at its end, of fewer examples (config.report). An exported file,
--model, has one as well; with --workdir it is compared with a run.
"""

from typing import Any

from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, printable
from segjax.runs import versions, workdir
from segjax.runtime import distributed, xla

NEEDS = options.TRAINED
SHARED = True


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    text = "The run's folder; of several runs that are compared theirs, separated by commas."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "'best', 'latest' or a step. Default: the best if the run keeps one, else the latest."
    flags.DEFINE_string("checkpoint", "", text, flag_values=values)
    options.model(values)
    text = (
        "The HTML file to write. Default: report.html in the run's folder, of an exported file in "
        "that of its name; of several it must be given."
    )
    flags.DEFINE_string("output", "", text, flag_values=values)
    text = "Examples of each evaluation that are predicted once more, evenly spread. Default: all."
    flags.DEFINE_integer("examples", None, text, lower_bound=0, flag_values=values)
    text = "Examples of each evaluation that are shown, the worst and the least sure first."
    flags.DEFINE_integer(
        "pictures", 48, text, lower_bound=0, upper_bound=10_000, flag_values=values
    )
    options.override(values, "evals.val.batch_size=3")
    options.trust_code(values)
    options.job(values)


def run(values: flags.FlagValues) -> int:
    """Write the page, and say what is on it."""
    whole = options.path(values.workdir)
    folders = [whole] if whole.exists() else [options.path(t) for t in values.workdir.split(",")]
    folders = [each for each in folders if each.name]
    files = [options.path(values.model)] if values.model else []
    number = len(folders) + len(files)
    if number > 1 and not values.output:
        raise ConfigError(
            f"--workdir={values.workdir}: {number} runs, and no --output. Say where the page "
            "goes, such as --output=report.html."
        )
    homes = [*folders, *(file.with_suffix("") for file in files)]
    output = options.path(values.output) if values.output else homes[0] / workdir.REPORT
    if output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--output={values.output}: expected a file that ends with .html.")
    xla.prepare()
    from segjax.export import exported
    from segjax.inference import paths
    from segjax.report import beside, page, record
    from segjax.runs import run as run_lib
    from segjax.views.progress import Progress

    first = distributed.is_first()
    same: dict[str, Any] = {"overrides": values.override, "trust_code": values.trust_code}
    used = [versions.current(folder) for folder in folders]
    opened = [run_lib.open_run(each, checkpoint=values.checkpoint, **same) for each in used]
    opened += [exported.open_file(file, **same) for file in files]
    subjects = [
        record.of_run(each, name)
        for each, name in zip(opened, record.names_of([*folders, *files]), strict=True)
    ]
    paths.make_folder(output.parent)
    total = page.count(subjects[0], values.examples)
    with Progress(
        total, unit="images", title="report", leave=False, enabled=first and total > 0
    ) as bar:
        settings = {"examples": values.examples, "pictures": values.pictures, "tell": bar.update}
        if len(subjects) == 1:
            found = page.write(output, subjects[0], **settings, first=first)
        else:
            found = beside.write(output, subjects, **settings, first=first)
    remarks = [
        f"{folder}: its version in use is {each.name}"
        for folder, each in zip(folders, used, strict=True)
        if each != folder
    ]
    for line in (*remarks, *found.lines(output)) if first else ():
        print(printable(line))
    return 0

"""Compare a folder of images, as a stream, with the images of the training; raise alerts.

First, once: --mode=watch --workdir=<run> --reference makes <workdir>/watch.json. Then
--mode=watch --workdir=<run> --input=<folder> --output=<folder> writes drift.html, drift.json,
statistics.csv, and rules for Prometheus and a dashboard for Grafana. See docs/watch.md.
"""

from typing import TYPE_CHECKING

from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

if TYPE_CHECKING:
    from segjax.runs.run import Run

NEEDS = options.WORKDIR | {"reference or input": "--reference, or --input=photos"}
SHARED = False
PAGE = "drift.html"


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    text = "Make the run's reference, <workdir>/watch.json, from its own data."
    flags.DEFINE_bool("reference", False, text, flag_values=values)
    text = "With --reference: which splits, with commas between; empty: that of training, and val."
    flags.DEFINE_list("splits", "", text, flag_values=values)
    text = (
        "With --reference: whose an image is, a regular expression on its name, such as a clip or "
        "patient; empty: what the data set knows, else what stands before the last number."
    )
    flags.DEFINE_string("groups", "", text, flag_values=values)
    text = "With --reference: images that are compared at once."
    flags.DEFINE_integer(
        "window", 100, text, lower_bound=8, upper_bound=10_000, flag_values=values
    )  # fmt: skip
    text = "With --reference: the most images of each split."
    flags.DEFINE_integer(
        "examples", 1000, text, lower_bound=20, upper_bound=100_000, flag_values=values
    )  # fmt: skip
    text = "The images, in the order of their names: a folder, a file or a glob."
    flags.DEFINE_string("input", "", text, flag_values=values)
    text = "Where the page and the numbers go."
    flags.DEFINE_string("output", "", text, flag_values=values)
    text = "A folder of feedback, whose corrections are compared as well."
    flags.DEFINE_string("feedback", "", text, flag_values=values)
    text = "Where alerts are posted to as JSON, such as https://hooks.slack.com/…."
    flags.DEFINE_string("webhook", "", text, flag_values=values)
    text = "The exit code where there was an alert, for scripts."
    flags.DEFINE_integer(
        "alert_exit", 0, text, lower_bound=0, upper_bound=63, flag_values=values
    )  # fmt: skip


def run(values: flags.FlagValues) -> int:
    """Make the reference, or compare; return 0, or --alert_exit after an alert."""
    from segjax.watch import alerts

    alerts.check_webhook(values.webhook)
    if values.input and not values.output:
        raise ConfigError("--mode=watch --input=… needs --output, e.g. --output=drift.")
    xla.prepare()
    opened = options.open_run(values)
    if values.reference:
        make_reference(values, opened)
    return compare(values, opened) if values.input else 0


def make_reference(values: flags.FlagValues, opened: "Run") -> None:
    """Write the run's reference."""
    from segjax.views import progress
    from segjax.watch import reference

    sources = reference.open_splits(
        opened, splits=[split for split in values.splits if split], examples=values.examples
    )
    total = sum(map(len, sources.values()))
    with progress.Progress(total, unit="images", title="reference") as bar:
        made = reference.make(
            opened, sources, groups=values.groups, window=values.window, tell=bar.update
        )
    made.save(opened.path / reference.FILE)
    print(printable(made.describe(opened.path / reference.FILE)))


def compare(values: flags.FlagValues, opened: "Run") -> int:
    """Compare a folder with the reference."""
    from segjax.feedback.store import Store
    from segjax.inference import paths
    from segjax.runs import as_trained
    from segjax.views import progress
    from segjax.watch import alerts, page, reference, stream

    known = reference.Reference.load(opened.path / reference.FILE)
    reading, suffix = as_trained.reading_of(opened)
    output = options.path(values.output)
    store = Store.open(options.path(values.feedback), create=False) if values.feedback else None
    inputs = paths.list_inputs(
        values.input, output=output, label_suffix=suffix, class_names=known.class_names,
        dims=reading.dims,
    )  # fmt: skip
    paths.make_folder(output)
    with progress.Progress(len(inputs.files), unit="images", title="watch") as bar:
        watched = stream.watch(
            inputs.files, reference=known, predictor=opened.predictor(),
            layout=opened.parts.layout, reading=reading, tell=bar.message, done=bar.update,
        )  # fmt: skip
    raised = watched.alerts
    if store is not None:
        line, more = stream.quality(store, known)
        raised += more
        print(printable(line))
    with progress.stage("drawing the page"):
        watched.write(output)
        page.write(output / PAGE, watched)
        alerts.write(output, known)
    problem = (
        alerts.post(values.webhook, raised, run=str(opened.path))
        if values.webhook and raised
        else ""
    )
    for line in (*filter(None, [problem]), f"{watched.describe()}; written to {output}"):
        print(printable(line))
    return values.alert_exit if raised else 0

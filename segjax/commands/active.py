"""Choose the images of --input that a person should label next, and list them in --output.

The model of --workdir is unsure of them, and they differ from each other and from those that lie in
the folder of --feedback with a mask. Writes <output>/active.csv. See docs/feedback.md.
"""

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runtime import xla

NEEDS = options.WORKDIR | {"input": "--input=photos", "output": "--output=next"}
SHARED = False
TABLE = "active.csv"


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    text = "The images: a folder, a file or a glob."
    flags.DEFINE_string("input", "", text, flag_values=values)
    text = "Where active.csv goes."
    flags.DEFINE_string("output", "", text, flag_values=values)
    text = "A folder of feedback; what has a mask there needs no other like it."
    flags.DEFINE_string("feedback", "", text, flag_values=values)
    text = "How many images to choose."
    flags.DEFINE_integer("count", 20, text, lower_bound=1, flag_values=values)
    text = "How much the distance counts against the uncertainty, its power; 0: not at all."
    flags.DEFINE_float(
        "diversity", 1.0, text, lower_bound=0, upper_bound=10, flag_values=values
    )  # fmt: skip


def run(values: flags.FlagValues) -> int:
    """Choose, list, and say how many."""
    from segjax.feedback.store import Store
    from segjax.inference import paths
    from segjax.views import progress

    xla.prepare()
    from segjax.feedback import active
    from segjax.runs import as_trained

    opened = options.open_run(values)
    reading, suffix = as_trained.reading_of(opened)
    output = options.path(values.output)
    inputs = paths.list_inputs(
        values.input, output=output, label_suffix=suffix, dims=reading.dims,
        class_names=opened.parts.classes.class_names,
    )  # fmt: skip
    store = Store.open(options.path(values.feedback), create=False) if values.feedback else None
    known = [store.image_of(row.id, row.suffix) for row in store.rows() if row.labelled] \
        if store else []  # fmt: skip
    paths.make_folder(output)
    total = len(known) + len(inputs.files)
    with progress.Progress(total, unit="images", title="active") as bar:
        about = {
            "predictor": opened.predictor(), "layout": opened.parts.layout, "reading": reading,
            "tell": bar.message,
        }  # fmt: skip
        labelled = active.see(known, **about, done=bar.update)
        seen = active.see(
            inputs.files, **about, done=lambda done: bar.update(len(known) + done)
        )  # fmt: skip
    picks = active.choose(seen, values.count, labelled=labelled, diversity=values.diversity)
    active.write(output / TABLE, picks)
    skipped = len(inputs.files) - len(seen)
    line = (
        f"{inputs.found} images found, {len(seen)} used beside {len(labelled)} labelled ones, "
        f"{skipped} skipped; {len(picks)} chosen, written to {output / TABLE}"
    )
    print(printable(line))
    return 0

"""Draw what the network of --config is trained on, augmented, with its masks: one PNG, --output.

The batches are those of a training with the same seed, step by step from --step on: what is shown
is what it sees. Nothing is trained.
"""

import contextlib
from typing import Any

import numpy as np
from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = options.CONFIG | {"output": "--output=sheet.png"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    flags.DEFINE_string("output", "", "The PNG to write.", flag_values=values)
    text = "The first step whose batch is shown."
    flags.DEFINE_integer("step", 0, text, lower_bound=0, flag_values=values)
    text = "How many examples are shown."
    flags.DEFINE_integer("count", 16, text, lower_bound=1, upper_bound=256, flag_values=values)
    text = "Show them as they are augmented; --noaugment: as the data has them, on the canvas."
    flags.DEFINE_bool("augment", True, text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Draw the sheet, and say what is on it."""
    output = options.path(values.output)
    if output.suffix.lower() != ".png":
        raise ConfigError(f"--output={values.output}: expected a file that ends with .png.")
    config = options.read_config(values)
    xla.prepare()
    from segjax.assemble import setup as setup_lib
    from segjax.config import trials
    from segjax.inference import paths
    from segjax.views import sheet

    (first, *_) = trials.configs(config)  # of several the first: their data is the same
    setup, source = setup_lib.make_setup(first)
    if setup.parts.multilabel or "label" not in setup.parts.schema:
        raise ConfigError(
            f"--config={values.config}: classes that overlap have no one colour for a pixel. "
            "Expected a data set with one class for each."
        )
    paths.make_folder(output.parent)
    found = batches(setup, source, step=values.step, count=values.count, augment=values.augment)
    shown = [
        sheet.Shown(f"step {step}, example {index}", image, label)
        for step, index, image, label in found
    ]
    classes = setup.parts.classes
    sheet.draw(output, shown, palette=classes.palette, class_names=classes.class_names)
    steps = sorted({step for step, *_ in found})
    size = "x".join(map(str, shown[0].label.shape))
    print(
        printable(
            f"{len(source)} examples found; {len(shown)} of steps {steps[0]} to {steps[-1]} shown, "
            f"{'augmented' if values.augment else 'not augmented'}, {size} pixels, in {output}"
        )
    )
    return 0


def batches(
    setup: Any, source: Any, *, step: int, count: int, augment: bool
) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Return step, position, image and label of `count` examples, as a training has them."""
    import jax

    from segjax.assemble import program
    from segjax.views.progress import Progress

    change = jax.jit(setup.parts.augment)
    key = jax.random.split(jax.random.key(setup.config["seed"]))[1]
    found: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    with (
        contextlib.closing(program.make_batches(setup, source, step)) as every,
        Progress(count, unit="examples", title="browse", leave=False) as bar,
    ):
        for number, batch in enumerate(every, start=step):
            if augment:  # the key that the train step takes for it
                batch = change(jax.random.split(jax.random.fold_in(key, number))[0], batch)
            fields: Any = jax.device_get(batch)
            rows = zip(fields["index"].tolist(), fields["image"], fields["label"], strict=True)
            found += [(number, index, image, label) for index, image, label in rows]
            bar.update(min(count, len(found)))
            if len(found) >= count:
                return found[:count]
    return found

"""Train the run in --workdir on with corrections from --feedback; promote the result if better.

A new version is trained from the one in use, on a mixture of the run's own data and corrections.
Both are scored on the frozen hold-out and on corrections that no version is trained on. Only a
version that is better takes over; all are kept, in <workdir>/versions, and other modes
use the one in use. --rollback=previous, or a name such as v0000, goes back. See docs/feedback.md.
"""

from typing import Any

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runs import versions, workdir
from segjax.runtime import files, xla

NEEDS = options.WORKDIR | {"feedback or rollback": "--feedback=feedback"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.workdir(values)
    options.trust_code(values)
    text = "The folder of feedback, see segjax.feedback.store."
    flags.DEFINE_string("feedback", "", text, flag_values=values)
    text = "Use this version again, 'previous' or a name, and train nothing."
    flags.DEFINE_string("rollback", "", text, flag_values=values)
    numbers = {
        "share": (0.5, 0.05, 0.95, "Share of corrections in what is trained on."),
        "held": (0.4, 0.05, 0.9, "Share of corrections that only test; images decide which."),
        "lr_factor": (0.25, 1e-4, 10.0, "Of the run's learning rate."),
        "least_gain": (0.01, 0.0, 1.0, "Gain on tested corrections that a version must have."),
        "largest_p": (0.05, 0.0, 1.0, "How likely other corrections may gain nothing."),
        "most_loss": (0.01, 0.0, 1.0, "Loss on the hold-out that a version may have."),
        "least_fit": (0.5, 0.0, 1.0, "Its score on corrections, as a share of its hold-out's."),
        "most_moved": (0.5, 0.0, 1.0, "Share of masks that fit predictions better elsewhere."),
        "most_renamed": (0.25, 0.0, 1.0, "Share of classes that agree under other names alone."),
    }  # fmt: skip
    for name, (default, low, high, text) in numbers.items():
        flags.DEFINE_float(
            name, default, text, lower_bound=low, upper_bound=high, flag_values=values
        )  # fmt: skip
    text = "Updates; 0: half of the run's, at least 50."
    flags.DEFINE_integer("steps", 0, text, lower_bound=0, flag_values=values)
    text = "Classes that the corrections must show, all together."
    flags.DEFINE_integer("least_classes", 2, text, lower_bound=1, flag_values=values)
    text = "The key of config.evals whose split is the frozen hold-out."
    flags.DEFINE_string("holdout", "val", text, flag_values=values)
    text = "What is compared, see --mode=compare."
    flags.DEFINE_string("metric", "miou", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Retrain, or roll back; return 0, or as training does after a signal."""
    path = options.path(values.workdir)
    workdir.load_config(path)
    if values.rollback:
        with files.locked(path / versions.FOLDER / workdir.LOCK, what=f"versions of {path}"):
            used = versions.roll_back(path, values.rollback)
        print(printable(f"in use: {used}, of {', '.join(versions.known(path))}"))
        return 0
    xla.prepare()
    from segjax.feedback import gate, retrain

    given: dict[str, Any] = {name: values[name].value for name in values}
    wishes = retrain.Wishes(**{name: given[name] for name in retrain.Wishes._fields})
    bounds = gate.Bounds(**{name: given[name] for name in gate.Bounds._fields})
    return retrain.retrain(
        path, options.path(values.feedback), wishes, bounds,
        lambda line: print(printable(line), flush=True), trust_code=values.trust_code,
    )  # fmt: skip

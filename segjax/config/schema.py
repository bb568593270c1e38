"""Every key of a config: its default, what it takes, what it does. Never imports jax.

A new key is one line in a table below, its name in `LATER`, and whatever reads it. `defaults` is
what a config starts from; `fill` gives the config of a run from before a key existed its default;
`check` refuses what no run can use. Sections that have a `type` also take the arguments of what
that names; these are checked by `lookup` when it is built.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import ml_collections

from segjax.config import knobs, rules, sections, trials
from segjax.config.knobs import REQUIRED, Duration, Knob, Table, Typed
from segjax.errors import ConfigError

SEED, RATE = rules.whole(0, 2**32 - 1), rules.number(0, 1e6, open_ends="low")
THREADS = rules.whole(0, 1024)

WINDOW: Table = {
    "share": Knob(
        0.0,
        rules.number(0, 1),
        "Share of the rows whose window is laid over a pixel of a chosen class; nnU-Net has a "
        "third.",
    ),
    "classes": Knob(
        (),
        rules.each(
            rules.either(rules.whole(0, 254), rules.NAME),
            "a list of classes by number or name, such as ['tumour']",
        ),
        "The classes to choose, each that an image has as often; []: all but the background, 0.",
    ),
}
"""Which windows training looks for, see `data.windows`."""

SAMPLING: Table = {
    "by": Knob(
        "uniform",
        rules.one_of("uniform", "repeat_factor", "class_balanced"),
        "How often examples come: all alike; more often with a class that few have (LVIS); or as "
        "if a class were drawn before one of its examples.",
    ),
    "threshold": Knob(
        0.1,
        rules.number(0, 1, open_ends="low"),
        "Of 'repeat_factor': the share of the examples below which a class is one that few have; "
        "LVIS has 0.001.",
    ),
}
"""Which examples training sees more often, see `data.sampling`."""

INPUT: Table = {
    "source": Typed(REQUIRED, "The data set: a file of segjax/data and its arguments."),
    "split": Knob("train", rules.NAME, "The split of the source to train on."),
    "batch_size": Knob(8, rules.whole(1), "Images in a global batch, over all devices."),
    "size": Knob(
        REQUIRED, rules.SIZE, "Height and width that every image is fitted to; a depth before them."
    ),
    "fit": Knob(
        "resize",
        rules.one_of("resize", "pad", "window"),
        "Scale images to the size, their shape kept; pad them at their own resolution; or train on "
        "windows of that size at it, at random places.",
    ),
    "window": WINDOW,
    "sampling": SAMPLING,
    "pad_value": Knob(
        124, rules.number(-1e6, 1e6), "Value of the padding, in the units of the images."
    ),
    "intensity": Typed(
        [],
        "What brings images to one scale on the host, one step after the other; such as "
        "[{'type': 'percentile'}] for MR volumes.",
        many=list,
    ),
    "spacing": Knob(
        (),
        rules.each(
            rules.number(0, 1e9, open_ends="low"), "a list of 1 to 3 numbers above 0", most=3
        ),
        "Size of a pixel along each axis to which images and labels are resampled before all else; "
        "[]: they stay as the files have them.",
    ),
    "image_resampling": Knob(
        "linear", rules.one_of("linear", "cubic"), "How images are brought to that spacing."
    ),
    "label_resampling": Knob(
        "nearest",
        rules.one_of("nearest", "linear"),
        "How maps of classes are: the nearest pixel's, or that with the largest interpolated "
        "share.",
    ),
    "threads": Knob(2, THREADS, "Threads that read and decode; 0: only when asked."),
    "workers": Knob(
        0, THREADS, "Processes that decode, for hosts where Python is the limit; 0: none."
    ),
    "prefetch": Knob(4, rules.whole(1, 1024), "Batches held ready, per worker."),
    "fields": Knob(
        (),
        rules.each(rules.NAME, "a list of names, such as ['instance']"),
        "Fields of the source that batches carry beside those that the task needs.",
    ),
    "cache": Knob(False, rules.FLAG, "Keep the examples in memory; not with workers."),
}
"""Training data, and how images become one size for training and evaluation."""

MESH: Table = {
    "data": Knob(-1, rules.SHARE, "Devices that share out a batch; -1: all that are left."),
    "fsdp": Knob(1, rules.SHARE, "Devices that share out a batch and the state; -1: all left."),
    "space": Knob(1, rules.SHARE, "Devices that share out the rows of images; -1: all left."),
}
"""How devices are laid out; the three multiply to their number."""

TRIALS: Table = {
    "seed": Knob(
        (), rules.each(SEED, "a list of integers from 0 to 4294967295"), "The seed of each trial."
    ),
    "lr": Knob(
        (),
        rules.each(RATE, f"a list, each item {RATE.expected}"),
        "The learning rate of each trial.",
    ),
}
"""Runs side by side in one program, see `training.trials`; empty: what all share."""

CHECKPOINT: Table = {
    "save": Duration(10, "percent", "How often the state is saved; 0: at the end."),
    "keep_last": Knob(2, rules.whole(1), "How many of the newest are kept."),
    "keep_best": Knob(
        "val/miou",
        rules.TEXT,
        "A logged metric whose best checkpoint is kept as well, such as 'val/miou_foreground' or "
        "'val/iou/crack'; '': none.",
    ),
    "mode": Knob("max", rules.one_of("max", "min"), "Which value of keep_best is the best."),
    "root": Knob(
        "",
        rules.TEXT,
        "Where checkpoints go instead of the workdir: a folder of this run alone, also gs:// or "
        "s3://; a relative one lies in the workdir.",
    ),
}
"""What of a run is saved, where, and what is kept."""

EARLY_STOPPING: Table = {
    "metric": Knob(
        "",
        rules.TEXT,
        "A logged metric, such as 'val/miou', that ends the run once it stands still; '': none.",
    ),
    "patience": Knob(
        10, rules.whole(1), "Evaluations of it, one after the other, that may bring nothing."
    ),
    "min_delta": Knob(0.0, rules.number(0), "How much better than the best is something."),
    "mode": Knob("max", rules.one_of("max", "min"), "Which value of the metric is the best."),
}
"""When a run ends before `total_…`, see `runs.stopping`."""

WATCH: Table = {
    "reference": Knob(
        False,
        rules.FLAG,
        "Make the reference that a stream of images is compared with, <workdir>/watch.json, at the "
        "end of the run; as --mode=watch --reference does.",
    ),
}
"""What is made for watching the model in use, see `segjax.watch`."""

REPORT: Table = {
    "page": Knob(
        True,
        rules.FLAG,
        "Write what the run is like, <workdir>/report.html, at its end; --mode=report renews it.",
    ),
    "examples": Knob(
        16, rules.whole(0), "Examples of each evaluation that are predicted for that page; 0: none."
    ),
    "figures": Knob(
        "last",
        rules.one_of("last", "every"),
        "Which evaluations draw their figures, for figures/ and the writers: the last, or all.",
    ),
    "film": Knob(
        0,
        rules.whole(0, 16),
        "Examples of the evaluation that is made most often that are drawn each time, and become "
        "figures/progress.gif at the end; 0: none.",
    ),
    "samples": Knob(
        0,
        rules.whole(0, 256),
        "Training examples, as the first steps are given them, that are drawn into "
        "figures/samples.png; 0: none.",
    ),
}
"""What of a run is drawn, see `segjax.report`."""

OPTIMIZER: Mapping[str, Knob | Duration | Typed] = {
    "lr": Knob(REQUIRED, RATE, "The peak of the learning rate."),
    "schedule": Typed(REQUIRED, "How the rate moves over the run, such as 'one_cycle'."),
    "clip_norm": Knob(0.0, rules.number(0), "Bound of the gradient's global norm; 0: none."),
    "decay": Knob(
        "kernels", rules.one_of("kernels", "all"), "Weights of two or more axes decay, or all do."
    ),
    "freeze": Knob(
        (),
        rules.each(rules.PATTERN, "a list of regular expressions, such as ['encoder/.*']"),
        "Whole parameter paths that are held: no gradient, update, decay or optimiser state.",
    ),
    "lr_factors": Knob(
        (),
        rules.each(
            rules.pair(rules.PATTERN, rules.number(0, 1e6)),
            "pairs of a pattern and a factor from 0 to 1e+06, such as [['encoder/.*', 0.1]]",
        ),
        "The rate is multiplied where a pattern matches a whole path; the first that does counts.",
    ),
}
"""Keys of every optimiser. Layer-wise decay is a list of factors:
`[(f"encoder/block{i}/.*", 0.9 ** (12 - i)) for i in range(12)]`."""

FACTOR = rules.number(1 / 64, 64)
INFERENCE: Table = {
    "size": Knob(
        (),
        rules.either(rules.EMPTY, rules.SIZE),
        "Sides of the window that the network sees; []: those of input.size.",
    ),
    "fit": Knob(
        "",
        rules.one_of("", "resize", "pad"),
        "Scale images to the window, or keep their own scale, in several windows where they are "
        "larger; '': as input.fit says.",
    ),
    "short_side": Knob(
        0, rules.whole(0, rules.SIDE), "Scale images until their shortest side is this; 0: do not."
    ),
    "long_side": Knob(
        0, rules.whole(0, rules.SIDE), "With short_side: no side gets longer than this; 0: any."
    ),
    "overlap": Knob(
        0.25, rules.number(0, 0.95), "Share of a window that its neighbour sees too, at least."
    ),
    "place": Knob(
        "even",
        rules.one_of("even", "stride"),
        "Spread windows evenly, or at multiples of their stride, the last one moved inwards.",
    ),
    "blend": Knob(
        "nearest",
        rules.one_of("nearest", "flat", "gaussian"),
        "What a pixel under several windows is given: the scores of the one in whose middle it "
        "lies, their mean, or their mean with more weight near the middle.",
    ),
    "flips": Knob(
        (),
        rules.each(rules.whole(0, 2), "a list of axes in space, such as [1]", most=3),
        "Test-time augmentation: axes to flip; all sets of them are predicted, scores averaged.",
    ),
    "scales": Knob(
        (1.0,),
        rules.each(FACTOR, f"a list, each item {FACTOR.expected}", least=1, most=16),
        "Test-time augmentation: factors of an image's sides; all are predicted, scores averaged.",
    ),
    "batch_size": Knob(
        1, rules.whole(1, 4096), "Windows of an image that predict sends to the network at once."
    ),
    "postprocess": Typed(
        [],
        "What is done to a prediction before it is scored and written, in this order: functions of "
        "segjax/inference/postprocess.py. --mode=tune chooses it.",
        many=list,
    ),
}
"""How the network sees images of any size when it is scored and when it predicts."""

EVALS: Mapping[str, Knob | Duration | Typed] = {
    "split": Knob(REQUIRED, rules.NAME, "The split that is scored."),
    "batch_size": Knob(REQUIRED, rules.whole(1), "Images in a global batch; the last is padded."),
    "every": Duration(0, "steps", "How often training scores it; 0: at the end."),
    "examples": Knob(
        0,
        rules.whole(0),
        "Score so many examples, spread evenly over the split, as to compare the training split "
        "with val; 0: all.",
    ),
}
"""Keys of every evaluator."""

CONFIG: Table = {
    "seed": Knob(0, SEED, "Decides initial parameters, data order, augmentation and dropout."),
    "total": Duration(REQUIRED, "steps", "The run's length.", ("steps", "epochs", "examples")),
    "log": Duration(20, "steps", "How often training logs; 0: at the end."),
    "log_batch_hashes": Knob(False, rules.FLAG, "Log a hash of every batch."),
    "microbatches": Knob(
        1, rules.whole(1), "Parts of a batch that go through the model one after the other."
    ),
    "ema_decay": Knob(
        0.0,
        rules.number(0, 1, open_ends="high"),
        "Decay of the moving average of the model, which is then what is scored; 0: none.",
    ),
    "deterministic_reduction": Knob(
        0,
        rules.whole(0),
        "Parts of a batch summed in a fixed order, for equal bits on any devices that divide it; "
        "0: off.",
    ),
    "task": Typed(
        {
            "type": "semantic",
            "losses": [{"type": "pixel:cross_entropy", "weight": 1.0}],
            "aux_weight": 0.4,
        },
        "What is learned, and by which losses.",
    ),
    "model": Typed(REQUIRED, "The network: a file of segjax/models and its arguments."),
    "input": INPUT,
    "augment": Typed([], "What changes training images, in this order.", many=list),
    "normalize": Typed(
        {"type": "normalize:fixed", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "What the model sees of pixels in [0, 255].",
    ),
    "optimizer": Typed({}, "What turns gradients into updates.", OPTIMIZER),
    "mesh": MESH,
    "trials": TRIALS,
    "inference": INFERENCE,
    "checkpoint": CHECKPOINT,
    "early_stopping": EARLY_STOPPING,
    "watch": WATCH,
    "report": REPORT,
    "writers": Typed(
        [{"type": "tensorboard"}],
        "Where scalars go beside metrics.jsonl: classes of segjax/runs/writers.py.",
        many=list,
    ),
    "evals": Typed({}, "What is scored, by the name that its scores get.", EVALS, many=dict),
}
"""The whole config."""


def defaults() -> ml_collections.ConfigDict:
    """Return what configs start from: every key that has a default.

    A config adds `model`, `input.source`, `input.size`, `total_…`, and to `optimizer` at least
    `type`, `lr` and `schedule`.
    """
    return ml_collections.ConfigDict(knobs.fill(CONFIG, {}))


def fill(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as plain data, with the default of every key that it lacks.

    Keys that the schema does not know, and those without a default, stay as they are.
    """
    return sections.section(knobs.fill(CONFIG, sections.section(config)))


def check(config: Mapping[str, Any]) -> None:
    """Refuse a config with a wrong key or value; of what a `type` names, only its common keys.

    Raises:
        ConfigError: The first unknown key, missing key or wrong value, and what was expected.
    """
    plain = sections.section(config)
    knobs.check_table(CONFIG, plain, "config")
    trials.count(plain)
    workers = plain["input"]["workers"]
    if plain["input"]["cache"] and workers:
        raise ConfigError(
            f"config.input: cache=True with workers={workers}: every worker would hold its own "
            "copy. Set workers=0: from a cache, threads are enough."
        )


def complete(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `config.<name>`, with a `type`, filled and checked.

    Raises:
        ConfigError: As `check`.
    """
    spec = CONFIG[name]
    filled = sections.section(knobs.fill_spec(spec, sections.section(section)))
    knobs.check_spec(spec, filled, f"config.{name}")
    return filled


LATER = ("early_stopping", "writers", "evals.*.examples", "watch", "input.sampling", "report")
"""Keys that came after runs had recorded fingerprints; a new key of the schema is added here."""


def fingerprint(config: Mapping[str, Any]) -> str:
    """Return twelve hex digits that two configs share if and only if their values are equal.

    A key that is not there has its default. One of `LATER` that has its default is left out, so
    that runs from before it keep their fingerprint.
    """
    filled, plain = fill(config), sections.section(knobs.fill(CONFIG, {}))
    for path in LATER:
        *above, key = path.split(".")
        places, default = [filled], plain.get(key)
        if above == ["evals", "*"]:
            evals = filled.get("evals")
            places = list(evals.values()) if isinstance(evals, dict) else []
            default = cast(Knob, EVALS[key]).default
        elif above:
            places, default = [filled.get(above[0])], plain[above[0]][key]
        for place in places:
            if isinstance(place, dict) and key in place and place[key] == default:
                del place[key]
    return _mark(filled)


def is_made_from(fingerprint_then: str, recorded: Mapping[str, Any]) -> bool:
    """Return whether a run recorded this fingerprint with the content of its `config.json`.

    A run from before some key of the schema had all keys of its time, which the file still has.
    """
    return fingerprint_then in (fingerprint(recorded), _mark(sections.section(recorded)))


def _mark(config: Mapping[str, Any]) -> str:
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]

"""From a folder and a budget to a whole config, every decision of it with its reason.

The same folder and arguments always give the same config, whatever the machine: a run that is
started again goes on. How fast a core is, is therefore a constant of `network.CPU_SPEED`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from segjax.audit import fingerprint
from segjax.audit.fingerprint import Fingerprint
from segjax.auto import layout as layout_lib
from segjax.auto import network, recipe, sizing
from segjax.auto.layout import Layout
from segjax.auto.sizing import Budget, Sizes
from segjax.config import lookup, rules, schema, sections
from segjax.data import folds
from segjax.errors import ConfigError
from segjax.views.progress import Progress

SIZES = ("cpu", "gpu", "debug")
VAL_PERCENT = 25
"""How often training scores the validation split."""
GPU_STEPS = 20_000
CACHED = 2 << 30
"""Bytes of a training split that is kept in memory."""
SCENES = dict(type="synthetic", num_examples=32)
"""The data without a folder."""
Reasons = dict[str, str]
"""Why a key of the config has its value; by key, such as `input.size`."""


class Derived(NamedTuple):
    """A config as plain data, and why it is as it is."""

    config: dict[str, Any]
    reasons: Reasons


def derive(
    *,
    root: str,
    classes: str = "",
    dims: int = 0,
    size: str = "",
    minutes: float = 15.0,
    cores: int = 2,
    gpu_gb: float = 0.0,
    steps: int = 0,
) -> Derived:
    """Return a config for a data set.

    Args:
        root: Its folder, see `layout`; empty: the made-up scenes of the quickstart.
        classes: Names of its classes, joined by `+`; empty: what it says itself.
        dims: Axes of its images in space; 0: what their format says.
        size: `cpu`, `gpu` or `debug`, two steps of a tiny network; empty: `gpu` where `gpu_gb` is
            said, else `cpu`.
        minutes: On a CPU, that the whole training should take.
        cores: Of that CPU.
        gpu_gb: Gigabytes of the accelerator's memory.
        steps: Of the training; 0: as many as the minutes allow, or `GPU_STEPS`.

    Raises:
        ConfigError: Arguments that cannot be.
        DataError: The data set is not known, or an example cannot be used.
    """
    size = lookup.choose(size or ("gpu" if gpu_gb else "cpu"), SIZES, what="config argument size")
    numbers = rules.is_number(minutes) and rules.is_number(gpu_gb)
    if not numbers or gpu_gb < 0 or minutes <= 0 or cores < 1 or steps < 0:
        raise ConfigError(
            f"config arguments minutes={minutes:g}, cores={cores}, gpu_gb={gpu_gb:g}, "
            f"steps={steps}: expected minutes above 0, a core or more, the others from 0 on."
        )
    if (size == "gpu") != (gpu_gb > 0) and size != "debug":
        raise ConfigError(
            f"config arguments size={size!r} and gpu_gb={gpu_gb:g}: an accelerator's memory sizes "
            "the network of size=gpu. Write gpu_gb=40 alone, or size=cpu alone."
        )
    where = find(root, [name for name in classes.split("+") if name], dims)
    return of_layout(where, Budget(minutes, cores, gpu_gb), steps=steps, debug=size == "debug")


def find(root: str, classes: Sequence[str], dims: int) -> Layout:
    """Return where the data is; without a folder the made-up scenes."""
    if root:
        return layout_lib.find(root, classes=classes, dims=dims)
    why = {"source": "no root is given: scenes that are drawn"}
    return Layout(dict(SCENES), {"train": "train", "val": "val"}, why)


def of_layout(where: Layout, budget: Budget, *, steps: int = 0, debug: bool = False) -> Derived:
    """Return a config for a data set whose section and splits are known, see `derive`."""
    source = folds.open_split(where.source, where.splits["train"])
    with Progress(0, unit="examples", title="fingerprint", leave=False) as bar:
        found = fingerprint.take(source, tell=bar.update)
    scored = {
        split: len(folds.open_split(where.source, name))
        for split, name in where.splits.items()
        if split != "train"
    }
    spacing, why = recipe.spacing(found)
    sizes = sizing.choose(found, budget, spacing=spacing)
    decided = Decided(sections.plain(schema.defaults()), {})
    about = f"looked at {found.seen} of {found.examples:,} training examples"
    decided.put("input.source", where.source, "; ".join([*where.why.values(), about]))
    decided.put("input.split", where.splits["train"], f"{found.examples:,} examples")
    decided.put("input.spacing", list(spacing), why)
    if spacing:
        decided.config["input"].update(image_resampling="cubic", label_resampling="linear")
    share = _input(decided, found, sizes)
    _recipe(decided, found, sizes, share)
    _network(decided, found, sizes, budget)
    _length(decided, found, sizes, budget, scored, steps)
    _evals(decided, found, sizes, where)
    if debug:
        _shrink(decided.config, found.dims)
    return Derived(decided.config, decided.reasons)


class Decided(NamedTuple):
    """What has been decided so far."""

    config: dict[str, Any]
    reasons: Reasons

    def put(self, key: str, value: Any, why: str) -> None:
        """Give a key its value, and the reason for it."""
        *path, last = key.split(".")
        section: dict[str, Any] = self.config
        for name in path:
            section = section[name]
        section[last] = value
        self.reasons[key] = why


def _input(decided: Decided, found: Fingerprint, sizes: Sizes) -> float:
    """Decide what images are brought to; return the share of windows that look for something."""
    inputs = decided.config["input"]
    share, why_share = recipe.window_share(found, sizes.net.patch, sizes.seen)
    fit, canvas = sizes.fit, sizes.canvas
    if fit == "pad" and share >= 0.5:
        fit, canvas = "window", sizes.net.patch
    size = "x".join(map(str, found.size))
    patch = "x".join(map(str, sizes.net.patch))
    words = {
        "pad": f"all images are {size}: they stay as they are",
        "window": f"images, {size} by the median, are seen at their own scale, {patch} at a time",
        "resize": f"images of {size} are scaled down: {patch} of them would show too little",
    }
    decided.put("input.size", list(canvas), words[fit])
    decided.put("input.fit", fit, words[fit])
    if fit == "window":
        decided.put("input.window.share", share, why_share)
    decided.put("input.sampling.by", *recipe.sampling(found))
    steps, why = recipe.intensity(found)
    decided.put("input.intensity", steps, why)
    inputs["pad_value"] = 0 if steps else 124
    decided.put(
        "input.batch_size", sizes.net.batch,
        "what a step has room for beside the patch; nnU-Net has at least 2 of volumes",
    )  # fmt: skip
    pixel = found.channels * (1 if found.dtype == "uint8" else 4) + 1
    held = found.examples * math.prod(found.size) * pixel
    decided.put("input.cache", held <= CACHED, f"about {held / 2**20:,.0f} MiB in memory")
    return share if fit == "window" else 0.0


def _recipe(decided: Decided, found: Fingerprint, sizes: Sizes, share: float) -> None:
    """Decide normalisation, augmentation and losses."""
    decided.put("normalize", *recipe.normalize(found))
    mirrors, why = recipe.mirrored(found)
    ops, more = recipe.augment(found, sizes.net.patch, mirrors)
    decided.put("augment", ops, f"{more}; mirrors: {why}")
    losses, why = recipe.losses(found)
    if share >= 0.5:
        why += "; windows look for what is rare"
    decided.put("task.losses", losses, why)
    if found.multilabel:
        decided.put("task.type", "multilabel", "classes overlap")


def _network(decided: Decided, found: Fingerprint, sizes: Sizes, budget: Budget) -> None:
    """Decide the model and its optimiser."""
    net, gpu = sizes.net, budget.gpu_gb > 0
    levels = len(net.widths)
    model: dict[str, Any] = dict(type="unet", widths=list(net.widths))
    if net.stem > 1:
        model["stem_stride"] = net.stem
    if gpu and levels > 3:
        model["deep_supervision"] = levels - 3
        deep = [0.5**level for level in range(levels - 2)]
        decided.put("task.deep_weights", deep, "nnU-Net's: half as much at each coarser resolution")
    model["compute_dtype"] = "bfloat16" if gpu else "float32"
    patch = "x".join(map(str, net.patch))
    why = f"a patch of {patch} can be halved {levels - 1} times"
    if gpu:
        memory = net.memory() / 1e9
        why += f"; nnU-Net's widths; a step takes about {memory:.1f} GB of {budget.gpu_gb:g}"
    else:
        width = sizing.typical_width(found)
        stem = f", begun at 1/{net.stem} of the resolution" if net.stem > 1 else ""
        why += (
            f"{stem}; regions are some {width:.3g} pixels wide; {net.flops() / 1e9:.0f} GFLOP a "
            f"step, for {budget.cores} cores"
        )
    decided.put("model", model, why)
    rate = 1e-3 if gpu else 3e-3
    decided.config["optimizer"].update(
        type="adamw", lr=rate, weight_decay=1e-2, clip_norm=1.0,
        schedule=dict(type="one_cycle", rise=0.1),
    )  # fmt: skip
    decided.reasons["optimizer"] = (
        "AdamW and one cycle train every data set of configs/ within minutes; a lower rate for "
        "longer trainings"
    )


def _length(
    decided: Decided,
    found: Fingerprint,
    sizes: Sizes,
    budget: Budget,
    scored: dict[str, int],
    steps: int,
) -> None:
    """Decide how many steps there are."""
    if steps:
        decided.put("total_steps", steps, "as the argument says")
        return
    if budget.gpu_gb:
        decided.put("total_steps", GPU_STEPS, "of this batch; more may help: nnU-Net has 250,000")
        return
    often = 100 // VAL_PERCENT + 1
    number = sum(count * (often if split == "val" else 1) for split, count in scored.items())
    views = 2 if found.dims == 3 else 1
    pixels = number * views * math.prod(sizes.seen)
    total, each = sizing.steps(sizes.net, budget, evaluated=pixels)
    decided.put(
        "total_steps", total,
        f"{budget.minutes:g} minutes at some {each:.2f} s a step, a core taken for "
        f"{network.CPU_SPEED[found.dims] / 1e9:.0f} GFLOP/s; {number} images are scored",
    )  # fmt: skip


def _evals(decided: Decided, found: Fingerprint, sizes: Sizes, where: Layout) -> None:
    """Decide what is scored, and in which windows."""
    evals = decided.config["evals"]
    kind = "multilabel" if found.multilabel else "semantic"
    rows = 2 if found.dims == 3 else 8
    for split, name in where.splits.items():
        if split != "train":
            evals[split] = dict(type=kind, split=name, batch_size=rows)
    evals["val"]["every_percent"] = VAL_PERCENT
    if "test" in evals:
        evals["test"]["every_percent"] = 100
    decided.reasons["evals"] = f"val decides which checkpoint is kept; scored: {', '.join(evals)}"
    if found.dims == 3:
        pairs = zip(found.largest, sizes.factor, strict=True)
        largest = network.rounded([math.ceil(a * b) for a, b in pairs], 8)
        patch = sizes.net.patch
        if math.prod(largest) <= 2 * math.prod(patch):
            seen = tuple(max(a, b) for a, b in zip(largest, patch, strict=True))
            decided.put("inference.size", list(seen), "nearly all volumes in one window")
        else:
            decided.put("inference.overlap", 0.5, "nnU-Net's")
            decided.put("inference.blend", "gaussian", "nnU-Net's")
        mirrors, _ = recipe.mirrored(found)
        flips = [axis for axis in range(3) if mirrors[axis]]
        decided.put("inference.flips", flips[-1:], "mirrored as in training, scores averaged")


def _shrink(config: dict[str, Any], dims: int) -> None:
    """Make a test of two steps of a config."""
    side = {1: [64], 2: [64, 64], 3: [16, 32, 32]}[dims]
    config["total_steps"] = 2
    config["input"].update(size=side, batch_size=2)
    if config["input"]["fit"] == "pad":
        config["input"]["fit"] = "resize"
    for op in config["augment"]:
        if "size" in op:
            op["size"] = side
    config["model"] = dict(type="unet", widths=[8, 16], compute_dtype="float32")
    config["task"].pop("deep_weights", None)
    config["inference"]["size"] = []
    for section in config["evals"].values():
        section["batch_size"] = 2

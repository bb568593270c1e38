"""What run.py's modes call, and the flags each needs. A mode's code is imported when it runs."""

import pathlib
from collections.abc import Callable
from typing import Any

from segjax.errors import ConfigError
from segjax.runtime import xla

EXAMPLES = {
    "config": "--config=configs/quickstart.py",
    "workdir": "--workdir=runs/quickstart",
    "input": "--input='photos/*.jpg'",
    "output": "--output=out",
    "devices": "--devices=8",
    "publisher": "--publisher=segjax",
}


def run(mode: str, flags: Any) -> int:
    """Run a mode of `MODES` and return its exit code.

    Args:
        mode: A key of `MODES`.
        flags: Has every flag of run.py as an attribute.

    Raises:
        ConfigError: A flag that the mode needs is missing.
    """
    call, needs = MODES[mode]
    for flag in needs:
        if not getattr(flags, flag):
            raise ConfigError(f"--mode={mode} needs --{flag}, e.g. {EXAMPLES[flag]}.")
    virtual_devices = flags.devices if mode == "plan" else 0
    xla.prepare(virtual_devices=virtual_devices, keep_memory=mode == "train")
    return call(flags)


def train(flags: Any) -> int:
    """Train `--config` in `--workdir`."""
    from segjax.runs import train

    return train.run(
        _path(flags.workdir),
        flags.config,
        allow_config_change=flags.allow_config_change,
        profile_steps=flags.profile_steps,
    )


def evaluate(flags: Any) -> int:
    """Score a checkpoint of the run in `--workdir`."""
    from segjax.runs import evaluate

    return evaluate.run(_path(flags.workdir), which=flags.checkpoint, overrides=flags.override)


def predict(flags: Any) -> int:
    """Segment `--input` with a checkpoint of the run in `--workdir`, into `--output`."""
    from segjax.runs import predict

    return predict.run(
        _path(flags.workdir),
        inputs=flags.input,
        output=_path(flags.output),
        which=flags.checkpoint,
        overrides=flags.override,
    )


def export(flags: Any) -> int:
    """Write a checkpoint of the run in `--workdir` to the file `--output`, for `--publisher`."""
    from segjax.export import weights

    return weights.run(
        _path(flags.workdir),
        output=_path(flags.output),
        publisher=flags.publisher,
        which=flags.checkpoint,
        overrides=flags.override,
    )


def summary(flags: Any) -> int:
    """Print the model of `--config`: modules, parameters, FLOPs, memory."""
    from segjax.runs import summary

    return summary.run(flags.config)


def plan(flags: Any) -> int:
    """Compile `--config` for `--devices` devices; print memory, collectives, predicted times."""
    from segjax.runs import plan

    return plan.run(flags.config)


def _path(text: str) -> pathlib.Path:
    return pathlib.Path(text).expanduser()


MODES: dict[str, tuple[Callable[[Any], int], tuple[str, ...]]] = {
    "train": (train, ("config", "workdir")),
    "eval": (evaluate, ("workdir",)),
    "predict": (predict, ("workdir", "input", "output")),
    "export": (export, ("workdir", "output", "publisher")),
    "summary": (summary, ("config",)),
    "plan": (plan, ("config", "devices")),
}

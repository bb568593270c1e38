"""Flags that several modes have, each defined once."""

import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from segjax.config import load
from segjax.errors import ConfigError, printable
from segjax.runtime import files

if TYPE_CHECKING:
    from segjax.runs.run import Run

WORKDIR = {"workdir": "--workdir=runs/quickstart"}
TRAINED = {"workdir or model": "--workdir=runs/quickstart"}
CONFIG = {"config": "--config=configs/quickstart.py"}


def config(values: flags.FlagValues) -> None:
    """Define `--config` and, through it, `--config.<key>`."""
    text = "The experiment: configs/<file>.py[:argument,…], or the config.json of a run."
    flags.DEFINE_string("config", "", text, flag_values=values)
    override(values, "optimizer.lr=0.1; also written --config.optimizer.lr=0.1")
    trust_code(values)


def override(values: flags.FlagValues, example: str) -> None:
    """Define `--override`."""
    text = f"Change the config, e.g. {example}; may be given several times."
    flags.DEFINE_multi_string("override", [], text, flag_values=values)


def trust_code(values: flags.FlagValues) -> None:
    """Define `--trust_code`."""
    text = "Run code outside of segjax that the config in a run's folder names."
    flags.DEFINE_bool("trust_code", False, text, flag_values=values)


def read_config(values: flags.FlagValues) -> dict[str, Any]:
    """Return the config of `--config`, changed as the command line says.

    Raises:
        ConfigError: See `load.load`.
    """
    return load.load(values.config, values.override, trust_code=values.trust_code)


def as_published(values: flags.FlagValues) -> None:
    """Define `--as_published`."""
    text = (
        "Show the model images as the publisher of its pretrained weights did: normalisation, "
        "bands, the encoder's form."
    )
    flags.DEFINE_bool("as_published", False, text, flag_values=values)


def published(values: flags.FlagValues, config: dict[str, Any]) -> dict[str, Any]:
    """Return a config, as published where `--as_published` says so, and say how.

    It imports jax.

    Raises:
        UserError: See `published.as_published`.
    """
    if not values.as_published:
        return config
    from segjax.pretrained.published import as_published

    config, lines = as_published(config)
    for line in lines:
        print(printable(line))
    return config


def workdir(values: flags.FlagValues) -> None:
    """Define `--workdir`."""
    text = "The run's folder: config, log, checkpoints, figures."
    flags.DEFINE_string("workdir", "", text, flag_values=values)


def checkpoint(values: flags.FlagValues) -> None:
    """Define what opens a run: `--workdir`, `--checkpoint`, `--override`, `--trust_code`."""
    text = (
        "The run's folder; of an ensemble several, separated by commas, or the folder of a "
        "cross-validation for all its folds."
    )
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    trust_code(values)
    text = (
        "'best', 'latest' or a step; several, separated by commas, are an ensemble. Default: the "
        "best if the run keeps one, else the latest."
    )
    flags.DEFINE_string("checkpoint", "", text, flag_values=values)
    override(values, "evals.val.batch_size=3")


def model(values: flags.FlagValues) -> None:
    """Define `--model`."""
    text = "An exported file in place of --workdir: what --mode=export wrote, StableHLO or ONNX."
    flags.DEFINE_string("model", "", text, flag_values=values)


def job(values: flags.FlagValues) -> None:
    """Define the flags of a job of several processes."""
    text = "host:port of process 0 in a job of several. Found under SLURM, GKE, TPU, …"
    flags.DEFINE_string("coordinator", "", text, flag_values=values)
    text = "Which process of the job this is."
    flags.DEFINE_integer("process_id", None, text, lower_bound=0, flag_values=values)
    text = "How many processes the job has."
    flags.DEFINE_integer("num_processes", None, text, lower_bound=1, flag_values=values)


def open_run(values: flags.FlagValues) -> "Run":
    """Return the run in `--workdir`, or the ensemble, opened as the command line says.

    A folder whose name holds commas is one.

    Raises:
        UserError: See `run.open_run`.
    """
    from segjax.runs import run

    whole = path(values.workdir)
    paths = [whole] if whole.exists() else [path(text) for text in values.workdir.split(",")]
    return run.open_ensemble(
        [each for each in paths if each.name],
        checkpoints=[text.strip() for text in values.checkpoint.split(",")],
        overrides=values.override,
        trust_code=values.trust_code,
    )


def open_trained(values: flags.FlagValues) -> "Run":
    """Return what `open_run` does, or the exported file in `--model`.

    Raises:
        UserError: See `run.open_run` and `exported.open_file`; or both were given.
    """
    if not values.model:
        return open_run(values)
    from segjax.export import exported

    if values.workdir or values.checkpoint:
        raise ConfigError(
            f"--model={values.model}: is all that is needed. Leave out --workdir and --checkpoint."
        )
    return exported.open_file(
        path(values.model), overrides=values.override, trust_code=values.trust_code
    )


def path(text: str) -> pathlib.Path:
    """Return a flag's value as a path, `~` expanded."""
    return files.expanded(text)

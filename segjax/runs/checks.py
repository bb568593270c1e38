"""What is wrong with a run before it begins: its folders, its data, what it is to keep."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from segjax.assemble import setup as setup_lib
from segjax.assemble.setup import Setup
from segjax.config import lookup, schedule, schema
from segjax.data import core, look, sampling
from segjax.errors import ConfigError
from segjax.evaluators.report import Evaluator
from segjax.runs import checkpoint, data_record, live, owner, stopping, workdir, writers
from segjax.runtime import watchdog


class Checked(NamedTuple):
    """A config that can be run in a folder, and what its data has to say.

    Attributes:
        setup: The config and what it describes.
        source: The training data.
        evaluators: Of `config.evals`.
        save_steps: How often to save.
        notes: What the log is to say of the data.
        image_scales: The least and the largest factor that brings images to the canvas.
        data: Which data it is, see `data_record`.
        files: Lists its files, and reads those of small data sets.
    """

    setup: Setup
    source: core.Source
    evaluators: list[Evaluator]
    save_steps: int
    notes: list[str]
    image_scales: list[float]
    data: dict[str, dict[str, Any]]
    files: Callable[[], dict[str, dict[str, list[Any]]]]


def check(path: pathlib.Path, config: Mapping[str, Any], *, allow_config_change: bool) -> Checked:
    """Find what config, data and folder can get wrong before a step is traced.

    Raises:
        UserError: Bad config or data, or a folder of another config's run.
    """
    watchdog.patience_of_environment()
    check_folders(path, config)
    setup, source = setup_lib.make_setup(config)
    evaluators = setup_lib.make_evaluators(setup.config, setup.parts, setup.clock)
    save_steps = check_saving(setup, evaluators)
    logged = [name for evaluator in evaluators for name in evaluator.metrics()]
    writers.check(setup.config["writers"])
    stopping.check(setup.config["early_stopping"], logged)
    notes, image_scales = look_at(setup, source, evaluators)
    if "train/loss" in logged:
        notes.append(
            "config.evals.train logs train/loss, as training does: name it otherwise, such as "
            "'trained', to tell them apart"
        )
    splits = setup.config["input"]["split"], source, evaluators
    data = data_record.of_splits(*splits)
    files = functools.partial(data_record.files_of_splits, *splits)
    workdir.check(path, setup.resolved(), allow_change=allow_config_change)
    notes += data_record.changes(path, data)
    return Checked(setup, source, evaluators, save_steps, notes, image_scales, data, files)


def check_folders(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Refuse folders that another run uses, or that have lost what this one had saved.

    Raises:
        UserError: Which folder, and why.
    """
    config = schema.fill(config)
    schema.check(config)
    for folder, own in live.folders(config, path).items():
        root = own["checkpoint"]["root"]
        if root:
            owner.check(folder, checkpoint.locate(folder, root))
        checkpoint.check_not_lost(folder, root)


def look_at(
    setup: Setup, source: core.Source, evaluators: Sequence[Evaluator]
) -> tuple[list[str], list[float]]:
    """Return what the log is to say of the labels, and how images are scaled to the canvas.

    Some examples of every split are read.

    Raises:
        DataError: A file cannot be used, or nothing can be learned.
    """
    parts, split = setup.parts, setup.config["input"]["split"]
    others = {each.split: each.source for each in evaluators if each.split != split}
    every = [source, *others.values()]
    remarks = [line for own in every if isinstance(own, look.Remarking) for line in own.remarks()]
    if "label" not in parts.schema:
        return remarks, []
    wanted = parts.window.classes if parts.window.share else ()
    found = look.look(source, wanted=wanted, windows=parts.canvas.fit == "window")
    for other in others.values():
        look.look(other)
    scales = [parts.canvas.scale(size, name=split) for size in found.sizes]
    notes = look.check(found, parts.classes.class_names, split=split)
    notes = [*remarks, *notes, *look.describe_values(found, split=split)]
    if setup.due is not None:
        notes.append(sampling.describe(setup.due, split=split))
    return notes, [min(scales), max(scales)]


def check_saving(setup: Setup, evaluators: Sequence[Evaluator]) -> int:
    """Return how often to save, having checked what `checkpoint.keep_best` names.

    Raises:
        ConfigError: No evaluator logs it.
    """
    section = setup.config["checkpoint"]
    logged = [name for evaluator in evaluators for name in evaluator.metrics()]
    if section["keep_best"] not in ("", *logged):
        raise ConfigError(
            f"config.checkpoint.keep_best={section['keep_best']!r}: nothing in config.evals logs "
            f"it.{lookup.suggest(section['keep_best'], logged)} Empty keeps none."
        )
    return schedule.in_steps(section, ("save",), setup.clock, "config.checkpoint")["save_steps"]

"""Make a run of published weights as they are, without a step of training."""

import pathlib
from collections.abc import Mapping
from typing import Any

from segjax.assemble.program import Program
from segjax.config import trials
from segjax.costs import timing
from segjax.errors import ConfigError
from segjax.runs import live, train, transfer, workdir
from segjax.views import progress


def adopt(path: pathlib.Path, config: Mapping[str, Any]) -> list[str]:
    """Write a run whose checkpoint, of step 0, is what `config.model.pretrained` provides.

    It can be evaluated, exported, served and trained on like any other.

    Args:
        path: The run's folder.
        config: A ConfigDict or plain data.

    Returns:
        Lines on what was loaded and where it is.

    Raises:
        UserError: Bad config or data, weights that are not all of the model, or a folder that has
            checkpoints; before anything is written.
    """
    ready = train.prepare(path, config)
    chosen = transfer.options(ready.setup.config["model"])
    if chosen is None or chosen.part != "model":
        raise ConfigError(
            "config.model.pretrained: expected weights of a whole model, part='model': the rest "
            "would be noise. Name them, or use --mode=train."
        )
    if trials.count(ready.setup.config):
        raise ConfigError("config.trials: one run is made here. Leave them out.")
    if ready.resumes():
        raise ConfigError(f"{path} has checkpoints. Use another --workdir.")
    card = ready.weights.read().card
    if card and card.new:
        raise ConfigError(
            f"config.model.pretrained: {len(card.new)} leaves are of other classes than the file's "
            f"and would be noise, such as {card.new[0]}. Set pretrained.classes, or train."
        )
    (run,) = ready.runs
    traced = ready.traced
    nothing = timing.Costs(0.0, {}, 0.0)
    program = Program(traced.init, None, traced.target, None, nothing)
    said = progress.stage("writing the run")
    with workdir.locked(path), run.open_checkpoints() as saver, said:
        state = ready.weights.apply(traced.init(run.init_key))
        live.record(path, ready.resolved, ready.runs, train.facts(ready, program))
        live.record_files(path, ready.runs, ready.files)
        saver.save(0, state, {})
        saver.wait()
    return [*ready.weights.notes, f"checkpoint 0 in {path}"]

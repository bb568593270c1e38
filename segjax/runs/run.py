"""A run on disk: open it, score it, predict with it. Needs nothing but its folder."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from segjax.assemble import parts as parts_lib
from segjax.assemble import setup as setup_lib
from segjax.assemble.parts import Parts
from segjax.config import lookup, schedule, schema, sections, trials, trust
from segjax.errors import ConfigError
from segjax.evaluators import report
from segjax.evaluators.report import Report
from segjax.inference.network import Network
from segjax.inference.predictor import Predictor
from segjax.runs import workdir, writer
from segjax.runs.checkpoint import Checkpointer
from segjax.runtime import files, sharding


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder and one of its checkpoints, which is read when it is first needed.

    Attributes:
        path: The folder.
        config: What made it, every key there, with what its data added as `resolved`.
        checkpoint: 'best', 'latest' or a step; empty: the best where the run keeps one, else the
            latest.
        overrides: What was changed of the config that made it.
    """

    path: pathlib.Path
    config: dict[str, Any]
    checkpoint: str = ""
    overrides: tuple[str, ...] = ()

    @functools.cached_property
    def parts(self) -> Parts:
        """What the config describes; a canvas that this machine cannot hold is an error."""
        classes = parts_lib.recorded_classes(self.config["resolved"])
        parts = parts_lib.make_parts(self.config, classes)
        rows = sharding.row_block(parts.mesh)[1]
        setup_lib.check_forward(rows, parts, where="config.input")
        return parts

    @property
    def step(self) -> int:
        """The training step of the checkpoint."""
        return self._restored[0]

    @property
    def variables(self) -> Mapping[str, Any]:
        """`{'params', 'batch_stats'}` of the checkpoint, averaged where it has averages."""
        return self._restored[1]

    @functools.cached_property
    def _restored(self) -> tuple[int, dict[str, Any], int]:
        """Step and variables of the checkpoint, and the step that the run is known by."""
        section = self.config["checkpoint"]
        with Checkpointer.of_section(self.path, section, read_only=True) as saver:
            found = saver.restore_variables(self.checkpoint, self.parts.variable_shapes())
            return *found, saver.find("")

    def metrics(self) -> list[dict[str, Any]]:
        """Return what the run has logged, a dict a line, each with its `step`."""
        return writer.read(self.path)

    def predictor(self) -> Predictor:
        """Return what predicts an image of any size with this checkpoint."""
        return self._network

    def evaluate(self, name: str = "", *, shown: bool = False, draw: bool = False) -> list[Report]:
        """Score the checkpoint; nothing is written, see `Report.write`.

        Args:
            name: A key of `config.evals`, or the split that one of them scores; empty: all.
            shown: Show the progress.
            draw: Make the report's figures ready to be drawn.

        Raises:
            UserError: No such evaluation, or its data cannot be read.
        """
        resolved = self.config["resolved"]
        clock = schedule.Clock(*(resolved[field] for field in schedule.Clock._fields))
        chosen = {
            key: section
            for key, section in self.config["evals"].items()
            if name in ("", key, section["split"])
        }
        if not chosen:
            known = list(self.config["evals"])
            raise ConfigError(f"{name!r} is no key of config.evals.{lookup.suggest(name, known)}")
        evaluators = setup_lib.make_evaluators(self.config | {"evals": chosen}, self.parts, clock)
        about = self.parts.about_scores(self.step, self.overrides)
        return [
            report.run(each, self._network, step=self.step, shown=shown, draw=draw, about=about)
            for each in evaluators
        ]

    def variant(self) -> str:
        """Return what follows the name of a report's files; empty: scored as training does it.

        Another checkpoint than the one that the run is known by is named by its step, other
        settings by six hex digits.
        """
        names = [] if self.step == self._restored[2] else [f"step{self.step}"]
        if self.overrides:
            text = json.dumps(sorted(self.overrides))
            names.append(hashlib.sha256(text.encode()).hexdigest()[:6])
        return "-".join(names)

    @functools.cached_property
    def _network(self) -> Network:
        section = self.config["inference"]
        return Network(self.parts.forward, self.variables, batch_size=section["batch_size"])


def open_run(
    path: pathlib.Path,
    *,
    checkpoint: str = "",
    overrides: Iterable[str] = (),
    trust_code: bool = False,
) -> Run:
    """Open the run in a folder; nothing in it is changed.

    Args:
        path: The folder, `~` expanded.
        checkpoint: See `Run`.
        overrides: Changes to its config, such as `evals.val.batch_size=3`.
        trust_code: Run code outside of segjax that its config names.

    Raises:
        UserError: No run there, no such checkpoint, an override that does not fit, or a config that
            names code outside of segjax.
    """
    path = files.expanded(path)
    overrides = tuple(overrides)
    config = read_config(path, overrides, trust_code=trust_code)
    if number := trials.count(config):
        raise ConfigError(
            f"--workdir={path} holds {number} trials, each a run of its own. Name one of them: "
            f"--workdir={path / 'trial0'}."
        )
    run = Run(path, config, checkpoint, overrides)
    with Checkpointer.of_section(path, config["checkpoint"], read_only=True) as saver:
        saver.find(checkpoint)
    return run


def list_runs(path: pathlib.Path, *, trust_code: bool = False) -> list[Run]:
    """Return all runs in a folder: its own, its trials', those below it, by path.

    Raises:
        UserError: As `open_run`.
    """
    folders = sorted(file.parent for file in files.expanded(path).rglob("config.json"))
    found = [Run(folder, read_config(folder, trust_code=trust_code)) for folder in folders]
    return [run for run in found if not trials.count(run.config)]


def read_config(
    path: pathlib.Path, overrides: Iterable[str] = (), *, trust_code: bool = False
) -> dict[str, Any]:
    """Return the config of the run in `path`, with the keys that there are since it was made.

    Raises:
        UserError: As `open_run`.
    """
    found, file = workdir.load_config(path), path / "config.json"
    if not trust_code:
        trust.check(found, where=str(file))
    try:
        schema.check_recorded(found)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    config = sections.override(found, overrides)
    schema.check_recorded(config)
    return config

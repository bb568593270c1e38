"""A run on disk: open it, score it, predict with it. Needs nothing but its folder."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segjax.assemble import parts as parts_lib
from segjax.assemble import setup as setup_lib
from segjax.assemble.parts import Parts
from segjax.baselines.predictor import Fitted
from segjax.config import lookup, recording, rules, schedule, sections, trials, trust
from segjax.data import folds, hashes
from segjax.errors import ConfigError
from segjax.evaluators import report, tuning
from segjax.evaluators.report import Evaluator, Report, Scored
from segjax.inference.network import Network
from segjax.runs import data_record, versions, workdir, writer
from segjax.runs.checkpoint import Checkpointer
from segjax.runtime import files, sharding
from segjax.tasks.base import GroupingTask, ObjectTask


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder and one of its checkpoints, which is read when it is first needed.

    Attributes:
        path: The folder.
        config: What made it, every key there, with what its data added as `resolved`.
        checkpoint: 'best', 'latest' or a step; empty: the best where the run keeps one, else the
            latest.
        overrides: What was changed of the config that made it.
        others: Further members of an ensemble, whose scores are averaged with this one's.
        remarks: What opening it found, to be said.
    """

    path: pathlib.Path
    config: dict[str, Any]
    checkpoint: str = ""
    overrides: tuple[str, ...] = ()
    others: "tuple[Run, ...]" = ()
    remarks: tuple[str, ...] = ()

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

    def find(self) -> int:
        """Return the step of the checkpoint, which is not read."""
        with Checkpointer.of_section(self.path, self.config["checkpoint"], read_only=True) as saver:
            return saver.find(self.checkpoint)

    def facts(self) -> Mapping[str, Any]:
        """Return what `run.json` says of the run; empty where there is none."""
        return workdir.load_facts(self.path)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what the run has logged, a dict a line, each with its `step`."""
        return writer.read(self.path)

    def predictor(self) -> Scored:
        """Return what predicts an image of any size with this checkpoint.

        A `Predictor`, or where the task finds objects an `ObjectPredictor`.
        """
        return self._predictor

    def evaluate(self, name: str = "", *, shown: bool = False, draw: bool = False) -> list[Report]:
        """Score the checkpoint; nothing is written, see `Report.write`.

        Args:
            name: A key of `config.evals`, or the split that one of them scores; empty: all.
            shown: Show the progress.
            draw: Make the report's figures ready to be drawn.

        Raises:
            UserError: No such evaluation, or its data cannot be read.
        """
        about = self.parts.about_scores(self.step, self.overrides)
        found = []
        for each in self.evaluators(name):
            made = report.run(
                each, self._predictor, step=self.step, shown=shown, draw=draw, about=about
            )
            changes = data_record.changes(self.path, {each.split: hashes.of_source(each.source)})
            found.append(dataclasses.replace(made, notes=[*made.notes, *changes]))
        return found

    def tune(self, name: str = "val", *, shown: bool = False) -> tuning.Choice:
        """Choose post-processing on a split; nothing is written, see `Choice.write`.

        Args:
            name: As `evaluate` takes it.
            shown: Show the progress.

        Raises:
            UserError: As `evaluate`; an ensemble, as the choice belongs to one run; too few images;
                or classes that overlap, of which no step is.
        """
        if self.others:
            raise ConfigError(
                "--mode=tune chooses for one run, and this is an ensemble. Name one --workdir and "
                "one --checkpoint."
            )
        if isinstance(self.parts.task, (ObjectTask, GroupingTask)):
            raise ConfigError(
                "--mode=tune chooses post-processing, whose steps are of class maps, and the task "
                "of this run finds objects. Change its thresholds instead."
            )
        if self.parts.multilabel:
            raise ConfigError(
                "--mode=tune chooses post-processing, whose steps are of class maps, and the "
                "classes of this run overlap (multi-label). Change the threshold instead: "
                "--override=task.threshold=0.4."
            )
        evaluator = self.evaluators(name)[0]
        return tuning.choose(self._network, evaluator.source, shown=shown)

    def evaluators(self, name: str = "") -> list[Evaluator]:
        """Return what scores the run: the evaluators that `name` stands for, see `evaluate`.

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
        if not self.config["evals"]:
            raise ConfigError(
                "config.evals: is empty, and nothing is scored. Add an evaluation of a split that "
                "none of the members was trained on."
            )
        if not chosen:
            known = list(self.config["evals"])
            raise ConfigError(f"{name!r} is no key of config.evals.{lookup.suggest(name, known)}")
        return setup_lib.make_evaluators(self.config | {"evals": chosen}, self.parts, clock)

    def variant(self) -> str:
        """Return what follows the name of a report's files; empty: scored as training does it.

        Another checkpoint than the one that the run is known by is named by its step, an ensemble
        by its number of members, and other settings by six hex digits.
        """
        names = [] if self.step == self._restored[2] else [f"step{self.step}"]
        about: list[Any] = sorted(self.overrides)
        if self.others:
            members = (self, *self.others)
            names = [f"ensemble{len(members)}"]
            about += [[str(member.path.resolve()), member.step] for member in members]
        if about:
            names.append(hashlib.sha256(json.dumps(about).encode()).hexdigest()[:6])
        return "-".join(names)

    def notes(self) -> list[str]:
        """Return what should be said whenever it predicts or is scored, a line each."""
        steps = self.config["inference"]["postprocess"]
        if not steps:
            return [*self.remarks]
        chosen = steps == workdir.load_postprocess(self.path)
        source = (
            f"chosen by --mode=tune ({workdir.POSTPROCESS})" if chosen else "as the config says"
        )
        return [
            *self.remarks,
            f"post-processing, {source}: {tuning.describe(steps)}. Without it: "
            "--override=inference.postprocess=[]",
        ]

    @functools.cached_property
    def _predictor(self) -> Scored:
        if not isinstance(self.parts.task, ObjectTask):
            return self.parts.finished(self._network)
        if self.others:
            raise ConfigError(
                "an ensemble joins scores of pixels, and config.task finds objects. Name one "
                "--workdir and one --checkpoint."
            )
        return self.parts.predictor(self.variables)

    @functools.cached_property
    def _network(self) -> Network | Fitted:
        size = self.config["inference"]["batch_size"]
        others = [(other.parts.forward, other.variables) for other in self.others]
        return self.parts.bare(self.variables, others, size)


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
    run.find()  # it is there
    return run


def open_ensemble(
    paths: Sequence[pathlib.Path],
    *,
    checkpoints: Sequence[str] = ("",),
    overrides: Iterable[str] = (),
    trust_code: bool = False,
) -> Run:
    """Open several runs, or several checkpoints of one, as the first of them with its `others`.

    What folds of a cross-validation hold out, others of them have been trained on: an ensemble of
    them has no evaluation of it.

    Args:
        paths: Their folders; that of a cross-validation stands for all its folds.
        checkpoints: One for all, or of a single run several; those that are one count once.
        overrides: Changes to the config of each.
        trust_code: See `open_run`.

    Raises:
        UserError: As `open_run`; or they do not go together: other classes, channels or window.
    """
    given, paths = paths, [each for path in paths for each in _members(files.expanded(path))]
    if len(paths) > 1 and len(checkpoints) > 1:
        raise ConfigError(
            f"{len(paths)} runs and {len(checkpoints)} checkpoints: expected several of one of "
            "them. Name one checkpoint for all, such as --checkpoint=best."
        )
    overrides = tuple(overrides)
    members = [
        open_run(path, checkpoint=checkpoint, overrides=overrides, trust_code=trust_code)
        for path in paths
        for checkpoint in checkpoints
    ]
    if len(members) == 1:
        used = paths[0] != files.expanded(given[0])
        remark = (f"{given[0]}: its version in use is {paths[0].name}",) * used
        return dataclasses.replace(members[0], remarks=(*remark, *members[0].remarks))
    different = {(member.path.resolve(), member.find()): member for member in members}
    first, *others = different.values()
    remarks = [f"{path} step {step}" for path, step in different]
    twice = f" ({len(members)} were named, of which some are one)" * (len(members) > len(different))
    remark = f"ensemble of {len(different)}{twice}: {', '.join(remarks)}"
    if len(given) < len(paths):
        remark = f"{', '.join(map(str, given))}: the folds of a cross-validation. {remark}"
    for other in others:
        for what in ("classes", "layout"):
            mine, its = getattr(first.parts, what), getattr(other.parts, what)
            if mine != its:
                raise ConfigError(
                    f"{other.path}: has other {what} than {first.path}, and scores cannot be "
                    f"averaged: {rules.shown(its)} instead of {rules.shown(mine)}. Use runs on the "
                    "same data and config.inference."
                )
    config, more = _without_folds([first, *others])
    return dataclasses.replace(first, config=config, others=tuple(others), remarks=(remark, *more))


def _members(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders of the runs that a folder stands for: its version in use, or all folds."""
    return workdir.folds_in(path) or [versions.current(path)]


def _without_folds(members: Sequence[Run]) -> tuple[dict[str, Any], list[str]]:
    """Return the first's config without evaluations of what other folds were trained on.

    And what is to be said of them.
    """
    first = members[0].config
    sources = [member.config["input"]["source"] for member in members]
    if all(source["type"] != "folds" or source == sources[0] for source in sources):
        return first, []
    evals = first["evals"]
    kept = {
        name: each for name, each in evals.items() if each["split"] not in (folds.TRAIN, folds.HELD)
    }
    left = [name for name in evals if name not in kept]
    return first | {"evals": kept}, [
        f"evals.{name} is left out: it scores what other folds were trained on; crossval.json has "
        "the scores out of fold"
        for name in left
    ]


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

    What `--mode=tune` chose takes the place of the config's own post-processing.

    Raises:
        UserError: As `open_run`.
    """
    found = workdir.load_config(path)
    check_config(found, path / "config.json", trust_code=trust_code)
    chosen = workdir.load_postprocess(path)
    if chosen is not None:
        found["inference"]["postprocess"] = chosen
        check_config(found, path / workdir.POSTPROCESS, trust_code=trust_code)
    config = sections.override(found, overrides)
    recording.check(config)
    return config


def check_config(config: Mapping[str, Any], file: pathlib.Path, *, trust_code: bool) -> None:
    """Refuse a config that no run can have recorded.

    Args:
        config: Filled, with `resolved`.
        file: Of the run's folder, for messages.
        trust_code: See `open_run`.

    Raises:
        ConfigError: What is wrong with it, or that it names code outside of segjax.
    """
    if not trust_code:
        trust.check(config, where=str(file))
    try:
        recording.check(config)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None

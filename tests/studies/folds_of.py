"""Folds that train nothing: each predicts by a rule of its own, and all else is real."""

import json

import numpy as np

from segjax.assemble import parts as parts_lib
from segjax.assemble import setup as setup_lib
from segjax.config import schedule, sections
from segjax.evaluators import report, semantic
from segjax.inference.predictor import FunctionPredictor
from segjax.runs import workdir
from segjax.runtime import files


class Parts:
    """The parts of a config, whose predictor is a function of the fold's number."""

    def __init__(self, parts):
        self.parts = parts

    def __getattr__(self, name):
        return getattr(self.parts, name)

    def predictor(self, fold):
        names = self.parts.classes.class_names
        return FunctionPredictor(
            lambda image: rule(fold, image, len(names)), num_classes=len(names)
        )


def rule(fold, image, num_classes):
    """Return what a fold predicts: something that no other does."""
    return ((image[..., 0].astype(int) // (20 + 7 * fold) + fold) % num_classes).astype(np.uint8)


class Member:
    """The run of a fold, opened."""

    def __init__(self, folder):
        self.path, self.config = folder, workdir.load_config(folder)
        classes = parts_lib.recorded_classes(self.config["resolved"])
        self.parts = Parts(parts_lib.make_parts(self.config, classes))
        self.variables = self.config["input"]["source"]["fold"]

    def find(self):
        return 2


def train(folder, config, **_):
    """Write what a training of two steps leaves, scored by the rule of its fold."""
    setup, _ = setup_lib.make_setup(config)
    files.write_json(folder / "config.json", setup.resolved())
    with (folder / "begun").open("a") as log:
        log.write("once\n")
    member = Member(folder)
    clock = schedule.Clock(*(member.config["resolved"][key] for key in schedule.Clock._fields))
    for each in setup_lib.make_evaluators(setup.config, member.parts, clock):
        predictor = member.parts.predictor(member.variables)
        report.run(each, predictor, step=2, shown=False, draw=False).write(folder)
    return 0


def use(monkeypatch, crossval):
    """Let a cross-validation train and open these, and draw nothing."""
    monkeypatch.setattr(crossval.jax, "clear_caches", lambda: None)  # other tests' too
    monkeypatch.setattr(semantic.Evaluator, "_figures", lambda *_: {})
    monkeypatch.setattr(crossval.train, "run", train)
    monkeypatch.setattr(crossval.run_lib, "open_run", lambda folder, **_: Member(folder))


def config(**changes):
    """Return a config of pictures of eight classes, with a hold-out."""
    from configs import quickstart

    plain = sections.plain(quickstart.get_config("debug"))
    plain["mesh"]["data"] = -1
    plain["input"]["batch_size"] = 8
    plain["input"]["source"]["num_examples"] = 7
    plain["evals"]["val"]["batch_size"] = 8
    plain["evals"]["test"] = {**plain["evals"]["val"], "split": "test"}
    return sections.override(plain, [f"{key.replace('__', '.')}={v}" for key, v in changes.items()])


def result(root):
    return json.loads((root / "crossval.json").read_text())

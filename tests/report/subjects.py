"""Runs of every kind of task that nobody trained: what reports need of them, and no more."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np

from configs import quickstart
from segjax.config import schema
from segjax.data import core
from segjax.evaluators import instance, multilabel, panoptic, semantic
from segjax.inference.predictor import FunctionPredictor, Prediction
from segjax.report.record import Subject
from segjax.structs import Classes, Field
from tests.evaluators import object_split

BAR = SimpleNamespace(update=lambda count: None)
HOSTILE = "<img src=x onerror=alert(1)>'\"&{{ 7*7 }}"
SCHEMA = {"image": Field("image", (3,)), "label": Field("classes")}
KINDS = ("classes", "labels", "volume", "signal", "instances", "segments")


class Maps:
    """Examples of noise, in any dimension; class 2 occurs in the second half alone."""

    class_names, palette = ("ground", HOSTILE, "rare"), ((0, 0, 0), (200, 30, 30), (200, 30, 30))

    def __init__(self, size, *, overlapping=False, count=4):
        self.size, self.overlapping, self.count = size, overlapping, count
        self.schema = core.multilabel_schema(3, 3) if overlapping else SCHEMA

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        image = random.integers(0, 255, (*self.size, 3)).astype(np.uint8)
        image[(0,) * len(self.size)] = index
        label = np.zeros(self.size, np.uint8)
        label[tuple(slice(2, side // 2) for side in self.size)] = 1
        if index >= self.count // 2:
            label[tuple(slice(side // 2, side - 2) for side in self.size)] = 2
        if self.overlapping:
            label = np.stack([label == 0, label > 0, label == 2], axis=-1).astype(np.uint8)
        label[0] = 255
        return {"image": image, "label": label, "name": f"{HOSTILE}/{index}.png"}

    def predictor(self, wrong):
        """Return what knows the truth, but for a share `wrong` of it, and says how sure it is."""

        def predict(image):
            index = int(image[(0,) * len(self.size)][0])
            random = np.random.default_rng(index + 100)
            label = self[index]["label"]
            label = np.where(label == 255, 0, label)
            turned = random.random(label.shape) < wrong * (1 + index) / 2
            if self.overlapping:
                classes = np.where(turned, 1 - label, label)
                sure = np.where(turned, 0.55, 0.9).astype(np.float32)
                return classes.astype(np.uint8), np.where(classes > 0, sure, 1 - sure)
            classes = np.where(turned, (label + 1) % 3, label)
            sure = np.where(turned, 0.5, 0.8).astype(np.float32)[..., None]
            own = classes[..., None] == np.arange(3)
            return classes.astype(np.uint8), np.where(own, sure, (1 - sure) / 2)

        return Sure(predict, num_classes=3)


class Sure(FunctionPredictor):
    """A function that also says how sure it is."""

    def __call__(self, image, /):
        classes, probabilities = self.function(np.asarray(image))
        return Prediction(classes, lambda: probabilities)


SIZES = {"classes": (40, 56), "labels": (40, 56), "volume": (12, 24, 20), "signal": (300,)}


def evaluator_and_predictor(kind, wrong):
    given = dict(split="val", batch_size=2, name="val")
    if kind in SIZES:
        source = Maps(SIZES[kind], overlapping=kind == "labels")
        classes = Classes(source.class_names, source.palette, 3)
        made = multilabel.Evaluator if kind == "labels" else semantic.Evaluator
        return made(**given, source=source, classes=classes), source.predictor(wrong)
    source = object_split.Source(overlap=kind == "instances", crowds=True, count=4)
    made = instance.Evaluator if kind == "instances" else panoptic.Evaluator
    found = object_split.predictor(source, with_segments=kind == "segments")
    return made(**given, source=source, classes=object_split.CLASSES), found


def subject(kind, folder, *, wrong=0.05, name="a run", lr=0.01):
    """Return a run of a kind of task in a folder, with the files that a training leaves there."""
    evaluator, predictor = evaluator_and_predictor(kind, wrong)
    config = schema.fill(quickstart.get_config("debug").to_dict())
    config["optimizer"]["lr"] = lr
    names, palette, channels, *_ = evaluator.classes
    config["resolved"] = {
        "class_names": list(names), "palette": [list(shade) for shade in palette],
        "channels": channels, "batch_size": 2, "num_examples": 4, "total_steps": 40,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    facts = {
        "command": ["run.py", f"--config={HOSTILE}"], "python": "3.11", "packages": {"jax": "1"},
        "data": {"val": {"examples": 4, "hash": "abc"}}, "devices": ["cpu", "cpu"],
        "parameters": 12345, "device_step_flops": 3e9, "compile_seconds": 1.5,
        "device_step_bytes": {"temporary": 1 << 33},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    report = evaluator.evaluate(predictor, step=40, progress=BAR, draw=False)
    report = dataclasses.replace(report, result={**report.result, "logged": dict(report.scalars)})
    report.write(folder)
    log = [
        {"step": step, "train/loss": wrong + 1 / step, "train/lr": lr, "time/step_ms": 20.0,
         "time/data_wait_ms": 1.0, "time/images_per_s": 100.0, "time/mfu": 0.3}
        for step in range(2, 41, 2)
    ]  # fmt: skip
    log.append({"step": 40, **report.scalars})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return Subject(folder, name, config, 40, [evaluator], predictor)

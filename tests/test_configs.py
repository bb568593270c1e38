"""Every config with every documented argument builds, resolves, and keeps its golden text.

After a change that is meant: `SEGJAX_GOLDEN=write pytest tests/test_configs.py`.
"""

import importlib
import json
import os
import pathlib
import re

import numpy as np
import pytest

from segjax.assemble import parts as assemble
from segjax.config import lookup, schedule, sections
from segjax.data import synthetic
from segjax.runs import train, writer
from tests import camvid, costs

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
MODELS = {
    "attention_unet": ("",),
    "bisenetv2": ("",),
    "deeplabv3": ("", "pretrained=torchvision:resnet50"),
    "deeplabv3plus": ("", "pretrained=torchvision:resnet50"),
    "encoder_unet": ("", "encoder=mit_b0", "encoder=vgg16_bn", "encoder=convnext_tiny"),
    "fc_densenet": ("",),
    "fcn": ("", "dilated", "pretrained=torchvision:vgg16_bn"),
    "linear": ("", "pretrained=hf:facebook/dinov2-small"),
    "lraspp": ("", "pretrained=torchvision:mobilenet_v3_large"),
    "pspnet": ("", "pretrained=torchvision:resnet50"),
    "segformer": ("", "variant=b5", "pretrained=hf:nvidia/mit-b0"),
    "segnet": ("", "pretrained=torchvision:vgg16_bn"),
    "unet": ("",),
    "unetpp": ("", "pretrained=torchvision:resnet34"),
    "upernet": ("", "variant=base", "pretrained=torchvision:convnext_tiny"),
}
"""Every model on CamVid, with its documented arguments beside `cpu` and `debug`."""
CASES = ["quickstart", "quickstart:debug"]
CASES += [
    f"{name}_camvid:{argument}".rstrip(":")
    for name, own in MODELS.items()
    for argument in (*own, "cpu", "debug")
]


def load(case: str) -> dict:
    name, _, arg = case.partition(":")
    return sections.section(importlib.import_module(f"configs.{name}").get_config(arg))


def test_no_config_is_left_out():
    names = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"common", "__init__"}
    assert names == {case.partition(":")[0] for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_the_resolved_text_is_the_recorded_one(case):
    path = GOLDEN / f"{re.sub('[:=/,]', '-', case)}.txt"
    text = sections.to_text(load(case))
    if os.environ.get("SEGJAX_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", CASES)
def test_every_section_builds(case):
    plain = load(case)
    sections.check_top_level(plain)
    scenes = synthetic.Source(split="train", num_examples=4)
    plain["mesh"]["data"] = 8
    parts = assemble.make_parts(
        plain, assemble.classes_of(scenes) | {"class_names": list("abcdefghijk")}
    )
    clock = schedule.Clock(plain["input"]["batch_size"], 367)
    durations = schedule.in_steps(plain, ("total", "log"), clock, "config")
    assert durations["total_steps"] >= 2 and parts.model.num_classes == 11
    for i, op in enumerate(plain["augment"]):
        lookup.build("augment", op, where=f"config.augment[{i}]")
    lookup.resolve("data", plain["input"]["source"]["type"], where="config.input.source")
    for section in plain["evals"].values():
        lookup.resolve("evaluators", section["type"], where="config.evals")


@pytest.mark.parametrize("case", CASES)
def test_no_default_is_none(case):
    """ml_collections cannot override a None from the shell."""
    empty = [key for key, value in sections.flatten(load(case)).items() if value is None]
    assert not empty


def test_every_model_has_a_config():
    names = {path.stem for path in (ROOT / "segjax" / "models").glob("*.py")} - {"__init__", "base"}
    found = {load(case)["model"]["type"] for case in CASES}
    assert found == names


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_two_steps(name, tmp_path, monkeypatch):
    camvid.write(tmp_path, size=(72, 96))
    monkeypatch.setenv("SEGJAX_DATA", str(tmp_path))
    plain = load(f"{name}_camvid:debug")
    plain["mesh"] = dict(data=2, fsdp=4, space=1)
    for section in (plain["input"], *plain["evals"].values()):
        section["batch_size"] = 8
    compiled = []

    def compile_step(*arguments):
        compiled.append(real(*arguments))
        return compiled[0]

    real = train.compile_step
    monkeypatch.setattr(train, "compile_step", compile_step)
    assert train.run(tmp_path / "run", plain) == 0
    result = json.loads((tmp_path / "run" / "eval" / "test.json").read_text())
    assert result["num_examples"] == 4 and result["step"] == 2
    losses = [r["train/loss"] for r in writer.read(tmp_path / "run") if "train/loss" in r]
    assert losses and np.isfinite(losses).all()
    costs.check(name, compiled[0].step)

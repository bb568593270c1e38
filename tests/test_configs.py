"""Every config with every documented argument builds, resolves, and keeps its golden text.

After a change that is meant: `SEGJAX_GOLDEN=write pytest tests/test_configs.py`.
"""

import importlib
import os
import pathlib

import pytest

from segjax import assemble, config, lookup, schedule
from segjax.data import synthetic

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
CASES = [
    "quickstart",
    "quickstart:debug",
    "unet_camvid",
    "unet_camvid:cpu",
    "unet_camvid:debug",
]


def load(case: str) -> dict:
    name, _, arg = case.partition(":")
    return config.section(importlib.import_module(f"configs.{name}").get_config(arg))


def test_no_config_is_left_out():
    names = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"common", "__init__"}
    assert names == {case.partition(":")[0] for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_the_resolved_text_is_the_recorded_one(case):
    path = GOLDEN / f"{case.replace(':', '-')}.txt"
    text = config.to_text(load(case))
    if os.environ.get("SEGJAX_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", CASES)
def test_every_section_builds(case):
    plain = load(case)
    config.check_top_level(plain)
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
    empty = [key for key, value in config.flatten(load(case)).items() if value is None]
    assert not empty

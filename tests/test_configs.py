"""The zoo and the data sets: all that they offer builds, resolves, and keeps its golden text.

After a change that is meant: `SEGJAX_GOLDEN=write pytest tests/test_configs.py`.
"""

import importlib
import json
import os
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
import pytest

from configs import zoo
from segjax.assemble import parts as parts_lib
from segjax.assemble import program, setup
from segjax.config import lookup, schedule, schema, sections
from segjax.data import synthetic
from segjax.errors import ConfigError
from segjax.runs import train, writer
from tests import camvid, recorded_costs

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
WEIGHTS = {
    "deeplabv3": "torchvision:resnet50",
    "deeplabv3plus": "torchvision:resnet50",
    "encoder_unet": "torchvision:resnet34",
    "eomt": "hf:facebook/dinov2-with-registers-base",
    "fcn": "torchvision:vgg16_bn",
    "fcn_dilated": "torchvision:resnet50",
    "hed": "torchvision:vgg16",
    "mask2former": "torchvision:resnet50",
    "linear": "hf:facebook/dinov2-small",
    "lraspp": "torchvision:mobilenet_v3_large",
    "pspnet": "torchvision:resnet50",
    "segformer": "hf:nvidia/mit-b0",
    "segnet": "torchvision:vgg16_bn",
    "unetpp": "torchvision:resnet34",
    "upernet": "torchvision:convnext_tiny",
}
"""Published weights for the encoder of every model that has one."""
DATA_SETS = {
    "quickstart": (
        "", "debug", "dims=1", "dims=1,debug", "dims=3", "dims=3,debug",
        "multilabel", "multilabel,dims=3,debug", "task=instance", "task=instance,debug",
    ),
    "camvid": ("", "size=cpu", "model=unet,size=cpu,best", "model=segnet,size=cpu", "size=debug"),
    "own_data": (
        "", "classes=ground+thing,mask=binary,side=96", "size=debug",
        "classes=cell+nucleus,mask=multilabel", "mask=bands,size=debug",
    ),
    "voc": (
        "model=deeplabv3plus", "split=trainaug,protocol=voc_multi_scale",
        "split=trainaug,masks=png", "size=debug",
    ),
    "cityscapes": (
        "", "protocol=cityscapes_sliding", "labels=coarse", "split=train_extra", "size=debug"
    ),
    "ade20k": ("model=upernet", "protocol=ade20k_multi_scale", "size=debug"),
    "coco": ("", "labels=panoptic", "labels=instances", "size=debug"),
    "coco_instance": (
        "", "schedule=3x,pretrained=torchvision:resnet50", "schedule=lsj,paste=True", "model=eomt",
        "size=debug", "paste=True,size=debug", "model=eomt,size=debug",
    ),
    "coco_panoptic": (
        "", "side=1280,pretrained=hf:facebook/dinov3-vitl16-pretrain-lvd1689m", "size=debug",
        "model=mask2former,pretrained=torchvision:resnet50", "model=mask2former,encoder=swin_l",
        "model=mask2former,size=debug",
    ),
    "cityscapes_panoptic": (
        "", "size=debug", "model=mask2former,encoder=swin_t,pretrained=torchvision:swin_t",
        "model=mask2former,size=debug",
    ),
    "pets": ("", "border=class", "from=tfds", "size=debug"),
    "isbi2012": ("", "size=cpu", "from=folder,size=cpu", "size=debug"),
    "dsb2018": (
        "", "size=cpu", "data=stage1", "data=stage1,task=semantic", "size=debug",
        "task=semantic,size=debug",
    ),
    "hippocampus": ("", "size=cpu", "size=debug"),
    "signal": (
        "", "scene=texts", "debug", "scene=texts,debug", "root=data/calls,classes=other+call",
    ),
    "cloudmask": ("", "debug"),
    "msd": ("", "task=Task09_Spleen,size=cpu", "size=debug"),
    "auto": ("", "gpu_gb=24", "debug"),
    "lidc": ("", "reader=3", "at_least=3,size=cpu", "size=debug"),
}  # fmt: skip
"""What a data set's recipe differs by."""


def offers(name: str) -> list[str]:
    """Return all that the zoo offers of a model, as arguments of a data set's file."""
    choices = [
        f"{argument}={value}"
        for argument, options in zoo.ZOO[name].choices.items()
        for value in options
    ]
    weights = [f"pretrained={WEIGHTS[name]}"] if name in WEIGHTS else []
    return ["size=full", *choices, *weights, "size=cpu", "size=debug"]


CASES = [f"{name}:{arg}".rstrip(":") for name, args in DATA_SETS.items() for arg in args]
CASES += [f"camvid:model={name},{offer}" for name in zoo.ZOO for offer in offers(name)]


def load(case: str) -> dict:
    name, _, arg = case.partition(":")
    return sections.section(importlib.import_module(f"configs.{name}").get_config(arg))


def made_up(arg: str = ""):
    """Return the config of another data set, as its file would."""
    arg = sections.parse_arg(arg, **zoo.ARGUMENTS)
    config = schema.defaults()
    config.total_steps = 2
    config.input.source = dict(type="synthetic", size=(72, 96), num_examples=8)
    config.input.size = (72, 96)
    config.optimizer.update(type="sgd", lr=0.1, schedule=dict(type="constant"))
    config.evals.val = dict(type="semantic", split="val", batch_size=8)
    zoo.put(config, arg)
    return config


def check_golden(path: pathlib.Path, texts: Mapping[str, list[str]]) -> None:
    text = "\n".join("\n".join([f"[{arg}]", *lines, ""]) for arg, lines in texts.items())
    if os.environ.get("SEGJAX_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


def test_no_data_set_is_left_out():
    names = {path.stem for path in (ROOT / "configs").glob("*.py")}
    names -= {"zoo", "__init__", "benchmark", "protocols"}  # what data sets' files share
    assert names == set(DATA_SETS)


def test_every_model_has_a_zoo_entry():
    names = {path.stem for path in (ROOT / "segjax" / "models").glob("*.py")}
    models = names - {"__init__", "base"}
    detectors = {"mask_rcnn"}  # of data with objects: configs/benchmark.py has its sizes
    assert set(zoo.ZOO) == models - detectors
    assert set(WEIGHTS) == {name for name, entry in zoo.ZOO.items() if "encoder" in entry.full}


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_s_text_is_the_recorded_one(name):
    """Without the model where it comes from the zoo, whose text is apart."""
    own = not hasattr(importlib.import_module(f"configs.{name}"), "zoo")
    texts = {}
    for arg in DATA_SETS[name]:
        lines = sections.to_text(load(f"{name}:{arg}")).splitlines()
        texts[arg] = [line for line in lines if own or not line.startswith("model.")]
    check_golden(GOLDEN / "configs" / f"{name}.txt", texts)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_a_zoo_entry_s_text_is_the_recorded_one(name):
    """The model, and what it changes elsewhere."""
    blank = schema.defaults()
    blank.optimizer.lr = 0.1
    before = set(sections.to_text(blank).splitlines())
    texts = {}
    for offer in offers(name):
        config = blank.copy_and_resolve_references()
        zoo.put(config, sections.parse_arg(f"model={name},{offer}", **zoo.ARGUMENTS))
        lines = sections.to_text(config).splitlines()
        texts[offer] = [line for line in lines if line not in before]
    check_golden(GOLDEN / "zoo" / f"{name}.txt", texts)


def test_no_golden_text_is_left_over():
    assert {path.stem for path in (GOLDEN / "configs").glob("*")} == set(DATA_SETS)
    assert {path.stem for path in (GOLDEN / "zoo").glob("*")} == set(zoo.ZOO)


@pytest.mark.parametrize(
    ("arg", "said"),
    [
        ("model=unett", "model='unett' is none of unet"),
        ("size=huge", "size='huge' is none of full, cpu, debug"),
        ("model=segformer,variant=b9", "variant='b9' is none of b0"),
        ("model=segformer,variant=b1,size=debug", "size=debug offers no choice"),
        ("model=unet,variant=b1", "model=unet,size=full offers no choice"),
        ("pretrained=torchvision:resnet50", "unet has no encoder"),
        ("modle=unet", "Did you mean 'model'"),
    ],
)
def test_what_the_zoo_does_not_have_is_an_error(arg, said):
    with pytest.raises(ConfigError, match=said):
        made_up(arg)


def test_the_quickstart_has_one_to_three_dimensions():
    with pytest.raises(ConfigError, match="dims=4 is none of 1, 2, 3"):
        load("quickstart:dims=4")


@pytest.mark.parametrize("name", zoo.ZOO)
def test_another_data_set_has_every_model(name):
    """A data set of six classes, without a file for any model of it."""
    made, source = setup.make_setup(made_up(f"model={name},size=debug"))
    assert made.parts.model.num_classes == len(source.class_names) != 11
    _, _, target = program.make_step(made, jax.random.key(0))
    assert target.params and made.clock.total_steps == 2


@pytest.mark.parametrize("length", [dict(total_steps=30), dict(total_epochs=15)])
def test_masked_attention_ends_with_the_training(length):
    """Of EoMT with a block: in the second third of as many steps as the flags say, here 30.

    A run from when moments were steps alone has them still.
    """
    config = made_up("model=eomt,size=debug")
    del config["total_steps"]
    config.input.batch_size = 4
    config.update(**length)
    made, _ = setup.make_setup(config)
    ((first, last),) = made.parts.task.spans()
    assert (first, last) == (pytest.approx(10, abs=1e-3), pytest.approx(20, abs=1e-3))
    del config.task["annealing_percent"]
    config.task.annealing = ((3, 7),)
    assert [*map(tuple, setup.make_setup(config)[0].parts.task.spans())] == [(3, 7)]


@pytest.mark.parametrize("case", CASES)
def test_every_section_builds(case):
    plain = load(case)
    schema.check(plain)
    scenes = synthetic.Source(split="train", num_examples=4)
    plain["mesh"]["data"] = 8
    classes = parts_lib.classes_of(scenes)._replace(class_names=tuple("abcdefghijk"))
    classes = classes._replace(things=tuple(range(1, 11)))
    parts = parts_lib.make_parts(plain, classes)
    clock = schedule.Clock(plain["input"]["batch_size"], 367)
    durations = schedule.in_steps(plain, ("total", "log"), clock, "config")
    assert durations["total_steps"] >= 2 and parts.model.num_classes == parts.task.num_classes >= 10
    lookup.resolve("data", plain["input"]["source"]["type"], where="config.input.source")
    for section in plain["evals"].values():
        lookup.resolve("evaluators", section["type"], where="config.evals")


@pytest.mark.parametrize("case", CASES)
def test_no_default_is_none(case):
    """ml_collections cannot override a None from the shell."""
    empty = [key for key, value in sections.flatten(load(case)).items() if value is None]
    assert not empty


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_model_takes_two_steps(name, tmp_path, monkeypatch):
    camvid.write(tmp_path, size=(72, 96))
    monkeypatch.setenv("SEGJAX_DATA", str(tmp_path))
    plain = load(f"camvid:model={name},size=debug")
    plain["mesh"] = dict(data=2, fsdp=4, space=1)
    for section in (plain["input"], *plain["evals"].values()):
        section["batch_size"] = 8
    compiled = []

    def compile_step(*arguments):
        compiled.append(real(*arguments))
        return compiled[0]

    real = program.Traced.compile
    monkeypatch.setattr(program.Traced, "compile", compile_step)
    assert train.run(tmp_path / "run", plain) == 0
    result = json.loads((tmp_path / "run" / "eval" / "test.json").read_text())
    assert result["num_examples"] == 4 and result["step"] == result["checkpoint"] in (1, 2)
    losses = [r["train/loss"] for r in writer.read(tmp_path / "run") if "train/loss" in r]
    assert losses and np.isfinite(losses).all()
    recorded_costs.check(name, compiled[0].step)

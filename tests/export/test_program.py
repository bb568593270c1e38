"""An exported file predicts what the run does, and says in one line why it cannot be read."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import segjax
from configs import camvid, quickstart, zoo
from segjax.assemble import parts as parts_lib
from segjax.config import schema, sections
from segjax.data.synthetic import Source
from segjax.errors import ConfigError, DataError, UserError
from segjax.export import exported, program
from segjax.runs.run import Run

SIZES = ((48, 64), (33, 41), (96, 130), (64, 64), (150, 70))


@dataclasses.dataclass(frozen=True)
class Untrained(Run):
    """A run of a config that was never trained: every variable is drawn."""

    @functools.cached_property
    def _restored(self):
        shapes = self.parts.variable_shapes()
        draw = np.random.default_rng(0)

        def fill(path, leaf):
            name = str(path[-1].key)
            spread = 0.3 if leaf.ndim > 1 else 0.1
            values = draw.normal(0, spread / max(1, leaf.ndim - 1), leaf.shape)
            one = name in ("var", "scale")
            return jax.device_put((np.abs(values) + one).astype(leaf.dtype), leaf.sharding)

        return 3, jax.tree.map_with_path(fill, shapes), 3

    def find(self):
        return 3


def untrained(config, tmp_path, *, dtype="uint8"):
    config = schema.fill(config)
    config["mesh"] = dict(data=1, fsdp=1, space=1) | {"data": -1}
    source = Source(split="val", num_examples=2, size=(48, 64))
    classes = parts_lib.classes_of(source)
    resolved = dict(classes._asdict(), batch_size=8, num_examples=8, total_steps=2)
    resolved.pop("things")
    config = sections.plain(config | {"resolved": sections.plain(resolved)})
    config["mesh"]["data"] = 8  # of the tests' virtual devices
    (tmp_path / "run").mkdir(parents=True, exist_ok=True)
    facts = {"reading": {"dtype": dtype}, "image_scales": [1.0, 1.0]}
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    return Untrained(tmp_path / "run", config)


def of_model(name, tmp_path):
    config = sections.plain(camvid.get_config(f"model={name},size=debug"))
    config["input"]["fit"] = "pad"
    config["input"]["source"]["root"] = "nowhere"  # the check then takes noise
    if "losses" in config["task"]:
        config["task"]["losses"] = [dict(type="pixel:cross_entropy", weight=1.0)]
    return untrained(config, tmp_path)


def images(dtype=np.uint8):
    draw = np.random.default_rng(1)
    return [draw.uniform(0, 255, (*size, 3)).astype(dtype) for size in SIZES]


@pytest.fixture
def unet(tmp_path):
    return of_model("unet", tmp_path)


def test_images_of_any_size_are_predicted_as_the_run_does(unet, tmp_path):
    """On one device what the run does on eight; the reports and answers are of one file alone."""
    file = tmp_path / "out" / "unet.segjax"
    lines = exported.write(unet, file, platforms=["cpu", "cuda", "tpu"])
    assert "step 3" in lines[0] and str(file) in lines[0] and "for cpu, cuda, tpu" in lines[0]
    opened = segjax.open_run(file)
    line = exported.compare(unet, opened, images())
    assert "run on 5 images" in line
    assert opened.step == 3 and opened.facts()["image_scales"] == [1.0, 1.0]
    assert opened.config == unet.config and opened.metrics() == []
    flipped = segjax.open_run(file, overrides=["inference.flips=[1]"])
    own = dataclasses.replace(unet, config=flipped.config)
    exported.compare(own, flipped, images()[:1])


@pytest.mark.slow
def test_a_file_takes_images_of_the_type_that_it_was_trained_on_and_no_other(unet, tmp_path):
    file = tmp_path / "unet.segjax"
    exported.write(unet, file, platforms=["cpu"])
    with pytest.raises(DataError, match="images of float32, and the exported file takes uint8"):
        segjax.open_run(file).predictor()(images(np.float32)[0])
    other = untrained(unet.config, tmp_path, dtype="uint16")
    exported.write(other, file, platforms=["cpu"])
    exported.compare(other, segjax.open_run(file), images(np.uint16)[:1])
    with pytest.raises(DataError, match="images of uint8, and the exported file takes uint16"):
        segjax.open_run(file).predictor()(images()[0])


@pytest.mark.slow
def test_what_is_not_the_run_is_not_kept(unet, tmp_path, monkeypatch):
    file = tmp_path / "unet.segjax"
    make = program.make

    def wrong(run, **options):
        serialised, weights = make(run, **options)
        return serialised, jax.tree.map(lambda leaf: leaf * 1.1, weights)

    monkeypatch.setattr(program, "make", wrong)
    with pytest.raises(DataError, match="not that of the run: run on .* Nothing was kept"):
        exported.write(unet, file, platforms=["cpu"])
    assert not file.exists() and not list(tmp_path.glob(".*tmp"))


def damaged(file, how):
    arrays = safetensors.numpy.load_file(file)
    about = program.about_of(file)
    if how == "bit":
        arrays["weights/params/head/bias"] = arrays["weights/params/head/bias"] + 1
    elif how == "newer":
        about["version"] = 99
    elif how == "program":
        arrays["program"] = arrays["program"][:100]
        about["hash"] = program.digest(arrays)
    elif how == "stranger":
        about["config"]["model"]["type"] = "os.path:join"
    elif how == "weights":
        about, _ = {}, arrays.pop("program")
    file.write_bytes(safetensors.numpy.save(arrays, metadata={"segjax": json.dumps(about)}))


def test_a_file_that_cannot_be_used_is_told_why(unet, tmp_path):
    good = tmp_path / "good.segjax"
    exported.write(unet, good, platforms=["cpu"])
    expected = {
        "bit": "its content is not what its hash says",
        "newer": "is of version 99, and this segjax reads up to 1",
        "program": "made with jax .* cannot be read by",
        "stranger": "os.path:join",
        "weights": "is a file of weights and no program",
    }
    for how, words in expected.items():
        file = tmp_path / f"{how}.segjax"
        file.write_bytes(good.read_bytes())
        damaged(file, how)
        with pytest.raises(UserError, match=words) as error:
            exported.open_file(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)
    for content in (b"", b"{}", good.read_bytes()[:1000], b"PK\x03\x04nothing"):
        (tmp_path / "torn.segjax").write_bytes(content)
        with pytest.raises(DataError, match=r"torn\.segjax"):
            exported.open_file(tmp_path / "torn.segjax")
    with pytest.raises(ConfigError, match="sees windows of .64, 96., and the override"):
        exported.open_file(good, overrides=["inference.size=[32, 32]"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in zoo.ZOO.items() if not entry.task])
def test_every_model_of_the_zoo_is_exported(name, tmp_path):
    """Scores within 1e-4, at most 0.01 % of pixels of another class, on images of five sizes."""
    run = of_model(name, tmp_path)
    file = tmp_path / "x.segjax"
    exported.write(run, file, platforms=["cpu", "cuda", "tpu"])
    exported.compare(run, exported.open_file(file), images())


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["dims=1", "dims=3", "multilabel"])
def test_signals_volumes_and_overlapping_classes_are_exported(argument, tmp_path, tiny_config):
    """Trained for two steps, by the commands."""
    from segjax.runs import train
    from tests import program as command

    config = sections.plain(quickstart.get_config(f"debug,{argument}"))
    config["input"]["batch_size"] = config["evals"]["val"]["batch_size"] = 8
    assert train.run(tmp_path / "run", config) == 0
    file = tmp_path / "x.segjax"
    code, text = command.run("--mode=export", f"--workdir={tmp_path / 'run'}", f"--output={file}",
        "--override=mesh.data=1")  # fmt: skip
    assert code == 0 and "0.0000 %" in text, text
    code, text = command.run("--mode=eval", f"--model={file}", f"--workdir={tmp_path / 'run'}")
    assert code == 2 and "is all that is needed. Leave out --workdir" in text
    code, text = command.run("--mode=eval", f"--model={file}")
    assert code == 0, text
    own, other = (
        json.loads((tmp_path / name / "eval" / "val.json").read_text()) for name in ("run", "x")
    )
    assert own["miou"] == pytest.approx(other["miou"], abs=1e-6)

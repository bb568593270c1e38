"""An exported file predicts what the run does, and says in one line why it cannot be read."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax import export

import segjax
from configs import quickstart
from experiments.export.untrained import images, of_model, untrained
from segjax.config import sections
from segjax.errors import ConfigError, DataError, UserError
from segjax.export import exported, program


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
    seen = images()[0][None, :64, :64]
    arrays = safetensors.numpy.load_file(file)
    answers = export.deserialize(bytearray(arrays["program"].tobytes())).call(
        program.read(file).weights, np.resize(seen, (1, 64, 96, 3))
    )
    assert sorted(answers) == ["classes", "probabilities", "scores"]
    np.testing.assert_array_equal(answers["classes"], answers["scores"].argmax(-1))
    expected = jax.nn.softmax(answers["scores"])
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)
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
def test_a_bare_file_takes_normalised_images(unet, tmp_path):
    file = tmp_path / "bare.segjax"
    exported.write(unet, file, platforms=["cpu"], bare=True)
    opened = segjax.open_run(file)
    assert opened.program.is_bare
    exported.compare(unet, opened, images())


@pytest.mark.slow
def test_a_file_of_the_first_version_gave_scores_alone(unet, tmp_path, monkeypatch):
    answers = program.answers_of(unet)
    monkeypatch.setattr(program, "VERSION", 1)
    monkeypatch.setattr(
        program, "answers_of", lambda run, bare=False: lambda *given: answers(*given)["scores"]
    )
    file = tmp_path / "unet.segjax"
    exported.write(unet, file, platforms=["cpu"])
    monkeypatch.undo()
    exported.compare(unet, segjax.open_run(file), images()[:2])


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
        "newer": "is of version 99, and this segjax reads up to 2",
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

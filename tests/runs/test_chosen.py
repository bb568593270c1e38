"""What was chosen for a run is used by whatever opens it, and said."""

import json

import pytest

from segjax.assemble import setup as setup_lib
from segjax.errors import ConfigError, UserError
from segjax.runs import run as run_lib

CHOSEN = [{"type": "minimum_area", "pixels": 9}]
OWN = [{"type": "fill_holes"}]


@pytest.fixture
def folder(tmp_path, tiny_config):
    """Return a function that makes a run's folder, as far as its config is concerned."""

    def make(own=(), chosen=None):
        setup, _ = setup_lib.make_setup(tiny_config(inference__postprocess=list(own)))
        (tmp_path / "config.json").write_text(json.dumps(setup.resolved()))
        if chosen is not None:
            (tmp_path / "postprocess.json").write_text(json.dumps(chosen))
        return tmp_path

    return make


def opened(path, *overrides):
    return run_lib.Run(path, run_lib.read_config(path, overrides))


def steps(run):
    return run.config["inference"]["postprocess"]


@pytest.mark.parametrize("own", [[], OWN])
def test_the_choice_stands_in_place_of_the_configs_own(folder, own):
    path = folder(own)
    assert steps(opened(path)) == own
    assert len(opened(path).notes()) == bool(own)
    path = folder(own, {"postprocess": CHOSEN, "split": "val"})
    run = opened(path)
    assert steps(run) == CHOSEN and len(run.parts.steps) == 1
    (note,) = run.notes()
    assert "chosen by --mode=tune" in note and "minimum_area(pixels=9)" in note
    off = opened(path, "inference.postprocess=[]")
    assert steps(off) == [] and off.notes() == [] and not off.parts.steps
    other = opened(path, "inference.postprocess[0].pixels=5")
    assert steps(other) == [{"type": "minimum_area", "pixels": 5}]
    assert "as the config says" in other.notes()[0]
    assert steps(opened(folder(own, {"postprocess": []}))) == []


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ([], "is not what --mode=tune writes"), ({"steps": []}, "is not what --mode=tune writes"),
        ({"postprocess": "crf"}, "expected a list of sections"),
        ({"postprocess": [{"type": 3}]}, "postprocess.0..type=3"),
        ({"postprocess": [{"type": "mylab.steps:f"}]}, "would run code that is not of segjax"),
    ],
)  # fmt: skip
def test_a_choice_that_is_none_is_refused_by_its_file(folder, chosen, said):
    """As data of a stranger: nothing is imported, and the line names the file."""
    with pytest.raises(UserError, match=f"postprocess.json: .*{said}") as error:
        opened(folder(chosen=chosen))
    assert "\n" not in str(error.value)


def test_half_a_file_is_refused(folder):
    path = folder()
    (path / "postprocess.json").write_text('{"postprocess": [')
    with pytest.raises(UserError, match="postprocess.json: not valid JSON"):
        opened(path)


def test_a_class_that_the_run_has_not_is_named(folder):
    path = folder(chosen={"postprocess": [CHOSEN[0] | {"classes": ["dog"]}]})
    with pytest.raises(ConfigError, match=r"inference.postprocess\[0\]: no class 'dog'"):
        assert opened(path).parts

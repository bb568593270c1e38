"""What only an extra installs is missing: one line that says which."""

import os
import sys

import pytest

from segjax import errors
from segjax.config import lookup
from segjax.pretrained import hub


def test_tfds_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "segjax.data.tfds", raising=False)
    section = {"type": "tfds", "name": "cityscapes"}
    with pytest.raises(errors.ConfigError) as caught:
        lookup.build("data", section, where="config.input.source", split="train")
    assert str(caught.value) == (
        "config.input.source.type='tfds' needs the module tensorflow_datasets, which is not "
        "installed. Install it: pip install 'segjax[tfds]'"
    )


def test_weights_of_the_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(errors.ConfigError) as caught:
        hub.fetch("hf:nvidia/mit-b0")
    assert str(caught.value) == (
        "config.model.pretrained.weights='hf:nvidia/mit-b0' needs the module huggingface_hub, "
        "which is not installed. Install it: pip install 'segjax[hub]'"
    )


def test_another_error_of_an_import_is_not_disguised():
    with pytest.raises(ImportError, match="^broken$"), errors.extra("hub", what="x"):
        raise ImportError("broken")


FORGING = {
    "a\nerror: all is lost": r"a\nerror: all is lost",
    "a\r\x1b[2K\x1b]0;x\x07": r"a\r\x1b[2K\x1b]0;x\x07",
    "gpj.\u202eexe": r"gpj.\u202eexe",
    "a\u2066b\u2028c\u0085d\x9b31m": r"a\u2066b\u2028c\x85d\x9b31m",
    os.fsdecode(b"a\xff\xfe"): r"a\udcff\udcfe",
    "tab\there\0": r"tab\there\x00",
}


@pytest.mark.parametrize("name", FORGING, ids=ascii)
def test_no_name_does_anything_to_a_terminal(name):
    """The rule: what is shown is one line of printable signs, whatever a file is called."""
    assert errors.printable(name) == FORGING[name]
    FORGING[name].encode("ascii")


def test_names_of_every_script_stay():
    for name in (
        "Zürich é e\u0301",
        "中文\u3000한글 日本",
        "می\u200cخواهم",
        "a\u00a0b 👩\u200d💻 ∮ \\n",
    ):
        assert errors.printable(name) == name


def test_a_long_line_is_cut_in_the_middle():
    line = errors.printable("a" * 10**6 + "z")
    assert len(line) < errors.LONGEST + 50 and line[0] == "a" and line[-1] == "z"
    assert "(996001 characters)" in line

"""What only an extra installs is missing: one line that says which."""

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

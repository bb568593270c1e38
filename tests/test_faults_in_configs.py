"""A wrong key in any section is one line, before anything is compiled, downloaded or written."""

import jax
import pytest

from segjax.errors import ConfigError
from segjax.runs import train

WRONG = {
    "top level": (lambda c: c, "lograte"),
    "task": (lambda c: c["task"], "loses"),
    "a loss": (lambda c: c["task"]["losses"][0], "clas_weights"),
    "model": (lambda c: c["model"], "widht"),
    "pretrained": (lambda c: c["model"].setdefault("pretrained", {"weights": "x.pth"}), "sha265"),
    "input": (lambda c: c["input"], "threds"),
    "source": (lambda c: c["input"]["source"], "num_exmaples"),
    "an op": (lambda c: c["augment"][0], "horizontl"),
    "normalize": (lambda c: c["normalize"], "mena"),
    "optimizer": (lambda c: c["optimizer"], "lrate"),
    "schedule": (lambda c: c["optimizer"]["schedule"], "rse"),
    "mesh": (lambda c: c["mesh"], "fdsp"),
    "trials": (lambda c: c["trials"], "seeds"),
    "checkpoint": (lambda c: c["checkpoint"], "keep_bst"),
    "an evaluator": (lambda c: c["evals"]["val"], "bach_size"),
}


@pytest.fixture
def nothing_is_compiled(monkeypatch):
    compiled = []

    def listen(name, _, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    jax.random.key(0)  # compiled at its first use, whatever a config says
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield compiled
    jax.monitoring.clear_event_listeners()


@pytest.mark.parametrize("place", WRONG)
def test_a_wrong_key_is_found_at_once(place, tmp_path, tiny_config, nothing_is_compiled):
    config = tiny_config()
    section, key = WRONG[place]
    section(config)[key] = 1
    with pytest.raises(ConfigError, match=key):
        train.run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
    assert not nothing_is_compiled


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augment": [{"type": "geometry:flipp"}]}, "Did you mean 'flip'"),
        (
            {"augment": [{"type": "geometry:flip", "horizontal": 2}]},
            "expected a number from 0 to 1",
        ),
        ({"normalize": {"type": "normalize:fixd"}}, "Did you mean 'fixed'"),
    ],
)
def test_a_wrong_value_of_what_changes_images_too(changes, said, tmp_path, tiny_config):
    with pytest.raises(ConfigError, match=said):
        train.run(tmp_path / "run", tiny_config() | changes)
    assert not (tmp_path / "run").exists()


def test_the_corrected_config_is_the_same_run(tmp_path, tiny_config):
    """A typo claims no workdir."""
    wrong = tiny_config()
    wrong["input"]["threds"] = 2
    with pytest.raises(ConfigError, match="threds"):
        train.run(tmp_path / "run", wrong)
    train.prepare(tmp_path / "run", tiny_config())

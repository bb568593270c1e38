"""A run that ends for a NaN leaves the batch and the step, which are looked into again."""

import json

import jax
import numpy as np
import pytest

from segjax.errors import NonFiniteError
from segjax.runs import train, verify
from tests.runs import pixels
from tests.runs.test_verify import has


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Return a run whose third step is not finite, and its error."""
    folder = tmp_path_factory.mktemp("failed")
    pixels.draw(folder / "data")
    config = pixels.config_on(folder / "data", total_steps=5)
    config["model"]["explodes"] = True
    with pytest.raises(NonFiniteError) as error:
        train.run(folder / "run", config)
    return folder / "run", error.value


def test_the_batch_the_step_and_the_keys_are_left(failed):
    path, error = failed
    left = json.loads((path / "failure" / "failure.json").read_text())
    assert left["step"] == error.step == 3 and left["quantities"]["train/loss"] == "nan"
    assert f"--mode=verify --workdir={path} --step=3" in str(error)
    # The order is a permutation of all eight examples, and the batch holds them.
    assert sorted(left["examples"]) == list(range(8)) and len(left["names"]) == 8
    with np.load(path / "failure" / "batch.npz") as batch:
        assert batch["image"].shape == (8, 32, 32, 3) and batch["image"].dtype == np.uint8
        assert batch["index"].tolist() == list(range(16, 24))
    key = jax.random.wrap_key_data(np.array(left["step_key"], np.uint32))
    folded = jax.random.key_data(jax.random.fold_in(key, 2)).tolist()
    assert left["key"] == folded


@pytest.mark.slow
def test_the_step_is_taken_again_and_the_first_that_is_not_finite_is_named(failed):
    path, _ = failed
    lines = [each.line() for each in verify.verify(path, step=3, trust_code=True)]
    assert has(lines, "ok: step 3: the batch made again is that of failure")
    assert has(lines, r"note: step 3, before it: all \d+ finite")
    assert has(lines, "note: step 3, images: all 3 finite")
    assert has(lines, r"note: step 3, layers: \d+ of \d+ not finite, first late")
    assert has(lines, r"note: step 3, terms of the loss: cross_entropy nan")
    assert has(lines, r"note: step 3, gradients .*: \d+ of \d+ not finite, first head/")
    assert has(lines, r"ok: log of steps 3 to 3: 1 lines")
    assert not has(lines, "^differs")


@pytest.mark.slow
def test_what_cannot_be_left_hides_nothing(tmp_path, monkeypatch, capsys):
    """The NaN is what is said, also where the batch cannot be read once more."""
    from segjax.runs import failure

    def broken(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(failure, "leave", broken)
    pixels.draw(tmp_path / "data")
    config = pixels.config_on(tmp_path / "data", total_steps=5)
    config["model"]["explodes"] = True
    with pytest.raises(NonFiniteError, match=r"train/loss is nan at step \d; expected finite"):
        train.run(tmp_path / "run", config)
    assert "could not be left: the disk is gone" in capsys.readouterr().err


@pytest.mark.slow
def test_of_trials_the_one_that_failed_has_it(tmp_path):
    pixels.draw(tmp_path / "data")
    config = pixels.config_on(tmp_path / "data", total_steps=8, trials__lr=[1e-12, 1e6])
    config["optimizer"] |= {"clip_norm": 0.0, "weight_decay": 1e6, "decay": "all"}
    with pytest.raises(NonFiniteError):
        train.run(tmp_path / "run", config)
    assert (tmp_path / "run" / "trial1" / "failure" / "batch.npz").exists()
    assert not (tmp_path / "run" / "trial0" / "failure").exists()

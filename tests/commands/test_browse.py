"""The sheet shows what a training sees."""

import jax
import numpy as np
import pytest
from PIL import Image

from segjax.assemble import program as program_lib
from segjax.assemble import samples
from segjax.assemble import setup as setup_lib
from segjax.config import load
from tests import program


@pytest.fixture(scope="module")
def opened():
    return setup_lib.make_setup(load.load("configs/quickstart.py:debug", ["input.batch_size=8"]))


def test_batches_are_those_of_the_training(opened):
    """The same positions, and an image that the train step's own key makes of each."""
    setup, source = opened
    found = samples.of_training(setup, source, step=1, count=12)
    assert [(each.step, each.index) for each in found] == [(1 + i // 8, 8 + i) for i in range(12)]
    plain = samples.of_training(setup, source, step=1, count=8, augment=False)
    key = jax.random.split(jax.random.key(setup.config["seed"]))[1]
    batches = program_lib.make_batches(setup, source, 1)
    batch = setup.parts.augment(jax.random.split(jax.random.fold_in(key, 1))[0], next(batches))
    batches.close()
    for place, each in enumerate(found[:8]):
        np.testing.assert_allclose(each.image, np.asarray(batch["image"])[place], atol=1e-3)
        np.testing.assert_array_equal(each.label, np.asarray(batch["label"])[place])
    assert any((a.image != b.image).any() for a, b in zip(found, plain, strict=False))


@pytest.mark.parametrize("config", ["configs/quickstart.py:debug", "configs/signal.py:debug"])
def test_the_sheet_is_a_picture(tmp_path, config):
    path = tmp_path / "deep/sheet.png"
    code, text = program.run("--mode=browse", f"--config={config}", f"--output={path}", "--count=5")
    assert code == 0 and "5 of steps" in text, text
    assert min(Image.open(path).size) > 300


def test_what_cannot_be_shown_is_one_line(tmp_path):
    code, text = program.run(
        "--mode=browse", "--config=configs/quickstart.py:debug", f"--output={tmp_path / 'x.jpg'}"
    )
    assert code == 2 and "expected a file that ends with .png" in text

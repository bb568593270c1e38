"""The gate, which corrections are used, and (slow) the whole loop on a tiny run."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from segjax.errors import DataError
from segjax.feedback import gate, retrain
from segjax.feedback.doubts import Doubts
from segjax.feedback.store import Store
from segjax.metrics.intervals import Comparison
from segjax.runs import versions
from tests import program
from tests.feedback.test_store import add, picture


def comparison(first: float, second: float, p_value: float = 0.001) -> Comparison:
    ends = [second - first - 0.02, second - first + 0.02]
    return Comparison("miou", first, second, second - first, ends, p_value, "example", 12)


NONE = Doubts(classes=3, moved=0.1, move=(0, 0), renamed=0.02, names=())
GOOD = (comparison(0.85, 0.845), comparison(0.5, 0.7), comparison(0.4, 0.6), NONE)


@pytest.mark.parametrize(
    "changed, why",
    [
        ({}, ""),
        ({0: comparison(0.85, 0.83)}, "on the hold-out it loses 0.0200"),
        ({1: comparison(0.5, 0.505)}, "it gains \\+0.0050"),
        ({1: comparison(0.7, 0.5)}, "it gains -0.2000"),
        ({2: comparison(0.4, 0.6, 0.2)}, "may be chance"),
        ({2: comparison(0.6, 0.4)}, "may be chance"),
        ({1: comparison(0.05, 0.1)}, "cannot be learned"),
        ({0: comparison(0.85, np.nan)}, "on the hold-out it loses"),
        ({1: comparison(0.5, np.nan)}, "it gains"),
        ({3: NONE._replace(classes=1)}, "the corrections show 1 of the classes, at least 2"),
        ({3: NONE._replace(moved=np.nan)}, ""),
        (
            {3: NONE._replace(moved=0.7, move=(12, -8))},
            "some +12 pixels down and -8 right of where",
        ),
        (
            {3: NONE._replace(renamed=0.8, names=(("ring", "disc"), ("disc", "ring")))},
            "look whether names were exchanged: 'ring' where 'disc' is predicted, 'disc' where",
        ),
    ],
)
def test_the_gate(changed, why):
    verdict = gate.decide(*(changed.get(i, each) for i, each in enumerate(GOOD)), gate.Bounds())
    assert verdict.promoted == (not why)
    assert not why or any(why.replace("\\", "") in reason for reason in verdict.reasons), (
        verdict.reasons
    )
    json.dumps(verdict.as_json())


def test_images_must_gain_in_the_mean():
    """Two of twelve are mended and others hardly change, as 40 corrections brought it."""
    gains = np.array(
        [-0.03, 0.031, 0.716, 0, -0.007, 0.008, 0.61, -0.002, -0.004, 0.12, 0.045, -0.016]
    )
    old = np.full(12, 0.2)
    assert gate.better(old, old + gains) < 0.05
    assert gate.better(old, old - gains) > 0.9
    assert gate.better(old, old + np.where(gains > 0.05, 0, gains)) > 0.2
    assert gate.better(old, old) == 1 and gate.better(old * np.nan, old) == 1
    assert gate.better(np.append(old, np.nan), np.append(old + gains, 1)) < 0.05


def test_by_chance_few_seem_better():
    """Of versions that are no better on ten images hardly more than one in twenty."""
    gains = np.random.default_rng(0).normal(0, 0.1, (150, 10))
    assert np.mean([gate.better(np.zeros(10), each) <= 0.05 for each in gains]) < 0.1


def test_which_corrections_are_used(tmp_path):
    store = Store.open(tmp_path)
    for number in range(40):
        add(store, number)
    first = retrain.choose(store, 3, held=0.25)
    assert len(first.train) + len(first.held) == 40 and 3 <= len(first.held) <= 18
    again = add(store, 0, label=np.full((32, 32), 2))  # another correction of the same image
    add(store, 100, label=None, flagged=True)
    add(store, 101, label=np.full((32, 32), 255))
    add(store, 102, label=np.full((32, 32), 7))
    store.image_of(first.train[0], ".png").unlink()
    later = retrain.choose(store, 3, held=0.25)
    assert sorted(later.skipped.values()) == [
        "corrected again later", "of a class that the run has not", "void everywhere",
        "whose image is gone", "without a mask",
    ]  # fmt: skip
    assert again in later.train + later.held
    assert set(later.held) <= {*first.held, again}, "what once is held stays so"
    assert "44 images found, 39 used" in later.describe()


def test_the_score_of_an_image():
    table = {"hit": [[2, 0], [4, 0]], "label": [[3, 1], [4, 0]], "pred": [[3, 1], [4, 0]]}
    found = retrain.by_image({"per_example": table})["per_example"]["values"]["image_iou"]
    assert found == [[pytest.approx(2 / (4 + 4 - 2))], [1.0]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("loop") / "run"
    code, text = program.run("--config=configs/quickstart.py:debug", f"--workdir={path}")
    assert code == 0, text
    return path


@pytest.mark.slow
def test_the_loop(trained, tmp_path):
    """A version is trained, judged, used and rolled back; after a kill it is gone on with."""
    store = Store.open(tmp_path / "feedback")
    loop = ("--mode=retrain", f"--workdir={trained}", f"--feedback={store.root}", "--steps=2")
    code, text = program.run(*loop)
    assert code == 2 and "Collect more" in text and not (trained / "versions" / "v0001").exists()
    for number in range(40):
        label = np.zeros((32, 32), int)
        label[:16] = number % 3
        add(store, number, label=label)
    code, text = program.run(*loop, "--least_gain=1")
    assert code == 0 and "v0001 is refused; in use: v0000" in text, text
    free = ("--least_gain=0", "--largest_p=1", "--most_loss=1", "--least_fit=0")
    code, text = program.run(*loop, *free)
    verdict = json.loads((trained / "versions" / "v0002" / versions.GATE).read_text())
    assert code == 0, text
    assert verdict["from"] == "." and verdict["feedback_version"] == 40
    assert verdict["promoted"] == ("v0002 is promoted" in text)
    versions.record(trained, "v0002", "promoted", "whatever two steps gave")
    photo = tmp_path / "a.png"
    photo.write_bytes(picture(0))
    out = f"--output={tmp_path / 'out'}"
    code, text = program.run("--mode=predict", f"--workdir={trained}", f"--input={photo}", out)
    assert code == 0 and "its version in use is v0002" in text
    assert np.asarray(Image.open(tmp_path / "out" / "a_label.png")).shape == (32, 32)
    (trained / "versions" / "v0002" / versions.GATE).unlink()  # as after a kill before the end
    code, text = program.run(*loop)
    assert code == 0 and "v0002 was not finished: going on with it" in text
    code, text = program.run("--mode=retrain", f"--workdir={trained}", "--rollback=v0000")
    assert code == 0 and "in use: v0000, of v0000, v0001, v0002" in text


def test_another_request_is_refused(tmp_path):
    (tmp_path / retrain.REQUEST).write_text("{}")
    with pytest.raises(DataError, match="is not what --mode=retrain writes"):
        retrain._request(tmp_path / retrain.REQUEST)

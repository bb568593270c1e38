"""Post-processing is chosen where it helps beyond doubt, and nowhere else."""

import json

import numpy as np
import pytest

from segjax.data import core
from segjax.errors import DataError
from segjax.evaluators import tuning
from segjax.inference import postprocess
from segjax.inference.predictor import Prediction
from segjax.metrics import confusion

NAMES = ("ground", "cell", "dust")


class Cells:
    """A disc of cells on the ground; the image is its number and what the predictor is to say."""

    class_names, palette = NAMES, ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    schema = core.semantic_schema(1)

    def __init__(self, count, *, specks=0.0, holes=0.0, wrong=0.0, side=26):
        y, x = np.mgrid[:side, :side]
        self.examples = []
        for number in range(count):
            key = np.random.default_rng(number)
            cy, cx = key.uniform(9, side - 9, 2)
            label = (np.hypot(y - cy, x - cx) < 7).astype(np.uint8)
            pred = label.copy()
            pred[(key.random(label.shape) < specks) & (label == 0)] = 1
            pred[(key.random(label.shape) < holes) & (label == 1)] = 0
            flip = key.random(label.shape) < wrong
            pred[flip] = key.integers(0, 2, label.shape)[flip]
            label[0, :5] = 255
            self.examples.append({"image": pred[..., None], "label": label, "name": str(number)})

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


class Copy:
    """Predicts what the image holds, with 70 % of the probability."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image, /):
        self.calls += 1
        classes = image[..., 0]
        shares = np.full((*classes.shape, 3), 0.15, np.float32)
        shares[classes[..., None] == np.arange(3)] = 0.7
        return Prediction(classes, lambda: shares)

    def measure(self, source, /, *, batch_size, threads):
        raise AssertionError("it only predicts")


def miou(source, steps):
    made = postprocess.make_steps(steps, NAMES)
    predictor = postprocess.wrap(Copy(), made)
    total = sum(
        confusion.counts_of(predictor(each["image"]).classes, each["label"], num_classes=3)
        for each in source.examples
    )
    return confusion.summarize(total, class_names=NAMES)["miou"]


def test_what_helps_is_kept_and_its_numbers_are_those_of_the_split(tmp_path):
    """The rule: scores before and after are those of evaluation, from predictions as written."""
    source, predictor = Cells(12, specks=0.03, holes=0.08), Copy()
    choice = tuning.choose(predictor, source)
    assert {step["type"] for step in choice.steps} & {"minimum_area", "largest_component"}
    assert choice.plain == pytest.approx(miou(source, []), abs=1e-12)
    assert choice.chosen == pytest.approx(miou(source, choice.steps), abs=1e-12)
    assert choice.gain.gain == pytest.approx(choice.chosen - choice.plain, abs=1e-12)
    assert sum(trial.gain for trial in choice.order) == pytest.approx(choice.gain.gain)
    assert all(trial.low > 0 for trial in choice.order)
    assert choice.chosen > choice.plain + 0.05
    assert predictor.calls in (12, 24)
    for trial in choice.trials:
        assert trial.low <= trial.gain <= trial.high
        if trial.steps[0]["type"] != "crf":
            gain = miou(source, trial.steps) - choice.plain
            assert trial.gain == pytest.approx(gain, abs=1e-12)
    choice.write(tmp_path / "x.json", {"split": "val"})
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["postprocess"] == choice.steps and written["split"] == "val"
    assert len(written["candidates"]) == len(tuning.candidates(NAMES))
    assert any(line.startswith("kept: ") for line in choice.lines())


def test_nothing_is_kept_where_nothing_can_help():
    """Of a perfect prediction; each image goes through the predictor once."""
    predictor = Copy()
    choice = tuning.choose(predictor, Cells(9))
    assert choice.steps == [] and choice.order == []
    assert choice.plain == choice.chosen == 1 and predictor.calls == 9
    assert "nothing is kept" in choice.lines()[-1]


def test_what_helps_on_some_images_and_harms_others_is_not_kept():
    """A gain that a few images decide is not beyond doubt, however large its mean."""
    key = np.random.default_rng(1)
    counts = np.zeros((2, 10, 2, 2), np.int64)
    counts[:, :, 0, 0] = counts[:, :, 1, 1] = 100
    counts[:, :, 0, 1] = 30
    for image, change in enumerate(key.permutation([-20] * 4 + [0] * 4 + [200, 200])):
        counts[1, image, 1, 1] += change
        counts[1, image, 1, 0] = 40
        counts[0, image, 1, 0] = 40
    (trial,) = tuning.judge([[{"type": "x"}]], counts)
    assert trial.gain > 0 > trial.low


def test_intervals_are_those_of_a_bootstrap_drawn_one_by_one():
    key = np.random.default_rng(2)
    counts = key.integers(0, 50, (2, 15, 3, 3)).astype(np.int64)
    counts[:, :, range(3), range(3)] += key.integers(0, 200, (2, 15, 3))
    (trial,) = tuning.judge([[{"type": "x"}]], counts)
    drawn = []
    for _ in range(4000):
        chosen = key.integers(0, 15, 15)
        first, second = (
            confusion.summarize(each[chosen].sum(0), class_names=NAMES)["miou"] for each in counts
        )
        drawn.append(second - first)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (trial.low, trial.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_intervals_are_wider_where_more_candidates_could_have_been_lucky():
    key = np.random.default_rng(3)
    plain = key.integers(1, 200, (1, 12, 2, 2)).astype(np.int64)
    other = plain + key.integers(0, 40, (1, 12, 2, 2))
    (alone,) = tuning.judge([[]], np.concatenate([plain, other]))
    unchanged = np.concatenate([plain, other, *[plain] * 30])
    assert tuning.judge([[]] * 31, unchanged)[0] == alone  # what changes nothing counts nothing
    many = [plain + key.integers(0, 40, plain.shape) for _ in range(30)]
    wide = tuning.judge([[]] * 31, np.concatenate([plain, other, *many]))[0]
    assert wide.low < alone.low and wide.high > alone.high


def test_noise_is_not_mistaken_for_help():
    """Where every candidate changes scores at random, hardly ever one is kept."""
    kept = 0
    for number in range(8):
        key = np.random.default_rng(100 + number)
        plain = key.multinomial(400, [0.4, 0.1, 0.1, 0.4], (1, 15)).reshape(1, 15, 2, 2)
        others = key.multinomial(400, [0.4, 0.1, 0.1, 0.4], (12, 15)).reshape(12, 15, 2, 2)
        trials = tuning.judge([[]] * 12, np.concatenate([plain, others]))
        kept += any(trial.low > 0 for trial in trials)
    assert kept <= 2  # the chance of more is 0.6 % where each has 5 %


def test_candidates_of_one_kind_become_one_step():
    trials = [
        tuning.Trial([{"type": "fill_holes", "classes": ["cell"]}], 0.2, 0.1, 0.3),
        tuning.Trial([{"type": "thresholds", "values": [["cell", 0.3]]}], 0.1, 0.05, 0.2),
        tuning.Trial([{"type": "thresholds", "values": [["cell", 0.4]]}], 0.2, 0.1, 0.3),
        tuning.Trial([{"type": "thresholds", "values": [["dust", 0.6]]}], 0.2, 0.1, 0.3),
        tuning.Trial([{"type": "thresholds", "values": [["ground", 0.6]]}], 0.2, -0.1, 0.3),
        tuning.Trial([{"type": "fill_holes", "classes": ["dust"]}], 0.1, 0.05, 0.2),
    ]
    assert tuning.merge(trials) == [
        {"type": "thresholds", "values": [["cell", 0.4], ["dust", 0.6]]},
        {"type": "fill_holes", "classes": ["cell", "dust"]},
    ]
    postprocess.make_steps(tuning.merge(trials), NAMES)
    for section in tuning.candidates(NAMES):
        postprocess.make_steps([section], NAMES)


def test_too_few_images_are_one_line():
    with pytest.raises(DataError, match="7 images with a label: too few .* at least 8") as error:
        tuning.choose(Copy(), Cells(7, specks=0.1))
    assert "\n" not in str(error.value)

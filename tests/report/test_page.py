"""A report of every kind of task: whole, harmless, and with the numbers of the evaluation."""

import base64
import html
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from segjax.errors import ConfigError
from segjax.metrics import calibration, confusion, intervals
from segjax.report import beside, dense, objects, page, plots, seen, tables
from tests.report import subjects


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(tables, "RESAMPLES", 20)
    monkeypatch.setattr(dense, "RESAMPLES", 20)
    monkeypatch.setattr(objects, "RESAMPLES", 20)


class Reader(html.parser.HTMLParser):
    """Collects elements and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder, kind, **given):
    subject = subjects.subject(kind, folder / "run", **given)
    told = []
    found = page.write(
        folder / "page.html", subject, examples=None, pictures=9, tell=told.append
    )  # fmt: skip
    assert told == [1, 2, 3, 4] and page.count(subject, None) == 4
    return subject, found, (folder / "page.html").read_text(encoding="utf-8")


def check_harmless(text):
    """Nothing that a name holds has become an element, and nothing comes from elsewhere."""
    reader = Reader(text)
    assert all(each["src"].startswith("data:image/") for each in reader.of("img"))
    attributes = [key for _, own in reader.elements for key in own]
    assert not [key for key in attributes if key.startswith("on")]
    shown = re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert "http://" not in shown and "https://" not in shown
    assert "&{{ 7*7 }}" in html.unescape(text)
    for each in reader.of("img"):
        kind, _, data = each["src"].partition(",")
        picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        picture.load()
        assert max(picture.size) <= 480 and kind in (
            "data:image/png;base64",
            "data:image/webp;base64",
        )
    return reader


@pytest.mark.parametrize("kind", subjects.KINDS)
def test_a_page_of_every_kind_of_task(kind, tmp_path):
    subject, found, text = written(tmp_path, kind)
    reader = check_harmless(text)
    assert found.examples == 4 and found.pictures == 4 and found.size == len(text.encode())
    evaluator = subject.evaluators[0]
    score = subject.result("val")[evaluator.headline[0]]
    assert f"<b>{score:.3f}</b>" in text
    headings = {each.get("id") for each in reader.of("h2")}
    assert headings == {"curves", "split-1", "trained", "costs", "made"}
    assert "By size" in text
    cases = kind in ("instances", "segments")  # two images each
    assert f"by bootstrap over {'2 cases' if cases else '4 examples'}" in text
    assert ("Reliability" in text) == (kind != "segments")
    pictured = {each.get("data-what") for each in reader.of("figure")} - {None}
    wanted = {
        "volume": {"truth", "errors, through the depth"}, "signal": set(),
        "instances": {"errors", "found, score ≥ 0.5"}, "segments": {"wrong classes"},
    }.get(kind, {"image", "truth", "prediction", "error", "uncertainty"})  # fmt: skip
    assert wanted <= pictured and (kind == "signal") == (not pictured)
    assert any("missed" in each for each in pictured) == (kind == "instances")


def test_intervals_are_there_where_all_examples_were_looked_at(tmp_path):
    subject, _, text = written(tmp_path, "classes")
    assert text.count("95 % interval") == 3  # of the mean, in the table, and in the plot
    low, high = map(float, re.search(r"95 % interval ([\d.]+) to ([\d.]+), by", text).groups())
    assert low <= subject.result("val")["miou"] <= high
    page.write(tmp_path / "few.html", subject, examples=3, pictures=2, tell=lambda done: None)
    few = (tmp_path / "few.html").read_text()
    assert "3 of 4 were looked at" in few and "95 % interval</th>" not in few
    none = page.write(tmp_path / "no.html", subject, examples=0, pictures=2, tell=lambda done: None)
    assert (none.examples, none.pictures) == (0, 0)


def test_what_was_never_scored_is_said(tmp_path):
    subject, _, _ = written(tmp_path, "classes")
    (tmp_path / "run/eval/val.json").unlink()
    (tmp_path / "run/run.json").write_text('{"devices": 3, "device_step_bytes": {"a": "b"}}')
    found = page.write(
        tmp_path / "page.html", subject, examples=1, pictures=1, tell=lambda done: None
    )  # fmt: skip
    assert found.lines(tmp_path / "page.html")[1] == "val: no eval/val.json; run --mode=eval"
    assert "Not scored yet" in (tmp_path / "page.html").read_text()


def test_pictures_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PICTURE_BYTES", 20_000)
    _, found, text = written(tmp_path, "classes")
    assert 1 <= found.pictures < 4 and len(text) < 200_000


def looked_at(kind, wrong):
    evaluator, predictor = subjects.evaluator_and_predictor(kind, wrong)
    eye = seen.eye_of(evaluator, page.EYES)
    (found,) = seen.look(
        evaluator.source, [predictor], [eye], examples=None, tell=lambda done: None
    )
    return evaluator, eye, found


def test_numbers_of_examples_are_numpys():
    evaluator, eye, found = looked_at("classes", 0.1)
    source = evaluator.source
    predictor = source.predictor(0.1)
    counts = np.zeros((2, 3))  # right and all, by whether the run is sure
    for place, one in enumerate(found):
        example = source[place]
        prediction = predictor(example["image"])
        valid = example["label"] != 255
        right = (prediction.classes == example["label"])[valid]
        sure = prediction.probabilities().max(axis=-1)[valid] > 0.6
        counts += [[right[sure].sum(), sure.sum(), 0], [right[~sure].sum(), (~sure).sum(), 0]]
        probabilities = prediction.probabilities().astype(np.float64)
        entropy = -(probabilities * np.log(probabilities)).sum(axis=-1) / np.log(3)
        assert one.uncertainty == pytest.approx(entropy.mean(), rel=1e-5)
        for k in range(3):
            a, b = example["label"] == k, (prediction.classes == k) & valid
            union = (a | b).sum()
            wanted = (a & b).sum() / union if union else np.nan
            assert one.per_class[k] == pytest.approx(wanted, nan_ok=True)
        region = example["label"] == 1
        assert (int(region.sum()), pytest.approx((prediction.classes == 1)[region].mean())) in [
            tuple(each) for each in one.regions
        ]
    levels = sum(one.levels for one in found)
    _, error, largest = plots.reliability(levels)
    gaps = [abs(counts[0, 0] / counts[0, 1] - 0.8), abs(counts[1, 0] / counts[1, 1] - 0.5)]
    weights = counts[:, 1] / counts[:, 1].sum()
    assert error == pytest.approx(weights @ gaps, abs=1e-4)
    assert largest == pytest.approx(max(gaps), abs=1e-4)


def test_intervals_of_classes_are_those_of_the_bootstrap():
    counts = np.random.default_rng(0).integers(1, 50, (3, 9, 4))
    counts[1:] += counts[0]
    own = intervals.of_classes(counts, dense.ious, resamples=200)
    score = intervals.of_margins(
        counts, score=lambda margins: confusion.class_scores(*margins)["iou"][2]
    )
    wanted = intervals.bootstrap({"one": score}, np.arange(9), resamples=200)["one"]
    assert own[2] == pytest.approx(wanted)
    counts[:, :, 3] = 0
    assert intervals.of_classes(counts, dense.ious, resamples=20)[3] == [None, None]


def test_the_worst_come_first_and_each_has_its_reason():
    _, eye, found = looked_at("classes", 0.1)
    chosen = seen.order(found, most=3, class_names=eye.class_names)
    assert len(chosen) == 3
    scores = [one.score for one in found]
    assert chosen[0][0].place == int(np.argmin(scores)) and "worst" in chosen[0][1]
    unsure = max(found, key=lambda one: one.uncertainty).place
    assert "least sure" in next(why for one, why in chosen if one.place == unsure)
    assert seen.places(10, 3) == [0, 3, 6] and seen.places(2, 5) == [0, 1]


def test_runs_beside_each_other(tmp_path):
    first = subjects.subject("classes", tmp_path / "one", wrong=0.02, name="one", lr=0.01)
    second = subjects.subject("classes", tmp_path / "two", wrong=0.2, name="two<b>", lr=0.02)
    found = beside.write(
        tmp_path / "both.html", [first, second], examples=None, pictures=4, tell=lambda done: None
    )
    text = (tmp_path / "both.html").read_text()
    check_harmless(text)
    assert (found.evaluations, found.examples, found.pictures) == (1, 4, 4)
    assert "optimizer.lr" in text and "two&lt;b&gt;" in text and "disagreement" in text
    _, eye, own = looked_at("classes", 0.02)
    _, _, other = looked_at("classes", 0.2)
    table = tables.differences(eye, own, other)
    row = next(row for row in table.rows if row[0] == "miou")
    assert row[1] == pytest.approx(first.result("val")["miou"])
    assert row[2] == pytest.approx(second.result("val")["miou"])
    assert row[3][1] == pytest.approx(row[2] - row[1]) and row[3][1] < 0
    p_values = [(row[5][1], row[6][1]) for row in table.rows]
    assert all(p <= corrected <= 1 for p, corrected in p_values)
    share = float(re.search(r"<strong>([\d.]+) % differ", text)[1]) / 100
    source = first.evaluators[0].source
    apart = []
    for place in range(4):
        image = source[place]["image"]
        answers = [each.predictor(image).classes for each in (first, second)]
        apart.append((answers[0] != answers[1]).mean())
    assert share == pytest.approx(max(apart), abs=0.001)


def test_runs_on_other_classes_cannot_be_compared(tmp_path):
    one = subjects.subject("classes", tmp_path / "one")
    other = subjects.subject("segments", tmp_path / "two")
    with pytest.raises(ConfigError, match="has other classes than"):
        beside.write(
            tmp_path / "p.html", [one, other], examples=None, pictures=1, tell=lambda done: None
        )
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize("kind", ["labels", "instances", "segments", "signal"])
def test_other_kinds_beside_each_other(kind, tmp_path):
    runs = [
        subjects.subject(kind, tmp_path / name, wrong=wrong, name=name)
        for name, wrong in (("one", 0.02), ("two", 0.2))
    ]
    found = beside.write(
        tmp_path / "p.html", runs, examples=None, pictures=2, tell=lambda done: None
    )
    check_harmless((tmp_path / "p.html").read_text())
    assert found.pictures == 2


def test_a_confusion_matrix_of_many_classes_shows_the_confused_ones():
    matrix = np.diag(np.full(40, 100))
    matrix[3, 38], matrix[5, 6] = 50, 10
    names = {f"c{i}": {} for i in range(40)}
    found = tables.confusion({"confusion_matrix": matrix.tolist(), "per_class": names})
    assert found.left_out == 10 and {"c3", "c38", "c5", "c6"} <= set(found.names)
    assert [row[:3] for row in found.worst.rows] == [["c3", "c38", 50], ["c5", "c6", 10]]
    i, j = found.names.index("c3"), found.names.index("c38")
    assert found.cells[i][j] == (50, pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_sizes_are_dealt_to_ranges():
    edges = plots.size_edges(np.array([1.0, 3.0, 70_000.0]))
    assert edges[0] <= 1 and edges[-1] > 70_000 and 4 <= len(edges) <= 13
    assert (np.diff(np.log2(edges)) >= 1).all()
    assert plots.by_size([seen.Region(3, 1.0)] * 4, what="", unit="") is None


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"per_class": {"a": 3}}', '{"per_class": {"a": {}}, "confusion_matrix": [["x"]]}',
     '{"per_class": {"a": {}}, "confusion_matrix": [[1, 2]]}'],
)  # fmt: skip
def test_a_result_that_is_none_is_no_result(text, tmp_path):
    subject = subjects.subject("classes", tmp_path / "run")
    (tmp_path / "run/eval/val.json").write_text(text)
    (tmp_path / "run/metrics.jsonl").write_text(
        '{"step": 1, "train/lr": "x"}\n{"step": -3}\n'
        '{"step": 2, "train/loss": null, "val/miou": [1], "train/lr": 0.5}\n'
    )
    found = page.write(
        tmp_path / "page.html", subject, examples=0, pictures=0, tell=lambda done: None
    )  # fmt: skip
    assert "no eval/val.json" in found.notes[0]


def test_long_logs_are_thinned_and_keep_their_evaluations():
    log = [{"step": step, "train/lr": 0.1, "train/loss": 1.0} for step in range(9999)]
    log += [{"step": step, "val/miou": 0.5} for step in range(0, 9999, 50)]
    kept = plots.thin(log)
    assert sum("val/miou" in line for line in kept) == 200 and log[9998] in kept
    assert 1000 < sum("train/lr" in line for line in kept) <= plots.POINTS + 1


def test_levels_add_up_as_the_metric_counts_them():
    counts = dense.counted(np.array([0.5, 0.75, 0.75]), np.array([False, True, False]))
    pixels, confidence, accuracy = calibration.binned(counts, bins=4)
    assert pixels.tolist() == [0, 0, 1, 2] and accuracy[3] == 0.5
    assert confidence[2:] == pytest.approx([0.5, 0.75])

"""Panoptic quality and the semantic scores of one prediction, over a whole split."""

import numpy as np
import pytest

from segjax.errors import DataError
from segjax.evaluators import panoptic
from segjax.metrics import confusion
from tests.evaluators import object_split as split_of
from tests.evaluators.test_instance import Processes


def evaluator(source, **given):
    return panoptic.Evaluator(
        split="val", batch_size=4, name="val", source=source, classes=split_of.CLASSES, **given
    )


def score(source, *, draw=False, **given):
    found = split_of.predictor(source, with_segments=True)
    return evaluator(source, **given).evaluate(
        found, step=3, progress=split_of.bar(), draw=draw
    )  # fmt: skip


def test_the_means_of_things_and_stuff_are_of_their_classes():
    source = split_of.Source(overlap=False)
    result = score(source).result
    own = result["per_class"]
    for group, names in (("_stuff", ("ground", "sky")), ("_things", ("cell", "big cell"))):
        for name in ("PQ", "SQ", "RQ"):
            assert result[name + group] == pytest.approx(np.mean([own[n][name] for n in names]))
    assert own["nothing"]["PQ"] is None and own["nothing"]["iou"] is None
    assert result["PQ"] == pytest.approx((result["PQ_stuff"] + result["PQ_things"]) / 2)
    there = sum(bool((source[i]["label"] == 1).any()) for i in range(7))
    assert own["sky"]["segments"]["truth"] == there and own["sky"]["segments"]["crowds"] == 0
    crowds = sum(int(source.objects(i).crowd.sum()) for i in range(7))
    assert result["segments"]["crowds"] == crowds


def test_the_semantic_scores_are_of_the_same_maps():
    """A pixel of no segment is missed; with a class of its own for them numpy counts the same."""
    source = split_of.Source(overlap=False)
    report = score(source)
    hit, label_sum, pred_sum = np.zeros((3, 5), np.int64)
    find = split_of.predictor(source, with_segments=True)
    none = 0
    for i in range(7):
        label = source[i]["label"]
        pred = panoptic.class_map(find(source[i]["image"]).segments, none=200)
        for k in range(5):
            hit[k] += np.sum((label == k) & (pred == k))
            label_sum[k] += np.sum(label == k)
            pred_sum[k] += np.sum((pred == k) & (label != 255))
        none += int(np.sum((pred == 200) & (label != 255)))
    assert report.result["unanswered_pixels"] == none > 0
    for name, value in confusion.means(hit, label_sum, pred_sum).items():
        assert report.result[name] == pytest.approx(value), name
    assert report.result["num_pixels"] == label_sum.sum()
    logged = set(evaluator(source).metrics())
    assert set(report.scalars) <= logged
    assert {"val/PQ", "val/PQ_stuff", "val/miou", "val/PQ/sky", "val/iou/sky"} <= set(
        report.scalars
    )
    assert report.lines()[0].startswith(f"step 3  val: PQ {report.result['PQ']:.4f}")


def test_what_is_perfect_scores_one():
    source = split_of.Source(overlap=False, crowds=False)
    scored = evaluator(source)

    class Oracle:
        def detect(self, source, *, batch_size, threads):
            from segjax.inference.predictor import Detected, Detection

            for i in range(len(source)):
                _, truth, _ = scored.truth(i)
                yield Detected({i: Detection(source.objects(i), split_of.SIZE, truth)}, {})

    result = scored.evaluate(Oracle(), step=0, progress=split_of.bar(), draw=False).result
    for name in ("PQ", "SQ", "RQ", "PQ_things", "PQ_stuff", "miou", "pixel_accuracy"):
        assert result[name] == 1, name


@pytest.mark.parametrize("count", [2, 4])
def test_processes_do_not_move_a_score(monkeypatch, count):
    source = split_of.Source(overlap=False)
    alone = score(source, intervals=10).result
    together = Processes(count).run(monkeypatch, lambda: score(source, intervals=10).result)
    assert together == alone


def test_the_report_is_drawn_and_has_intervals(tmp_path):
    report = score(split_of.Source(overlap=False), draw=True, intervals=20)
    for name in ("PQ", "PQ_things", "PQ_stuff", "miou", "image_PQ"):
        low, high = report.result["intervals"][name]
        assert 0 <= low <= high <= 1, name
    report.write(tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    ends = ("class_pq", "class_iou", "confusion_matrix", "examples")
    assert names == {f"val_{end}.png" for end in ends}


def test_objects_alone_are_refused():
    source = split_of.Source(2)
    with pytest.raises(DataError, match="val example 0: objects alone for a label"):
        evaluator(source).evaluate(
            split_of.predictor(source), step=0, progress=split_of.bar(), draw=False
        )

"""Scores of objects do not depend on how examples are dealt to processes, and are COCO's."""

import json
import re

import numpy as np
import pytest

from segjax.data import synthetic
from segjax.errors import ConfigError
from segjax.evaluators import base, instance
from segjax.metrics import coco
from segjax.runtime import distributed, quirks
from tests import program
from tests.evaluators import object_split as split_of
from tests.metrics import object_scenes
from tests.metrics.test_coco import reference


def evaluator(source, *, classes=split_of.CLASSES, **given):
    return instance.Evaluator(
        split="val", batch_size=4, name="val", source=source, classes=classes, **given
    )


def score(source, *, draw=False, **given):
    return evaluator(source, **given).evaluate(
        split_of.predictor(source), step=3, progress=split_of.bar(), draw=draw
    )


@pytest.mark.parametrize("kind", ["", "box_"])
def test_the_report_has_cocos_numbers(kind):
    source = split_of.Source()
    result = score(source).result
    wanted, precision = reference(
        source.scenes, kind, library="pycocotools", size=split_of.SIZE, classes=2
    )
    assert [result[kind + name] for name in coco.NAMES] == pytest.approx(wanted, abs=1e-12)
    for k, name in enumerate(("cell", "big cell")):
        own = precision[:, :, k, 0, 2]
        assert result["per_class"][name][f"{kind}AP"] == pytest.approx(own.mean(), abs=1e-12)


def test_the_report_says_what_it_counted(tmp_path):
    source = split_of.Source()
    report = score(source, draw=True, intervals=20)
    result = report.result
    truth = [source.objects(i) for i in range(7)]
    assert result["objects"] == {
        "truth": sum(int((~one.crowd).sum()) for one in truth),
        "crowds": sum(int(one.crowd.sum()) for one in truth),
        "found": sum(len(source.found(i).scores) for i in range(7)),
        "left_out": 0,
    }
    assert result["num_examples"] == 7 and result["step"] == 3 and result["split"] == "val"
    assert result["absent_classes"] == ["nothing"]
    assert result["per_class"]["nothing"]["AP"] is None
    assert list(result["per_class"]) == ["cell", "big cell", "nothing"]
    assert result["AP"] >= result["boundary_AP"] > 0 and 0 < result["aji_plus"] <= 1
    assert report.lines()[0].startswith(f"step 3  val: mask AP {result['AP']:.4f}  AP50 ")
    logged = set(evaluator(source).metrics())
    assert {"val/AP", "val/AP/big_cell", "val/ap_at/0.5", "val/aji"} <= set(report.scalars)
    assert set(report.scalars) <= logged and "val/AP/nothing" not in report.scalars
    for name in ("AP", "box_AP", "boundary_AP", "PQ", "ap_at/0.5", "image_AP", "aji", "aji_plus"):
        low, high = result["intervals"][name]
        assert 0 <= low <= high <= 1, name
    assert result["per_example"]["name"][2] == "image 2" and result["intervals"]["unit"] == "case"
    report.write(tmp_path)
    assert json.loads((tmp_path / "eval" / "val.json").read_text())["AP"] == result["AP"]
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    ends = ("class_ap", "class_pq", "precision_recall", "examples")
    assert names == {f"val_{end}.png" for end in ends}


class Processes:
    """Several processes one after the other in this one: each waits for what all have to say."""

    def __init__(self, count):
        self.count, self.said = count, {}

    def run(self, monkeypatch, what):
        """Return what the last process found, once all have said what is theirs."""
        for _ in range(2):
            for me in range(self.count):
                monkeypatch.setattr(quirks, "job_client", lambda me=me: (None, me, self.count))

                def gather(value, me=me):
                    self.said[me] = value
                    return [self.said.get(i, value) for i in range(self.count)]

                monkeypatch.setattr(distributed, "bytes_of_all", gather)
                try:
                    found = what()
                except KeyError:
                    found = None  # in the first round some examples are not known
        return found


@pytest.mark.parametrize("count", [2, 4])
def test_processes_do_not_move_a_score(monkeypatch, count):
    """Rows come together in the order of examples, whoever made them."""
    source = split_of.Source()
    alone = score(source, intervals=10).result
    together = Processes(count).run(monkeypatch, lambda: score(source, intervals=10).result)
    assert together == alone


def test_the_least_score_decides_what_counts_but_not_what_coco_sees():
    source = split_of.Source()
    all_of_them, sure = score(source, least_score=0.0).result, score(source, least_score=0.9).result
    assert all_of_them["AP"] == sure["AP"]
    assert all_of_them["ap_at"] != sure["ap_at"] and all_of_them["aji"] != sure["aji"]
    counts = [row["ap_at"]["0.5"] for row in sure["per_class"].values()]
    assert counts[2] is None


def test_what_is_perfect_scores_one_and_what_is_empty_has_no_score():
    source = split_of.Source(crowds=False)
    source.found = source.objects
    result = score(source).result
    for name in ("AP", "AR100", "box_AP", "boundary_AP", "aji", "aji_plus", "PQ", "SQ", "RQ"):
        assert result[name] == pytest.approx(1), name
    assert set(result["ap_at"].values()) == {1}
    nothing = object_scenes.objects_of([], [])
    source.scenes = [(nothing, nothing)] * 3
    source = split_of.Source(0)
    source.scenes = [(nothing, nothing)] * 3
    report = score(source, draw=True, intervals=5)
    assert report.result["AP"] is None and report.result["aji"] is None
    assert report.result["absent_classes"] == ["cell", "big cell", "nothing"]
    assert report.scalars == {} and report.headline == {}


def test_the_best_the_median_and_the_worst_are_by_the_ap_of_an_image():
    source = split_of.Source()
    scored = evaluator(source)
    rows = [scored.row(i, split_of.predictor(source)(source[i]["image"])) for i in range(7)]
    scores = scored.summarize(rows).scores
    known = np.flatnonzero(np.isfinite(scores))
    picks = scored.picks(scores)
    assert scores[picks["best"]] == scores[known].max()
    assert scores[picks["worst"]] == scores[known].min()
    assert sorted(scores[known])[len(known) // 2] == scores[picks["median"]]
    assert scored.picks(np.full(3, np.nan)) == {}


PAGE = (program.ROOT / "docs" / "metrics.md").read_text()
EMPTY = {
    name: row[1:]
    for row in re.findall(
        r"^\| (`[^|]+`) \| (\w+) \| (\w+) \| (\w+) \|$",
        PAGE.partition("| score of objects |")[2].partition("\n\n")[0], re.M,
    )
    for name in re.findall(r"`(\w+)`", row[0])
}  # fmt: skip


@pytest.mark.parametrize("case", ["nothing true", "nothing found", "neither"])
def test_what_is_empty_scores_what_the_documentation_says(case):
    """Each score of the table, of one class."""
    shown = object_scenes.objects_of([object_scenes.disk(split_of.SIZE, (30, 30), (9, 9))], [0])
    nothing = object_scenes.objects_of([], [])
    place = ["nothing true", "nothing found", "neither"].index(case)
    source = split_of.Source(0)
    pair = [(nothing, shown), (shown, nothing), (nothing, nothing)][place]
    source.scenes = [pair]
    result = score(source, intervals=5).result
    own = result["per_class"]["cell"] | {name: result[name] for name in ("aji", "aji_plus")}
    own["image_AP"] = result["per_example"]["values"]["image_AP"][0][0]
    assert len(EMPTY) == 15
    for name, row in EMPTY.items():
        name = {"AP50m": "AP50s", "ARl": "ARs"}.get(name, name)  # it is a small one
        values = own[name].values() if name == "ap_at" else [own[name]]
        wanted = {"none": None, "0": 0}[row[place]]
        assert set(values) == {wanted}, name
    for name in ("APm", "ARl", "AP50l"):
        assert own[name] is None


def test_a_split_without_objects_is_refused():
    """Of any source that knows none, or counts no class object by object."""
    dense = synthetic.Source(split="val", num_examples=2, size=(32, 32))
    uncounted = split_of.Source(1)
    uncounted.things = ()
    plain = split_of.CLASSES._replace(things=())
    for source, classes in (
        (dense, plain), (uncounted, split_of.CLASSES), (split_of.Source(1), plain),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="config.evals.val: scores objects"):
            evaluator(source, classes=classes)


def test_masks_of_every_so_manyth_pixel_lie_where_they_were():
    source = split_of.Source(3)
    for step in (2, 3, 7):
        for i in range(3):
            masks = source.objects(i).masks
            for mask, thin in zip(masks, base.thinned(masks, step), strict=True):
                whole = object_scenes.whole(mask, split_of.SIZE)[::step, ::step]
                again = object_scenes.whole(thin, whole.shape) if thin[1].size else whole * 0
                np.testing.assert_array_equal(whole, again)

"""What evaluators of objects and segments score can be chosen: the rest keeps its numbers."""

import re

import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.evaluators import chosen
from segjax.metrics import overlap
from tests import program
from tests.evaluators import object_split as split_of

SORTS = {"instance": chosen.OBJECTS, "panoptic": chosen.SEGMENTS}
PAGE = (program.ROOT / "docs" / "metrics.md").read_text()
SAID = {
    "instance": {
        "sizes": {"APs", "APm", "APl", "ARs", "ARm", "ARl", "AP50s", "AP50m", "AP50l"},
        "box_AP": {"box_AP", "box_AP50", "box_AP75", "box_AR1", "box_AR10", "box_AR100"},
        "boundary_AP": {"boundary_AP", "boundary_AP50", "boundary_AP75", "boundary_AR1",
                        "boundary_AR10", "boundary_AR100"},
        "ap_at": {"ap_at"}, "aji": {"aji"}, "aji_plus": {"aji_plus"}, "PQ": {"PQ", "SQ", "RQ"},
        "per_class": {"per_class"},
    },
    "panoptic": {
        "semantic": {"miou", "dice", "pixel_accuracy", "mean_accuracy", "unanswered_pixels"},
        "per_class": {"per_class", "confusion_matrix"},
    },
}  # fmt: skip
CASES = [(kind, name) for kind, names in SAID.items() for name in names]


def make(kind, source, **given):
    section = {"type": kind, "split": "val", "batch_size": 4, **given}
    about = {"name": "val", "source": source, "classes": split_of.CLASSES}
    return lookup.build("evaluators", section, where="config.evals.val", **about)


def score(kind, source, *, draw=False, **given):
    scored = make(kind, source, **given)
    found = split_of.predictor(source, with_segments=kind == "panoptic")
    return scored.evaluate(found, step=3, progress=split_of.bar(), draw=draw), scored


@pytest.fixture(scope="module")
def source():
    return split_of.Source(3, overlap=False)


@pytest.fixture(scope="module")
def whole(source):
    return {kind: score(kind, source, intervals=3)[0] for kind in SORTS}


@pytest.mark.parametrize("kind", SORTS)
def test_the_table_of_the_page_has_every_name(kind):
    table = PAGE.partition(f"| `metrics` of `{kind}` |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)` \| ", table, re.M)
    assert listed == [*SAID[kind]] == [*SORTS[kind].every]
    assert {*chosen.short_names(SORTS[kind])} - {"AP"} == {*listed}


@pytest.mark.parametrize(("kind", "left_out"), CASES)
def test_what_is_left_out_is_nowhere_and_nothing_else_changes(kind, left_out, source, whole):
    """In the JSON, of each class, in the log and in intervals."""
    names = [name for name in SORTS[kind].every if name != left_out]
    report, scored = score(kind, source, intervals=3, metrics=names)
    result, every = report.result, whole[kind].result
    gone = {*every} - {*result}
    assert SAID[kind][left_out] <= gone
    for key, value in result.items():
        if key == "per_class":
            value = {name: {k: every[key][name][k] for k in own} for name, own in value.items()}
        elif key in ("intervals", "per_example"):
            assert not {*result[key]} & gone
            value = {k: v for k, v in every[key].items() if k in value}
            if key == "per_example":
                value["values"] = {k: value["values"][k] for k in result[key]["values"]}
        else:
            value = every[key]
        assert result[key] == value, key
    logged = {name: whole[kind].scalars[name] for name in report.scalars}
    assert report.scalars == logged and {*logged} <= {*scored.metrics()}
    assert {*scored.metrics()} < {*make(kind, source).metrics()}


def test_nothing_more_than_the_headline_is_scored_for_nothing(source, whole, monkeypatch, tmp_path):
    """No border is looked for, and figures and lines are of what there is."""
    monkeypatch.setattr(overlap, "_compare_borders", lambda *given: pytest.fail("borders"))
    for kind, ends in (("instance", {"precision_recall", "examples"}), ("panoptic", {"examples"})):
        report, scored = score(kind, source, draw=kind == "panoptic", metrics=())
        name = scored.headline[0]
        assert report.result[name] == whole[kind].result[name] == report.scalars[f"val/{name}"]
        assert not report.figures or {*report.figures} == ends
        assert {*report.lines()[0].split()} < {*whole[kind].lines()[0].split()}
    assert make("instance", source, metrics=["AP"]).metrics() == [
        f"val/{name}" for name in ("loss", "AP", "AP50", "AP75", "AR1", "AR10", "AR100")
    ]


def test_thresholds_are_those_that_are_given(source, whole):
    report, scored = score(
        "instance", source, metrics=[dict(type="ap_at", thresholds=(0.75, 0.3))], intervals=3
    )
    found = report.result["ap_at"]
    assert list(found) == ["0.75", "0.3"] and found["0.3"] >= found["0.75"]
    assert found["0.75"] == whole["instance"].result["ap_at"]["0.75"]
    assert "val/ap_at/0.3" in scored.metrics() and "ap_at/0.75" in report.result["intervals"]


REFUSED = {
    "a name unlike any": (["boundary_ap"], r"\[0\]='boundary_ap': no such metric. Did you mean "
                                           r"'boundary_AP'\? Known: AP, PQ, aji, "),
    "one of maps": (["aji", "hd95"], r"\[1\]='hd95': no such metric"),
    "one of maps by its module": (["surface:hd95"], "is of another kind: it does not take scene"),
    "twice": (["all", "PQ"], r"\[1\]: 'objects:pq' stands twice"),
    "twice by arguments": (["ap_at", dict(type="ap_at", thresholds=(0.5,))],
                           r"\[1\]: 'ap_at' stands twice"),
    "an IoU": ([dict(type="ap_at", thresholds=(0.5, 1.5))], 
               r"thresholds\[1\]=1.5: expected a number above 0, up to 1"),
    "an argument": ([dict(type="sizes", areas=3)], "takes no 'areas'"),
    "of segments": (["semantic"], "no such metric"),
    "code by name": (["mylab.metrics:Gap"], "Write dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_metric_of_objects_is_refused_in_one_line(case, source):
    metrics, said = REFUSED[case]
    with pytest.raises(ConfigError, match=said) as caught:
        make("instance", source, metrics=metrics)
    said = str(caught.value)
    assert said.startswith("config.evals.val.metrics") and "\n" not in said


def test_segments_have_names_of_their_own(source):
    with pytest.raises(ConfigError, match=r"\[0\]='aji': no such .* Known: all, per_class, sem"):
        make("panoptic", source, metrics=["aji"])
    with pytest.raises(ConfigError, match="Known: assd"):
        chosen.section_of("all", where="metrics[0]")


def test_a_score_of_ones_own(tmp_path, monkeypatch, source):
    """A subclass from outside of segjax stands beside all others; what logs their names may not."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "ownobjects.py").write_text(
        "from segjax.metrics.objects import OfObjects, Said\n"
        "class Number(OfObjects):\n"
        "    called = 'number'\n"
        "    @property\n"
        "    def names(self):\n"
        "        return (self.called,)\n"
        "    def __call__(self, scene, number):\n"
        "        return int((scene.compared.found.classes == number).sum())\n"
        "    def summarize(self, split):\n"
        "        own = [sum(filter(None, each)) for each in split.of(self.called)]\n"
        "        return Said({'number': float(sum(own))}, [{'number': each} for each in own])\n"
        "class Again(Number):\n"
        "    called = 'again'\n"
        "    @property\n"
        "    def names(self):\n"
        "        return ('AP50',)\n"
        "class Nothing:\n"
        "    def __call__(self, scene, number):\n"
        "        return 0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    own = dict(type="lab.ownobjects:Number")
    report, _ = score("instance", source, metrics=["per_class", own])
    assert report.result["number"] == report.result["objects"]["found"]
    assert report.scalars["val/number"] == report.result["number"]
    for name, said in (("Nothing", "has no 'called', 'names', 'sum"), ("Again", "'AP50' is what")):
        with pytest.raises(ConfigError, match=said):
            make("instance", source, metrics=[dict(type=f"lab.ownobjects:{name}")])

"""Metrics and intervals that a config chooses: what is refused, what is written."""

import json
import types

import numpy as np
import pytest

from segjax.config import lookup, trust
from segjax.errors import ConfigError
from segjax.evaluators import chosen
from segjax.inference.predictor import FunctionPredictor
from segjax.runs import writer
from segjax.structs import Field
from tests.evaluators.test_semantic import CLASSES, SCHEMA, Scenes
from tests.evaluators.test_semantic import evaluator as with_network

EVERYTHING = [*chosen.short_names(), dict(type="surface:surface_dice", tolerance=2.0)]
BAR = types.SimpleNamespace(update=lambda count: None)


class Slices(Scenes):
    """Scenes with spacing, of three cases."""

    schema = {**SCHEMA, "spacing": Field("value", (2,), "float32"), "case": Field("value")}

    def __getitem__(self, index):
        more = {"spacing": np.float32([2, 2]), "case": np.int64(index // 3)}
        return super().__getitem__(index) | more


def make(metrics=(), source=None, **fields):
    section = {"type": "semantic", "split": "val", "batch_size": 3, "metrics": metrics, **fields}
    given = {"name": "val", "source": source or Scenes(), "classes": CLASSES}
    return lookup.build("evaluators", section, where="config.evals.val", **given)


def score(metrics=(), source=None, **fields):
    threshold = FunctionPredictor(lambda image: image[..., 0], num_classes=3)
    scored = make(metrics, source, **fields)
    return scored.evaluate(threshold, step=0, progress=BAR, draw=False), scored


REFUSED = {
    "a name unlike any": (["hd59"], r"metrics\[0\]='hd59': no such metric. Did you mean 'hd95'"),
    "the second": (["hd95", "dicee"], r"metrics\[1\]='dicee': no such metric"),
    "a module": (["surface"], "no such metric"),
    "no such module": (["surfaces:hd95"], "no module segjax.metrics.surfaces"),
    "no such class": (["surface:hd59"], "has no 'hd59'. Did you mean 'hd95'"),
    "a function": (["confusion:summarize"], "is of another kind"),
    "what others share": (["matrix:of_margins"], "is of another kind"),
    "an argument": ([dict(type="hd95", tolerance=1)], "takes no 'tolerance'"),
    "a range": ([dict(type="surface_dice", tolerance=-1)], "=-1: expected a number from 0"),
    "a choice": ([dict(type="assd", missing="zero")], "'left_out' or 'diagonal'"),
    "twice": (["hd95", dict(type="surface:hd95")], "'surface:hd95' stands twice"),
    "a number": ([3], r"metrics\[0\]=3: expected"),
    "no type": ([{}], "expected a section with a 'type'"),
    "axes": ([dict(type="hd95", spacing=(1, 1, 1))], r"spacing=\(1, 1, 1\): expected 2 numbers"),
    "code by name": (["mylab.metrics:Gap"], "Write dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_metric_is_refused_in_one_line_when_the_evaluator_is_built(case):
    """So before anything is read, written or compiled."""
    metrics, said = REFUSED[case]
    with pytest.raises(ConfigError, match=said) as caught:
        make(metrics)
    assert str(caught.value).startswith("config.evals.val.metrics") and "\n" not in str(
        caught.value
    )


def test_code_of_a_run_is_seen_whatever_form_it_has():
    """A metric outside of segjax needs `type`, which is where trust looks for it."""
    config = {"evals": {"val": {"type": "semantic", "metrics": ["hd95", {"type": "my.own:Gap"}]}}}
    with pytest.raises(ConfigError, match=r"evals.val.metrics\[1\].type='my.own:Gap' would run"):
        trust.check(config, where="config.json")


def test_short_names_are_no_others():
    """Each stands for one class, none is a key of every report."""
    names = chosen.short_names()
    assert len(set(names.values())) == len(names) and not {*names} & chosen.reserved()
    result, _ = score()
    assert set(result.result) <= chosen.reserved()


def test_everything_is_written_and_logged_by_its_name():
    report, scored = score(EVERYTHING, intervals=20)
    written = json.loads(json.dumps(report.result, allow_nan=False))
    names = {*chosen.short_names(), "surface_dice-2"}
    assert names == set(written["metrics"])
    for name in names:
        assert written[name] == written["metrics"][name]["value"]
        assert report.scalars[f"val/{name}"] == written[name]
    assert written["surface_dice-2"] > written["surface_dice"]
    assert set(report.scalars) <= set(scored.metrics())
    assert all(writer.NAME.fullmatch(name) for name in scored.metrics())
    table = written["per_example"]
    assert table["name"] == [str(i) for i in range(7)]
    values = np.array(table["values"]["hd95"], float)
    assert np.nanmean(values[:, 1:], axis=0).mean() == pytest.approx(written["hd95"])
    for name in ("miou", "dice", "kappa", "mcc", "fbeta", "specificity", "hd95", "surface_dice-2"):
        low, high = written["intervals"][name]
        assert low <= high and low <= written[name] * 1.1
    assert (written["intervals"]["unit"], written["intervals"]["resamples"]) == ("example", 20)


def test_without_metrics_nothing_more_is_read_predicted_or_written():
    """And metrics of counts neither read nor predict an example."""
    reads = []

    class Counting(Scenes):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    plain, _ = score(source=Counting())
    assert len(reads) == 7 and not {"metrics", "per_example", "intervals"} & set(plain.result)
    more, _ = score(["kappa", "mcc", "specificity", "fbeta"], source=Counting())
    assert len(reads) == 14
    assert {k: more.result[k] for k in plain.result} == plain.result
    score(["hd95"], source=Counting())
    assert len(reads) == 28


def test_batches_and_devices_do_not_matter():
    """The rule: what is reported is a function of examples and predictions alone."""
    found = []
    for batch_size, data in ((3, 1), (8, 8)):
        scored, predictor = with_network(batch_size, data)
        scored.chosen = make(EVERYTHING).chosen
        scored.intervals = 5
        found.append(scored.evaluate(predictor, step=0, progress=BAR, draw=False).result)
    loss = [each.pop("loss") for each in found]
    assert found[0] == found[1] and loss[0] == pytest.approx(loss[1], rel=1e-5)


def test_spacing_and_cases_come_from_the_examples():
    report, _ = score(["hd95", "assd"], source=Slices(), intervals=10)
    plain, _ = score(["hd95", "assd"])
    for name in ("hd95", "assd"):
        assert report.result[name] == pytest.approx(2 * plain.result[name])
    assert report.result["per_example"]["group"] == [0, 0, 0, 1, 1, 1, 2]
    assert report.result["intervals"]["unit"] == "case"


def test_what_has_no_value_is_said_and_not_logged():
    """Class b is never predicted, c is missing: distances are infinite, and the report says so."""

    class Missed(Scenes):
        def __getitem__(self, index):
            label = np.zeros((32, 32), np.uint8)
            label[4:8] = 1
            return super().__getitem__(index) | {"label": label, "image": np.zeros((32, 32, 3))}

    report, _ = score(["hd95", "surface_dice"], source=Missed())
    assert report.result["hd95"] is None and "val/hd95" not in report.scalars
    assert report.result["surface_dice"] == 0
    assert any("hd95: 7 of 7 pairs of example and class" in line for line in report.lines())


def test_the_progress_ends_at_the_number_of_examples_and_never_goes_back():
    for metrics in ((), ["hd95"], ["kappa", "ece"]):
        told = []
        bar = types.SimpleNamespace(update=told.append)
        threshold = FunctionPredictor(lambda image: image[..., 0], num_classes=3)
        make(metrics).evaluate(threshold, step=0, progress=bar, draw=False)
        assert told == sorted(told) and told[-1] == 7 and told.count(7) <= 1


def test_the_reliability_diagram_is_a_figure_of_the_report(tmp_path):
    scored = make(["ece", dict(type="ece", bins=5)])
    threshold = FunctionPredictor(lambda image: image[..., 0], num_classes=3)
    report = scored.evaluate(threshold, step=0, progress=BAR, draw=True)
    assert {"examples", "reliability", "reliability-2"} < set(report.figures)
    report.figures["reliability"](tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_a_metric_of_ones_own(tmp_path, monkeypatch):
    """A class outside of segjax that has what `base.Metric` asks for; others are refused."""
    (tmp_path / "ownmetrics.py").write_text(
        "import numpy as np\n"
        "from segjax.metrics.base import Added, Summary\n"
        "class Gap(Added):\n"
        "    def __init__(self, *, scale: float = 1.0):\n"
        "        self.scale = scale\n"
        "    def __call__(self, seen):\n"
        "        return seen.margins[1].sum()\n"
        "    def summarize(self, found, *, class_names):\n"
        "        return Summary(float(self.scale * np.sum(found)), {'value': 0})\n"
        "class Dice(Gap):\n"
        "    pass\n"
        "class Nothing:\n"
        "    def __call__(self, seen):\n"
        "        return 0\n"
    )
    (tmp_path / "lab").mkdir()
    (tmp_path / "ownmetrics.py").rename(tmp_path / "lab" / "ownmetrics.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    report, _ = score([dict(type="lab.ownmetrics:Gap", scale=2.0)])
    assert report.result["gap"] == 2 * report.result["num_pixels"] == report.scalars["val/gap"]
    for name, said in (("Nothing", "has no 'added' or 'summarize'"), ("Dice", "in every report")):
        with pytest.raises(ConfigError, match=said):
            make([dict(type=f"lab.ownmetrics:{name}")])

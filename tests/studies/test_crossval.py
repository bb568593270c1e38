"""Cross-validation: what is trained, scored and joined, whoever does it and however often it ends.

Trainings are fakes here (`folds_of`); tests/commands/test_crossval.py has real ones.
"""

import json
import threading

import numpy as np
import pytest
from PIL import Image

from segjax.config import schema, searches
from segjax.data import folds
from segjax.errors import ConfigError, DataError, UserError
from segjax.runs import workdir
from segjax.studies import crossval, folds_found, nested
from segjax.studies.crossval import Wishes
from tests.studies import folds_of


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    folds_of.use(monkeypatch, crossval)


def run(root, wishes, said=None, **changes):
    said = [] if said is None else said
    return crossval.run(root, folds_of.config(**changes), wishes, say=said.append)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A cross-validation of three folds with predictions, and what it said."""
    root, said = tmp_path_factory.mktemp("crossval") / "root", []
    with pytest.MonkeyPatch.context() as patch:
        folds_of.use(patch, crossval)
        assert run(root, Wishes(3, keep_predictions=True), said) == 0
    return root, said


def joined_by_hand(root):
    """Return name, fold, label and image of every example, from the assignment that was written."""
    source = folds.join(
        {"type": "synthetic", "num_examples": 7, "size": [48, 48]}, ["train", "val"]
    )
    dealt = folds_of.result(root)["assignment"]
    for i in range(len(source)):
        example = source[i]
        yield example["name"], dealt[example["name"]], example["label"], example["image"]


def test_scores_out_of_fold_are_those_of_the_joined_predictions(done):
    """Computed by NumPy alone: 8 x 8 counts of all pixels, then one division."""
    root, _ = done
    total = np.zeros((8, 8), np.int64)
    for _, fold, label, image in joined_by_hand(root):
        pred = folds_of.rule(fold, image, 8)
        valid = label != 255
        np.add.at(total, (label[valid], pred[valid]), 1)
    hit, label, pred = np.diag(total), total.sum(1), total.sum(0)
    found = folds_of.result(root)
    scores = found["out_of_fold"]
    assert scores["val/miou"] == pytest.approx((hit / (label + pred - hit)).mean(), abs=1e-15)
    assert scores["val/dice"] == pytest.approx((2 * hit / (label + pred)).mean(), abs=1e-15)
    assert scores["val/pixel_accuracy"] == pytest.approx(hit.sum() / label.sum(), abs=1e-15)
    assert json.loads((root / "eval/val.json").read_text())["confusion_matrix"] == total.tolist()
    assert abs(scores["val/miou"] - found["mean"]["val/miou"]) > 1e-6  # no mean of folds


def test_the_file_has_each_fold_their_mean_and_what_was_dealt(done):
    root, said = done
    found = folds_of.result(root)
    values = [each["scores"]["val/iou/disc"] for each in found["folds"]]
    assert found["mean"]["val/iou/disc"] == pytest.approx(np.mean(values))
    assert found["std"]["val/iou/disc"] == pytest.approx(np.std(values, ddof=1))
    assert [each["examples"] for each in found["folds"]] == [5, 5, 4] and found["examples"] == 14
    assert [(each["fold"], each["checkpoint"]) for each in found["folds"]] == [
        (0, 2),
        (1, 2),
        (2, 2),
    ]
    for fold, each in enumerate(found["folds"]):
        own = json.loads((root / f"fold{fold}/eval/test.json").read_text())
        assert each["scores"]["test/miou"] == own["miou"] and own["num_examples"] == 7
        config = workdir.load_config(root / f"fold{fold}")
        del config["resolved"]
        assert each["fingerprint"] == schema.fingerprint(config)
    assert not any(name.startswith("test/") for name in found["out_of_fold"])
    assert not any("logged" in name for name in found["mean"])
    assert found["settings"]["splits"] == ["train", "val"] and found["data"]["examples"] == 14
    assert "14 examples dealt to 3 folds: 5, 5, 4" in said
    assert "folds: 3 found, 0 finished before, 3 done now" in said
    assert said[-1] == f"written to {root / 'crossval.json'}"
    assert said[-3].startswith("val/miou: folds ") and "; out of fold " in said[-3]


def test_predictions_out_of_fold_are_written_by_the_names_of_examples(done):
    root, _ = done
    record = json.loads((root / "predictions/out_of_fold.json").read_text())
    assert len(record) == 14
    for name, fold, _, image in joined_by_hand(root):
        assert record[name]["fold"] == fold
        (file,) = record[name]["files"]
        found = np.asarray(Image.open(root / "predictions" / file))
        np.testing.assert_array_equal(found, folds_of.rule(fold, image, 8))
    assert {file for each in record.values() for file in each["files"]} == {
        path.name for path in (root / "predictions").glob("*.png")
    }


def test_the_same_command_finds_all_done(done):
    root, _ = done
    before, said = (root / "crossval.json").read_bytes(), []
    assert run(root, Wishes(3, keep_predictions=True), said) == 0
    assert "folds: 3 found, 3 finished before, 0 done now" in said
    assert "out of fold: 2 found, 2 finished before, 0 done now" in said
    assert (root / "crossval.json").read_bytes() == before
    assert [(root / f"fold{i}/begun").read_text() for i in range(3)] == ["once\n"] * 3


def test_a_table_can_be_made_again_of_files_alone(done):
    root, _ = done
    assert folds_found.collect(root) == folds_of.result(root)


def test_any_number_of_workers_make_the_same(done, tmp_path):
    """Three at once: each fold is trained by one of them, and all return once all are done."""
    root, codes = tmp_path / "root", []
    wishes = Wishes(3, keep_predictions=True)
    workers = [threading.Thread(target=lambda: codes.append(run(root, wishes))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert codes == [0, 0, 0]
    assert [(root / f"fold{i}/begun").read_text() for i in range(3)] == ["once\n"] * 3
    assert (root / "crossval.json").read_bytes() == (done[0] / "crossval.json").read_bytes()


def test_folds_may_be_done_one_by_one(done, tmp_path):
    root, said = tmp_path / "root", []
    assert run(root, Wishes(3, only=(0, 2)), said) == 0
    assert "folds 1 are left; with the last crossval.json is written" in said
    assert not (root / "crossval.json").exists()
    assert run(root, Wishes(3, only=(1,))) == 0
    assert folds_of.result(root) == folds_of.result(done[0])


def test_a_fold_that_fails_does_not_stop_the_rest_and_is_tried_again(done, tmp_path, monkeypatch):
    root = tmp_path / "root"

    def fail(folder, config):
        if folder.name == "fold1":
            raise DataError("a.png: cannot be read. Mend it.")
        return folds_of.train(folder, config)

    monkeypatch.setattr(crossval.train, "run", fail)
    with pytest.raises(
        UserError, match=r"^fold1: a.png: cannot be read. Mend it. The same command"
    ):
        run(root, Wishes(3))
    assert (root / "fold2/fold.json").exists() and not (root / "crossval.json").exists()
    monkeypatch.setattr(crossval.train, "run", folds_of.train)
    assert run(root, Wishes(3)) == 0
    assert folds_of.result(root) == folds_of.result(done[0])

    (root / "fold1/fold.json").unlink()  # a fold that is new makes the scores new
    said = []
    assert run(root, Wishes(3), said) == 0
    assert "folds: 3 found, 2 finished before, 1 done now" in said
    assert "out of fold: 1 found, 0 finished before, 1 done now" in said


def test_a_signal_ends_it_at_once_with_its_exit_code(tmp_path, monkeypatch):
    monkeypatch.setattr(crossval.train, "run", lambda folder, config: 75)
    assert run(tmp_path / "root", Wishes(3)) == 75
    assert not (tmp_path / "root/fold1").exists()


SPACE = {
    "config": "configs/quickstart.py:debug", "method": "random", "trials": 2, "metric": "val/dice",
    "overrides": ["total_steps=1"],
    "space": {"optimizer.lr": {"low": 0.01, "high": 0.1}, "seed": {"choices": [7, 8]}},
}  # fmt: skip


def test_a_search_inside_a_fold_sees_its_training_part_alone(tmp_path, monkeypatch):
    """It decides the values that the fold is trained with, and nothing else of its config."""
    seen = {}

    def best(folder, search, config, *, say):
        nested.check(search, config)
        base = nested.inside(search, config).config({}, "trial0")
        assert base["total_steps"] == 1 and base["checkpoint"]["keep_best"] == "val/dice"
        inner = base["input"]["source"]
        own = [folds.open_split(inner, split).example_names() for split in ("train", "val")]
        seen[folder.parent.name] = own
        return 0, {"seed": 7 + len(seen), "optimizer.lr": 0.03}

    monkeypatch.setattr(nested, "best", best)
    root, wishes = tmp_path / "root", Wishes(3, kind="stratified", search=searches.make(SPACE))
    assert run(root, wishes) == 0
    dealt = folds_of.result(root)["assignment"]
    for fold in range(3):
        trained, validated = seen[f"fold{fold}"]
        outside = {name for name, other in dealt.items() if other != fold}
        assert {*trained} | {*validated} == outside and not {*trained} & {*validated}
        assert len(validated) == pytest.approx(len(outside) / 2, abs=1)  # of two inner folds
        config = workdir.load_config(root / f"fold{fold}")
        assert config["seed"] == 8 + fold and config["optimizer"]["lr"] == 0.03
        assert config["total_steps"] == 2 and config["input"]["source"]["fold"] == fold
    with pytest.raises(ConfigError, match="with search=.*, got ''"):
        run(root, wishes._replace(search=None))
    monkeypatch.setattr(nested, "best", lambda *_, **__: (130, {}))
    assert run(tmp_path / "other", wishes) == 130


@pytest.mark.parametrize(
    "wishes, changes, message",
    [
        (Wishes(15), {}, "15 folds of 14 examples"),
        (Wishes(3, kind="grouped"), {}, "does not know which examples belong together"),
        (Wishes(3, kind="stratified_grouped", groups="train|val"), {}, "3 folds of 2 groups"),
        (Wishes(37, kind="stratified"), {}, "--folds=37: folds of kind=.* at most 36"),
        (Wishes(3, groups="train"), {}, "are of the kinds 'grouped'"),
        (Wishes(3, splits=("train",)), {"evals__val__split": "test"}, "scores no 'val'"),
        (Wishes(3, only=(0, 3)), {}, "--folds_only=3: there are the folds 0 to 2"),
        (Wishes(3), {"trials__seed": [0, 1]}, "config.trials: each fold would be several runs"),
        (Wishes(3), {"optimizer__lr": -1.0}, "optimizer.lr=-1.0"),
        (Wishes(3), {"model__widths": [0, 1]}, r"model.widths\[0\]=0"),
        (Wishes(3), {"checkpoint__keep_best": "test/nothing"}, "keep_best='test/nothing'"),
        (Wishes(3), {"checkpoint__keep_best": "vall/miou"}, "keep_best='vall/miou'"),
        (
            Wishes(3, search=searches.make(SPACE | {"metric": "val/nothing"})), {},
            "keep_best='val/nothing'",
        ),
        (Wishes(3), {"evals__test__split": "tset"}, "split='tset': synthetic has no such split"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, wishes, changes, message):
    root = tmp_path / "root"
    with pytest.raises(UserError, match=message):
        run(root, wishes, **changes)
    assert not root.exists()


@pytest.mark.parametrize(
    "wishes, changes, message",
    [
        (Wishes(2), {}, "with folds=3, got 2"),
        (Wishes(3, kind="consecutive"), {}, "with kind='plain', got 'consecutive'"),
        (Wishes(3, seed=1), {}, "with seed=0, got 1"),
        (Wishes(3), {"optimizer__lr": 0.5}, "with fingerprint="),
        (Wishes(3), {"input__source__num_examples": 8}, "14 examples then, 16 now"),
    ],
)
def test_a_folder_of_another_cross_validation_is_refused(done, wishes, changes, message):
    root, _ = done
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(UserError, match=message):
        run(root, wishes, **changes)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_a_folder_of_a_run_is_refused(done):
    with pytest.raises(ConfigError, match="fold0: holds a run, expected a new folder"):
        run(done[0] / "fold0", Wishes(3))


def test_what_folds_keep_and_score_is_said(tmp_path):
    best = {"checkpoint__keep_best": "val/miou"}
    plan = crossval.prepare(tmp_path, folds_of.config(**best), Wishes(3))
    assert plan.config["checkpoint"]["keep_best"] == "" and "flatter its score" in plan.notes[0]
    plan = crossval.prepare(tmp_path, folds_of.config(**best), Wishes(3, keep_best=True))
    assert plan.config["checkpoint"]["keep_best"] == "val/miou" and not plan.notes
    best = {"checkpoint__keep_best": "test/miou"}
    plan = crossval.prepare(tmp_path, folds_of.config(**best), Wishes(3))
    assert plan.config["checkpoint"]["keep_best"] == "test/miou" and not plan.notes
    plan = crossval.prepare(tmp_path, folds_of.config(), Wishes(3, splits=("train", "val", "test")))
    assert {each["split"] for each in plan.config["evals"].values()} == {"val"}
    whole = folds_of.config()  # of a fold
    inner = {"folds": 2, "fold": 0, "splits": ["test"], "source": whole["input"]["source"]}
    whole["input"]["source"] = {"type": "folds", **inner}
    with pytest.raises(UserError, match="split 'test' is dealt to folds"):
        crossval.prepare(tmp_path, whole, Wishes(3))
    root = {"checkpoint__root": "/elsewhere/x/"}
    plan = crossval.prepare(tmp_path, folds_of.config(**root), Wishes(3))
    assert plan.fold_config(1, [])["checkpoint"]["root"] == "/elsewhere/x/fold1"


def test_labels_are_counted_once_and_kept(tmp_path, monkeypatch):
    root, calls = tmp_path / "root", []
    count = folds.count_pixels

    def counting(source, **options):
        calls.append(len(source))
        return count(source, **options)

    monkeypatch.setattr(folds, "count_pixels", counting)
    wishes = Wishes(3, kind="stratified")
    assert run(root, wishes) == 0 and run(root, wishes) == 0
    assert calls == [14]
    kept = json.loads((root / "folds.json").read_text())
    assert np.array(kept["pixels"]).shape == (14, 8) and kept["class_names"][1] == "disc"
    for fold in range(3):
        source = workdir.load_config(root / f"fold{fold}")["input"]["source"]
        assert source["assignment"] == ["".join(map(str, kept["fold"]))]

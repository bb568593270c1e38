"""`--mode=explain` as a user has it: a trained run, some images, files and a page."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from configs import quickstart
from segjax.baselines import classical
from segjax.commands import cli
from segjax.config import sections
from segjax.errors import ConfigError
from segjax.explain import folder
from segjax.runs import train
from segjax.tasks import semantic

SIZES = {"a": (48, 48), "b": (60, 70)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps with dropout, its two checkpoints and two photos."""
    root = tmp_path_factory.mktemp("explain")
    config = sections.plain(quickstart.get_config("debug"))
    changes = ["model.dropout=0.3", "checkpoint.save_steps=1", "checkpoint.keep_best=''"]
    assert train.run(root / "run", sections.override(config, changes)) == 0
    key = np.random.default_rng(0)
    (root / "photos").mkdir()
    for name, size in SIZES.items():
        Image.fromarray(key.integers(0, 255, (*size, 3), np.uint8)).save(
            root / f"photos/{name}.png"
        )
    return root


def explain(root, *more, output="out", workdir="run"):
    place = [f"--workdir={root / workdir}", f"--input={root / 'photos'}"]
    return cli.main(["run.py", "--mode=explain", *place, f"--output={root / output}", *more])


@pytest.mark.slow
def test_every_method_writes_its_maps_the_numbers_and_a_page(run, capsys):
    inside = ["gradcam", "integrated_gradients", "occlusion", "features"]
    sure = [f"{m}_{end}" for m in ("tta", "dropout") for end in ("entropy", "mutual_information")]
    method = f"--method={','.join(inside)},tta,dropout"
    names = json.loads((run / "run" / "config.json").read_text())["resolved"]["class_names"]
    assert explain(run, method, f"--target={names[1]}@10:30,12:40", "--members=3") == 0
    record = json.loads((run / "out" / "explain.json").read_text())
    assert {*record["files"]} == {path.name for path in (run / "out").iterdir()}
    for name, size in SIZES.items():
        assert record["images"][name]["target"] == f"{names[1]} at 10:30,12:40"
        maps = record["images"][name]["maps"]
        assert {*maps} == {*inside, *(f"{m}_random" for m in inside), *sure}
        for end in maps:
            values = np.load(run / "out" / f"{name}_{end}.npy")
            assert values.shape == (*size, 3) if end.startswith("features") else size
            assert values.dtype == np.float32 and np.isfinite(values).all()
            with Image.open(run / "out" / f"{name}_{end}.png") as picture:
                assert picture.size == size[::-1]
        assert maps["integrated_gradients"]["missing"] <= 0.01
        for method in inside:
            one, other = (np.load(run / "out" / f"{name}_{method}{e}.npy") for e in ("", "_random"))
            assert not np.allclose(one, other) and -1 <= maps[f"{method}_random"]["likeness"] < 1
        entropy, mutual = (np.load(run / "out" / f"{name}_{end}.npy") for end in sure[2:])
        assert 0 < mutual.max() and (mutual <= entropy + 1e-6).all() and entropy.max() <= 1
    page = (run / "out" / "index.html").read_text()
    assert page.count('src="data:') == 2 * (1 + len(maps)) and "missing" in page
    said = capsys.readouterr().err
    assert "2 images found" in said and "2 of 2 images explained, 0 skipped" in said


@pytest.mark.slow
def test_checkpoints_of_a_run_are_an_ensemble_and_its_files_are_replaced(run):
    for _ in range(2):
        assert explain(run, "--method=ensemble", "--checkpoint=1,2", output="both") == 0
    assert np.load(run / "both" / "a_ensemble_mutual_information.npy").max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--method=gradcan"], "--method='gradcan' is none of gradcam"),
        (["--method=ensemble"], "compares several networks, and this is one"),
        (["--method=gradcam", "--checkpoint=1,2"], "--method=gradcam: is of one network"),
        (["--target=nothing"], "no such class"),
        (["--module=nowhere"], "--module=nowhere"),
        (["--method=rollout", "--target=background@all"], "--method=rollout: follows"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(run, capsys, more, said):
    assert explain(run, *more, output="none") == 2
    assert said in capsys.readouterr().err and not (run / "none").exists()


@pytest.mark.slow
def test_files_of_others_are_not_overwritten(run, capsys):
    (run / "mine").mkdir()
    (run / "mine" / "a_tta_entropy.npy").write_text("mine")
    assert explain(run, "--method=tta", output="mine") == 2
    assert "1 files there are of no earlier --mode=explain" in capsys.readouterr().err
    assert [path.name for path in (run / "mine").iterdir()] == ["a_tta_entropy.npy"]


def test_objects_and_classical_methods_are_one_line():
    losses = [dict(type="pixel:cross_entropy", weight=1.0)]
    task = semantic.Task(losses=losses, num_classes=2)
    fitted = SimpleNamespace(task=task, model=classical.Otsu(num_classes=2))
    opened = SimpleNamespace(parts=fitted, others=(), config={"task": {"type": "semantic"}})
    with pytest.raises(ConfigError, match="is a classical method"):
        folder.check_run(opened, ["gradcam"])
    folder.check_run(opened, ["tta"])
    opened.parts = SimpleNamespace(task=object(), model=None)
    with pytest.raises(ConfigError, match="finds objects"):
        folder.check_run(opened, ["gradcam"])

"""From training to label maps: what was chosen is what is scored and written."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import results
from segjax.assemble import parts as parts_lib
from segjax.metrics import confusion
from segjax.runs import run as run_lib
from tests import program


@pytest.mark.slow
def test_what_was_chosen_is_scored_and_written(tmp_path):
    """The rule: predict = evaluate = the numbers of the choice, and all can be left out again."""
    work = tmp_path / "run"
    code, text = program.run(
        "--config=configs/quickstart.py:debug", f"--workdir={work}", "--config.total_steps=40"
    )
    assert code == 0, text
    plain = json.loads((work / "eval/val.json").read_text())["miou"]
    code, text = program.run("--mode=tune", f"--workdir={work}")
    assert code == 0 and "candidates on" in text, text
    choice = json.loads((work / "postprocess.json").read_text())
    assert choice["miou"]["plain"] == pytest.approx(plain, abs=1e-12)
    if not choice["postprocess"]:  # whatever 40 steps have learned: something is to be used
        choice["postprocess"] = [{"type": "minimum_area", "pixels": 20}]
        (work / "postprocess.json").write_text(json.dumps(choice))

    code, text = program.run("--mode=eval", f"--workdir={work}")
    assert code == 0 and "post-processing, chosen by --mode=tune" in text, text
    found = json.loads((work / "eval/val.json").read_text())
    assert found["inference"]["postprocess"] == choice["postprocess"]
    assert found["miou"] != plain
    assert not results.record(work)  # the README's table is of what a training gives

    run = run_lib.open_run(work)
    source = parts_lib.make_source(run.config, "val")
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(len(source)):
        Image.fromarray(source[number]["image"]).save(photos / f"{number}.png")
    code, text = program.run(
        "--mode=predict", f"--workdir={work}", f"--input={photos}", f"--output={out}",
        "--outputs=label",
    )  # fmt: skip
    assert code == 0 and "post-processing, chosen by --mode=tune" in text, text
    total = sum(
        confusion.counts_of(np.asarray(Image.open(out / f"{number}_label.png")),
                            source[number]["label"], num_classes=len(source.class_names))
        for number in range(len(source))
    )  # fmt: skip
    np.testing.assert_array_equal(found["confusion_matrix"], total)

    without = "--override=inference.postprocess=[]"
    code, text = program.run("--mode=eval", f"--workdir={work}", without)
    assert code == 0 and "post-processing" not in text, text
    (written,) = (work / "eval").glob("val.??????.json")
    assert json.loads(written.read_text())["miou"] == plain

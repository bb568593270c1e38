"""A training draws what it was asked for, and its report can be made anew."""

import json

import numpy as np
import pytest
from PIL import Image

from tests import program

pytestmark = pytest.mark.slow
ASKED = ("page=True", "film=2", "samples=4", 'figures="every"', "examples=3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn") / "run"
    code, text = program.run(
        "--config=configs/quickstart.py:debug", f"--workdir={path}", "--config.total_steps=4",
        "--config.evals.val.every_steps=2", *(f"--config.report.{each}" for each in ASKED),
    )  # fmt: skip
    assert code == 0, text
    return path, text


def test_a_training_draws_what_it_was_asked_for(trained):
    path, text = trained
    assert "1 evaluation, 3 examples looked at, 3 shown" in text and "progress.gif" in text
    with Image.open(path / "figures/progress.gif") as film:
        assert film.n_frames == 2
    assert (path / "figures/samples.png").exists()
    page = (path / "report.html").read_text()
    result = json.loads((path / "eval/val.json").read_text())
    assert f"<b>{result['miou']:.3f}</b>" in page and "--config.total_steps=4" in page


def test_the_report_is_made_anew_from_the_folder_alone(trained, tmp_path):
    path, _ = trained
    code, text = program.run(
        "--mode=report", f"--workdir={path}", f"--output={tmp_path}/new.html", "--pictures=2"
    )
    assert code == 0, text
    number = json.loads((path / "eval/val.json").read_text())["num_examples"]
    assert f"{number} examples looked at, 2 shown" in text
    assert "95 % interval" in (tmp_path / "new.html").read_text()
    for arguments, words in (
        ([f"--workdir={path},{path}"], "and no --output"),
        ([f"--workdir={path}", f"--output={tmp_path}/x.pdf"], "ends with .html"),
        ([f"--workdir={tmp_path}"], "no config.json there"),
    ):
        code, text = program.run("--mode=report", *arguments)
        assert code == 2 and words in text and len(text.splitlines()) == 1, text
    code, text = program.run(
        "--mode=report", f"--workdir={path},{path}", f"--output={tmp_path}/both.html"
    )
    assert code == 0, text
    assert np.isfinite((tmp_path / "both.html").stat().st_size)
    assert "0.0 % differ" in (tmp_path / "both.html").read_text()


def test_an_exported_file_has_a_page_and_is_compared_with_its_run(trained, tmp_path):
    path, _ = trained
    file = tmp_path / "x.segjax"
    code, text = program.run(
        "--mode=export", f"--workdir={path}", f"--output={file}", "--platforms=cpu"
    )
    assert code == 0, text
    code, text = program.run("--mode=report", f"--model={file}", "--pictures=1")
    assert code == 0 and "no eval/val.json; run --mode=eval" in text, text
    page = (tmp_path / "x" / "report.html").read_text()
    assert "x.segjax" in page and "Traceback" not in text
    both = tmp_path / "both.html"
    code, text = program.run(
        "--mode=report", f"--workdir={path}", f"--model={file}", f"--output={both}"
    )
    assert code == 0 and "0.0 % differ" in both.read_text(), text

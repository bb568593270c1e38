"""Every model of the zoo in both formats; a file is kept only where it predicts as the run does."""

import pytest

from configs import zoo
from experiments.export.untrained import images, of_model
from segjax.export import exported


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ZOO)
def test_both_formats_predict_as_the_run_does(name, tmp_path, monkeypatch):
    """Scores within 1e-4, at most 0.01 % of pixels of another class, on 20 images of five sizes."""
    run = of_model(name, tmp_path)
    monkeypatch.setattr(exported, "images_of", lambda run: images(count=4))
    for lines in (
        exported.write(run, tmp_path / "x.segjax", platforms=["cpu", "cuda", "tpu"]),
        exported.write_onnx(run, tmp_path / "x.onnx"),
    ):
        assert "run on 20 images beside the run" in lines[-1]

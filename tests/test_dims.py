"""Signals and volumes go the whole way by config: train, evaluate, predict."""

import numpy as np
import pytest

import segjax
from configs import quickstart
from segjax.commands import cli
from segjax.runs import writer


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "size"), [(1, (700,)), (3, (20, 50, 44))])
def test_from_the_config_to_a_label_map(dims, size, tmp_path, capsys):
    config = quickstart.get_config(f"dims={dims},debug")
    config.mesh.data, config.evals.val.batch_size = 8, 8
    config.input.fields = ("instance",)
    run = segjax.train(config, tmp_path / "run")
    scored = [record for record in writer.read(run.path) if "val/miou" in record]
    (report,) = segjax.open_run(run.path, str(scored[-1]["step"])).evaluate()
    assert report.result["miou"] == pytest.approx(scored[-1]["val/miou"], abs=1e-6)
    assert (run.path / "figures" / "val_examples.png").exists()
    dtype = {1: np.uint16, 3: np.uint8}[dims]
    image = np.random.default_rng(0).integers(0, 255, size).astype(dtype)
    np.save(tmp_path / "x.npy", image)
    arguments = ["--mode=predict", f"--workdir={run.path}", "--override=mesh.data=-1"]
    paths = [f"--input={tmp_path / 'x.npy'}", f"--output={tmp_path / 'out'}"]
    assert cli.main(["run.py", *arguments, *paths]) == 0
    label = np.load(tmp_path / "out" / "x_label.npy")
    assert label.shape == size and label.dtype == np.uint8
    found = run.predictor()(image[..., None])
    np.testing.assert_array_equal(found.classes, label)
    assert (tmp_path / "out" / "x_overlay.png").exists()

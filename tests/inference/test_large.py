"""Images too large to be held: predicted while they are written, each pixel as ever."""

import json

import numpy as np
import pytest
import tensorstore
import tifffile
from PIL import Image

from segjax.data import lazy
from segjax.data.decode import Reading
from segjax.data.fit import Canvas
from segjax.errors import UserError
from segjax.inference import dry_run, folder, paths, preview
from segjax.inference.layout import Layout
from segjax.inference.predictor import FunctionPredictor
from segjax.structs import Classes

CLASSES = Classes(("dark", "mid", "bright"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)), 1)
SIZE = (700, 900)
PIXELS = (np.add.outer(np.arange(700), np.arange(900)) % 251).astype(np.uint8)
LABEL = (PIXELS // 90).astype(np.uint8)


class Tiled(FunctionPredictor):
    """Cuts what a function says into tiles, as a network does; asks for a part of the image."""

    def tiles(self, image, /, *, probabilities=False):
        for top in range(0, image.shape[0], 256):
            rows = slice(top, min(top + 256, image.shape[0]))
            found = self(np.asarray(image[rows]))
            part = found.probabilities() if probabilities else found.classes
            yield (rows, *(slice(0, side) for side in image.shape[1:-1])), part


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(lazy, "LARGE", 10_000)
    monkeypatch.setattr(preview, "LARGE", 100_000)
    monkeypatch.setattr(preview, "DRAWN", 10_000)


def predict(inputs, output, names, dims=2):
    return folder.predict(
        paths.list_inputs(str(inputs)), output,
        predictor=Tiled(lambda image: image[..., 0] // 90, num_classes=3), classes=CLASSES,
        reading=Reading(channels=1), step=3, layout=Layout(Canvas((64,) * dims, "pad", 0)),
        outputs=names,
    )  # fmt: skip


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, PIXELS)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, PIXELS, tile=(64, 64), compression="zlib")
    else:
        Image.fromarray(PIXELS).save(path)


ALL = ["label", "overlay", "probabilities:npy", "probabilities:zarr", "confidence", "areas:csv"]


@pytest.mark.parametrize("ending", [".tif", ".png", ".npy"])
def test_it_is_written_in_parts(ending, tmp_path, capsys):
    """Whether its file has parts or not; what cannot be written so is named."""
    draw(tmp_path / f"in/x{ending}")
    counts = predict(tmp_path / "in", tmp_path / "out", ALL)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [
        "areas.csv", "predictions.json", "x.json", "x_label.tif", "x_overlay.png",
        "x_probabilities.npy", "x_probabilities.zarr",
    ]  # fmt: skip
    assert counts == folder.Counts(1, 1, 1, 0, 7)
    assert "too large for confidence" in capsys.readouterr().err
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/x_label.tif"), LABEL)
    about = json.loads((tmp_path / "out/x.json").read_text())
    areas = [about["classes"][name]["pixels"] for name in CLASSES.class_names]
    assert areas == np.bincount(LABEL.ravel()).tolist() and about["size"] == list(SIZE)
    assert about["outputs"] == ["x_label.tif", "x_overlay.png", "x_probabilities.npy"] + [
        "x_probabilities.zarr/"
    ]
    assert f"mid,{areas[1]}," in (tmp_path / "out/areas.csv").read_text()
    expected = (LABEL[..., None] == np.arange(3)).astype(np.float32)
    found = np.load(tmp_path / "out/x_probabilities.npy")
    np.testing.assert_array_equal(found, expected)
    spec = {"driver": "file", "path": str(tmp_path / "out/x_probabilities.zarr")}
    stored = tensorstore.open({"driver": "zarr3", "kvstore": spec}).result().read().result()
    np.testing.assert_array_equal(stored, expected)
    with Image.open(tmp_path / "out/x_overlay.png") as overlay:
        assert overlay.size == (113, 88)  # every eighth pixel


def test_the_dry_run_says_so(tmp_path):
    draw(tmp_path / "in/x.tif")
    lines = dry_run.lines(
        paths.list_inputs(str(tmp_path / "in")), tmp_path / "out",
        class_names=CLASSES.class_names, reading=Reading(channels=1), run=tmp_path,
        outputs=ALL,
    )  # fmt: skip
    listed = {line.rpartition("/out/")[2] for line in lines if "/out/" in line}
    predict(tmp_path / "in", tmp_path / "out", ALL)
    there = {path.name + "/" * path.is_dir() for path in (tmp_path / "out").iterdir()}
    assert listed - {""} == there


def test_a_second_time_replaces_the_first_and_nothing_else(tmp_path):
    draw(tmp_path / "in/x.tif")
    for _ in range(2):
        predict(tmp_path / "in", tmp_path / "out", ["label"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x_label.tif").write_text("mine")
    with pytest.raises(UserError, match="1 files there are no earlier prediction"):
        predict(tmp_path / "in", tmp_path / "other", ["label"])
    assert (tmp_path / "other/x_label.tif").read_text() == "mine"
    found = paths.list_inputs(str(tmp_path))  # its own outputs are no images
    assert {path.name for path in found.files} == {"x.tif", "x_label.tif"}
    assert [path.parent.name for path in found.files] == ["in", "other"]


def test_a_broken_part_leaves_nothing(tmp_path, capsys):
    draw(tmp_path / "in/x.tif")
    content = bytearray((tmp_path / "in/x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "in/x.tif") as opened:
        start, count = opened.pages[0].dataoffsets[-9], opened.pages[0].databytecounts[-9]
    content[start : start + count] = b"\xff" * count
    (tmp_path / "in/x.tif").write_bytes(bytes(content))
    counts = predict(tmp_path / "in", tmp_path / "out", ["label", "overlay"])
    assert counts.skipped == 1 and counts.written == 0
    assert not list((tmp_path / "out").iterdir())
    assert "skipped" in capsys.readouterr().err


def test_a_large_volume_is_a_numpy_file(tmp_path):
    volume = np.add.outer(PIXELS[:40, :50], np.arange(90, dtype=np.uint8)) % 251
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/x.npy", volume.astype(np.uint8)[..., None])
    predict(tmp_path / "in", tmp_path / "out", ["label", "overlay"], dims=3)
    np.testing.assert_array_equal(np.load(tmp_path / "out/x_label.npy"), volume // 90)

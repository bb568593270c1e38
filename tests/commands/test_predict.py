"""The rule: what the run's data set was told about reading images, prediction does as well."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from segjax.commands import predict
from segjax.data import folder, resample
from segjax.data.fit import Canvas
from segjax.errors import ConfigError, UserError
from segjax.inference.layout import Layout
from segjax.inference.outputs import kinds
from segjax.inference.predictor import FunctionPredictor
from segjax.runs import run
from segjax.runtime import xla
from segjax.structs import Classes
from tests import clips

STORED = (np.arange(24, dtype=np.uint16) * 10).reshape(4, 6)


def predicted(tmp_path, monkeypatch, channels=1, flags=(), **source):
    """Return what the predictor saw of each image, and the exit code."""
    seen = []

    def function(image):
        seen.append(image)
        return image[..., 0] > 100

    opened = types.SimpleNamespace(
        path=tmp_path / "run",
        step=7,
        config={
            "input": {"source": {"type": "folder", **source}, "size": [4, 6]},
            "resolved": {"channels": channels, "class_names": ["a", "b"]},
        },
        notes=list,
        facts=lambda: {},
        predictor=lambda: FunctionPredictor(function, num_classes=2),
        parts=types.SimpleNamespace(
            multilabel=False,
            task=None,
            classes=Classes(("a", "b"), ((0, 0, 0), (1, 1, 1)), channels),
            layout=Layout(Canvas((4, 6), "resize", 0)),
        ),
    )
    monkeypatch.setattr(run, "open_ensemble", lambda *_, **__: opened)
    monkeypatch.setattr(xla, "prepare", lambda: None)
    values = types.SimpleNamespace(
        workdir="run", model="", checkpoint="", override=[], trust_code=False,
        input=str(tmp_path / "train/images"), output=str(tmp_path / "out"),
        outputs=["label", "overlay"], contours_without=[], dry_run=False, spacing=[],
        least_score=0.5, foreground=[], fps="", smooth=1, batch=predict.BATCH,
    )  # fmt: skip
    for name, value in dict(flags).items():
        setattr(values, name, value)
    return seen, predict.run(values)


def data_set(tmp_path, dtype, ending="tif"):
    for kind, array in (("images", STORED.astype(dtype)), ("labels", STORED * 0)):
        (tmp_path / "train" / kind).mkdir(parents=True)
        tag = Image.Exif()
        tag[0x0112] = 6
        path = tmp_path / f"train/{kind}/a.{ending if kind == 'images' else 'png'}"
        Image.fromarray(array.astype(dtype)).save(path, exif=tag)


@pytest.mark.parametrize("options", [{}, {"exif": True}, {"exif": False}])
@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("uint8", {}), ("uint8", {"dtype": "float32"}), ("uint16", {"dtype": "uint16"}),
     ("uint16", {"dtype": "float32"})],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_training_and_prediction_see_the_same(
    tmp_path, monkeypatch, options, dtype, kept, channels
):
    data_set(tmp_path, dtype)
    seen, code = predicted(tmp_path, monkeypatch, channels, **options, **kept)
    assert code == 0 and len(seen) == 1
    source = folder.Source(
        split="train", root=str(tmp_path), class_names=("a", "b"), channels=channels,
        **options, **kept,
    )  # fmt: skip
    example = source[0]["image"]
    np.testing.assert_array_equal(seen[0], example)
    assert seen[0].dtype == example.dtype
    facts = json.loads((tmp_path / "out/a.json").read_text())
    assert facts["size"] == list(example.shape[:2]) and facts["step"] == 7
    assert facts["run"] == str(tmp_path / "run")


def test_masks_beside_the_images_are_left_out(tmp_path, monkeypatch):
    data_set(tmp_path, "uint8")
    Image.fromarray(STORED.astype(np.uint8)).save(tmp_path / "train/images/a_mask.png")
    assert len(predicted(tmp_path, monkeypatch, label_suffix="_mask")[0]) == 1


def test_masks_of_each_class_beside_the_images_are_left_out(tmp_path, monkeypatch, capsys):
    """`{class}` in what follows the stem stands for every class that the run knows."""
    data_set(tmp_path, "uint8")
    for name in ("a", "b"):
        mask = tmp_path / f"train/images/a_{name}.png"
        Image.fromarray(STORED.astype(np.uint8)).save(mask)
    assert len(predicted(tmp_path, monkeypatch, label_suffix="_{class}")[0]) == 1
    assert "2 left out (masks: they end with label_suffix='_{class}')" in capsys.readouterr().err


def test_what_the_data_set_refuses_is_skipped_with_its_words(tmp_path, monkeypatch, capsys):
    data_set(tmp_path, "uint16")
    Image.fromarray(STORED + 300).save(tmp_path / "train/images/a.tif")
    seen, code = predicted(tmp_path, monkeypatch)
    assert code == 2 and not seen
    assert "Set dtype='uint16'" in capsys.readouterr().err


def test_nothing_to_predict_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "train/images").mkdir(parents=True)
    with pytest.raises(UserError, match="no images"):
        predicted(tmp_path, monkeypatch)


ALL = kinds.possible()


def test_a_dry_run_lists_what_is_then_written_and_writes_nothing(tmp_path, monkeypatch, capsys):
    """The rule: the files of the list are those of the prediction, and nothing is read or made."""
    data_set(tmp_path, "uint8")
    (tmp_path / "train/images/broken.png").write_bytes(b"no picture")
    (tmp_path / "train/images/_a_overlay.npy").write_bytes(b"no array")
    flags = {"outputs": ALL, "contours_without": ["a"]}
    seen, code = predicted(tmp_path, monkeypatch, flags=flags | {"dry_run": True})
    said = capsys.readouterr().out.splitlines()
    assert code == 0 and not seen and not (tmp_path / "out").exists()
    assert "3 images found, 3 to predict" in said[0]
    assert sum(line.startswith("would be skipped: ") for line in said) == 2
    assert said[-1].startswith("1 of 3 images would be predicted, 2 skipped; 15 files would be")
    assert predicted(tmp_path, monkeypatch, flags=flags)[1] == 2
    out = tmp_path / "out"
    listed = {line.rstrip("/") for line in said if line.startswith(f"{out}/")}
    zarr = out / "a_probabilities.zarr"
    written = {str(file) for file in out.rglob("*") if file.is_file() and zarr not in file.parents}
    assert listed == written | {str(zarr)} and len(listed) == 15
    assert "1 of 3 images predicted, 2 skipped; 15 files written" in capsys.readouterr().err


def test_a_dry_run_refuses_what_a_prediction_refuses(tmp_path, monkeypatch):
    data_set(tmp_path, "uint8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/areas.csv").write_text("mine")
    flags = {"outputs": ["areas:csv"]}
    for dry in (True, False):
        with pytest.raises(UserError, match="would be overwritten: .*areas.csv"):
            predicted(tmp_path, monkeypatch, flags=flags | {"dry_run": dry})
    with pytest.raises(UserError, match="--contours_without=c: no such class. Known: a, b"):
        predicted(tmp_path, monkeypatch, flags={"contours_without": ["c"]})


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_spacing_of_all_images_is_said_where_the_model_has_one(dims):
    """And is refused where it has none, or where it is none."""
    plain = Layout(Canvas((32,) * dims, "pad", 0))
    spaced = dataclasses.replace(plain, spacing=(1.0,) * dims)
    texts = ["0.5", "2", "1e1"][:dims]
    assert predict.spacing_of(texts, spaced) == (0.5, 2, 10)[:dims]
    assert predict.spacing_of([], spaced) == predict.spacing_of([], plain) == ()
    for wrong in (["x"] * dims, ["0"] * dims, ["-1"] * dims, ["nan"] * dims, ["1"] * (dims + 1)):
        with pytest.raises(ConfigError, match=f"--spacing=.*: expected {dims} numbers above 0"):
            predict.spacing_of(wrong, spaced)
    with pytest.raises(ConfigError, match=r"input\.spacing=\[\], at no spacing"):
        predict.spacing_of(texts, plain)
    image = np.zeros((*[20] * dims, 1), np.uint8)
    known = resample.spaced(image, (0.5,) * dims)
    assert spaced.scale(image.shape[:-1], name="x", spacing=resample.spacing_of(known)) == 0.5


@pytest.mark.parametrize(("score", "finds", "said"), [
    (1.5, "instance", "expected a number from 0 to 1"),
    (float("nan"), "panoptic", "expected a number from 0 to 1"),
    (0.3, "", "is of objects, and the run finds none"),
])  # fmt: skip
def test_a_least_score_that_says_nothing_is_refused(score, finds, said):
    with pytest.raises(ConfigError, match=f"--least_score=.*{said}"):
        predict.check_score(score, finds=finds)
    predict.check_score(0.5, finds=finds)


def test_what_a_run_finds_is_told_by_its_task():
    """By what the task can do, whoever wrote it."""

    def task(*names):
        needed = ("inputs", "weights", "loss", "needs", "num_classes", *names)
        return type("Task", (), dict.fromkeys(needed, print))()

    dense = ("scores", "probabilities", "decide", "compare")
    assert kinds.finds_of(task(*dense)) == ""
    assert kinds.finds_of(task(*dense, "group")) == "instance"
    assert kinds.finds_of(task("find", "objects")) == "instance"
    assert kinds.finds_of(task("find", "objects", "segments")) == "panoptic"


def test_videos_are_predicted_with_their_own_flags(tmp_path, monkeypatch, capsys):
    (tmp_path / "train/images").mkdir(parents=True)
    clips.write(tmp_path / "train/images/a.mov", clips.scene(5))
    flags = {"outputs": ["label", "alpha:png"], "smooth": 3, "batch": 2, "foreground": ["b"]}
    seen, code = predicted(tmp_path, monkeypatch, 3, flags=flags | {"dry_run": True})
    assert code == 0 and not seen and not (tmp_path / "out").exists()
    seen, code = predicted(tmp_path, monkeypatch, 3, flags=flags)
    assert code == 0 and len(seen) == 6, "the last batch is filled up"
    assert {len(list((tmp_path / f"out/a_{kind}").iterdir())) for kind in ("label", "alpha")} == {5}
    (tmp_path / "train/images/b.mp4").write_bytes(b"broken")
    assert predicted(tmp_path, monkeypatch, 3, flags=flags)[1] == 2
    assert "1 of 2 videos predicted, 0 in part, 1 skipped; 5 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"smooth": 4}, "--smooth=4: expected an odd number of frames from 1 to 31"),
        ({"smooth": 33}, "--smooth=33: expected"),
        ({"spacing": [1.0]}, "--spacing: is of images"),
        ({"outputs": ["areas:csv", "objects:csv"]}, "--outputs=objects:csv: no such output of vid"),
        ({"fps": "fast"}, "--fps=fast: expected frames a second"),
        ({"foreground": ["c"]}, "--foreground=c: no such class. Known: a, b"),
    ],
)
def test_flags_that_videos_have_not_are_refused_first(tmp_path, monkeypatch, flags, words):
    (tmp_path / "train/images").mkdir(parents=True)
    clips.write(tmp_path / "train/images/a.mov", clips.scene(1))
    with pytest.raises(ConfigError, match=words):
        predicted(tmp_path, monkeypatch, 3, flags=flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [{"smooth": 3}, {"batch": 7}])
def test_flags_of_videos_are_refused_for_images(tmp_path, monkeypatch, flags):
    data_set(tmp_path, "uint8")
    with pytest.raises(ConfigError, match="is of videos, and --input holds images"):
        predicted(tmp_path, monkeypatch, flags=flags)


def test_without_pyav_a_video_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "train/images").mkdir(parents=True)
    clips.write(tmp_path / "train/images/a.mov", clips.scene(1))
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("encoding", "decoding"):
        monkeypatch.delitem(sys.modules, f"segjax.inference.video.{name}", raising=False)
    monkeypatch.delattr("segjax.inference.video.encoding", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'segjax\[video\]'"):
        predicted(tmp_path, monkeypatch, 3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("things", "multilabel", "expected"),
    [((), False, [1, 2]), ((), True, [0, 1, 2]), ((0, 2), False, [0, 2])],
)
def test_what_is_cut_out_if_nothing_is_named(things, multilabel, expected):
    classes = Classes(("a", "b", "c"), ((0, 0, 0),) * 3, 3, things)
    assert predict.foreground_of(classes, multilabel=multilabel) == expected

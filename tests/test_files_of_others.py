"""Every reader of another person's file looks first whether it is one, and says which is not."""

import contextlib
import types

import pytest
from PIL import Image

from segjax.config import load
from segjax.data import decode, folder, opening
from segjax.data.decode import Reading
from segjax.data.fit import Canvas
from segjax.errors import UserError
from segjax.inference import folder as predicting
from segjax.inference import paths
from segjax.inference.layout import Layout
from segjax.inference.predictor import FunctionPredictor
from segjax.pretrained import files, hub
from segjax.runs import damage, log, owner, workdir, writer
from segjax.structs import Classes
from tests.runtime.test_reading import ODD, within


def data_set(root, **options):
    for kind in ("images", "labels"):
        (root / "train" / kind).mkdir(parents=True, exist_ok=True)
        if not (root / "train" / kind / "a.png").is_symlink():
            with contextlib.suppress(OSError):
                Image.new("L", (4, 3)).save(root / "train" / kind / "a.png")
    options = {"class_names": ("x", "y")} | options
    return folder.Source(split="train", root=str(root), **options)


def in_data_set(path):
    (path.parent / "train/images").mkdir(parents=True)
    (path.parent / "train/images/b.png").symlink_to(path)
    (path.parent / "train/labels").mkdir()
    Image.new("L", (4, 3)).save(path.parent / "train/labels/b.png")
    data_set(path.parent).check()


READERS = {
    "an image": lambda path: decode.read_image(path, name=str(path)),
    "a mask": lambda path: decode.read_label(path, name=str(path)),
    "a header": lambda path: decode.read_header(path, name=str(path)),
    "an image of a data set": in_data_set,
    "an array": lambda path: opening.open_to_predict(
        path.rename(path.with_suffix(".npy")), Reading(1)
    ),
    "meta.json": lambda path: data_set(
        path.rename(path.with_name("meta.json")).parent, class_names=()
    ),
    "a split list": lambda path: data_set(path.parent, split_file=path.name),
    "weights": files.read,
    "weights of a config": lambda path: files.read(hub.fetch(str(path), sha256="0" * 64)),
    "a config": lambda path: load.load(str(path.rename(path.with_suffix(".py")))),
    "a config in JSON": lambda path: load.load(str(path.rename(path.with_suffix(".json")))),
    "a run's config": lambda path: workdir.load_config(
        path.rename(path.with_name("config.json")).parent
    ),
    "a log": lambda path: writer.read(path.rename(path.with_name("metrics.jsonl")).parent),
    "a log to go on": lambda path: writer.drop_lines(path, from_step=3),
    "log.txt": lambda path: log.open_text(
        [types.SimpleNamespace(path=path.rename(path.with_name("log.txt")).parent)]
    ),
    "an owner": lambda path: owner.check(
        path.parent, path.rename(path.with_name("owner.json")).parent
    ),
    "--input": lambda path: paths.list_inputs(str(path)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "folder"])
def test_only_regular_files_are_read(tmp_path, reader, kind):
    """The rule: what is no file is an error that names it, at once; no reader waits for a pipe."""
    make, said = ODD[kind]
    path = tmp_path / "x"
    make(path)
    error = within(20, lambda: READERS[reader](path))
    assert isinstance(error, UserError), error
    said = "is a link (to|that)" if "link" in kind else said  # of a renamed one the target is gone
    pytest.raises(UserError, lambda: (_ for _ in ()).throw(error)).match(said)
    assert "\n" not in str(error) and str(tmp_path) in str(error)


def test_a_checkpoint_with_a_pipe_is_damaged(tmp_path):
    ODD["pipe"][0](tmp_path / "x")
    assert "is a pipe" in (damage.unreadable_json(tmp_path / "x") or "")
    (tmp_path / "y").write_text("[" * 100_000)
    assert "cannot be read" in (damage.unreadable_json(tmp_path / "y") or "")


def test_prediction_skips_what_is_no_file(tmp_path, capsys):
    """In a folder or a glob each is named in one line, and the others are predicted."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("L", (6, 4), 200).save(photos / "good.png")
    (photos / "link.png").symlink_to("good.png")
    for kind, (make, _) in ODD.items():
        if kind != "folder":
            make(photos / f"{kind}.png")
    for number, inputs in enumerate((photos, photos / "*.png", photos / "**/*.png")):
        counts = predicting.predict(
            paths.list_inputs(str(inputs)), tmp_path / f"out{number}",
            predictor=FunctionPredictor(lambda image: image[..., 0] > 100, num_classes=2),
            classes=Classes(("dark", "bright"), ((0, 0, 0), (255, 0, 0)), 1),
            reading=Reading(1), step=1, layout=Layout(Canvas((4, 6), "resize", 0)),
        )  # fmt: skip
        assert (counts.predicted, counts.skipped) == (2, 5)
        skipped = [line for line in capsys.readouterr().err.splitlines() if "skipped: " in line]
        assert len(skipped) == 5


@pytest.mark.parametrize("pattern", ["", "**/*.png", "**/a.png", "x**/*.png"])
def test_links_that_lead_in_a_circle_are_not_followed(tmp_path, pattern):
    """Two links of a folder to itself are 2**40 paths to a file."""
    (tmp_path / "xy").mkdir()
    Image.new("L", (6, 4)).save(tmp_path / "xy/a.png")
    for name in ("one", "two"):
        (tmp_path / "xy" / name).symlink_to(tmp_path, target_is_directory=True)
    found = []
    error = within(10, lambda: found.append(paths.list_inputs(str(tmp_path / pattern)).files))
    assert error is None and found == [(tmp_path / "xy/a.png",)]

import errno
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from segjax.data import opening
from segjax.data.decode import Reading
from segjax.data.fit import Canvas
from segjax.errors import DataError, UserError
from segjax.inference import folder, paths
from segjax.inference.layout import Layout
from segjax.inference.outputs import areas as areas_lib
from segjax.inference.predictor import FunctionPredictor
from segjax.structs import Classes

GREY = Reading(channels=1)
CLASSES = Classes(("dark", "bright"), ((0, 0, 0), (255, 0, 0)), 1)

CANVAS = Canvas((32, 48), "resize", 0)


def test_areas_add_up():
    areas = areas_lib.areas_of(np.array([2, 0, 4]), ["a", "b", "c"], whole=(2, 3))
    assert areas["a"] == {"pixels": 2, "share": 2 / 6} and areas["b"]["pixels"] == 0


def test_arrays_are_read_as_they_lie(tmp_path):
    volume = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", volume)
    deep = Reading(channels=1, dims=3)
    read = opening.open_to_predict(tmp_path / "a.npy", deep).array
    np.testing.assert_array_equal(read, volume[..., None])
    assert read.dtype == np.int16
    with pytest.raises(DataError, match="4 channels, expected 1"):
        opening.open_to_predict(tmp_path / "a.npy", GREY)
    (tmp_path / "b.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="b.npy: cannot be read"):
        opening.open_to_predict(tmp_path / "b.npy", deep)


def draw(path, value=200, size=(4, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


def predict(inputs, output, *, reading=GREY, run=None):
    """Predict by a threshold: bright is what is above 100."""
    return folder.predict(
        paths.list_inputs(str(inputs), output=output), output,
        predictor=FunctionPredictor(lambda image: image[..., 0] > 100, num_classes=2),
        classes=CLASSES, reading=reading, step=3, layout=Layout(CANVAS), run=run,
    )  # fmt: skip


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_it_says_how_many_it_found_used_skipped_and_wrote(tmp_path, capsys):
    """The rule: found = used + left out, used = predicted + skipped, and each is told and why."""
    photos, out = tmp_path / "photos", tmp_path / "photos/out"
    for name in ("a.png", "deep/b.png", "deep/c.png"):
        draw(photos / name)
    (photos / "broken.png").write_bytes(b"no picture")
    for name in (".hidden.png", "._a.png", ".git/x.png", "__MACOSX/a.png"):
        draw(photos / name)
    counts = predict(photos, out)
    assert counts == folder.Counts(found=4, used=4, predicted=3, skipped=1, written=9)
    assert len(contents(out)) == 9
    text = capsys.readouterr().err
    assert "4 images found, 4 to predict" in text and "skipped: " in text and "broken.png" in text
    assert "3 of 4 images predicted, 1 skipped; 9 files written" in text

    before = contents(out)
    assert predict(photos, out) == folder.Counts(10, 4, 3, 1, 9)  # its own pictures are no input
    assert "6 left out (in the output folder)" in capsys.readouterr().err
    assert contents(out) == before


def test_outputs_beside_the_images_are_no_images(tmp_path, capsys):
    """The rule of the listing, with the output folder the same, above it, and elsewhere."""
    for name in ("a.png", "b.png"):
        draw(tmp_path / "in" / name)
    for output in (tmp_path / "in", tmp_path, tmp_path / "elsewhere"):
        for _ in range(2):
            counts = predict(tmp_path / "in", output)
            assert (counts.used, counts.predicted) == (2, 2)
    assert "4 left out (outputs of an earlier prediction)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.json", "a_label.png", "a_overlay.png", "A_Label.PNG"])
def test_files_of_the_user_are_never_overwritten(tmp_path, name):
    """The rule: whatever is not an earlier prediction of the same image stays, and is named."""
    draw(tmp_path / "in/a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"mine": true}')
    with pytest.raises(UserError, match=r"would be overwritten: .*" + name) as caught:
        predict(tmp_path / "in", out)
    assert "\n" not in str(caught.value)
    assert contents(out) == {name: b'{"mine": true}'}


@pytest.mark.parametrize("name", ["a.json", "a_label.png", "a_label.npy", "a_overlay.png"])
@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
@pytest.mark.parametrize("again", [False, True])
def test_what_is_no_file_is_never_replaced(tmp_path, name, kind, again):
    """The same rule, of folders, links and pipes, also where the rest is an earlier prediction."""
    draw(tmp_path / "in/a.png")
    out = tmp_path / "out"
    out.mkdir()
    if again:
        predict(tmp_path / "in", out)
    (out / name).unlink(missing_ok=True)
    if kind == "folder":
        (out / name).mkdir()
    elif kind == "link":
        (out / name).symlink_to(tmp_path / "gone")
    else:
        os.mkfifo(out / name)
    with pytest.raises(UserError, match="would be overwritten: .*" + name):
        predict(tmp_path / "in", out)
    assert not (tmp_path / "gone").exists() and not (out / name).is_file()


def test_a_file_of_the_users_beside_ours_of_another_case(tmp_path):
    """Where names of another case are other files, our `A.json` is not taken for `a.json`."""
    draw(tmp_path / "in/A.png")
    draw(tmp_path / "in2/a.png")
    out = tmp_path / "out"
    predict(tmp_path / "in", out)
    (out / "a.json").write_text("mine")
    with pytest.raises(UserError, match="would be overwritten"):
        predict(tmp_path / "in2", out)
    if len({path.name for path in out.iterdir()}) == 4:
        assert predict(tmp_path / "in", out).written == 3 and (out / "a.json").read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "below a file", "pipe", "dangling link", "no place"])
def test_a_folder_that_cannot_be_written_is_found_first(tmp_path, kind):
    """Before anything is predicted, and so before anything is compiled."""
    draw(tmp_path / "in/a.png")
    out = tmp_path / "out"
    if kind in ("file", "below a file"):
        out.write_text("mine")
    elif kind == "pipe":
        os.mkfifo(out)
    elif kind == "dangling link":
        out.symlink_to("gone")
    out = {"below a file": out / "x", "no place": pathlib.Path("/proc/x")}.get(kind, out)

    def never(image):
        raise AssertionError("it predicts")

    with pytest.raises(UserError, match=f"{out}") as error:
        folder.predict(
            paths.list_inputs(str(tmp_path / "in")), out,
            predictor=FunctionPredictor(never, num_classes=2), classes=CLASSES, reading=GREY,
            step=3, layout=Layout(CANVAS),
        )  # fmt: skip
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("failing", [1, 2, 3, 5, 6])
def test_a_disk_that_fills_says_what_was_written(tmp_path, monkeypatch, failing):
    """One line, whichever file has no room; what was written before it is whole."""
    for name in "ab":
        draw(tmp_path / f"in/{name}.png")
    count, replace = [0], os.replace

    def full(*arguments):
        count[0] += 1
        if count[0] == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(*arguments)

    monkeypatch.setattr(os, "replace", full)
    out, done = tmp_path / "out", (failing - 1) // 3
    said = f"No space left.*Written before, to .*out: the {3 * done} files of {done} of 2 images"
    with pytest.raises(UserError, match=said) as error:
        predict(tmp_path / "in", out)
    assert "\n" not in str(error.value)
    assert len(contents(out)) == failing - 1 and not [n for n in contents(out) if n[0] == "."]
    monkeypatch.undo()
    assert predict(tmp_path / "in", out).written == 6


@pytest.mark.parametrize(
    "stem", ["n" * 250, "\u4e2d" * 83, "a\x1b[31m\nb", "e\u0301" * 80], ids="abcd"
)
def test_a_name_of_any_length_and_kind_is_predicted(tmp_path, stem):
    draw(tmp_path / "in" / f"{stem}.bmp")
    draw(tmp_path / "in/b.png")
    out = tmp_path / "out"
    assert predict(tmp_path / "in", out) == folder.Counts(2, 2, 2, 0, 6)
    assert predict(tmp_path / "in", out).written == 6  # and is known again
    assert len(contents(out)) == 6


def test_an_undecodable_name_is_predicted_and_shown(tmp_path, capsys):
    draw(tmp_path / "in/x.png")
    (tmp_path / "in/x.png").rename(tmp_path / os.fsdecode(b"in/\xff\xfe.png"))
    (tmp_path / os.fsdecode(b"in/\xfd\n.png")).write_bytes(b"no picture")
    out = tmp_path / "out"
    for _ in range(2):
        assert predict(tmp_path / "in", out).predicted == 1
    said = capsys.readouterr().err
    assert r"\udcfd\n.png: cannot be read" in said
    assert all(line.isprintable() for line in said.splitlines())


def test_predictions_of_other_images_or_runs_are_not_overwritten(tmp_path):
    """The same rule, of what segjax itself wrote."""
    out = tmp_path / "out"
    draw(tmp_path / "in/a.png")
    draw(tmp_path / "other/a.png", 50)
    predict(tmp_path / "in", out, run=tmp_path / "run")
    before = contents(out)
    for inputs, run in (("other", "run"), ("in", "run2"), ("other", "run2")):
        with pytest.raises(UserError, match="would be overwritten"):
            predict(tmp_path / inputs, out, run=tmp_path / run)
    assert contents(out) == before
    assert predict(tmp_path / "in", out, run=tmp_path / "run").written == 3


@pytest.mark.parametrize(
    "reading",
    [Reading(1), Reading(1, exif=False), Reading(1, dtype="float32"), Reading(1, False, "float32")],
)
def test_images_are_read_as_the_data_set_reads_them(tmp_path, reading):
    """The rule: an option of the data set reaches prediction: orientation, type, channels."""
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    image = opening.open_to_predict(tmp_path / "a.png", reading).array
    shown = np.rot90(stored, -1) if reading.exif else stored
    np.testing.assert_array_equal(image[..., 0], shown)
    assert image.dtype == reading.dtype
    predict(tmp_path, tmp_path / "out", reading=reading)
    label = np.asarray(Image.open(tmp_path / "out/a_label.png"))
    np.testing.assert_array_equal(label, shown > 100)


@pytest.mark.parametrize(
    ("scales", "seen", "said"),
    [
        ({"a": 1.0}, (0.5, 1.0), []),
        ({"a": 0.5, "b": 0.9}, (), ["images were scaled by 0.5 to 0.9"]),
        ({"a": 0.5, "b": 0.9}, (0.5, 1.0), ["images were scaled by 0.5 to 0.9"]),
        (
            {"a": 0.1, "b": 0.9},
            (0.5, 1),
            ["by 0.1 to 0.9", r"1 of .* far less .*0.5 to 1\): a\."],
        ),
        (
            {"a": 8.0, "b": 9.0},
            (0.5, 2),
            ["by 8 to 9", r"2 of .* far more .*0.5 to 2\): a, b\."],
        ),
    ],
)
def test_scales_that_training_never_saw_are_named(scales, seen, said):
    """A large photograph shrunk nine times shows a network things that it does not know."""
    lines = folder.describe_scales(scales, seen)
    assert len(lines) == len(said)
    for line, pattern in zip(lines, said, strict=True):
        assert re.search(pattern, line)


@pytest.mark.parametrize(("how", "scale"), [("resize", 0.25), ("pad", 1.0)])
def test_a_canvas_says_its_scale(how, scale):
    assert Canvas((32, 48), how, 0).scale((128, 100), name="x") == scale

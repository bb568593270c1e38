import json
import os
import pickle
import re

import numpy as np
import pytest
from PIL import Image

from segjax.data import core, decode, folder
from segjax.errors import ConfigError, DataError

META = {"class_names": ["road", "sky", "car"], "ignore_index": 7, "note": "ignored"}


def picture(height=40, width=60, channels=3):
    """Return a smooth image, which JPEG keeps nearly."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 3, y * 5, 255 - x * 2, x + y][: channels if channels > 1 else 1]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array).save(path, **options)


def mask(height=40, width=60):
    label = np.zeros((height, width), np.uint8)
    label[:, 20:30], label[10:20], label[0] = 1, 2, 7
    return label


@pytest.fixture
def root(tmp_path):
    """Return a data set of three JPEGs in `train`."""
    (tmp_path / "meta.json").write_text(json.dumps(META))
    for name in "bac":
        save(tmp_path / f"train/images/{name}.jpg", picture(), quality=95)
        save(tmp_path / f"train/labels/{name}.png", mask())
    return tmp_path


def open_train(root, **arguments):
    return folder.Source(split="train", root=str(root), **arguments)


def message(*arguments, **options):
    with pytest.raises(DataError) as caught:
        source = open_train(*arguments, **options)
        _ = source[0]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reads_images_and_masks(root):
    source = open_train(root)
    assert (len(source), core.channels_of(source.schema), source.class_names) == (
        3,
        3,
        ("road", "sky", "car"),
    )
    assert [os.path.basename(source[i]["name"]) for i in range(3)] == ["a.jpg", "b.jpg", "c.jpg"]
    example = source[0]
    assert np.abs(example["image"].astype(int) - picture()).mean() < 4
    np.testing.assert_array_equal(example["label"], np.where(mask() == 7, 255, mask()))
    assert example["image"].dtype == example["label"].dtype == np.uint8
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[2]["image"], source[2]["image"])


def test_environment_variable_in_root(root, monkeypatch):
    monkeypatch.setenv("SEGJAX_DATA", str(root.parent))
    assert len(folder.Source(split="train", root=f"$SEGJAX_DATA/{root.name}")) == 3
    monkeypatch.delenv("SEGJAX_DATA")
    assert "SEGJAX_DATA" in message("$SEGJAX_DATA/camvid")


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "bmp"])
def test_lossless_formats_are_exact(root, ending):
    (root / "train/images/a.jpg").unlink()
    options = {"lossless": True} if ending == "webp" else {}
    save(root / f"train/images/a.{ending}", picture(), **options)
    np.testing.assert_array_equal(open_train(root)[0]["image"], picture())


@pytest.mark.parametrize("kind", ["palette", "16-bit", "tif", "bilevel"])
def test_masks_hold_class_numbers(root, kind):
    file = root / "train/labels/a.png"
    label = mask()
    if kind == "palette":
        paletted = Image.fromarray(label)
        paletted.putpalette([200, 10, 10] * 256)  # colours say nothing
        paletted.save(file)
    elif kind == "16-bit":
        Image.fromarray(label.astype(np.uint16)).save(file)
    elif kind == "tif":
        file.unlink()
        save(file.with_suffix(".tif"), label)
    else:
        label = (label == 1).astype(np.uint8)
        Image.fromarray(label.astype(bool)).save(file)
    expected = np.where(label == 7, 255, label)
    np.testing.assert_array_equal(open_train(root)[0]["label"], expected)


def test_grey_and_16_bit_and_four_channels(root):
    for name in "abc":
        (root / f"train/images/{name}.jpg").unlink()
        save(root / f"train/images/{name}.png", picture(channels=1))
    wide = picture(channels=1)[..., 0].astype(np.uint16) * 257
    Image.fromarray(wide).save(root / "train/images/b.png")
    source = open_train(root)
    assert core.channels_of(source.schema) == 1
    np.testing.assert_array_equal(source[0]["image"], picture(channels=1))
    np.testing.assert_array_equal(source[1]["image"], picture(channels=1))
    assert open_train(root, channels=3)[0]["image"].shape == (40, 60, 3)

    save(root / "train/images/a.png", picture(channels=4))
    assert open_train(root)[0]["image"].shape == (40, 60, 3)
    np.testing.assert_array_equal(open_train(root, channels=4)[0]["image"], picture(channels=4))


def test_colour_is_not_dropped_because_the_first_image_is_grey(root):
    save(root / "train/images/a.jpg", picture(channels=1))
    source = open_train(root)
    with pytest.raises(DataError, match=r"b\.jpg: a colour image.*channels=3"):
        _ = source[1]
    assert open_train(root, channels=1)[1]["image"].shape == (40, 60, 1)


def test_exif_orientation_turns_the_image_as_viewers_do(root):
    file = root / "train/images/a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    save(file, np.rot90(picture()), exif=exif, quality=95)
    assert np.abs(open_train(root)[0]["image"].astype(int) - picture()).mean() < 4
    save(root / "train/labels/a.png", np.rot90(mask()))
    assert "exif=False" in message(root)
    assert open_train(root, exif=False)[0]["image"].shape == (60, 40, 3)


def test_two_folders_and_a_split_file(root):
    (root / "train").rename(root / "all")
    (root / "meta.json").unlink()
    (root / "val.txt").write_text("c\n\na.jpg\n")
    arguments = {
        "split": "val",
        "root": str(root),
        "images": "all/images",
        "labels": str(root / "all/labels"),
        "class_names": ("road", "sky", "car"),
        "ignore_index": 7,
    }
    source = folder.Source(split_file="{split}.txt", **arguments)
    assert [os.path.basename(source[i]["name"]) for i in range(2)] == ["c.jpg", "a.jpg"]
    with pytest.raises(ConfigError, match="every split"):
        folder.Source(**arguments)


def test_a_list_may_say_more_of_an_image_than_its_name(root):
    """Behind a stem are a class, a breed or a path; the whole line is a stem otherwise."""
    (root / "some.txt").write_text("c 1 1 2\na.jpg\t9\n")
    source = open_train(root, split_file="some.txt", split_column=1)
    assert [os.path.basename(source[i]["name"]) for i in range(2)] == ["c.jpg", "a.jpg"]
    assert "c 1 1 2" in message(root, split_file="some.txt")
    said = message(root, split_file="some.txt", split_column=3)
    assert "line 'a.jpg\\t9' has no word 3" in said


def test_masks_of_a_split_may_lie_elsewhere(root):
    """A split that is not named keeps its own."""
    (root / "coarse").mkdir()
    for file in sorted((root / "train/labels").iterdir()):
        size = Image.open(file).size
        Image.new("L", size, 1).save(root / "coarse" / f"{file.stem}_coarse.png")
    found = {"train": ("coarse", "_coarse")}
    assert set(np.unique(open_train(root, labels_of=found)[0]["label"])) == {1}
    other = open_train(root, labels_of={"val": ("nowhere", "")})[0]["label"]
    np.testing.assert_array_equal(other, open_train(root)[0]["label"])
    assert "no such folder of labels" in message(root, labels_of={"train": ("nowhere", "")})
    with pytest.raises(ConfigError, match="expected folder and suffix"):
        open_train(root, labels_of={"train": ("nowhere",)})


def test_a_palette_of_the_config_is_the_one(root):
    """With class names of `meta.json` or of the config; one of another length is an error."""
    colours = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert open_train(root, palette=colours).palette == colours
    named = open_train(root, palette=colours, class_names=("a", "b", "c"), ignore_index=7)
    assert named.palette == colours
    assert "palette of 1 colours; expected 3" in message(root, palette=colours[:1])


def test_a_split_has_as_many_examples_as_are_expected(root):
    """Of the split that is opened alone; 0 is any number."""
    count = len(open_train(root))
    for fine in ({"train": count}, {"train": 0}, {"val": 1}, {}):
        assert len(open_train(root, expected=fine)) == count
    said = message(root, expected={"train": 1464})
    assert f"{count} examples in split 'train', expected 1,464" in said
    assert said.endswith("--config.input.source.expected.train=0.")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [("a\nzebra\n", "1 of 2 examples.*zebra"), ("a\na\n", "listed twice: a"), ("", "no example")],
)
def test_bad_split_file(root, lines, expected):
    (root / "some.txt").write_text(lines)
    assert re.search(expected, message(root, split_file="some.txt"))
    assert "missing.txt" in message(root, split_file="missing.txt")


def test_class_names_stand_in_for_meta(root):
    assert "value 7" in message(root, class_names=("road", "sky", "car"))


def test_nested_folders_and_suffixes(tmp_path):
    for city, frame in (("ulm", "0"), ("bonn", "0"), ("bonn", "1")):
        save(tmp_path / f"leftImg8bit/train/{city}/{frame}_leftImg8bit.png", picture())
        save(tmp_path / f"gtFine/train/{city}/{frame}_gtFine_labelTrainIds.png", mask() % 7)
        save(tmp_path / f"gtFine/train/{city}/{frame}_gtFine_color.png", picture())
    source = open_train(
        tmp_path,
        images="leftImg8bit/{split}",
        labels="gtFine/{split}",
        image_suffix="_leftImg8bit",
        label_suffix="_gtFine_labelTrainIds",
        class_names=("road", "sky", "car"),
    )
    assert [source[i]["name"] for i in range(3)] == [
        f"leftImg8bit/train/{stem}_leftImg8bit.png" for stem in ("bonn/0", "bonn/1", "ulm/0")
    ]


def test_palette_may_hold_void(root):
    colours = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]]
    (root / "meta.json").write_text(json.dumps(META | {"palette": colours}))
    assert open_train(root).palette == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    (root / "meta.json").write_text(json.dumps(META | {"palette": colours[:2]}))
    assert "palette of 2 colours" in message(root)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not valid JSON"),
        ('{"classes": ["a"]}', "expected class_names"),
        ('{"class_names": "abc"}', "expected class_names"),
        ('{"class_names": ["a"], "ignore_index": "void"}', "ignore_index"),
        ('{"class_names": ["a"], "palette": [1]}', "palette"),
        (None, "no such file"),
    ],
)
def test_bad_meta(root, content, expected):
    (root / "meta.json").unlink()
    if content is not None:
        (root / "meta.json").write_text(content)
    text = message(root)
    assert "meta.json" in text and expected in text


def test_several_ignored_values(root):
    (root / "meta.json").write_text(json.dumps(META | {"ignore_index": [7, 2]}))
    assert set(np.unique(open_train(root)[0]["label"])) == {0, 1, 255}


def test_missing_folders(root):
    assert "no such folder" in message(root / "nowhere")
    with pytest.raises(DataError, match="no such split.*has: train"):
        folder.Source(split="val", root=str(root))
    (root / "val/images").mkdir(parents=True)
    (root / "val/labels").mkdir()
    with pytest.raises(DataError, match=r"val/images: no images in it.*\.jpg"):
        folder.Source(split="val", root=str(root))


def test_images_and_masks_must_pair_up(root):
    (root / "train/labels/b.png").rename(root / "train/labels/d.png")
    text = message(root)
    assert "1 of 3 images have no mask" in text and "b.jpg" in text
    (root / "train/images/b.jpg").unlink()
    assert "1 masks have no image" in message(root)
    (root / "train/labels/d.png").unlink()
    assert len(open_train(root)) == 2
    (root / "train/images/._a.jpg").write_bytes(b"macOS")
    (root / "train/labels/Thumbs.db").write_bytes(b"Windows")
    assert len(open_train(root)) == 2
    save(root / "train/images/a.png", picture())
    assert "two files of one name" in message(root)


def test_jpeg_is_no_mask(root):
    save(root / "train/labels/a.jpg", mask())
    (root / "train/labels/a.png").unlink()
    assert "JPEG" in message(root)


def test_mask_of_another_size(root):
    save(root / "train/labels/a.png", mask(40, 61))
    text = message(root)
    assert all(part in text for part in ("labels/a.png", "40x61", "40x60"))


def test_label_out_of_range(root):
    label = mask()
    label[5, 5] = 113
    save(root / "train/labels/a.png", label)
    text = message(root)
    assert all(part in text for part in ("labels/a.png", "value 113 ", "0..2", "ignored 7"))


def test_coloured_mask(root):
    save(root / "train/labels/a.png", picture())
    text = message(root)
    assert "labels/a.png" in text and "RGB" in text and "palette" in text


@pytest.mark.parametrize("damage", ["truncated", "not an image", "empty"])
def test_unreadable_image(root, damage):
    file = root / "train/images/a.jpg"
    content = {"truncated": file.read_bytes()[:-400], "not an image": b"hello", "empty": b""}
    source = open_train(root)
    file.write_bytes(content[damage])
    with pytest.raises(DataError, match=r"images/a\.jpg: cannot be read: .+"):
        _ = source[0]


def test_float_image_has_no_range(tmp_path):
    Image.fromarray(np.linspace(0, 1, 2000, dtype=np.float32).reshape(40, 50)).save(
        tmp_path / "a.tif"
    )
    with pytest.raises(DataError, match=r"a\.tif: floating-point"):
        decode.read_image(tmp_path / "a.tif", name=str(tmp_path / "a.tif"))


@pytest.mark.skipif("SEGJAX_DATA" not in os.environ, reason="SEGJAX_DATA is not set")
@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101), ("test", 233)])
def test_camvid(split, count):
    source = folder.Source(split=split, root="$SEGJAX_DATA/camvid")
    assert (len(source), len(source.class_names), core.channels_of(source.schema)) == (count, 11, 3)
    assert len(source.palette) == 11
    example = source[count - 1]
    assert example["image"].shape == (360, 480, 3)
    assert set(np.unique(example["label"])) <= {*range(11), 255}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: save(root / "train/labels/c.png", mask(20, 30)), "20x30 .* its image 40x60"),
        (lambda root: save(root / "train/labels/c.png", picture()), "numbers in one channel"),
        (lambda root: (root / "train/labels/c.png").write_bytes(b"no picture"), "cannot be read"),
        (lambda root: (root / "train/images/c.jpg").write_bytes(b"\xff\xd8"), "cannot be read"),
    ],
)
def test_headers_are_checked_before_anything_is_trained(root, damage, said):
    """A file that only an unlucky step would read is found by its header, pixels unread."""
    source = open_train(root)
    assert source.check() == {(40, 60)}
    damage(root)
    with pytest.raises(DataError, match=said):
        source.check()

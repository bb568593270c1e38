"""Which files of a folder are data, and which mask belongs to which image."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from segjax.data import folder
from segjax.errors import DataError

NAMES = ("ground", "crack")


def draw(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 4), value, np.uint8)).save(path)


def open_source(root, **options):
    return folder.Source(split="train", root=str(root), class_names=NAMES, **options)


def message(root, **options):
    with pytest.raises(DataError) as caught:
        open_source(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pairs(source):
    return [
        tuple(os.path.basename(file) for file in (image, *masks)) for image, masks in source.files
    ]


HIDDEN = (
    "{}/.ipynb_checkpoints/a-checkpoint.png", "{}/.git/b.png", "{}/._a.png", "{}/.a.png",
    "{}/__MACOSX/a.png", "{}/x/.cache/y/c.png", "{}/Thumbs.db", "{}/.DS_Store",
)  # fmt: skip


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("kinds", [("images",), ("labels",), ("images", "labels")])
def test_hidden_files_and_folders_are_no_data(tmp_path, hidden, kinds):
    for kind in ("images", "labels"):
        draw(tmp_path / f"train/{kind}/a.png")
    for kind in kinds:
        path = tmp_path / "train" / hidden.format(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert pairs(open_source(tmp_path)) == [("a.png", "a.png")]


ONE_FOLDER = {
    "label suffix": (("a.png", "a_mask.png"), {"label_suffix": "_mask"}),
    "image suffix": (("a_img.png", "a.png"), {"image_suffix": "_img"}),
    "both": (("a_x.tif", "a_gt.tif"), {"image_suffix": "_x", "label_suffix": "_gt"}),
    "one in the other": (("a_m.png", "a_xm.png"), {"image_suffix": "_m", "label_suffix": "_xm"}),
    "both end alike": (("a_m.png", "a_m_m.png"), {"image_suffix": "_m", "label_suffix": "_m_m"}),
    "JPEG and PNG": (("a.jpg", "a.png"), {}),
    "WebP and TIFF": (("a.webp", "a.tif"), {}),
    "endings": (("a.png", "a.tif"), {"image_suffix": ".png", "label_suffix": ".tif"}),
    "suffix with ending": (("a.png", "a_mask.bmp"), {"label_suffix": "_mask.bmp"}),
    "ending in capitals": (("a.JPG", "a_mask.PNG"), {"label_suffix": "_mask"}),
}  # fmt: skip


@pytest.mark.parametrize(("files", "options"), ONE_FOLDER.values(), ids=ONE_FOLDER)
@pytest.mark.parametrize("split_file", ["", "names.txt"])
def test_images_and_masks_in_one_folder(tmp_path, files, options, split_file):
    """The rule: suffix or ending tells them apart; a split file may hold stems or image names."""
    image, label = files
    for stem in ("a", "deep/b", "c"):
        draw(tmp_path / "train" / (stem + image[1:]))
        draw(tmp_path / "train" / (stem + label[1:]))
    (tmp_path / "names.txt").write_text(f"c\ndeep/b{image[1:]}\na\n")
    source = open_source(
        tmp_path, images="{split}", labels="{split}", split_file=split_file, **options
    )
    expected = [(x + image[1:], x + label[1:]) for x in ("cba" if split_file else "acb")]
    assert pairs(source) == expected
    assert source[0]["label"].max() == 0


def test_one_folder_that_cannot_be_told_apart_says_what_to_set(tmp_path):
    draw(tmp_path / "train/a.png")
    draw(tmp_path / "train/a.tif")
    assert "label_suffix" in message(tmp_path, images="{split}", labels="{split}")


@pytest.mark.parametrize("name", ["M\u00fcnchen", "caf\u00e9/\u00e9t\u00e9", "\ud55c\uae00"])
@pytest.mark.parametrize("forms", ["NFC NFD", "NFD NFC", "NFD NFD"])
def test_composed_and_decomposed_names_are_one_name(tmp_path, name, forms):
    """The rule: names of images, masks and lines of a split file match in Unicode's NFC."""
    first, second = (unicodedata.normalize(form, name) for form in forms.split())
    draw(tmp_path / f"train/images/{first}.png")
    draw(tmp_path / f"train/labels/{second}_\u00fc.png")
    (tmp_path / "names.txt").write_text(f"{second}\n", encoding="utf-8")
    for suffix in ("_\u00fc", "_u\u0308"):
        for split_file in ("", "names.txt"):
            source = open_source(tmp_path, label_suffix=suffix, split_file=split_file)
            assert len(source) == 1 and source[0]["label"].shape == (3, 4)


@pytest.mark.parametrize("text", ["a\nb\n", "a\r\nb\r\n", "./a.png\nb.png"])
def test_a_mark_at_the_start_of_a_text_file_is_dropped(tmp_path, text):
    """The rule: UTF-8 with a BOM is read as without, in split files and in meta.json."""
    for stem in "ab":
        draw(tmp_path / f"train/images/{stem}.png")
        draw(tmp_path / f"train/labels/{stem}.png")
    (tmp_path / "names.txt").write_bytes(text.encode("utf-8-sig"))
    assert pairs(open_source(tmp_path, split_file="names.txt"))[0] == ("a.png", "a.png")
    (tmp_path / "meta.json").write_bytes('{"class_names": ["a"]}'.encode("utf-8-sig"))
    assert folder.Source(split="train", root=str(tmp_path)).class_names == ("a",)


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "webp"])
def test_masks_that_lose_numbers_are_refused_with_the_reason(tmp_path, ending):
    draw(tmp_path / "train/images/a.png")
    draw(tmp_path / f"train/labels/a.{ending}")
    text = message(tmp_path)
    assert "change class numbers" in text and "save the masks as PNG" in text

"""Folders of masks of classes that overlap: a file with bands, or a file for each class.

The rule: whatever layout holds them, the same answers come out, uint8 [h w k] of 0, 1 and void; a
mask that is not there is an error unless the user says what it means; each error names its file.
"""

import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data import fit, folder, lazy, look
from segjax.errors import ConfigError, DataError

NAMES = ("cell", "dead_cell", "edge")


def answers(number):
    """Return what is true of image `number`: 0, 1 and void (7 in the files)."""
    random = np.random.default_rng(number)
    return random.choice(np.array([0, 0, 1, 1, 7], np.uint8), (12, 15, 3))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def images(root, place="train/images/{}.png"):
    for number in range(3):
        grey = np.full((12, 15, 3), 40 * number, np.uint8)
        save(root / place.format(number), grey)


def bands(root, ending="tif"):
    images(root)
    for number in range(3):
        path = root / f"train/labels/{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if ending == "tif":
            tifffile.imwrite(path, answers(number), photometric="minisblack", planarconfig="contig")
        else:
            save(path, answers(number))
    return {"label_bands": True}


def folders(root, white=1):
    images(root)
    for number in range(3):
        for c, name in enumerate(NAMES):
            stored = answers(number)[..., c]
            save(root / f"train/masks/{name}/{number}.png", np.where(stored == 1, white, stored))
    return {"labels": "{split}/masks/{class}"}


def suffixes(root):
    """All beside the images; one class's suffix ends with another's."""
    images(root, "train/{}.png")
    for number in range(3):
        for c, name in enumerate(NAMES):
            save(root / f"train/{number}_{name}.png", answers(number)[..., c])
    return {"images": "{split}", "labels": "{split}", "label_suffix": "_{class}"}


def folder_each(root):
    """A folder for each image, with a file for each class in it."""
    images(root)
    for number in range(3):
        for c, name in enumerate(NAMES):
            save(root / f"train/masks/{number}/{name}.png", answers(number)[..., c])
    return {"labels": "{split}/masks", "label_suffix": "{class}"}


def black_and_white(root):
    return folders(root, white=255) | {"label_map": {0: 0, 255: 1}}


def png_bands(root):
    return bands(root, "png")


LAYOUTS = [bands, png_bands, folders, suffixes, folder_each, black_and_white]


def open_train(root, **arguments):
    options = {"class_names": NAMES, "ignore_index": 7} | arguments
    return folder.Source(split="train", root=str(root), **options)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_answers(tmp_path, layout):
    source = open_train(tmp_path, **layout(tmp_path))
    assert len(source) == 3 and source.check() == {(12, 15)}
    field = source.schema["label"]
    assert (field.kind, field.shape) == ("labels", (3,))
    for number, example in enumerate(pickle.loads(pickle.dumps(source))[i] for i in range(3)):
        true = answers(number)
        assert example["label"].dtype == np.uint8
        np.testing.assert_array_equal(example["label"], np.where(true == 7, 255, true))
        assert (example["image"] == 40 * number).all()


@pytest.mark.parametrize("layout", [folders, suffixes, folder_each])
def test_a_mask_that_is_not_there_is_an_error_or_by_request_none_of_the_class(tmp_path, layout):
    """Of one image, or of all of them; that no class has any stays an error."""
    arguments = layout(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*.png") if "edge" in str(path))
    files[0].unlink()
    with pytest.raises(DataError, match="1 of 3 images have no mask of 'edge'.*missing_masks="):
        open_train(tmp_path, **arguments)
    source = open_train(tmp_path, **arguments, missing_masks="empty")
    assert not source[0]["label"][..., 2].any() and source[1]["label"][..., 2].any()
    assert source[0]["label"][..., 0].any() and source.check() == {(12, 15)}
    for path in files[1:]:
        path.unlink()
    source = open_train(tmp_path, **arguments, missing_masks="empty")
    assert not any(source[i]["label"][..., 2].any() for i in range(3))
    for path in tmp_path.rglob("*.png"):
        if "cell" in str(path):
            path.unlink()
    with pytest.raises(DataError, match="no labels in it"):
        open_train(tmp_path, **arguments, missing_masks="empty")


def test_a_class_without_a_folder_is_an_error_whatever_a_missing_mask_means(tmp_path):
    """A slip in a class name must not become a class that is nowhere."""
    arguments = folders(tmp_path) | {"class_names": (*NAMES, "egde"), "missing_masks": "empty"}
    with pytest.raises(DataError, match="egde: no such folder of labels"):
        open_train(tmp_path, **arguments)


def test_a_mask_without_an_image_is_an_error(tmp_path):
    arguments = folders(tmp_path)
    (tmp_path / "train/masks/edge/2.png").rename(tmp_path / "train/masks/edge/5.png")
    with pytest.raises(DataError, match="1 masks have no image: .*edge/5.png"):
        open_train(tmp_path, **arguments, missing_masks="empty")


@pytest.mark.parametrize(
    ("layout", "spoil", "said"),
    [
        (folders, np.full((12, 15), 3, np.uint8), r"edge/1.png: label value 3.*expected 0..1"),
        (folders, np.full((12, 15), 255, np.uint8), r"edge/1.png: .*label_map=\{0: 0, 255: 1\}"),
        (folders, np.zeros((12, 14), np.uint8), "edge/1.png: the mask is 12x14"),
        (folders, np.zeros((12, 15, 3), np.uint8), "edge/1.png: a mask must hold .* one channel"),
        (png_bands, np.zeros((12, 15), np.uint8), "labels/1.png: expected a mask of 3 bands"),
        (png_bands, np.zeros((12, 15, 4), np.uint8), "labels/1.png: expected a mask of 3 bands"),
        (png_bands, np.zeros((15, 12, 3), np.uint8), "labels/1.png: the mask is 15x12"),
        (png_bands, np.full((12, 15, 3), 9, np.uint8), "labels/1.png: label value 9"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(tmp_path, layout, spoil, said):
    """By its header before training where that shows it, else when it is read."""
    arguments = layout(tmp_path)
    place = "labels/1.png" if layout is png_bands else "masks/edge/1.png"
    save(tmp_path / "train" / place, spoil)
    source = open_train(tmp_path, **arguments)
    with pytest.raises(DataError, match=said):
        _ = source[1]
    if "label value" not in said and "label_map" not in said:
        with pytest.raises(DataError, match=said):
            source.check()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": "{split}/{class}", "label_bands": True}, "label_bands=True with {class}"),
        ({"missing_masks": "empty"}, "missing_masks='empty': expected {class}"),
        ({"missing_masks": "empty", "label_bands": True}, "missing_masks='empty': expected"),
        ({"labels": "{split}/{class}", "class_names": ("a/b",)}, "class name 'a/b'.*Rename"),
        ({"labels": "{split}/{class}", "class_names": ("..",)}, "class name '..'.*Rename"),
        ({"label_bands": True, "label_map": {0: 0, 255: 2}}, "expected a class, 0..1"),
    ],
)
def test_arguments_that_do_not_go_together_are_config_errors(tmp_path, arguments, said):
    bands(tmp_path)
    with pytest.raises(ConfigError, match=said):
        open_train(tmp_path, **arguments)


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_of_large_images_parts_are_read_whatever_the_masks_hold(tmp_path, monkeypatch, kind):
    """And what looks at a data set, or fits it to the canvas of training, takes them as others."""
    monkeypatch.setattr(lazy, "LARGE", 100)
    arguments = bands(tmp_path)
    for number in range(3):
        image = np.full((12, 15, 3), 40 * number, np.uint8)
        (tmp_path / f"train/images/{number}.png").unlink()
        tifffile.imwrite(tmp_path / f"train/images/{number}.tif", image, rowsperstrip=4)
        if kind == "classes":
            mask = tmp_path / f"train/labels/{number}.tif"
            tifffile.imwrite(mask, answers(number)[..., 0], rowsperstrip=4)
    source = open_train(tmp_path, **(arguments if kind == "labels" else {}))
    ones = 0
    for number in range(3):
        example, true = source[number], answers(number)
        assert isinstance(example["image"], lazy.Lazy)
        assert (np.asarray(example["image"][:3, 2:4]) == 40 * number).all()
        true = np.where(true == 7, 255, true)
        true = true if kind == "labels" else true[..., 0]
        np.testing.assert_array_equal(np.asarray(example["label"]), true)
        ones += (true == 1).sum()
        fitted = fit.fit_example(example, schema=source.schema, size=(16, 16), fit="pad")
        np.testing.assert_array_equal(fitted["label"][:12, :15], true)
    found = look.look(source)
    assert found.examples == 3 and found.sizes == {(12, 15)}
    assert (found.pixels if kind == "labels" else found.pixels[1:2]).sum() == ones

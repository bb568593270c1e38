"""How data lies in folders: each layout that is known is found, and reads as it should."""

import json
import pathlib

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.auto import layout
from segjax.data import folds
from segjax.errors import DataError
from tests import benchmark_files, camvid

RANDOM = np.random.default_rng(0)


def save(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def pairs(root, images, masks, *, values=(0, 255), count=6):
    for i in range(count):
        save(root / images / f"{i}.png", RANDOM.integers(0, 255, (24, 32), np.uint8))
        save(root / masks / f"{i}.png", RANDOM.choice(np.array(values, np.uint8), (24, 32)))


def opened(root, split="train", **options):
    found = layout.find(str(root), **options)
    return found, folds.open_split(found.source, found.splits[split])


def labels_of(source) -> set[int]:
    return set(np.unique([np.asarray(source[i]["label"]) for i in range(len(source))]).tolist())


def test_splits_with_a_description(tmp_path):
    camvid.write(tmp_path, size=(48, 64))
    found, source = opened(tmp_path / "camvid")
    assert found.source == {"type": "folder", "root": str(tmp_path / "camvid")}
    assert [*found.splits] == ["train", "val", "test"] and len(source.class_names) == 11


def test_objects_with_numbers_are_foreground(tmp_path):
    benchmark_files.make_fluorescence(tmp_path)
    found, source = opened(tmp_path / "dsb2018")
    assert source.class_names == ("background", "object") and labels_of(source) == {0, 1}
    assert "every object has a number" in found.why["classes"]


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [((0, 255), {0, 1}, 2), ((0, 1, 2), {0, 1, 2}, 3), ((0, 1, 2, 255), {0, 1, 2, 255}, 3),
     ((10, 20, 30), {0, 1, 2}, 3), (range(60), {0, 1}, 2)],
)  # fmt: skip
def test_masks_say_what_they_mean(tmp_path, values, labels, names):
    """Black and white, classes, classes and void, any few values, numbers of objects."""
    for split in ("training", "valid"):
        pairs(tmp_path, f"{split}/imgs", f"{split}/masks", values=values)
    found, source = opened(tmp_path)
    assert found.splits == {"train": "training", "val": "valid"}
    assert labels_of(source) == labels and len(source.class_names) == names
    named = [*"abc"][:names]
    assert opened(tmp_path, classes=named)[1].class_names == tuple(named)


def test_a_folder_for_each_class(tmp_path):
    """Classes overlap: by the folders' names, or those of the argument."""
    for split in ("train", "val"):
        for name in ("cell", "nucleus"):
            pairs(tmp_path, f"{split}/images", f"{split}/labels/{name}")
    found, source = opened(tmp_path)
    assert found.source["labels"] == "{split}/labels/{class}"
    assert source.class_names == ("cell", "nucleus") and source.schema["label"].kind == "labels"
    assert set(np.unique(source[0]["label"]).tolist()) == {0, 1}


def test_one_folder_is_divided(tmp_path):
    pairs(tmp_path, "images", "labels", count=10)
    found, train = opened(tmp_path, classes=["ground", "crack"])
    _, val = opened(tmp_path, "val")
    names = [{*source.example_names()} for source in (train, val)]
    assert list(map(len, names)) == [8, 2] and not names[0] & names[1]
    assert "test" not in found.splits and "one in 5" in found.why["source"]


def test_nnunets_raw_folders(tmp_path):
    for i in range(5):
        for folder, name, array in (
            ("imagesTr", f"case_{i}_0000", RANDOM.normal(0, 1, (8, 9, 10)).astype(np.float32)),
            ("labelsTr", f"case_{i}", RANDOM.integers(0, 2, (8, 9, 10)).astype(np.uint8)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            nibabel.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / folder / f"{name}.nii.gz")
    about = {"labels": {"background": 0, "organ": 1}, "numTraining": 5, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    _, source = opened(tmp_path)
    assert source.class_names == ("background", "organ") and len(source) == 4
    assert source[0]["image"].shape == (10, 9, 8, 1) and source.schema["image"].dtype == "float32"


def test_the_decathlon_and_a_stack(tmp_path):
    benchmark_files.make_msd(tmp_path)
    assert opened(tmp_path / "Task05_Prostate")[0].source["type"] == "decathlon"
    benchmark_files.make_isbi2012(tmp_path)
    other = RANDOM.integers(0, 256, (10, 64, 64)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "isbi2012/test-volume.tif", other, photometric="minisblack")
    found, source = opened(tmp_path / "isbi2012")
    assert found.source["images"] == "train-volume.tif" and len(source) == 7
    assert found.source["label_map"] == {"0": 0, "255": 1} and labels_of(source) == {0, 1}


def test_a_folder_for_each_image(tmp_path):
    benchmark_files.make_dsb2018(tmp_path)
    found, source = opened(tmp_path / "stage1_train", classes=["ground", "nucleus"])
    assert found.source["type"] == "objects" and len(source) == 7 and labels_of(source) == {0, 1}


def test_what_is_not_known_is_said(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        layout.find(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no data set that is known. Expected <split>/images"):
        layout.find(str(tmp_path))
    pairs(tmp_path, "train/images", "train/labels", values=(0, 1, 2))
    with pytest.raises(DataError, match="4 names of classes, and masks hold the 3 values 0, 1, 2"):
        layout.find(str(tmp_path), classes=[*"abcd"])
    (tmp_path / "other/train/images").mkdir(parents=True)
    (tmp_path / "other/train/labels").mkdir()
    with pytest.raises(DataError, match="no masks in it"):
        layout.find(str(tmp_path / "other"))

"""Sources of folds: which examples each split has, whatever the source inside is."""

import json
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from segjax.config import lookup, sections, trust
from segjax.data import core, folds, hashes, preparing, store
from segjax.errors import ConfigError, DataError
from segjax.runs import as_trained
from tests.data import test_tfds

SYNTHETIC = {"type": "synthetic", "num_examples": 7, "size": [32, 32]}


def make(split="val", source=None, **given):
    section = {"type": "folds", "source": source or SYNTHETIC, "folds": 3, "fold": 0, **given}
    return lookup.build("data", section, where="config.input.source", split=split)


def names(source):
    return core.names_of(source, "")


def save_folder(root, splits):
    """Write pictures with ever more pixels of class 1, and one of class 2."""
    (root / "meta.json").write_text(json.dumps({"class_names": ["a", "b", "c"]}))
    for split, stems in splits.items():
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number, stem in enumerate(stems):
            label = np.zeros((32, 32), np.uint8)
            label[:number], label[0, 0] = 1, 2
            Image.fromarray(label).save(root / split / "labels" / f"{stem}.png")
            Image.fromarray(label * 80).save(root / split / "images" / f"{stem}.png")
    return {"type": "folder", "root": str(root)}


@pytest.mark.parametrize("kind", ["plain", "consecutive", "stratified"])
@pytest.mark.parametrize("number", [2, 5])
def test_every_example_is_held_out_once_and_trained_on_otherwise(kind, number):
    joined = [*names(make("test")), *names(folds.join(SYNTHETIC, ["train", "val"]))]
    every = {name for name in joined if "/test/" not in name}
    held = []
    for fold in range(number):
        one, rest = (make(s, folds=number, fold=fold, kind=kind) for s in ("val", "train"))
        held += names(one)
        assert {*names(one)} | {*names(rest)} == every and len(one) + len(rest) == 14
        assert names(one) == [one[i]["name"] for i in range(len(one))]
    assert len(held) == 14 and {*held} == every


def test_another_split_is_kept_apart_and_as_it_is():
    hold_out, inner = make("test"), folds.open_split(SYNTHETIC, "test")
    assert names(hold_out) == names(inner) and len(hold_out) == 7
    np.testing.assert_array_equal(hold_out[3]["image"], inner[3]["image"])


@pytest.mark.parametrize(
    "given, split, message",
    [
        ({"fold": 3}, "val", r"source.fold=3: expected 0 to 2"),
        ({"folds": 1}, "val", "folds=1: expected an integer from 2"),
        ({"folds": 15}, "val", "15 folds of 14 examples"),
        ({"splits": ["val", "test"]}, "test", "split 'test' is dealt to folds. Name"),
        ({"splits": ["train", "train"]}, "val", "expected different ones"),
        ({"splits": ["trian"]}, "val", "split='trian': synthetic has no such split"),
        ({"kind": "grouped"}, "val", "does not know which examples belong together. .*00000'"),
        ({"kind": "grouped", "groups": "case"}, "val", "'case': finds nothing in 'synthetic/"),
        ({"kind": "grouped", "groups": "train|val"}, "val", "3 folds of 2 groups"),
        ({"groups": "0"}, "val", "groups='0': are of the kinds 'grouped'"),
        ({"groups": "("}, "val", r"groups='\(': expected a regular expression"),
        ({"kind": "random"}, "val", "kind='random': expected 'plain' or"),
        ({"assignment": ["01"]}, "val", "of 2 examples .*, expected 14 examples"),
        ({"source": {"type": "synthetic", "sise": 3}}, "val", "source.source.sise: .*'size'"),
        ({"source": {"type": "nowhere"}}, "val", "source.source.type='nowhere': no module"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error_that_says_what_to_do(given, split, message):
    with pytest.raises((ConfigError, DataError), match=message):
        make(split, **given)


def test_a_split_that_holds_dealt_examples_is_an_error(tmp_path):
    """It would be scored on what it was trained on."""
    source = save_folder(tmp_path, {"train": ["a", "b", "c"], "val": ["d"]})
    source |= {"images": "train/images", "labels": "train/labels", "split_file": "{split}.txt"}
    for split, stems in {"all": "a\nb\nc\n", "hold": "c\n", "other": "a\n"}.items():
        (tmp_path / f"{split}.txt").write_text(stems)
    with pytest.raises(DataError, match="c.png: is in split 'hold' and in all, which is dealt"):
        make("hold", source, splits=["all"])
    with pytest.raises(DataError, match="a.png: is in split 'all' and in 'other', and would be in"):
        make("val", source, splits=["all", "other"])


def test_splits_that_are_not_alike_are_an_error(tmp_path):
    source = save_folder(tmp_path, {"train": ["a", "b"], "val": ["c", "d"]})
    for path in (tmp_path / "val/images").iterdir():
        Image.open(path).convert("RGB").save(path)
    with pytest.raises(
        DataError, match="'train' and 'val' have other schema, and cannot be joined"
    ):
        make("val", source)


def test_blocks_go_through_splits_that_were_dealt_before(tmp_path):
    """Slices 0, 1, 3 of a stack in one folder and 2 in another: their order is that of names."""
    source = save_folder(tmp_path, {"train": ["s0", "s1", "s3", "s10"], "val": ["s2", "s4"]})
    held = [names(make("val", source, fold=fold, kind="consecutive")) for fold in range(3)]
    found = [sorted(name.rpartition("/")[2] for name in own) for own in held]
    assert found == [["s0.png", "s1.png"], ["s2.png", "s3.png"], ["s10.png", "s4.png"]]


def test_an_assignment_stands_in_for_labels_that_are_not_read_again(tmp_path):
    source = save_folder(
        tmp_path, {"train": [f"{i:02d}" for i in range(9)], "val": ["x", "y", "z"]}
    )
    drawn = [names(make("val", source, fold=fold, kind="stratified")) for fold in range(3)]
    joined = folds.join(source, ["train", "val"])
    dealt = folds.deal(joined, 3, kind="stratified", groups="", seed=0)
    shutil.rmtree(tmp_path / "train/labels")
    (tmp_path / "train/labels").mkdir()
    for i in range(9):
        (tmp_path / f"train/labels/{i:02d}.png").write_bytes(b"none")
    text = ["".join(map(str, dealt))]
    given = [
        names(make("val", source, fold=fold, kind="stratified", assignment=text))
        for fold in range(3)
    ]
    assert given == drawn
    with pytest.raises(DataError, match="train/labels/00.png"):
        make("val", source, kind="stratified")


def test_pixels_are_counted_without_void_by_any_number_of_threads(tmp_path):
    source = save_folder(tmp_path, {"train": ["a", "b", "c"], "val": ["d", "e"]})
    source["ignore_index"] = 2
    joined = folds.join(source, ["train", "val"])
    told = []
    found = folds.count_pixels(joined, threads=3, tell=told.append)
    ones = [0, 31, 63, 0, 31]
    assert found[:, 1].tolist() == ones and told == [1, 2, 3, 4, 5]
    assert found.sum(axis=1).tolist() == [1023] * 5
    multilabel = {**SYNTHETIC, "multilabel": True}
    kinds = folds.count_pixels(folds.join(multilabel, ["val"]), threads=1)
    assert (
        kinds[2].tolist()
        == (folds.open_split(multilabel, "val")[2]["label"] == 1).sum((0, 1)).tolist()
    )


def test_prepared_and_tfds_know_their_names(tmp_path):
    """The rule of `core.Named`: those of `source[i]`, nothing read."""
    target = store.Store(str(tmp_path / "prepared"))
    for split in ("train", "val", "test"):
        preparing.write_split(
            folds.open_split(SYNTHETIC, split), target, split, made_from={"of": "a test"}
        )
    test_tfds.TinyPets(
        data_dir=tmp_path / "tfds", file_format="array_record"
    ).download_and_prepare()
    tfds = {"type": "tfds", "name": "tiny_pets", "num_classes": 3, "label_offset": -1,
            "data_dir": str(tmp_path / "tfds")}  # fmt: skip
    for source, splits in (
        ({"type": "prepared", "root": str(tmp_path / "prepared")}, ["train", "val"]),
        (tfds, ["train"]),
    ):
        held = [make("val", source, splits=splits, fold=fold) for fold in range(3)]
        found = [name for one in held for name in names(one)]
        assert found == [one[i]["name"] for one in held for i in range(len(one))]
        assert sorted(found) == sorted(names(folds.join(source, splits)))
        assert len(make("test", source, splits=splits))


class Nameless:
    """A source that knows nothing but what every source must."""

    class_names, palette, schema = ("a", "b"), ((0, 0, 0), (1, 1, 1)), core.semantic_schema(1)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        raise AssertionError("is not read")


def test_a_source_without_names_is_dealt_by_places():
    joined = folds.Joined({"train": Nameless(), "val": Nameless()})
    assert names(joined)[:6] == [f"train/{i}" for i in range(5)] + ["val/0"]
    dealt = folds.deal(joined, 5, kind="plain", groups="", seed=0)
    assert sorted(dealt) == sorted([0, 1, 2, 3, 4] * 2)
    assert joined.object_counts() is None and joined.check() == set()


def test_folds_lie_in_folds():
    """Inside a fold, what it trains on is dealt again: nothing of what it holds out is seen."""
    outer = {"type": "folds", "source": SYNTHETIC, "folds": 3, "fold": 1}
    held = {*names(make("val", fold=1))}
    inner = [make("val", outer, splits=["train"], fold=fold) for fold in range(3)]
    seen = [name for one in inner for name in names(one)]
    assert not held & {*seen} and len(seen) == len({*seen}) == 14 - len(held)
    assert names(make("test", outer, splits=["train"])) == names(make("test"))
    again = pickle.loads(pickle.dumps(inner[0]))  # noqa: S301
    np.testing.assert_array_equal(again[0]["image"], inner[0][0]["image"])


def test_an_edit_of_any_fold_is_noticed(tmp_path):
    source = save_folder(tmp_path, {"train": ["a", "b", "c"], "val": ["d", "e"]})
    before = hashes.of_source(make("train", source))
    files = hashes.files_of(make("train", source))
    assert len(files) == 10 and set(files) >= {"train/images/a.png", "val/labels/e.png"}
    with (tmp_path / "val/labels/e.png").open("ab") as file:
        file.write(b"x")
    now = hashes.of_source(make("train", source))
    assert before["hash"] and before["hash"] != now["hash"] and before["times"] != now["times"]
    changed, certain = hashes.differing(files, hashes.files_of(make("train", source)))
    assert certain and len(changed) == 1 and changed[0].startswith("val/labels/e.png has ")


def test_what_is_said_of_the_source_inside_is_found_there():
    """Whose code it runs, and how it reads what is predicted: whatever lies around it."""
    inner = {"type": "folder", "root": "x", "label_suffix": "_mask", "exif": False}
    around = {"type": "folds", "source": {"type": "folds", "source": inner}}
    assert sections.innermost(around) == inner == sections.innermost(inner)
    assert as_trained.told(around) == {"exif": False, "label_suffix": "_mask"}
    outside = {"type": "folds", "source": {"type": "mylab.data:Source"}}
    with pytest.raises(ConfigError, match="input.source.source.type='mylab.data:Source' would run"):
        trust.check({"input": {"source": outside}}, where="config.json")

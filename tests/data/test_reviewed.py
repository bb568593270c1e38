"""Rejected examples are left out, wherever the review is named."""

import json

import numpy as np
import pytest
from PIL import Image

from segjax.config import load, schema
from segjax.data import core, folder, look, reviewed
from segjax.errors import DataError


@pytest.fixture
def root(tmp_path):
    for split, number in (("train", 5), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        for i in range(number):
            Image.fromarray(np.full((8, 9, 3), i, np.uint8)).save(
                tmp_path / split / "images" / f"{i}.png"
            )
            Image.fromarray(np.full((8, 9), i % 2, np.uint8)).save(
                tmp_path / split / "labels" / f"{i}.png"
            )
    return tmp_path


def section(root):
    return dict(type="folder", root=str(root), class_names=["a", "b"])


def review(root, rejected):
    path = root / "review.json"
    path.write_text(json.dumps({"version": 1, "rejected": rejected}))
    return str(path)


def test_rejected_examples_are_left_out_of_their_split(root):
    ids = reviewed.ids_of(
        folder.Source(split="train", root=str(root), class_names=["a", "b"]), "train"
    )
    assert len(ids) == 5 and all(each.startswith("train/") for each in ids)
    path = review(root, [ids[1], ids[3]])
    source = reviewed.Source(split="train", source=section(root), review=path)
    assert [int(source[i]["image"][0, 0, 0]) for i in range(len(source))] == [0, 2, 4]
    assert len(core.names_of(source, "train")) == 3
    (line,) = source.remarks()
    assert line.startswith("train: 2 of 5 examples left out") and isinstance(source, look.Remarking)
    val = reviewed.Source(split="val", source=section(root), review=path)
    assert len(val) == 2 and not val.remarks()


@pytest.mark.parametrize(
    "content, expected",
    [
        ('{"rejected": ["train/images/9.png"]}', "which the data set has not"),
        ('["train/0.png"]', "expected a JSON object with a list of texts `rejected`"),
        ('{"rejected": [1]}', "expected a JSON object with a list of texts `rejected`"),
        ("{", "review.json"),
    ],
)
def test_a_review_of_something_else_is_one_line(root, content, expected):
    path = root / "review.json"
    path.write_text(content)
    with pytest.raises(DataError, match=expected) as error:
        reviewed.Source(split="train", source=section(root), review=str(path))
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="Expected a review.json"):
        reviewed.Source(split="train", source=section(root), review=str(root / "none.json"))


def test_nothing_left_is_an_error(root):
    plain = folder.Source(split="val", root=str(root), class_names=["a", "b"])
    path = review(root, reviewed.ids_of(plain, "val"))
    with pytest.raises(DataError, match="rejects all of val"):
        reviewed.Source(split="val", source=section(root), review=path)


def test_a_review_beside_the_arguments_of_a_data_set_is_the_same():
    plain = load.load("configs/quickstart.py:debug", ["input.source.review="])
    found = load.load("configs/quickstart.py:debug", ["input.source.review=r.json"])
    schema.check(found)
    own = found["input"]["source"]
    assert own == {"type": "reviewed", "source": plain["input"]["source"], "review": "r.json"}
    assert "review" not in plain["input"]["source"]
    assert load.reviewed(found) == found

"""The audit as its user runs it: what is planted is found, and the page opens without a network."""

import json
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from tests import program
from tests.audit import planted

DATA = os.environ.get("SEGJAX_DATA", "")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of 24 scenes in two splits, with faults."""
    from segjax.data import synthetic

    root = tmp_path_factory.mktemp("scenes")
    for split, number in (("train", 16), ("val", 8)):
        source = synthetic.Source(split=split, num_examples=16, size=(96, 128))
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for i in range(number):
            example = source[i]
            Image.fromarray(example["image"]).save(root / split / "images" / f"{split}{i}.png")
            Image.fromarray(example["label"]).save(root / split / "labels" / f"{split}{i}.png")
    names = list(source.class_names)
    (root / "meta.json").write_text(json.dumps({"class_names": names, "ignore_index": 255}))
    train = root / "train"
    image = np.asarray(Image.open(train / "images/train3.png"))
    label = Image.open(train / "labels/train3.png")
    Image.fromarray(image[:, ::-1]).save(root / "val/images/leak.png")
    Image.fromarray(np.asarray(label)[:, ::-1]).save(root / "val/labels/leak.png")
    Image.fromarray(image).save(train / "images/twin.png")
    label.save(train / "labels/twin.png")
    wrong = np.asarray(Image.open(train / "labels/train5.png")).copy()
    wrong[3:9, 3:9] = 99
    Image.fromarray(wrong).save(train / "labels/train5.png")
    Image.fromarray(np.full((96, 128), 255, np.uint8)).save(train / "labels/train7.png")
    return root


@pytest.fixture(scope="module")
def audit(root, tmp_path_factory):
    output = tmp_path_factory.mktemp("audit") / "out"
    code, text = program.run("--mode=audit", *of(root), f"--output={output}")
    assert code == 0, text
    return output, json.loads((output / "audit.json").read_text()), text


def of(root):
    return ["--config=tests/folder_config.py", f"--config.input.source.root={root}"]


def test_what_is_planted_is_found(audit):
    _, found, text = audit
    stems = [
        (each["kind"], *(pathlib.PurePosixPath(name).stem for name in each["images"]))
        for each in found["findings"]
    ]
    assert ("illegal_value", "train5") in stems and ("empty_mask", "train7") in stems
    assert {frozenset(s[1:]) for s in stems if s[0] == "exact_duplicate"} == {
        frozenset(("train3", "twin"))
    }
    leaks = [s for s in stems if s[0] == "leakage"]
    assert {frozenset(s[1:]) for s in leaks} <= {
        frozenset(("train3", "leak")), frozenset(("twin", "leak"))
    } and leaks  # fmt: skip
    assert found["num_examples"] == 26 and found["splits"]["train"]["examples"] == 17
    ids = [each["id"] for each in found["findings"]]
    assert len({*ids}) == len(ids)
    assert "26 examples found, 25 used, 1 unusable" in text


def test_the_page_needs_nothing_else(audit):
    output, found, _ = audit
    page = (output / "audit.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page) and "://" not in page
    for finding in found["findings"]:
        assert f'data-id="{finding["id"]}"' in page


def test_what_was_rejected_is_left_out(root, audit, tmp_path):
    output, found, _ = audit
    review = tmp_path / "review.json"
    rejected = [f["images"][-1] for f in found["findings"] if f["kind"] != "leakage"]
    review.write_text(json.dumps({"version": 1, "rejected": sorted({*rejected})}))
    again = tmp_path / "again"
    code, text = program.run(
        "--mode=audit", *of(root), f"--output={again}", f"--config.input.source.review={review}"
    )
    assert code == 0, text
    kinds = {f["kind"] for f in json.loads((again / "audit.json").read_text())["findings"]}
    assert not kinds & {"illegal_value", "empty_mask", "exact_duplicate"}


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="SEGJAX_DATA does not point at camvid")
@pytest.mark.parametrize("seed", [1, 2])
def test_faults_in_a_copy_of_camvid_are_found(tmp_path, seed):
    """All of them, and at most one image in twenty for nothing."""
    faults = planted.plant(pathlib.Path(DATA) / "camvid", tmp_path / "camvid", seed=seed)
    code, text = program.run(
        "--mode=audit", "--config=configs/camvid.py:model=unet,size=cpu",
        f"--config.input.source.root={tmp_path / 'camvid'}", "--config.input.source.expected={}",
        f"--output={tmp_path / 'out'}",
    )  # fmt: skip
    assert code == 0, text
    audit = json.loads((tmp_path / "out/audit.json").read_text())
    found = planted.check(audit, faults)
    assert not any(found[kind] for kind in ("near", "leaks", "illegal", "shifted", "swapped")), (
        found
    )
    assert len(found["false"]) <= 0.05 * audit["num_examples"], found


@pytest.mark.slow
def test_people_are_compared(root, tmp_path):
    """A second folder of masks, of which one differs and some lack."""
    for split in ("train", "val"):
        (root / split / "second").mkdir()
        for path in sorted((root / split / "labels").iterdir())[:4]:
            label = np.asarray(Image.open(path)).copy()
            label[10:40, 10:50] = 1 if path.stem == "train0" else label[10:40, 10:50]
            Image.fromarray(label).save(root / split / "second" / path.name)
    stems = tmp_path / "stems"
    arguments = ["--annotator=labels={split}/second", f"--output={tmp_path / 'out'}"]
    code, text = program.run("--mode=audit", *of(root), *arguments)
    assert code == 2 and "images have no mask" in text and not (tmp_path / "out").exists()
    for split in ("train", "val"):
        names = [path.stem for path in sorted((root / split / "second").iterdir())]
        stems.with_name(f"{split}.txt").write_text("\n".join(names))
    listed = f"--config.input.source.split_file={tmp_path}/{{split}}.txt"
    code, text = program.run("--mode=audit", *of(root), listed, *arguments)
    assert code == 0 and "8 images compared of 2 annotators, 0 that fewer" in text, text
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert found["agreement"]["least"][0]["image"] == "train/images/train0.png"
    assert found["fingerprint"]["size"] == [96, 128]
    assert "Agreement of 2 annotators" in (tmp_path / "out" / "audit.html").read_text()

"""Labelled spans become classes of samples, and classes spans again; in seconds or characters."""

import numpy as np
import pytest
from scipy.io import wavfile

from segjax.data import folder, spans
from segjax.data.readers import text
from segjax.errors import DataError

NAMES = ("rest", "speech", "music")
TABLE = "start,end,label\n0.5,1.25,speech\n1,2,music\n3,9,void\n"


def sound(root, label: str, name: str, *, rate=8, seconds=4):
    """Write one example of a second's few samples, and its spans."""
    for kind in ("images", "labels"):
        (root / "train" / kind).mkdir(parents=True, exist_ok=True)
    samples = np.arange(rate * seconds, dtype=np.int16)
    wavfile.write(root / "train/images/a.wav", rate, samples)
    (root / "train/labels" / name).write_text(label)


def source(root, **more):
    return folder.Source(split="train", root=str(root), dims=1, class_names=list(NAMES), **more)


AUDACITY = TABLE.partition("\n")[2].replace(",", "\t")


@pytest.mark.parametrize(("label", "name"), [(TABLE, "a.csv"), (AUDACITY, "a.txt")])
def test_spans_are_in_seconds(label, name, tmp_path):
    """Of two that overlap the later counts; beyond the end there is nothing."""
    sound(tmp_path, label, name)
    found = source(tmp_path)
    example = found[0]
    want = [0] * 4 + [1] * 4 + [2] * 8 + [0] * 8 + [255] * 8
    assert example["label"].tolist() == want
    assert example["image"].dtype == np.int16 and example["image"].shape == (32, 1)
    np.testing.assert_allclose(example["spacing"], [1 / 8])
    assert found.check() == {(32,)}


def test_spans_that_overlap_are_kept_where_classes_do(tmp_path):
    sound(tmp_path, TABLE, "a.csv")
    label = source(tmp_path, label_bands=True)[0]["label"]
    assert label.shape == (32, 3)
    assert np.flatnonzero(label[:, 1] == 1).tolist() == [*range(4, 10)]
    assert np.flatnonzero(label[:, 2] == 1).tolist() == [*range(8, 16)]
    assert (label[24:] == 255).all()


def test_text_is_labelled_by_character(tmp_path):
    """In brat's standoff; a sample is a character, whatever its bytes, and can be read back."""
    content = "Zürich, 3 May 1999: 𝄞 5 €\n"
    for kind, name, value in (
        ("images", "a.txt", content),
        ("labels", "a.ann", "T1\tspeech 0 6\tZürich\nT2\tmusic 8 9;14 18\t3 1999\nR1\tx T1 T2\n"),
    ):
        (tmp_path / "train" / kind).mkdir(parents=True)
        (tmp_path / "train" / kind / name).write_text(value, encoding="utf-8")
    example = source(tmp_path)[0]
    assert text.decode(example["image"]) == content
    found = spans.find(example["label"], NAMES)
    assert [(content[int(a) : int(b)], label) for a, b, label in found] == [
        ("Zürich", "speech"), ("3", "music"), ("1999", "music"),
    ]  # fmt: skip


@pytest.mark.parametrize("rate", [1.0, 8000.0, 44100.0, 7.3])
def test_what_is_found_is_drawn_again_as_it_was(rate, tmp_path):
    """Also after it was written and read: boundaries lie on samples up to rounding."""
    rng = np.random.default_rng(0)
    label = np.repeat(rng.integers(0, 3, 200), rng.integers(1, 40, 200)).astype(np.uint8)
    spans.write(tmp_path / "a.csv", spans.find(label, NAMES, step=1 / rate))
    found = spans.read(tmp_path / "a.csv")
    again = spans.draw(found, len(label), NAMES, step=1 / rate, name="a")
    np.testing.assert_array_equal(again, label)
    both = np.stack([label == 1, label > 0, rng.random(len(label)) < 0.5], 1).astype(np.uint8)
    again = spans.draw(spans.find(both, NAMES), len(both), NAMES, overlap=True, name="a")
    np.testing.assert_array_equal(again, both)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("start,end,label\n1,2\n", "line 2 is '1,2', expected start, end and label"),
        ("1,x,speech\n", "line 1 is '1,x,speech'"),
        ("2,1,speech\n", "line 1 goes from 2 to 1"),
        ("nan,1,speech\n", "line 1 goes from nan"),
        ("0,inf,speech\n", "line 1 goes from 0 to inf"),
        ("-1,1,speech\n", "line 1 goes from -1"),
        ("0,1,noise\n", "label 'noise' is none of rest, speech, music"),
    ],
)
def test_lines_that_are_no_spans_are_named(label, said, tmp_path):
    sound(tmp_path, label, "a.csv")
    with pytest.raises(DataError, match=f"a.csv: {said}"):
        source(tmp_path)[0]


def test_notes_beside_pictures_are_no_examples(tmp_path):
    """Only where images have one axis are texts images, or spans masks."""
    sound(tmp_path, TABLE, "a.csv")
    (tmp_path / "train/images/readme.txt").write_text("recorded in May")
    with pytest.raises(DataError, match="1 of 2 images have no mask"):
        source(tmp_path)
    with pytest.raises(DataError, match="no labels in it"):
        folder.Source(split="train", root=str(tmp_path), class_names=list(NAMES))

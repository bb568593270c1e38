"""The store of feedback: what it accepts outlasts a kill, and the folder source reads it."""

import io
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from segjax.data import folder
from segjax.errors import DataError, UserError
from segjax.feedback.store import Store
from tests.program import ROOT

KILLS = 20
WRITER = """
import sys
from tests.feedback.test_store import add
from segjax.feedback.store import Store
store = Store.open(sys.argv[1])
for number in range(100_000):
    print(add(store, number), flush=True)
"""


def picture(number: int, *, size: int = 32, ending: str = "PNG") -> bytes:
    """Return the bytes of a picture of noise that depends on a number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, ending)
    return buffer.getvalue()


def add(store: Store, number: int, **changes) -> str:
    """Add a picture with a mask of class number % 3."""
    label = np.full((32, 32), number % 3)
    given = {
        "suffix": ".png", "label": label, "prediction": np.zeros((32, 32), np.uint8),
        "model": "run", "flagged": False, "note": "", "request": str(number),
    }  # fmt: skip
    return store.add(picture(number), **given | changes)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "feedback")


def test_the_folder_source_reads_it(store):
    first, second = add(store, 1), add(store, 2, label=None, flagged=True)
    source = folder.Source(
        split="any", root=str(store.root), images="images", labels="labels", split_file="*",
        ignore_index=255, class_names=["a", "b", "c"],
    )  # fmt: skip
    assert [first, second] == [row.id for row in store.rows()]
    assert np.unique(np.asarray(source[0]["label"])) == [1]
    assert np.unique(np.asarray(source[1]["label"])) == [255], "nobody has judged it"
    image = np.asarray(Image.open(io.BytesIO(picture(1))))
    np.testing.assert_array_equal(source[0]["image"], image)


def test_a_row_says_what_came(store):
    label = np.full((32, 32), 255)
    label[:8], label[8:16] = 0, 1
    add(store, 0, label=label, note="the roof\nis wrong", flagged=True, model="run@7")
    (row,) = store.rows()
    assert (row.judged, row.agreed) == (16 * 32, 8 * 32)
    assert (row.note, row.model, row.flagged, row.labelled) == (
        "the roof\nis wrong", "run@7", True, True,
    )  # fmt: skip


def test_versions_grow_and_the_same_again_is_the_same(store):
    assert store.version() == 0
    first = add(store, 0)
    assert add(store, 0) == first and store.version() == 1
    add(store, 0, label=np.full((32, 32), 2))
    assert store.version() == 2
    assert [row.number for row in store.rows(until=1)] == [1]
    assert Store.open(store.root).version() == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": np.zeros((31, 32), int)}, "the label has shape"),
        ({"label": np.full((32, 32), 256)}, "holds 256 to 256"),
        ({"label": np.full((32, 32), -1)}, "holds -1 to -1"),
        ({"label": np.zeros((32, 32))}, "float64"),
        ({"prediction": np.zeros((2, 2), int)}, "the prediction has shape"),
        ({"suffix": ".exe"}, "Expected one of"),
        ({"suffix": "/../../x.png"}, "Expected one of"),
    ],
)
def test_what_is_refused_leaves_nothing(store, changes, message):
    with pytest.raises(DataError, match=message):
        add(store, 0, **changes)
    assert store.version() == 0
    assert not [path for path in store.root.glob("*/*") if path.is_file()]


def test_a_torn_picture_is_refused(store):
    with pytest.raises(DataError, match="cannot be read|truncated"):
        store.add(
            picture(0, ending="JPEG")[:-200], suffix=".jpg", label=None, prediction=None,
            model="", flagged=True, note="", request="",
        )  # fmt: skip
    assert store.version() == 0


def test_no_store_and_a_broken_index_are_one_line(tmp_path):
    with pytest.raises(UserError, match="Expected a folder of feedback"):
        Store.open(tmp_path, create=False)
    (tmp_path / "feedback.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match="Restore it from a copy"):
        Store.open(tmp_path, create=False)


def test_several_writers_share_it(store, tmp_path):
    """Every id that one of three processes was given has its row and its files."""
    writers = [start(store, WRITER.replace("100_000", "15")) for _ in range(3)]
    given = [line for writer in writers for line in writer.communicate(timeout=120)[0].split()]
    assert all(writer.returncode == 0 for writer in writers)
    check_whole(store, set(given))


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_accepted(store):
    """A process that adds is killed at a random moment, again and again."""
    moments = random.Random(0)
    accepted: set[str] = set()
    for _ in range(KILLS):
        writer = start(store, WRITER.replace("range(", f"range({len(accepted) * 7}, "))
        assert writer.stdout
        accepted.add(writer.stdout.readline().strip())
        time.sleep(moments.uniform(0, 0.3))
        os.kill(writer.pid, signal.SIGKILL)
        accepted |= {line.strip() for line in writer.communicate()[0].splitlines(keepends=True)
                     if line.endswith("\n")}  # fmt: skip
        check_whole(store, accepted)
    assert len(accepted) > 2 * KILLS
    Store.open(store.root)
    assert not list(store.root.glob("*/.*.tmp")), "what kills left half written is gone"


def start(store: Store, code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip


def check_whole(store: Store, accepted: set[str]) -> None:
    """Assert that what was accepted is there, and that all that is there can be read."""
    rows = Store.open(store.root, create=False).rows()
    assert accepted <= {row.id for row in rows}
    for row in rows:
        number = int(row.request)
        assert store.image_of(row.id, row.suffix).read_bytes() == picture(number)
        label = np.asarray(Image.open(store.label_of(row.id)))
        assert (label == number % 3).all()
    source = folder.Source(
        split="any", root=str(store.root), images="images", labels="labels", split_file="*",
        ignore_index=255, class_names=["a", "b", "c"],
    )  # fmt: skip
    assert len(source) >= len(rows), "a picture that is there has a mask"

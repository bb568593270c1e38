"""Damaged, lying and hostile files: each is read, or refused in a line, in bounded time and room.

What each reader gets stands in `tests/fuzz.py`: valid files changed at random, by a seed, and the
small files that claim much of `bombs.py`. Limits: 2 s for a file, 512 MiB for all, no crash.
"""

import itertools

import pytest

from segjax.errors import DataError
from tests import fuzz

OF_WEIGHTS = ("pth", "legacy", "safetensors", "pkl")


def test_a_few_files_of_every_reader(tmp_path):
    """Without what takes long to make: the hostile archives and strips are in the slow tier."""
    assert fuzz.run(list(fuzz.READERS), count=50, folder=tmp_path, bombs=False) == {}


@pytest.mark.slow
@pytest.mark.parametrize("reader", [name for name in fuzz.READERS if name not in OF_WEIGHTS])
def test_two_thousand_files_of_a_reader(tmp_path, reader):
    assert fuzz.run([reader], count=2000, folder=tmp_path) == {}


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: 1, ""),
        (lambda: fail(DataError("x: cannot be read.")), ""),
        (lambda: fail(DataError("two\nlines")), "not one line"),
        (lambda: fail(ValueError("x")), "ValueError"),
        (lambda: fail(MemoryError()), "MemoryError"),
        (lambda: [i for i in itertools.count() if i < 0], "longer than 0.1 s"),
    ],
)
def test_what_is_wrong_is_seen(read, said, monkeypatch):
    """The measure itself: an error of another kind, two lines, and what does not end."""
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    found = fuzz.what_is_wrong(read)
    assert found.startswith(said) and bool(found) == bool(said)
    assert fuzz.what_is_wrong(lambda: 1, refused=True) == "it is read"

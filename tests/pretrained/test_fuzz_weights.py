"""Weight files as in `tests/data/test_fuzz_files.py`: 2,000 changed ones and the hostile ones."""

import pytest

from segjax.errors import DataError
from segjax.pretrained import files
from tests import fuzz
from tests.pretrained import bombs


@pytest.mark.slow
@pytest.mark.parametrize("reader", fuzz.WEIGHTS)
def test_two_thousand_files_of_a_reader(tmp_path, reader):
    assert fuzz.run([reader], count=2000, folder=tmp_path) == {}


HOSTILE = {
    "a list doubled": "nests more than",
    "a list in itself": "nests more than",
    "a tuple doubled, as a key": "tuple for a key",
    "far memory": "no arrays",
    "many marks": "more than 1,048,576 operations",
    "10**12 numbers of one": "take 4,000,000,000,000 bytes",
    "most axes": "17 axes",
    "beyond 64 bits": "no whole number",
    "negative": "damaged",
    "a member twice": "two members .* one name",
}


@pytest.fixture(scope="module")
def made():
    strided = {
        name: bombs.of(bombs.pth.View(bombs.np.zeros(8, "float32"), 0, *pair))
        for name, pair in bombs.STRIDED.items()
    }
    twice = bombs.twice()
    programs = {name: bombs.program(body) for name, body in bombs.programs().items()}
    return {**programs, **strided, "a member twice": twice}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_says_why(tmp_path, made, name):
    """The rule: operations, depth, names, axes, sizes and members are counted before they cost."""
    (tmp_path / "x.pth").write_bytes(made[name])
    with pytest.raises(DataError, match=HOSTILE[name]) as error:
        files.read(tmp_path / "x.pth")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_compressed_zeros_are_not_unpacked(tmp_path):
    """150 MiB in 150 kB here; 3 GB in 3 MB are no other case."""
    whole = bombs.pth.View(
        bombs.np.broadcast_to(bombs.np.float32(0), (1 << 20,)), 0, (1 << 20,), (1,)
    )
    (tmp_path / "x.pth").write_bytes(bombs.of(whole, packed=True))
    with pytest.raises(DataError, match="is compressed, as torch.save leaves none"):
        files.read(tmp_path / "x.pth")


@pytest.mark.parametrize("name", bombs.safetensors())
def test_a_safetensors_header_that_lies(tmp_path, name):
    (tmp_path / "x.safetensors").write_bytes(bombs.safetensors()[name])
    with pytest.raises(DataError, match=r"x\.safetensors: cannot be read") as error:
        files.read(tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)

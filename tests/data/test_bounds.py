"""What image files and texts of a data set claim is checked by their headers, before it costs.

The files are those of `bombs.py`; what they cost is measured in `test_fuzz_files.py`.
"""

import numpy as np
import pytest
from PIL import Image

from segjax.data import decode, folder, opening, raster
from segjax.data.decode import Reading
from segjax.data.label_map import LabelMap
from segjax.errors import ConfigError, DataError, UserError
from tests import fuzz
from tests.data import bombs, odd_files

SAID = {
    "png": {
        "of 16 bits": "MiB of memory, the limit is",
        "a palette": "MiB of memory, the limit is",
        "two headers": "two chunks IHDR",
        "a long tag": "two chunks eXIf, or one of 2,147,483,647 bytes",
        "long pixels": "truncated",
        "frames": "several images",
    },
    "jpg": {
        "65535 x 65535": "MiB of memory, the limit is",
        "many scans": "100 scans of 10000x10000 pixels",
    },
    "webp": {
        "2**24 x 2**24": "MiB of memory, the limit is",
    },
    "gif": {
        "a screen": "65535x65535 pixels is beyond",
        "a frame": "65535x65535 pixels is beyond",
        "many frames": "several images",
        "no frame": "no frame in it",
    },
    "bmp": {
        "tall": "MiB of memory, the limit is",
        "wide": "MiB of memory, the limit is",
        "tall, by runs": "MiB of memory, the limit is",
    },
}


@pytest.mark.parametrize(
    ("ending", "name"), [(ending, name) for ending, names in SAID.items() for name in names]
)
def test_a_header_that_claims_much_is_refused_by_itself(ending, name):
    """The rule: no reader makes room for a size that a file claims before it was checked."""
    content = getattr(bombs, ending)()[name]
    with pytest.raises(DataError, match=f"^file: .*{SAID[ending][name]}") as error:
        decode.read_image(content, name="file")
    assert "\n" not in str(error.value)
    if "MiB of memory" == SAID[ending][name][:13]:
        with pytest.raises(DataError, match="MiB"):
            decode.read_header(content, name="file")


TIFFS = {
    "a loop of pages": "lead in a circle",
    "a tag": "tag 273 of 17,179,869,180 bytes reaches beyond the file",
    "many tags": "65,535 tags",
    "a large page": "MiB of memory, the limit is",
    "a large tile": "too large",
    "a long strip": "longer than the file",
    "a strip in jpeg": "9000x3000|3000x9000",
    "a strip in jpeg2000": "3000x9000",
    "a strip in png": "3000x9000",
    "a strip in webp": "3000x9000",
}


@pytest.fixture(scope="module")
def tiffs():
    return bombs.tif()


@pytest.mark.slow  # making them takes two seconds
@pytest.mark.parametrize("name", TIFFS)
def test_tags_and_strips_that_lie(tiffs, name):
    with pytest.raises(DataError, match=f"^file: .*({TIFFS[name]})"):
        decode.read_image(tiffs[name], name="file")


def test_images_in_tiffs_are_still_read():
    """JPEG, JPEG 2000, WebP and PNG as strips and tiles: their sizes are looked for and found."""
    for content in fuzz.squeezed_tiffs():
        assert decode.read_image(content, name="file").shape == (20, 30, 3)


@pytest.mark.parametrize("name", bombs.npy())
def test_an_array_is_as_large_as_its_file(tmp_path, name):
    (tmp_path / "x.npy").write_bytes(bombs.npy()[name])
    with pytest.raises(DataError, match=r"x\.npy: cannot be read: .") as error:
        np.asarray(opening.open_to_predict(tmp_path / "x.npy", Reading(1)).array)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("channels", "dtype", "limit"), [(3, "uint8", 105), (1, "float32", 140), (3, "float32", 420)]
)
def test_what_is_asked_for_is_bounded_too(monkeypatch, channels, dtype, limit):
    """Of 5 x 7 grey bytes a data set may make colours, and four bytes of one."""
    content = odd_files.png(odd_files.values(8), 8, 0)
    options = {"name": "x", "channels": channels, "dtype": dtype}
    monkeypatch.setattr(raster, "MAX_BYTES", limit)
    assert decode.read_image(content, **options).nbytes == limit
    monkeypatch.setattr(raster, "MAX_BYTES", limit - 1)
    with pytest.raises(DataError, match="MiB of memory, the limit is"):
        decode.read_image(content, **options)


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [("_pixels", "BMP"), ("imagecodecs.jpeg8_decode", "JPEG"), ("imagecodecs.spng_decode", "PNG")],
)
def test_no_memory_is_one_line(decoder, kind, monkeypatch):
    """Whichever decoder asks for it."""

    def none(*_):
        raise MemoryError

    monkeypatch.setattr(f"segjax.data.raster.{decoder}", none)
    with pytest.raises(DataError, match="x: needs more memory than there is"):
        decode.read_image(bombs.encoded(kind), name="x")


def test_channels_beside_rgb_do_not_make_it_grey():
    """A file of RGB and something else, read as grey: the first three are the colour."""
    for dtype in ("uint8", "float32"):
        stored = np.random.default_rng(0).integers(0, 256, (5, 7, 5)).astype(dtype)
        content = odd_files.tiff(
            stored, photometric="rgb", planarconfig="contig", extrasamples=(0, 0)
        )
        got = decode.read_image(content, name="x", channels=1, dtype="float32")
        weights = np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(got[..., 0], stored[..., :3] @ weights, atol=0.6)


@pytest.mark.parametrize("name", fuzz.META_BOMBS)
def test_a_meta_file_that_claims_much(tmp_path, name):
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.new("L", (4, 3), 1).save(tmp_path / "train" / kind / "a.png")
    (tmp_path / "meta.json").write_bytes(fuzz.META_BOMBS[name])
    with pytest.raises(UserError, match="meta.json") as error:
        folder.Source(split="train", root=str(tmp_path))
    assert "\n" not in str(error.value)


def test_label_maps_of_many_entries_are_made_at_once():
    """Ranges and numbers within them: a list is searched once for each, not once for every pair."""
    entries = {str(value): value % 7 for value in range(1, 40_000, 2)}
    entries |= {f"{value}-{value + 1}": 1 for value in range(0, 40_000, 2)}
    found = LabelMap(entries, num_classes=7, where="x")
    got = found(np.arange(40_000))
    assert got[0] == 1 and got[3] == 3 and got[4] == 1 and got[39_999] == 39_999 % 7
    for key in ("9" * 5000, "9223372036854775808", "1-99999999999999999999", "0" * 100 + "5"):
        with pytest.raises(ConfigError, match="stored value"):
            LabelMap({key: 1}, num_classes=2, where="x")

"""The rule: a part of a PNG file holds what the same part of the whole one does, or is refused."""

import contextlib
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segjax.data import core, decode, folder, large, lazy, pipeline, png, raster, windows
from segjax.data.decode import Reading
from segjax.data.lazy import Lazy
from segjax.errors import DataError
from tests.data import odd_files

KINDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
OPEN = {"name": "x.png", "reading": Reading(channels=3)}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(png, "BAND", 300)  # several bands of a small image
    monkeypatch.setattr(png, "STORED", 100)


def predict(number, left, above, corner):
    """Return what a filter takes from a value, by the PNG specification, section 9."""
    if number < 4:
        return (0, left, above, (left + above) // 2)[number]
    near = [abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)]
    return (left, above, corner)[near.index(min(near))]


def filtered(rows, step, chance):
    """Return rows of bytes with a random filter each."""
    found, above = b"", bytes(len(rows[0]))
    for row in rows:
        number = int(chance.integers(5))
        found += bytes([number]) + bytes(
            (row[i] - predict(number, row[i - step] if i >= step else 0, above[i],
                              above[i - step] if i >= step else 0)) % 256
            for i in range(len(row))
        )  # fmt: skip
        above = row
    return found


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def written(header, data, *, more=(), splits=()):
    """Return a file of chunks; `splits`: where the deflated data is cut."""
    ends = [0, *sorted(splits), len(data)]
    parts = [chunk(b"IDAT", data[a:b]) for a, b in itertools.pairwise(ends)]
    return png.SIGNATURE + chunk(b"IHDR", header) + b"".join((*more, *parts, chunk(b"IEND")))


def random_file(chance, colour=None, bits=None, interlaced=None):
    """Return a PNG file of random kind, sides, filters, chunks and level."""
    colour = int(chance.choice(list(KINDS))) if colour is None else colour
    depths = DEPTHS[colour] if chance.random() < 0.6 else (8,)
    bits = int(chance.choice(depths)) if bits is None else bits
    height, width = chance.integers(1, 24, 2).tolist()
    interlaced = bool(chance.random() < 0.2) if interlaced is None else interlaced
    shape = (height, width, KINDS[colour]) if KINDS[colour] > 1 else (height, width)
    stored = chance.integers(0, 2**bits, shape).astype(np.uint16 if bits == 16 else np.uint8)
    if chance.random() < 0.5:
        stored[:, width // 2 :] = stored[0, 0]
    more = []
    if colour == 3:
        more.append(chunk(b"PLTE", chance.bytes(3 * 2**bits)))
    if chance.random() < 0.3 and colour in (0, 2, 3):
        more.append(chunk(b"tRNS", chance.bytes(1) if colour == 3 else bytes(2 * KINDS[colour])))
    if chance.random() < 0.2:
        more.append(chunk(b"eXIf", odd_files.exif(int(chance.integers(1, 9)))))
    if interlaced:
        data = zlib.decompress(odd_files.png(stored, bits, colour, interlaced=True)[41:-16])
    else:
        plain = odd_files.packed_rows(stored, bits)
        length = len(plain) // height
        rows = [plain[at + 1 : at + length] for at in range(0, len(plain), length)]
        data = filtered(rows, max(1, KINDS[colour] * bits // 8), chance)
    packed = zlib.compress(data, int(chance.integers(10)))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    splits = chance.integers(0, len(packed), int(chance.integers(3))).tolist()
    return written(header, packed, more=more, splits=splits)


def a_region(chance, height, width):
    def side(length):
        low, high = sorted(chance.choice(length + 1, 2, replace=False).tolist())
        return slice(low, high)

    return side(height), side(width)


def opened(content, reading):
    with lazy.one_part():
        return large.open_image(content, name="x.png", reading=reading)


def test_a_part_is_that_of_the_whole_in_every_kind_of_file():
    chance, parts = np.random.default_rng(0), 0
    for number in range(250):
        content = random_file(chance)
        dtype = "uint16" if content[24] == 16 else "uint8"
        exif, channels = bool(number % 2), int(chance.choice([1, 3]))
        reading = Reading(channels=channels, exif=exif, dtype=dtype)
        whole = decode.read_image(content, name="x", **reading.of_pictures)
        image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        if channels == 3 and content[24] == 8 and not exif:
            np.testing.assert_array_equal(whole, image)
        found = opened(content, reading)
        assert found.shape == whole.shape and found.dtype == whole.dtype
        parts += isinstance(found, Lazy)
        for region in (a_region(chance, *whole.shape[:2]) for _ in range(3)):
            np.testing.assert_array_equal(found[region], whole[region])
    assert parts > 60


@pytest.mark.parametrize("colour", png.BANDS)
def test_pixels_are_pillows(colour):
    chance = np.random.default_rng(1)
    for _ in range(25):
        content = random_file(chance, colour, 8, False)
        expected = np.asarray(Image.open(io.BytesIO(content)))
        expected = expected if expected.ndim == 3 else expected[..., None]
        np.testing.assert_array_equal(png.decode(content), expected)
        region = a_region(chance, *expected.shape[:2])
        np.testing.assert_array_equal(png.decode(content, *region), expected[region])


def outcome(content, *region, parts=True):
    """Return the bytes of a part of an image, or that it was refused."""
    try:
        with lazy.one_part() if parts else contextlib.nullcontext():
            return large.open_image(content, **OPEN)[region].tobytes()
    except DataError as error:
        assert "\n" not in str(error) and str(error).startswith("x.png: ")
        return "refused"


def test_what_was_damaged_or_cut_off_is_refused_where_the_whole_is():
    """Wherever it was, also below the part; a byte that no decoder looks at changes nothing."""
    chance, refused = np.random.default_rng(2), 0
    for _ in range(150):
        content = bytearray(random_file(chance, 2, 8, False))
        width = struct.unpack(">I", content[16:20])[0]
        if chance.random() < 0.5:
            del content[int(chance.integers(33, len(content))) :]
        else:
            content[int(chance.integers(33, len(content)))] ^= int(chance.integers(1, 256))
        top = slice(0, 1), slice(0, width)
        seen = outcome(bytes(content), *top)
        assert seen == outcome(bytes(content), *top, parts=False)
        refused += seen == "refused"
    assert refused > 100


def test_what_a_program_wrote_wrongly_is_seen_where_it_is_asked_for():
    header = struct.pack(">IIBBBBB", 5, 4, 8, 2, 0, 0, 0)
    rows = bytes(3 * 16) + b"\x09" + bytes(15)
    sum_wrong = zlib.compress(bytes(4 * 16))[:-4] + bytes(4)
    for data in (zlib.compress(rows[:48]), zlib.compress(rows), sum_wrong):
        content = written(header, data)
        assert outcome(content, slice(0, 3)) == bytes(45)
        refused = outcome(content, slice(3, 4), parts=False) == "refused"
        assert refused == (outcome(content, slice(3, 4)) == "refused")
    for odd in (bytes(5 * 16), bytes(4 * 16) + b"\0"):
        with pytest.raises(ValueError, match="more rows"):
            png.decode(written(header, zlib.compress(odd)))


def test_a_second_part_reads_the_file_whole_once(monkeypatch):
    header, reads = struct.pack(">IIBBBBB", 5, 4, 8, 6, 0, 0, 0), []
    pixels = np.random.default_rng(4).integers(0, 256, (4, 20))
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in pixels)
    content = written(header, zlib.compress(rows))
    whole = png.decode(content)[..., :3]
    found, read = opened(content, OPEN["reading"]), raster.open_image
    monkeypatch.setattr(raster, "open_image", lambda stream: reads.append(0) or read(stream))
    for row in (0, 1, 0):
        np.testing.assert_array_equal(found[row : row + 1], whole[row : row + 1])
    assert len(reads) == 1


def save_examples(root):
    chance = np.random.default_rng(3)
    for number in range(4):
        image = chance.integers(0, 256, (60, 80, 3)).astype(np.uint8)
        for kind, array in (("images", image), ("labels", image[..., 0] % 3)):
            (root / "train" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / f"train/{kind}/{number}.png")


def test_windows_read_of_images_what_they_need(tmp_path, monkeypatch):
    """And the same whether they do, whether the label is looked through, or all is kept."""
    save_examples(tmp_path)
    source = folder.Source(split="train", root=str(tmp_path), class_names=("a", "b", "c"))
    schema, asked, read = core.choose_fields(source.schema), [], png.decode
    monkeypatch.setattr(windows, "OPEN", 0)
    monkeypatch.setattr(png, "decode", lambda *given: asked.append(given[1:]) or read(*given))

    def batches(**options):
        options = {"seed": 0, "threads": 0, "batch_size": 4, "size": (24, 32)} | options
        stream = pipeline.train_batches(source, schema=schema, fit="window", **options)
        return [next(stream) for _ in range(3)]

    parts = batches()
    assert len(asked) == 12 and {r.stop - r.start for r, _ in asked} == {24}
    assert {c.stop - c.start for _, c in asked} == {32} and len({r.stop for r, _ in asked}) > 3
    asked.clear()
    kept = batches(cache=True)
    assert asked == [()] * 4
    monkeypatch.setattr(lazy, "LARGE", 100)
    wholes = [kept, batches()]
    monkeypatch.undo()
    wholes.append(batches(threads=2))
    for found, one in itertools.product(wholes, range(3)):
        for name in ("image", "label"):
            np.testing.assert_array_equal(found[one][name], parts[one][name])
    share = windows.Sampling(1.0, (2,))
    for found, one in zip(batches(window=share), batches(window=share, cache=True), strict=True):
        np.testing.assert_array_equal(found["image"], one["image"])


def test_only_who_wants_one_part_gets_one(tmp_path):
    save_examples(tmp_path)
    source = folder.Source(split="train", root=str(tmp_path), class_names=("a", "b", "c"))
    assert isinstance(source[0]["image"], np.ndarray)
    with lazy.one_part():
        assert isinstance(source[0]["image"], Lazy) and isinstance(source[0]["label"], np.ndarray)
    assert isinstance(source[0]["image"], np.ndarray)

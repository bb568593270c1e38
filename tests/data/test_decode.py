"""What an image file becomes under the options of a data set; see also `test_odd_files`."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageFile

from segjax.data import decode, folder, raster
from segjax.errors import ConfigError, DataError
from tests.data import odd_files


def read(content, **options):
    return decode.read_image(content, name="x", **{"channels": 1} | options)


def refused(content, *words, **options):
    with pytest.raises(DataError) as caught:
        read(content, **options)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def png16(values, **chunks):
    return odd_files.png(np.array(values, np.uint16), 16, 0, **chunks)


def tiff16(values, largest=0, dtype="uint16"):
    tags = [(281, "H", 1, largest, True)] if largest else []
    return odd_files.tiff(np.array(values, dtype), extratags=tags)


WIDENED, DARK, WIDE = [[0, 257, 65535]], [[0, 3, 255]], [[0, 256, 4095]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png16(WIDENED), [0, 1, 255]),
        (tiff16(WIDENED, largest=65535), [0, 1, 255]),
        (png16(DARK), [0, 3, 255]),
        (tiff16(DARK), [0, 3, 255]),
        (tiff16(DARK, largest=255), [0, 3, 255]),
        (tiff16(DARK, dtype="int32"), [0, 3, 255]),
        (png16([[0, 256, 65280]], sBIT=b"\x08"), [0, 1, 255]),
        (png16([[0, 0x5A5A]], sBIT=b"\x04"), [0, 0x5A]),
    ],
)
def test_wider_files_are_8_bits_where_nothing_is_lost(content, expected):
    """The rule of dtype='uint8': significant bits decide, declared ones before the values."""
    assert read(content)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    "content",
    [png16(WIDE), tiff16(WIDE), tiff16(DARK, largest=4095), png16(WIDE, sBIT=b"\x0c"),
     png16(DARK, sBIT=b"\x0c"), tiff16(WIDE, dtype="int32"), tiff16(WIDE, dtype="int16")],
)  # fmt: skip
def test_wider_files_say_what_to_set_where_values_would_be_lost(content):
    """They were divided by 257: 12 bits in 16 became 16 grey levels."""
    refused(content, "dtype='uint8'", "Set dtype='uint16'")
    kept = read(content, dtype="uint16")
    assert kept.dtype == np.uint16 and kept[0, 1, 0] in (3, 256) and kept.max() in (255, 4095)


@pytest.mark.parametrize(
    ("values", "dtype", "fits"),
    [
        ([[-5, 9]], "int16", "int16"), ([[0, 70000]], "uint32", "float32"),
        ([[-1, 1]], "int8", "int16"), ([[-1, 40000]], "int32", "float32"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_say_which_type_keeps_them(values, dtype, fits):
    content = odd_files.tiff(np.array(values, dtype))
    refused(content, f"Set dtype={fits!r}")
    assert read(content, dtype=fits)[0, :, 0].tolist() == values[0]
    assert read(content, dtype="float32")[0, :, 0].tolist() == values[0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_8_bits_are_refused_among_16(bits):
    content = odd_files.png(odd_files.values(bits), bits, 0)
    refused(content, f"{bits} bit", "dtype='float32'", dtype="uint16")
    kept = read(content, dtype="float32")
    np.testing.assert_array_equal(kept[..., 0], odd_files.values(bits))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_floats_must_be_finite_in_float32(bad):
    content = odd_files.tiff(np.array([[0, bad]]))
    refused(content, "NaN or infinite", dtype="float32")
    refused(content, "floating-point pixels", "dtype='float32'")


def test_unknown_dtype_is_a_config_error():
    for dtype in ("int32", "float64", "8"):
        with pytest.raises(ConfigError, match="uint8, uint16, int16, float32"):
            decode.Reading(dtype=dtype)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_orientation_is_honoured_or_not_in_every_format(form):
    """exif=False gives the pixels as stored, for images and masks."""
    y, x = np.mgrid[:24, :40]
    stored = (x * 4 + y).astype(np.uint8)
    for turn in range(1, 9):
        tag = Image.Exif()
        tag[0x0112] = turn
        stream = io.BytesIO()
        options = (
            {"quality": 95} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
        )
        Image.fromarray(stored).save(stream, form, exif=tag, **options)
        for exif, expected in ((False, stored), (True, odd_files.turned(stored, turn))):
            found = read(stream.getvalue(), exif=exif)[..., 0].astype(int)
            assert found.shape == expected.shape
            assert np.abs(found - expected).mean() <= (2 if form == "JPEG" else 0)
            if form in ("PNG", "TIFF"):
                label = decode.read_label(stream.getvalue(), name="x", exif=exif)
                np.testing.assert_array_equal(label, expected)


def test_grey_of_colours_is_pillows():
    rgb = odd_files.values(8, 3)
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    np.testing.assert_array_equal(
        read(stream.getvalue())[..., 0], Image.fromarray(rgb).convert("L")
    )
    wide = odd_files.tiff(rgb.astype(np.uint16) * 257, photometric="rgb")
    grey = read(wide, dtype="uint16")[..., 0] / 257
    assert np.abs(grey - np.asarray(Image.fromarray(rgb).convert("L"))).max() <= 0.51
    floats = odd_files.tiff(rgb.astype(np.float32), photometric="rgb")
    grey = read(floats, dtype="float32")[..., 0]
    np.testing.assert_allclose(grey, rgb @ [0.299, 0.587, 0.114], atol=2e-3)


@pytest.mark.parametrize("bands", [3, 4, 5, 8])
def test_channels_are_the_files_bands(bands):
    """RGB with more bands keeps all of them with channels=bands; 3 takes those that are RGB."""
    stored = odd_files.values(8, bands)
    extras = ("unspecified",) * (bands - 3) or None
    for photometric in ("rgb", "minisblack"):
        more = {"extrasamples": extras} if photometric == "rgb" else {}
        content = odd_files.tiff(stored, photometric=photometric, planarconfig="contig", **more)
        np.testing.assert_array_equal(read(content, channels=bands), stored)
        assert decode.native_channels(content, name="x") == bands
        if photometric == "rgb":
            np.testing.assert_array_equal(read(content, channels=3), stored[..., :3])
        elif bands > 3:
            refused(content, f"{bands} bands", f"channels={bands}", channels=3)


def header_of(form, height, width):
    """Return a file of the format that claims a size, and hardly more than that."""
    small = np.zeros((8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, form)
    content = stream.getvalue()
    if form == "PNG":
        return odd_files.png_of_size(height, width)
    if form == "BMP":
        return content[:18] + struct.pack("<ii", width, height) + content[26:]
    entries = {256: width, 257: height, 278: height}
    start = struct.unpack("<I", content[4:8])[0]
    for at in range(start + 2, start + 2 + 12 * struct.unpack("<H", content[start:][:2])[0], 12):
        tag = struct.unpack("<H", content[at : at + 2])[0]
        if tag in entries:
            entry = struct.pack("<HHII", tag, 4, 1, entries[tag])
            content = content[:at] + entry + content[at + 12 :]
    return content


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_more_than_the_limit_is_refused_by_the_header(form, monkeypatch):
    """What it is, the limit, and what to do; nothing is decoded, whatever the file claims."""
    content = header_of(form, 60000, 50000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    refused(content, "60000x50000 pixels", "the limit is 1,024 MiB", "Cut it into tiles")
    with pytest.raises(DataError, match="Cut it into tiles"):
        decode.read_label(content, name="x")


def test_beyond_179_megapixels_is_read():
    """Pillow's own limit is on pixels, whatever they need."""
    stored = np.zeros((13400, 13400), bool)  # 180 million
    stored[-1, -1] = True
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG")
    label = decode.read_label(stream.getvalue(), name="x")
    assert label.shape == stored.shape and label[-1, -1] == 1 and label.nbytes < raster.MAX_BYTES


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_data_set_carries_the_type(tmp_path, dtype):
    stored = odd_files.values(8).astype(dtype)
    for kind, array in (
        ("images", stored * (257 if dtype == "uint16" else 1)),
        ("labels", stored > 9),
    ):
        (tmp_path / "train" / kind).mkdir(parents=True)
        content = odd_files.tiff(array.astype(stored.dtype if kind == "images" else np.uint8))
        (tmp_path / f"train/{kind}/a.tif").write_bytes(content)
    options = {"split": "train", "root": str(tmp_path), "class_names": ("a", "b")}
    source = folder.Source(dtype=dtype, **options)
    assert source.schema["image"].dtype == dtype == source[0]["image"].dtype
    np.testing.assert_array_equal(
        source[0]["image"][..., 0], stored * (257 if dtype == "uint16" else 1)
    )


def smooth(bands, size=(60, 75)):
    """Return an image of gradients, which JPEG keeps detail of."""
    y, x = np.mgrid[: size[0], : size[1]]
    planes = [(x * (2 + c) + y * (3 - c) + 20 * np.sin(x / 3 + c)) % 256 for c in range(bands)]
    return np.stack(planes, axis=-1).astype(np.uint8)


SAVED = {
    "png grey": (1, "PNG", {}),
    "png": (3, "PNG", {}),
    "png, chosen colour": (3, "PNG", dict(transparency=(0, 0, 0))),
    "jpeg grey": (1, "JPEG", {}),
    "jpeg": (3, "JPEG", dict(quality=90)),
    "jpeg, full colour": (3, "JPEG", dict(quality=95, subsampling=0)),
    "jpeg, 4:2:2": (3, "JPEG", dict(quality=70, subsampling=1)),
    "jpeg, progressive": (3, "JPEG", dict(progressive=True, optimize=True)),
    "jpeg, RGB": (3, "JPEG", dict(keep_rgb=True)),
    "jpeg, restarts": (3, "JPEG", dict(restart_marker_rows=1)),
    "jpeg, data behind": (3, "JPEG", dict(behind=b"more")),
}


def saved(kind):
    bands, name, options = SAVED[kind]
    behind = dict(options).pop("behind", b"")
    stream, image = io.BytesIO(), smooth(bands)
    image = Image.fromarray(image[..., 0] if bands == 1 else image)
    image.save(stream, name, **{k: v for k, v in options.items() if k != "behind"})
    return stream.getvalue() + behind, bands


def pillow(content):
    """Return Pillow's pixels; None where it sees that the file is broken."""
    try:
        found = np.asarray(Image.open(io.BytesIO(content)))
    except Exception:
        return None
    return found[..., None] if found.ndim == 2 else found


@pytest.mark.parametrize("kind", SAVED)
def test_quick_decoders_give_what_pillow_gives(kind):
    """The same pixels, and an error for the same files: cut off anywhere, or with bytes changed."""
    content, bands = saved(kind)
    found = read(content, channels=bands)
    np.testing.assert_array_equal(found, pillow(content))
    chance = np.random.default_rng(0)
    broken = [content[:end] for end in chance.integers(len(content) // 3, len(content), 15)]
    for _ in range(25):
        changed = bytearray(content)
        changed[int(chance.integers(len(content) // 3, len(content)))] ^= int(
            chance.integers(1, 256)
        )
        broken.append(bytes(changed))
    seen = {True: 0, False: 0}
    for each in broken:
        expected = pillow(each)
        seen[expected is None] += 1
        if expected is None:
            refused(each, "x: ", channels=bands)
        else:
            np.testing.assert_array_equal(read(each, channels=bands), expected)
    assert seen[True] >= 10

"""The rule: a part of a large file holds what the same part of the whole one does."""

import numpy as np
import pytest
import tifffile

from segjax.data import core, decode, folder, large, lazy, raster
from segjax.data.lazy import Lazy
from segjax.errors import DataError

RANDOM = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(150), np.arange(200))[..., None] // np.array([2, 3, 5])

WRITTEN = {
    "strips": ((3, "uint8"), dict(rowsperstrip=7)),
    "strips, deflate": ((3, "uint8"), dict(rowsperstrip=7, compression="zlib", predictor=True)),
    "tiles": ((3, "uint8"), dict(tile=(32, 48))),
    "tiles, LZW": ((3, "uint8"), dict(tile=(32, 48), compression="lzw")),
    "tiles, JPEG": ((3, "uint8"), dict(tile=(32, 48), compression="jpeg")),
    "planes": ((3, "uint8"), dict(tile=(32, 48), planarconfig="separate", compression="zlib")),
    "planes, plain": ((3, "uint8"), dict(planarconfig="separate")),
    "grey": ((1, "uint8"), dict(tile=(64, 64), compression="zlib")),
    "big-endian": ((1, "uint16"), dict(byteorder=">", tile=(64, 64), compression="zlib")),
    "big-endian, plain": ((1, "uint16"), dict(byteorder=">")),
    "BigTIFF": ((1, "uint16"), dict(bigtiff=True, rowsperstrip=16)),
    "floats": (
        (2, "float32"),
        dict(tile=(64, 64), compression="zlib", predictor=True, planarconfig="contig"),
    ),
    "six bands": ((6, "uint16"), dict(tile=(32, 32), planarconfig="contig")),
}


def save(path, bands, dtype, **options):
    pixels = SMOOTH if bands == 3 else RANDOM.integers(0, 250, (150, 200, bands))
    pixels = (pixels % 251).astype(dtype)
    if options.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, -1, 0)
    photometric = "rgb" if bands == 3 else "minisblack"
    pixels = pixels[..., 0] if bands == 1 else pixels
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, **options)


REGIONS = [
    (slice(0, 150), slice(0, 200)),
    (slice(0, 1), slice(0, 1)),
    (slice(31, 65), slice(47, 97)),
    (slice(149, 150), slice(190, 200)),
    (slice(100, 400), slice(150, 400)),
]


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        (kind, channels)
        for kind, ((bands, _), _) in WRITTEN.items()
        for channels in ((0, 1, 3) if bands in (1, 3) else (0,))  # no rule makes them colours
    ],
)
def test_a_part_is_that_of_the_whole(kind, channels, tmp_path, monkeypatch):
    (bands, dtype), options = WRITTEN[kind]
    file = tmp_path / "x.tif"
    save(file, bands, dtype, **options)
    reading = decode.Reading(channels=channels or bands, dtype=dtype)
    whole = decode.read_image(file, name="x.tif", **reading.of_pictures)
    same = large.open_image(file, name="x.tif", reading=reading)
    assert isinstance(same, np.ndarray)  # a small file
    monkeypatch.setattr(lazy, "LARGE", 1000)
    found = large.open_image(file, name="x.tif", reading=reading)
    assert isinstance(found, Lazy)
    assert found.shape == whole.shape and found.dtype == whole.dtype
    assert found.nbytes == whole.nbytes
    for region in REGIONS:
        np.testing.assert_array_equal(found[region], whole[region])
    np.testing.assert_array_equal(found[3:9], whole[3:9])
    np.testing.assert_array_equal(np.asarray(found), whole)
    np.testing.assert_array_equal(lazy.thinned(found, 7, dims=2), whole[::7, ::7])


def test_few_parts_are_kept(tmp_path, monkeypatch):
    from segjax.data import tiff_parts

    save(tmp_path / "x.tif", 3, "uint8", tile=(32, 48), compression="zlib")
    monkeypatch.setattr(lazy, "LARGE", 1000)
    monkeypatch.setattr(tiff_parts, "CACHE_BYTES", 3 * 32 * 48 * 3)
    parts = large._parts(tmp_path / "x.tif", name="x.tif", exif=True)
    for _ in range(2):
        parts.read((slice(0, 150), slice(0, 200)))
        assert len(parts.kept) == 3 and parts.used <= tiff_parts.CACHE_BYTES


WHOLE = {
    "turned": dict(extratags=[(274, 3, 1, 6, True)]),
    "one strip": dict(rowsperstrip=150, compression="zlib"),
    "widened": dict(),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_what_has_no_parts_is_read_whole(kind, tmp_path, monkeypatch):
    """Turned by its tag, of one large strip, or of values that only all others explain."""
    from segjax.data import tiff

    file, dtype = tmp_path / "x.tif", "uint16" if kind == "widened" else "uint8"
    pixels = RANDOM.integers(0, 250, (150, 200)).astype(dtype)
    tifffile.imwrite(file, pixels * 257 if kind == "widened" else pixels, **WHOLE[kind])
    monkeypatch.setattr(lazy, "LARGE", 1000)
    monkeypatch.setattr(tiff, "MAX_SEGMENT_BYTES", 20000)
    found = large.open_image(file, name="x.tif", reading=decode.Reading(channels=1))
    assert isinstance(found, np.ndarray)
    expected = np.rot90(pixels, -1) if kind == "turned" else pixels
    np.testing.assert_array_equal(found[..., 0], expected)


def test_masks_are_checked_where_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "LARGE", 1000)
    for part in ("images", "labels"):
        (tmp_path / "val" / part).mkdir(parents=True)
    (tmp_path / "meta.json").write_text('{"class_names": ["a", "b"], "ignore_index": 9}')
    save(tmp_path / "val/images/x.tif", 3, "uint8", tile=(64, 64), compression="zlib")
    label = RANDOM.integers(0, 2, (150, 200), np.uint8)
    label[3, 4], label[140, 7] = 9, 5
    options = dict(tile=(64, 64), compression="zlib")
    tifffile.imwrite(tmp_path / "val/labels/x.tif", label, **options)
    example = folder.Source(split="val", root=str(tmp_path))[0]
    assert example["label"].shape == (150, 200) and example["label"].dtype == np.uint8
    part = example["label"][:64, :64]
    assert part[3, 4] == 255 and set(np.unique(part)) == {0, 1, 255}
    with pytest.raises(DataError, match=r"labels/x.tif: label value 5 in 1 pixels"):
        example["label"][130:150]
    tifffile.imwrite(tmp_path / "val/labels/x.tif", label[:100], **options)
    with pytest.raises(DataError, match="the mask is 100x200"):
        folder.Source(split="val", root=str(tmp_path))[0]


def test_a_broken_part_names_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "LARGE", 1000)
    file = tmp_path / "x.tif"
    save(file, 3, "uint8", tile=(32, 48), compression="zlib")
    content = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as opened:
        start, count = opened.pages[0].dataoffsets[3], opened.pages[0].databytecounts[3]
    content[start : start + count] = b"\xff" * count
    file.write_bytes(bytes(content))
    found = large.open_image(file, name="x.tif", reading=decode.Reading())
    found[:32, :100]
    with pytest.raises(DataError, match=r"x\.tif: cannot be read"):
        found[:32, 140:190]


def test_all_of_a_huge_array_is_refused():
    array = Lazy((1 << 20, 1 << 20), np.uint8, lambda region: np.zeros(1), name="x.tif")
    with pytest.raises(DataError, match="x.tif: 1048576x1048576 values of uint8 take"):
        np.asarray(array)
    assert raster.MAX_BYTES < array.nbytes


def test_whole_lazy_fields_are_fitted_for_training(tmp_path, monkeypatch):
    from segjax.data import fit

    monkeypatch.setattr(lazy, "LARGE", 1000)
    save(tmp_path / "x.tif", 3, "uint8", tile=(32, 48), compression="zlib")
    image = large.open_image(tmp_path / "x.tif", name="x", reading=decode.Reading())
    label = np.zeros((150, 200), np.uint8)
    options = dict(schema=core.semantic_schema(3), size=(64, 64), fit="resize")
    found = fit.fit_example({"image": image, "label": label, "name": "x"}, **options)
    own = fit.fit_example({"image": np.asarray(image), "label": label, "name": "x"}, **options)
    np.testing.assert_array_equal(found["image"], own["image"])

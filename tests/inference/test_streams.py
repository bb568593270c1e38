"""What is written a part at a time reads back as the whole."""

import itertools
import resource

import numpy as np
import pytest
import tensorstore
import tifffile

from segjax.data import decode
from segjax.errors import UserError
from segjax.inference import streams

PALETTE = ((0, 0, 0), (255, 0, 0), (0, 255, 10))


def cut(array, sides, dims):
    """Yield an array in parts, in order, of uneven sides."""
    spans = [
        [slice(a, min(a + side, length)) for a in range(0, length, side)]
        for length, side in zip(array.shape[:dims], sides, strict=True)
    ]
    for region in itertools.product(*spans):
        yield region, array[region]


@pytest.mark.parametrize("size", [(256, 256), (1, 1), (300, 700), (1000, 90), (513, 257)])
@pytest.mark.parametrize("sides", [(100, 130), (400, 512), (7, 1000)])
def test_a_tiff_holds_the_classes(size, sides, tmp_path):
    label = np.random.default_rng(0).integers(0, 3, size).astype(np.uint8)
    streams.write_tiff(tmp_path / "x.tif", cut(label, sides, 2), size, palette=PALETTE)
    np.testing.assert_array_equal(decode.read_label(tmp_path / "x.tif", name="x"), label)
    colours = decode.read_image(tmp_path / "x.tif", name="x")
    np.testing.assert_array_equal(colours, np.array(PALETTE, np.uint8)[label])
    with tifffile.TiffFile(tmp_path / "x.tif") as opened:
        assert opened.pages[0].is_tiled and not opened.is_bigtiff
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]


@pytest.mark.parametrize("size", [(300, 270, 3), (40, 50, 60, 2), (1000,)])
def test_zarr_and_npy_hold_an_array(size, tmp_path):
    dims = len(size) - (len(size) > 1)
    array = np.random.default_rng(0).normal(size=size).astype(np.float32)
    sides = (100, 37, 33)[:dims]
    streams.write_zarr(tmp_path / "x.zarr", cut(array, sides, dims), size, "float32", dims=dims)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "x.zarr")}}
    found = tensorstore.open(spec).result().read().result()
    np.testing.assert_array_equal(found, array)
    streams.write_npy(tmp_path / "x.npy", cut(array, sides, dims), size, "float32")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), array)


def test_a_failure_leaves_nothing(tmp_path):
    def tiles():
        yield (slice(0, 100), slice(0, 50)), np.zeros((100, 50), np.uint8)
        raise UserError("disk")

    with pytest.raises(UserError, match="disk"):
        streams.write_tiff(tmp_path / "x.tif", tiles(), (300, 50), palette=PALETTE)
    assert not list(tmp_path.iterdir())


def test_only_a_band_is_held(tmp_path):
    """Of 64 times the memory that tiles take, none is used."""
    side, count = 512, 16
    tile = np.zeros((side, side), np.uint8)

    def tiles(rows):
        for y, x in itertools.product(range(rows), range(count)):
            yield (slice(y * side, (y + 1) * side), slice(x * side, (x + 1) * side)), tile

    streams.write_tiff(tmp_path / "a.tif", tiles(4), (4 * side, count * side), palette=PALETTE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole = (64 * side, count * side)
    streams.write_tiff(tmp_path / "b.tif", tiles(64), whole, palette=PALETTE)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) << 10 < whole[0] * whole[1] / 8

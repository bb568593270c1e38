"""Files that are no pictures are read as their own libraries read them, whole and in parts.

The rule for all: the values are the file's own, axes go from the slowest to the fastest, channels
come last, a part is that part of the whole, and a broken file is one line that names it.
"""

import gzip
import itertools
import json
import os
import pathlib
import struct
import zipfile

import numpy as np
import pytest
import tensorstore
import tifffile
from scipy.io import wavfile

from configs import cloudmask
from segjax.config import sections
from segjax.data import decode, folder, native, opening
from segjax.data.lazy import Lazy
from segjax.data.readers import nifti
from segjax.errors import ConfigError, DataError
from tests.data import dicom_files

nibabel = pytest.importorskip("nibabel", reason="pip install 'segjax[medical]'")

RNG = np.random.default_rng(0)
AFFINE = np.array([[0, -1.5, 0, 10], [0.9, 0, 0, -3], [0, 0, 2, 7], [0, 0, 0, 1.0]])
VOLUME = RNG.integers(-1000, 2000, (4, 5, 7)).astype(np.int16)  # [depth height width]
COLOURS = RNG.integers(0, 256, (4, 5, 7, 3)).astype(np.uint8)


def save_nifti(file: pathlib.Path, array: np.ndarray, **header) -> None:
    """Save [depth height width (channels)] with nibabel, which has the fastest axis first."""
    stored = array.transpose(2, 1, 0, *range(3, array.ndim))
    kind = nibabel.Nifti2Image if header.pop("second", False) else nibabel.Nifti1Image
    own = header.pop("header", None)
    image = kind(stored, AFFINE, own, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, file)


def save_zarr(file: pathlib.Path, array: np.ndarray, *, driver: str = "zarr3") -> None:
    where = {"driver": "file", "path": f"{file}/"}
    store = tensorstore.open(
        {"driver": driver, "kvstore": where}, create=True, dtype=array.dtype, shape=array.shape
    ).result()
    store[...] = array


def save_group(file: pathlib.Path, array: np.ndarray) -> None:
    """Save an OME-NGFF image of two resolutions."""
    save_zarr(file / "0", array)
    save_zarr(file / "1", array[::2])
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scales = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [3.0 * (1 + level), 1.0, 0.5]}
            ],
        }
        for level in range(2)
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": scales}]}
    about = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (file / "zarr.json").write_text(json.dumps(about))


def big(file: pathlib.Path, array: np.ndarray) -> None:
    save_nifti(file, array, header=nibabel.Nifti1Header(endianness=">"))


WRITERS = {
    "nii": (".nii", VOLUME, save_nifti),
    "nii.gz": (".nii.gz", VOLUME, save_nifti),
    "NIfTI-2": (".nii", VOLUME, lambda f, a: save_nifti(f, a, second=True)),
    "big-endian": (".nii", VOLUME, big),
    "channels": (".nii.gz", COLOURS, save_nifti),
    "float64": (".nii", VOLUME / 8, save_nifti),
    "npy": (".npy", VOLUME, np.save),
    "npy by column": (".npy", np.asfortranarray(VOLUME), np.save),
    "npz": (".npz", VOLUME, lambda f, a: np.savez_compressed(f, scan=a)),
    "zarr": (".zarr", VOLUME, save_zarr),
    "zarr 2": (".zarr", VOLUME, lambda f, a: save_zarr(f, a, driver="zarr")),
    "OME-NGFF": (".zarr", VOLUME, save_group),
    "pages": (".tif", VOLUME, lambda f, a: tifffile.imwrite(f, a, photometric="minisblack")),
    "ImageJ": (
        ".tif", VOLUME.astype(np.uint16),
        lambda f, a: tifffile.imwrite(
            f, a, imagej=True, resolution=(2.0, 1.0),
            metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"},
        ),
    ),
    "colour pages": (
        ".tif", COLOURS, lambda f, a: tifffile.imwrite(f, a, photometric="rgb", compression="zlib")
    ),
    "channel pages": (
        ".tif", COLOURS,
        lambda f, a: tifffile.imwrite(f, a.transpose(0, 3, 1, 2), imagej=True,
                                      metadata={"axes": "ZCYX"}),
    ),
    "series": ("", VOLUME, dicom_files.save_series),
    "frames": (".dcm", VOLUME, dicom_files.save_frames),
}  # fmt: skip


def reading(array: np.ndarray, **more) -> decode.Reading:
    channels = array.shape[3] if array.ndim == 4 else 1
    dtype = "float32" if array.dtype.kind == "f" else array.dtype.name
    return decode.Reading(channels=channels, dtype=dtype, dims=3, **more)


@pytest.mark.parametrize("kind", WRITERS)
def test_values_are_those_that_were_written(kind, tmp_path, monkeypatch):
    ending, array, write = WRITERS[kind]
    file = tmp_path / f"a{ending}"
    write(file, array)
    how = reading(array)
    channels, dtype = native.channels_and_type(file, how)
    assert (channels, dtype) == (how.channels, how.dtype)
    wanted = array.reshape(*array.shape[:3], -1).astype(how.dtype)
    image = opening.open_image(file, how)
    np.testing.assert_array_equal(image.array, wanted)
    assert image.array.dtype == how.dtype and opening.check_header(file, how) == (4, 5, 7)
    monkeypatch.setattr("segjax.data.lazy.LARGE", 1)
    region = (slice(1, 3), slice(0, 5), slice(2, 6))
    np.testing.assert_array_equal(opening.open_image(file, how).array[region], wanted[region])
    if array.ndim == 3 and kind not in ("series", "frames"):
        np.testing.assert_array_equal(opening.open_label(file, how, image).array, array) if (
            array.dtype.kind != "f"
        ) else pytest.raises(DataError, np.asarray, opening.open_label(file, how, image).array)


@pytest.mark.parametrize("kind", [k for k, (_, a, _) in WRITERS.items() if a.ndim == 3])
def test_a_broken_file_is_one_line_that_names_it(kind, tmp_path):
    """Cut short at any place, or another kind of file by that name."""
    ending, array, write = WRITERS[kind]
    file = tmp_path / f"a{ending}"
    write(file, array)
    broken = max(
        (p for p in [file, *file.rglob("*")] if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = broken.read_bytes()
    for part in (b"", content[:3], content[: len(content) // 2], content[:-1], b"x" * 4096):
        broken.write_bytes(part)
        try:
            image = np.asarray(opening.open_image(file, reading(array)).array)
        except DataError as error:
            assert str(file) in str(error) and "\n" not in str(error)
        else:  # what is cut off held no pixels
            assert part == content[:-1], f"{len(part)} of {len(content)} bytes"
            np.testing.assert_array_equal(image[..., 0], array)


def test_gzip_is_unpacked_as_far_as_a_part_needs_it(tmp_path):
    """In whatever steps, of one member or of several; each byte once."""
    file = tmp_path / "a.nii.gz"
    save_nifti(file, VOLUME)
    content = gzip.decompress(file.read_bytes())
    cuts = [0, 100, 352, 500, len(content)]
    members = [gzip.compress(content[a:b]) for a, b in itertools.pairwise(cuts)]
    for packed in (file.read_bytes(), b"".join(members)):
        file.write_bytes(packed)
        image = opening.open_image(file, reading(VOLUME)).array
        assert isinstance(image, Lazy)
        for region in (slice(0, 1), slice(2, 3), slice(0, 4), slice(1, 2)):
            np.testing.assert_array_equal(image[region][..., 0], VOLUME[region])
    unzipped = nifti.Unzipped(file, len(content))
    assert bytes(unzipped(10)) == content[:10] and unzipped.done < len(content) + 1
    with pytest.raises(ValueError, match="its header says"):
        nifti.Unzipped(file, len(content) + 1)(len(content) + 1)


def test_grids_are_read_in_the_order_of_the_axes(tmp_path):
    file = tmp_path / "a.nii.gz"
    save_nifti(file, VOLUME)
    place = opening.open_image(file, reading(VOLUME)).geometry
    np.testing.assert_allclose(place.spacing, (2, 1.5, 0.9), rtol=1e-6)
    at = nibabel.load(file).affine @ [6, 3, 2, 1]
    np.testing.assert_allclose(place.affine @ [2, 3, 6, 1], at)
    assert place.unit == "mm"
    save_group(tmp_path / "g.zarr", VOLUME)
    place = opening.open_image(tmp_path / "g.zarr", reading(VOLUME)).geometry
    assert place.spacing == (3.0, 1.0, 0.5) and place.unit == "µm"
    WRITERS["ImageJ"][2](tmp_path / "j.tif", VOLUME.astype(np.uint16))
    place = opening.open_image(tmp_path / "j.tif", reading(VOLUME.astype(np.uint16))).geometry
    np.testing.assert_allclose(place.spacing, (3.0, 1.0, 0.5))


@pytest.mark.parametrize("kind", ["series", "frames"])
def test_a_series_lies_where_nifti_would_say_it_does(kind, tmp_path):
    """Planes in the order of their places, whatever the files are called; LPS becomes RAS."""
    ending, array, write = WRITERS[kind]
    file = tmp_path / f"a{ending}"
    write(file, array)
    place = opening.open_image(file, reading(array)).geometry
    np.testing.assert_allclose(place.affine, dicom_files.affine(), atol=1e-9)
    np.testing.assert_allclose(place.spacing, dicom_files.SPACING)


def test_hounsfield_units_are_rescaled(tmp_path):
    folder = tmp_path / "ct"
    dicom_files.save_series(folder, VOLUME + 1024, slope=1, intercept=-1024)
    image = opening.open_image(folder, reading(VOLUME))
    np.testing.assert_array_equal(image.array[..., 0], VOLUME)
    dicom_files.save_series(folder, VOLUME, slope=0.5, intercept=0.25)
    how = decode.Reading(channels=1, dtype="float32", dims=3)
    np.testing.assert_array_equal(
        opening.open_image(folder, how).array[..., 0], VOLUME.astype(np.float32) / 2 + 0.25
    )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("two series", "2 series in one folder"),
        ("a plane is missing", "uneven distances"),
        ("a plane twice", "two planes at one place"),
        ("another size", "planes whose Rows differ"),
        ("no pixels", "is cut short, or no image"),
    ],
)
def test_series_that_are_no_volume_say_why(fault, said, tmp_path):
    folder = tmp_path / "ct"
    dicom_files.save_series(folder, VOLUME, fault=fault)
    with pytest.raises(DataError, match=said) as error:
        opening.open_image(folder, reading(VOLUME))
    assert str(folder) in str(error.value)


def test_arrays_are_chosen_by_name(tmp_path):
    file = tmp_path / "scene.npz"
    np.savez(file, img=RNG.random((6, 8, 4)).astype(np.float32), msk=np.ones((6, 8, 1), np.uint8))
    how = decode.Reading(channels=4, dtype="float32", image_array="img", label_array="msk")
    image = opening.open_image(file, how)
    assert image.array.shape == (6, 8, 4)
    assert opening.open_label(file, how, image).array.tolist() == [[1] * 8] * 6
    for array, said in (("", "arrays named img, msk"), ("x", "no array 'x'; it holds img, msk")):
        with pytest.raises(DataError, match=said):
            opening.open_image(file, decode.Reading(channels=4, dtype="float32", image_array=array))


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_bands_are_chosen_in_their_order(name, lazily, tmp_path, monkeypatch):
    """Of arrays and of pictures, whole and in parts."""
    values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    if name == "a.npy":
        np.save(tmp_path / name, values)
    else:
        tifffile.imwrite(tmp_path / name, values, photometric="minisblack", planarconfig="contig")
    if lazily:
        monkeypatch.setattr("segjax.data.lazy.LARGE", 1)
    how = decode.Reading(channels=2, bands=(4, 1))
    found = opening.open_image(tmp_path / name, how).array
    assert isinstance(found, Lazy) == lazily and found.shape == (3, 4, 2)
    np.testing.assert_array_equal(found[1:3, 0:4], values[1:3, :, [4, 1]])
    with pytest.raises(DataError, match="5 channels, expected 9"):
        opening.open_image(tmp_path / name, decode.Reading(channels=2, bands=(8, 1)))


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.nii", "g.tif"])
def test_what_is_not_finite_is_refused_or_void(name, tmp_path):
    """NaN and infinities, and what a GeoTIFF calls no data: never a number like others."""
    values = RNG.random((1, 6, 5)).astype(np.float32)
    values[0, 2, 3], values[0, 4, 1] = np.nan, -9999 if name == "g.tif" else np.inf
    file = tmp_path / name
    if name == "a.npy":
        np.save(file, values[0])
    elif name == "a.nii":
        save_nifti(file, values)
    else:
        extra = [(42113, "s", None, "-9999", True)] * (name == "g.tif")
        tifffile.imwrite(file, values[0], extratags=extra)
    how = decode.Reading(channels=1, dtype="float32")
    with pytest.raises(DataError, match="NaN or infinite.*missing='void'"):
        np.asarray(opening.open_image(file, how).array)
    how = decode.Reading(channels=1, dtype="float32", missing="void")
    image = opening.open_image(file, how)
    assert np.isfinite(image.array).all()
    label = opening.without_missing(np.ones((6, 5), np.uint8), image)
    assert np.argwhere(label == 255).tolist() == [[2, 3], [4, 1]]


def test_sound_is_read_as_it_is(tmp_path):
    for kind in (np.uint8, np.int16, np.float32):
        samples = (RNG.random((100, 2)) * 100).astype(kind)
        wavfile.write(tmp_path / "a.wav", 8000, samples)
        how = decode.Reading(channels=2, dtype=np.dtype(kind).name, dims=1)
        image = opening.open_image(tmp_path / "a.wav", how)
        np.testing.assert_array_equal(image.array, samples)
        assert image.geometry.spacing == (1 / 8000,) and image.geometry.unit == "s"
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:60])
    with pytest.raises(DataError, match="a.wav"):
        opening.open_image(tmp_path / "a.wav", how)


def test_whole_numbers_of_more_bits_than_there_is_a_type_for_are_checked(tmp_path):
    save_nifti(tmp_path / "a.nii", VOLUME.astype(np.int32))
    how = decode.Reading(channels=1, dtype="int16", dims=3)
    np.testing.assert_array_equal(opening.open_image(tmp_path / "a.nii", how).array[..., 0], VOLUME)
    with pytest.raises(DataError, match=r"values -\d+..\d+, beyond 0..255 of dtype='uint8'"):
        opening.open_image(tmp_path / "a.nii", decode.Reading(channels=1, dims=3))
    save_nifti(tmp_path / "a.nii", np.full((2, 2, 2), 2**24 + 1, np.int32))
    with pytest.raises(DataError, match="beyond 2\\*\\*24"):
        opening.open_image(tmp_path / "a.nii", decode.Reading(channels=1, dtype="float32", dims=3))


def bomb(file: pathlib.Path) -> None:
    """Write a header that claims much more than the file has, or than memory holds."""
    if file.suffix == ".npz":
        header = (
            b"{'descr':'<f8','fortran_order':False,'shape':(100000,100000,8)}".ljust(117) + b"\n"
        )
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    elif file.suffix == ".zarr":
        save_zarr(file, VOLUME)
        meta = json.loads((file / "zarr.json").read_text())
        meta["shape"] = [10**6, 10**6, 10**6]
        (file / "zarr.json").write_text(json.dumps(meta))
    else:
        save_nifti(file, VOLUME)
        plain = nibabel.load(file)
        header = plain.header.copy()
        header.set_data_shape((30000, 30000, 30000))
        content = header.binaryblock + b"\0" * 4 + b"\0" * 280
        if file.name.endswith(".gz"):
            content = gzip.compress(content)
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.npz", "a.zarr"])
def test_a_header_that_claims_much_costs_nothing(name, tmp_path):
    bomb(tmp_path / name)
    with pytest.raises(DataError, match=r"takes [\d,]+ MiB|its header says"):
        np.asarray(opening.open_image(tmp_path / name, reading(VOLUME)).array)


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    (tmp_path / "a.nii").write_bytes(b"\0" * 400)
    with pytest.raises(ConfigError, match=r"NIfTI needs.*pip install 'segjax\[medical\]'"):
        opening.open_image(tmp_path / "a.nii", reading(VOLUME))


def test_a_scene_of_six_bands_is_read_without_loss():
    """The publisher's file: named bands, and a mask beside its image, whose numbers are mapped."""
    root = pathlib.Path(os.environ.get("SEGJAX_DATA", ""), "cloudmask")
    if not (root / "sentinel2.npz").is_file():
        pytest.skip("SEGJAX_DATA does not point at the data")
    section = sections.plain(cloudmask.get_config(f"root={root}").input.source)
    del section["type"]
    source = folder.Source(split="train", **section)
    stored, example = np.load(root / "sentinel2.npz"), source[0]
    np.testing.assert_array_equal(example["image"], stored["img"])
    assert example["image"].dtype == np.float32 and len(source) == 1
    mask = stored["msk"][..., 0]
    np.testing.assert_array_equal(example["label"] == 1, mask == 4)
    np.testing.assert_array_equal(example["label"] == 2, mask == 0)
    chosen = folder.Source(split="train", **section | {"bands": ["nir", "red"]})[0]
    np.testing.assert_array_equal(chosen["image"], stored["img"][..., [3, 2]])

"""What is predicted lies where its image lies: in the image's own format, on its own grid.

The rule: an image goes in as a file with a place in the world, and its classes come out as a file
of that format in that place, pixel for pixel; the other libraries of the field say so.
"""

import numpy as np
import pytest
import tensorstore
import tifffile
from scipy.io import wavfile

from segjax.data import opening, spans
from segjax.data.decode import Reading
from segjax.data.fit import Canvas
from segjax.inference import folder, paths
from segjax.inference.layout import Layout
from segjax.inference.predictor import FunctionPredictor
from segjax.structs import Classes
from tests.data import dicom_files
from tests.data.test_readers import save_nifti, save_zarr

nibabel = pytest.importorskip("nibabel", reason="pip install 'segjax[medical]'")
CLASSES = Classes(("ground", "organ", "tumour"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)), 1)
VOLUME = np.random.default_rng(0).integers(0, 300, (4, 6, 8)).astype(np.int16)


def classes_of(image: np.ndarray) -> np.ndarray:
    return (image[..., 0] // 100).astype(np.uint8)


def predict(tmp_path, *, dims: int = 3, dtype: str = "int16", outputs=("label",)) -> folder.Counts:
    out = tmp_path / "out"
    return folder.predict(
        paths.list_inputs(str(tmp_path / "in"), output=out, dims=dims), out, classes=CLASSES,
        predictor=FunctionPredictor(classes_of, num_classes=3), reading=Reading(1, dtype=dtype),
        step=1, layout=Layout(Canvas((32,) * dims, "pad", 0)), outputs=outputs,
    )  # fmt: skip


def test_nifti_overlays_its_image(tmp_path):
    """Same shape, affine map, codes and units; classes are uint8."""
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.nii"):
        save_nifti(tmp_path / "in" / name, VOLUME, qform_code=2, sform_code=1)
    assert predict(tmp_path).predicted == 2
    for name in ("a.nii.gz", "b.nii"):
        image = nibabel.load(tmp_path / "in" / name)
        label = nibabel.load(tmp_path / "out" / f"{name[0]}_label.nii.gz")
        assert label.shape == image.shape and label.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(label.affine, image.affine)
        np.testing.assert_array_equal(label.get_qform(), image.get_qform())
        for code in ("qform_code", "sform_code"):
            assert label.header[code] == image.header[code]
        assert label.header.get_xyzt_units() == image.header.get_xyzt_units()
        assert label.header.get_zooms() == image.header.get_zooms()
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.asarray(image.dataobj) // 100)


@pytest.mark.parametrize("save", [dicom_files.save_series, dicom_files.save_frames])
def test_a_dicom_series_gets_a_segmentation_of_its_planes(tmp_path, save):
    pytest.importorskip("highdicom", reason="pip install 'segjax[medical]'")
    file = tmp_path / ("in/ct" if save is dicom_files.save_series else "in/ct.dcm")
    file.parent.mkdir()
    save(file, VOLUME)
    assert predict(tmp_path).predicted == 1
    how = Reading(1, dtype="int16", dims=3)
    label = opening.open_label(tmp_path / "out/ct_label.dcm", how, opening.open_image(file, how))
    np.testing.assert_array_equal(label.array, VOLUME // 100)


def test_a_geotiff_stays_on_earth(tmp_path):
    (tmp_path / "in").mkdir()
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    place = [
        (33550, "d", 3, (10.0, 20.0, 0.0), True), (33922, "d", 6, (0, 0, 0, 5e5, 4e6, 0), True),
        (34735, "H", len(keys), keys, True), (34737, "s", None, "WGS 84 / UTM zone 33N|", True),
    ]  # fmt: skip
    picture = VOLUME[0].astype(np.uint16)
    tifffile.imwrite(tmp_path / "in/a.tif", picture, extratags=place)
    assert predict(tmp_path, dims=2, dtype="uint16").predicted == 1
    with tifffile.TiffFile(tmp_path / "out/a_label.tif") as label:
        np.testing.assert_array_equal(label.asarray(), picture // 100)
        for code, _, _, value, _ in place:
            assert label.pages[0].tags[code].value == value
    geometry = opening.open_to_predict(tmp_path / "in/a.tif", Reading(1, dtype="uint16")).geometry
    assert geometry.crs == "EPSG:32633" and geometry.spacing == (20.0, 10.0)
    np.testing.assert_allclose(geometry.affine @ [2, 3, 1], [4e6 - 40, 5e5 + 30, 1])


def test_other_arrays_come_back_as_they_came(tmp_path):
    """Pages as pages; what says nothing of a place as an array."""
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/p.tif", VOLUME, photometric="minisblack")
    np.save(tmp_path / "in/n.npy", VOLUME)
    save_zarr(tmp_path / "in/z.zarr", VOLUME)
    assert predict(tmp_path, outputs=("label", "overlay")).predicted == 3
    out = tmp_path / "out"
    np.testing.assert_array_equal(tifffile.imread(out / "p_label.tif"), VOLUME // 100)
    np.testing.assert_array_equal(np.load(out / "n_label.npy"), VOLUME // 100)
    np.testing.assert_array_equal(np.load(out / "z_label.npy"), VOLUME // 100)


def test_sound_comes_back_as_spans(tmp_path):
    (tmp_path / "in").mkdir()
    samples = np.repeat([0, 150, 0, 250], 50).astype(np.int16)
    wavfile.write(tmp_path / "in/a.wav", 100, samples)
    assert predict(tmp_path, dims=1).predicted == 1
    found = spans.read(tmp_path / "out/a_label.csv")
    assert found == [(0.5, 1.0, "organ"), (1.5, 2.0, "tumour")]
    assert predict(tmp_path, dims=1).predicted == 1, "and is overwritten by the same"


def test_a_zarr_image_with_a_place_gets_a_zarr(tmp_path):
    from tests.data.test_readers import save_group

    (tmp_path / "in").mkdir()
    save_group(tmp_path / "in/z.zarr", VOLUME)
    for _ in range(2):
        assert predict(tmp_path).predicted == 1
    where = {"driver": "file", "path": f"{tmp_path / 'out/z_label.zarr'}/"}
    store = tensorstore.open({"driver": "zarr3", "kvstore": where}, open=True).result()
    np.testing.assert_array_equal(store[...].read().result(), VOLUME // 100)

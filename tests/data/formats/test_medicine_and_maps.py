"""Volumes, series and pictures of the earth: what lies where comes back there."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data import geo
from segjax.data.formats import convert
from segjax.errors import UserError
from tests.data import dicom_files
from tests.data.formats import made

PLACED = (
    (33550, "d", 3, (0.5, 0.5, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 600000.0, 5000000.0, 0.0), True),
)
X, Y = 600000.0, 5000000.0


def keys(*pairs):
    flat = [number for key, value in pairs for number in (key, 0, 1, value)]
    return (34735, "H", 4 + len(flat), (1, 1, 0, len(pairs), *flat), True)


def earth(root, *, geometry=None, properties=None, system="EPSG::32631", tags=None):
    """Write a GeoTIFF of 40 x 50 pixels of half a metre, and a roof with a hole over it."""
    root.mkdir(parents=True, exist_ok=True)
    tags = PLACED + (keys((1025, 1), (3072, 32631)),) if tags is None else tags
    values = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    tifffile.imwrite(root / "a.tif", values, photometric="rgb", extratags=tags)
    outer = [[X + 2, Y - 2], [X + 20, Y - 2], [X + 20, Y - 15], [X + 2, Y - 15], [X + 2, Y - 2]]
    inner = [[X + 5, Y - 5], [X + 8, Y - 5], [X + 8, Y - 10], [X + 5, Y - 10], [X + 5, Y - 5]]
    geometry = geometry or {"type": "Polygon", "coordinates": [outer, inner]}
    properties = properties or {"class": "roof", "id": 3}
    feature = {"type": "Feature", "geometry": geometry, "properties": properties}
    content = {"type": "FeatureCollection", "features": [feature]}
    if system:
        content["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{system}"}}
    made.dump(root / "a.geojson", content)
    return root


ROOF = np.full((40, 50), "background", dtype="<U10")
ROOF[4:30, 4:40] = "roof"
ROOF[10:20, 10:16] = "background"


def test_polygons_lie_on_their_geotiff_with_holes(tmp_path):
    source = earth(tmp_path / "in")
    assert (made.maps("geojson", source)["a.tif"][0] == ROOF).all()
    made.run("geojson", "geojson", source, tmp_path / "out")
    before, after = (json.loads((p / "a.geojson").read_text()) for p in (source, tmp_path / "out"))
    assert before["features"][0]["geometry"] == after["features"][0]["geometry"]
    assert after["features"][0]["properties"] == {"class": "roof", "id": 3}
    assert after["crs"]["properties"]["name"].endswith("EPSG::32631")
    made.run("geojson", "labelme", source, tmp_path / "labelme")
    made.run("labelme", "geojson", tmp_path / "labelme", tmp_path / "again")
    assert (made.maps("geojson", tmp_path / "again")["a.tif"][0] == ROOF).all()


def test_places_of_pixel_centres_are_half_a_pixel_off(tmp_path):
    """GTRasterType 2: the tie point is the first pixel's middle."""
    source = earth(tmp_path, tags=PLACED + (keys((1025, 2), (3072, 32631)),))
    found = geo.geometry_of(source / "a.tif")
    assert found.affine[:2, 2].tolist() == [Y + 0.25, X - 0.25]
    kinds = made.maps("geojson", source)["a.tif"][0]
    assert (kinds[1:, 1:] == ROOF[:-1, :-1]).mean() < 1 and kinds[4, 4] == "roof"


def test_a_matrix_and_no_place_are_as_good(tmp_path):
    matrix = (0.0, 0.5, 0, X, -0.5, 0.0, 0, Y, 0, 0, 0, 0, 0, 0, 0, 1)  # rows go east
    source = earth(tmp_path / "turned", tags=((34264, "d", 16, matrix, True),), system="")
    kinds = made.maps("geojson", source)["a.tif"][0]
    assert (kinds[4:40, 4:30] == ROOF[4:30, 4:40].T).all()
    ring = [[4, 4], [40, 4], [40, 30], [4, 30], [4, 4]]
    plain = {"type": "MultiPolygon", "coordinates": [[ring]]}
    source = earth(tmp_path / "bare", geometry=plain, tags=(), system="")
    assert (made.maps("geojson", source)["a.tif"][0][4:30, 4:40] == "roof").all()


@pytest.mark.parametrize(("changes", "match"), [
    ({"system": "EPSG::4326"}, "in EPSG:4326, the image in EPSG:32631"),
    ({"geometry": {"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2]]]}, "system": ""},
     "no feature lies on|farther than"),
    ({"geometry": {"type": "Polygon", "coordinates": "x"}}, "expected coordinates, a list"),
    ({"geometry": {"type": "Polygon", "coordinates": [[["a", 1]] * 4]}}, "3 or more points"),
    ({"geometry": {"type": "Polygon", "coordinates": [[[1, 1]] * 140_000]}}, "131,072 points"),
    ({"geometry": {"type": "Point", "coordinates": [1, 1]}}, "no object is left; dropped: 1 of a"),
    ({"tags": ((33550, "d", 3, (0.0, 0.0, 0.0), True), PLACED[1])}, "place no pixel"),
], ids=str)  # fmt: skip
def test_what_lies_nowhere_is_refused(changes, match, tmp_path):
    source = earth(tmp_path / "in", **changes)
    with pytest.raises(UserError, match=match):
        made.run("geojson", "folder", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_class_is_a_property_that_one_may_name(tmp_path):
    source = earth(tmp_path, properties={"kind": "barn", "classification": {"name": "house"}})
    assert "house" in made.maps("geojson", source)["a.tif"][0]
    assert "barn" in made.maps("geojson", source, property="kind")["a.tif"][0]


def volumes(root, *, shape=(13, 17, 5)):
    """Write two volumes as nnU-Net has them, with void and a matrix of their own."""
    nibabel = pytest.importorskip("nibabel")
    random = np.random.default_rng(0)
    affine = np.array([[0.7, 0, 0, -10], [0, 0.8, 0.1, 5], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    for case in ("p1", "p2"):
        for place, low, high, dtype in ((f"imagesTr/{case}_0000", -900, 2000, np.int16),
                                        (f"labelsTr/{case}", 0, 4, np.uint8)):  # fmt: skip
            path = root / f"{place}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = random.integers(low, high, shape).astype(dtype)
            nibabel.save(nibabel.Nifti1Image(values, affine), path)
    labels = {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}
    made.dump(root / "dataset.json", {"labels": labels})
    return root


def test_volumes_come_back_with_their_place(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    source = volumes(tmp_path / "in")
    made.run("nifti", "nifti", source, tmp_path / "out", wishes=convert.Wishes(split=""))
    for file in source.rglob("*.nii.gz"):
        before = nibabel.load(file)
        after = nibabel.load(tmp_path / "out" / file.relative_to(source))
        assert (np.asarray(before.dataobj) == np.asarray(after.dataobj)).all()
        assert np.allclose(before.affine, after.affine)
        assert before.get_data_dtype() == after.get_data_dtype()
    table = json.loads((tmp_path / "out/dataset.json").read_text())
    assert table["labels"] == {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}
    assert table["numTraining"] == 2


def test_slices_are_the_planes_of_the_volume(tmp_path):
    """Rows are the file's second axis, columns its first; values are the file's own."""
    nibabel = pytest.importorskip("nibabel")
    source = volumes(tmp_path / "in")
    made.run("nifti", "folder", source, tmp_path / "out")
    stored = np.asarray(nibabel.load(source / "imagesTr/p2_0000.nii.gz").dataobj)
    label = np.asarray(nibabel.load(source / "labelsTr/p2.nii.gz").dataobj)
    for k in range(5):
        image = tifffile.imread(tmp_path / f"out/train/images/p2/{k:04d}.tif")
        assert image.dtype == np.int16 and (image == stored[:, :, k].T).all()
        mask = np.asarray(Image.open(tmp_path / f"out/train/labels/p2/{k:04d}.png"))
        assert (mask == np.where(label[:, :, k] == 3, 255, label[:, :, k]).T).all()
    lines = made.run("folder", "nifti", tmp_path / "out", tmp_path / "back")
    assert "nifti cannot hold: 2 volumes have no voxel size: 1 mm is written" in lines
    again = nibabel.load(tmp_path / "back/imagesTr/p2_0000.nii.gz")
    assert (np.asarray(again.dataobj) == stored).all() and (again.affine == np.eye(4)).all()


@made.needs_samples
def test_brats_of_the_decathlon_is_read():
    pytest.importorskip("nibabel")
    names = ("background", "edema", "non-enhancing", "enhancing")
    root = made.SAMPLES / "datumaro" / "brats_dataset"
    found, by_name = made.pictures("nifti", root, class_names=names)
    assert found.class_names == names and len(by_name) == 2


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "sizes"])
def test_broken_volumes_are_named(harm, tmp_path):
    source = volumes(tmp_path / "in")
    file = source / "labelsTr/p1.nii.gz"
    content = {"cut": file.read_bytes()[:60], "empty": b"", "text": b"no volume" * 99}.get(harm)
    if content is None:
        volumes(tmp_path / "other", shape=(13, 17, 6))
        content = (tmp_path / "other/labelsTr/p1.nii.gz").read_bytes()
    file.write_bytes(content)
    with pytest.raises(UserError, match="p1") as caught:
        made.run("nifti", "folder", source, tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


PLANE = (16, 20)


def series(root) -> list[str]:
    """Write a series of four slices, and return their files' names without endings, in order."""
    pydicom = pytest.importorskip("pydicom")
    values = np.random.default_rng(0).integers(-900, 900, (4, *PLANE)).astype(np.int16)
    dicom_files.save_series(root, values)
    heads = {path.stem: pydicom.dcmread(path) for path in root.iterdir()}
    return sorted(heads, key=lambda name: heads[name].InstanceNumber)


def labels_of(root, names):
    """Write class maps of 2-D slices, and return them."""
    random = np.random.default_rng(1)
    found = {}
    for name in names:
        made.photo(root / f"train/images/{name}.png", PLANE)
        found[name] = random.integers(0, 3, PLANE).astype(np.uint8)
        (root / "train/labels").mkdir(exist_ok=True)
        Image.fromarray(found[name]).save(root / f"train/labels/{name}.png")
    made.dump(root / "meta.json", {"class_names": ["background", "liver", "tumour"]})
    return found


def test_segments_come_back_on_their_slices(tmp_path):
    """Of a segmentation beside its series, in whatever order its files are called."""
    pytest.importorskip("highdicom")
    names = series(tmp_path / "ct")
    wanted = labels_of(tmp_path / "in", names)
    made.run("folder", "dicomseg", tmp_path / "in", tmp_path / "seg", images=tmp_path / "ct")
    found = made.maps("dicomseg", tmp_path / "seg", images=tmp_path / "ct")
    classes = np.array(["background", "liver", "tumour"])
    assert list(found) == [f"{name}.tif" for name in names]
    for name, numbers in wanted.items():
        assert (found[f"{name}.tif"][0] == classes[numbers]).all()
    with pytest.raises(UserError, match="the slice of frame 0 is not there"):
        made.maps("dicomseg", tmp_path / "seg")
    with pytest.raises(UserError, match="needs --images"):
        made.run("folder", "dicomseg", tmp_path / "in", tmp_path / "bad")
    file = next((tmp_path / "seg").glob("*.dcm"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="0001.seg.dcm: cannot be read"):
        made.run("dicomseg", "folder", tmp_path / "seg", tmp_path / "bad", images=tmp_path / "ct")
    assert not (tmp_path / "bad").exists()


def test_deflated_dicom_is_refused_before_it_is_unpacked(tmp_path):
    """pydicom inflates such a file as a whole, to whatever it unpacks to."""
    pydicom = pytest.importorskip("pydicom")
    from segjax.data.readers import dicom

    (name, *_) = series(tmp_path)
    file = tmp_path / f"{name}.dcm"
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = dicom.DEFLATED
    dataset.save_as(file)
    with pytest.raises(ValueError, match="deflated as a whole"):
        dicom.read(file, pixels=False)

"""Files changed at random are read, or refused in one line: no other error, no output left."""

import random
import time

import pytest

from segjax.data.formats import classes, convert
from segjax.errors import UserError, printable
from tests import fuzz
from tests.data.formats import made, test_medicine_and_maps

CHANGES = 120
"""Of the files of a format."""
SECONDS = 5.0
TEXT = (".json", ".xml", ".txt", ".yaml", ".geojson")
KINDS = ("folder", "labelme", "shapes", "cvat", "coco", "polygons", "coco_panoptic", "voc",
         "cityscapes", "colours", "yolo", "instances", "geojson", "nifti", "dicomseg")  # fmt: skip


def valid(kind, root):
    """Return a data set of a format, the format's name, and the options that it needs."""
    if kind in ("shapes", "polygons", "geojson", "nifti"):
        make, name = {"shapes": (made.labelme, "labelme"), "polygons": (made.coco, "coco"),
                      "geojson": (test_medicine_and_maps.earth, "geojson"),
                      "nifti": (test_medicine_and_maps.volumes, "nifti")}[kind]  # fmt: skip
        return make(root / "in"), name, {"boxes": "fill"} if kind == "polygons" else {}
    if kind == "dicomseg":
        pytest.importorskip("highdicom")
        names = test_medicine_and_maps.series(root / "ct")
        test_medicine_and_maps.labels_of(root / "labels", names)
        made.run("folder", kind, root / "labels", root / "in", images=root / "ct")
        return root / "in", kind, {"images": root / "ct"}
    wishes = convert.Wishes(class_map=classes.parse_map("background=unlabeled"))
    made.run("folder", kind, made.folder(root / "source"), root / "in",
             wishes=wishes if kind == "cityscapes" else None)  # fmt: skip
    return root / "in", kind, {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_files_changed_at_random(kind, tmp_path):
    chance = random.Random(kind)
    source, name, options = valid(kind, tmp_path)
    found = sorted(path for path in source.rglob("*") if path.is_file())
    texts = [path for path in found if path.suffix in TEXT] or found
    refused = 0
    for number in range(CHANGES):
        file = chance.choice(texts if chance.random() < 0.8 else found)
        before = file.read_bytes()
        file.write_bytes(fuzz.changed(before, before, chance, text=file.suffix in TEXT))
        start = time.process_time()
        out = tmp_path / f"out{number}"
        try:
            made.run(name, chance.choice(("folder", "labelme", "yolo")), source, out, **options)
        except UserError as error:
            refused += 1
            assert not out.exists() and "\n" not in printable(f"error: {error}")
        assert time.process_time() - start < SECONDS, file
        file.write_bytes(before)
    assert 0 < refused < CHANGES

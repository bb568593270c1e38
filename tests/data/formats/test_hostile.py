"""What no file may do: whatever it holds, one line names it, in bounded time and memory.

The rule: a file costs what follows from its size, not from what it claims, and nothing is written.
"""

import base64
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from segjax.data.formats import classes, kinds, parse
from segjax.errors import UserError
from tests import program
from tests.data.formats import made

MANY = [[k % 30, k % 24] for k in range(parse.MAX_POINTS + 1)]


def shape(**changes):
    polygon = {"label": "car", "shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 9]]}
    return {"shapes": [polygon | changes]}


LABELME = {
    "a list": (lambda c: [], "expected a LabelMe file"),
    "another tool's": (lambda c: {"images": []}, "no LabelMe file"),
    "shapes are text": (lambda c: {**c, "shapes": "x"}, "expected shapes, a list"),
    "a shape is a number": (lambda c: {**c, "shapes": [3]}, "expected an object, got 3"),
    "no label": (lambda c: {**c, **shape(label=None)}, r"shapes\[0\]: expected label"),
    "two points": (lambda c: {**c, **shape(points=[[1, 1], [2, 2]])}, "3 or more points"),
    "points of three": (lambda c: {**c, **shape(points=[[1, 1, 1]] * 3)}, "3 or more points"),
    "points are words": (lambda c: {**c, **shape(points=["a", "b", "c"])}, "3 or more points"),
    "uneven points": (lambda c: {**c, **shape(points=[[1, 1], [2], [3, 3]])}, "or more points"),
    "far away": (lambda c: {**c, **shape(points=[[1, 1], [1e300, 2], [3, 3]])}, "farther than"),
    "a flood of points": (lambda c: {**c, **shape(points=MANY)}, "more than 131,072 points"),
    "a circle of one": (lambda c: {**c, **shape(shape_type="line", points=[[1, 1]])}, "2 or more"),
    "a mask of nothing": (lambda c: {**c, **shape(shape_type="mask", points=[[0, 0], [3, 3]],
                                                 mask="????")}, "imageData|cannot be read"),
    "a mask elsewhere": (lambda c: {**c, **shape(shape_type="mask", points=[[45, 35], [54, 44]],
                                                mask=png(10))}, "a mask of 10x10 between"),
    "a wrong size": (lambda c: {**c, "imageHeight": 41}, "annotations of 41x50.*has 40x50"),
    "no image": (lambda c: {**c, "imagePath": "other.png"}, "no image 'other.png'"),
    "a way out": (lambda c: {**c, "imagePath": "../../../secret.png"}, "no image|lies outside"),
    "no picture": (lambda c: {**c, "imagePath": "/etc/passwd"}, "name of no image"),
    "image data": (lambda c: {**c, "imagePath": "q.png", "imageData": "AAAA"}, "no PNG, JPEG"),
}  # fmt: skip


def png(side: int) -> str:
    import io

    stream = io.BytesIO()
    Image.fromarray(np.ones((side, side), bool)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def refused(kind, path, out, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        made.run(kind, "folder", path, out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))


@pytest.mark.parametrize("case", LABELME)
def test_labelme(case, tmp_path):
    source = made.labelme(tmp_path / "in")
    made.photo(tmp_path / "secret.png", (40, 50))
    change, match = LABELME[case]
    content = change(json.loads((source / "x/a.json").read_text()))
    made.dump(source / "x/a.json", content)
    refused("labelme", source, tmp_path / "out", match)


RUNS = {"size": [24, 30], "counts": [720]}
COCO = {
    "runs of a billion": ([{"segmentation": {**RUNS, "counts": [10**9]}}], "1,000,000,000 pixels"),
    "runs that sum": ([{"segmentation": {**RUNS, "counts": [719]}}], "719 pixels, expected 720"),
    "runs below zero": ([{"segmentation": {**RUNS, "counts": [730, -10]}}], "run lengths of"),
    "runs of words": ([{"segmentation": {**RUNS, "counts": ["a"]}}], "expected counts"),
    "runs in runs": ([{"segmentation": {**RUNS, "counts": [[720]]}}], "expected counts"),
    "a string of nothing": ([{"segmentation": {**RUNS, "counts": "\u2603"}}], "no run lengths"),
    "a string of a billion": ([{"segmentation": {**RUNS, "counts": "P`fV`g1"}}], "run lengths"),
    "a huge size": ([{"segmentation": {"size": [10**9, 10**9], "counts": [1]}}], "its image has"),
    "no category": ([{"segmentation": [], "category_id": 99}], "category_id=99"),
    "no image": ([{"image_id": 99}], "is of image 99"),
    "odd numbers": ([{"segmentation": [[1, 1, 2, 2, 3]]}], "3 or more points"),
    "text": ([{"segmentation": "x"}], "expected segmentation"),
    "nested": ([{"segmentation": [[[1, 1], [2, 2], [3, 3, 3]]]}], "3 or more points"),
    "a flood": ([{"segmentation": [[1] * (2 * parse.MAX_POINTS + 2)]}], "more than 131,072"),
    "far": ([{"segmentation": [[1, 1, 1e9, 2, 3, 3]]}], "farther than"),
    "a box of words": ([{"bbox": ["a", 1, 2, 3]}], "points"),
}


@pytest.mark.parametrize("case", COCO)
def test_coco(case, tmp_path):
    annotations, match = COCO[case]
    source = made.coco(tmp_path / "in", annotations=annotations)
    refused("coco", source, tmp_path / "out", match, boxes="fill")


@pytest.mark.parametrize(("changes", "match"), [
    ({"height": 25}, "annotations of 25x30"), ({"file_name": "../../a.png"}, "no image"),
    ({"file_name": 3}, "expected file_name"), ({"id": "x"}, "expected id, a whole number"),
    ({"file_name": "a.png\0"}, "name of no image"),
], ids=str)  # fmt: skip
def test_images_of_coco(changes, match, tmp_path):
    refused("coco", made.coco(tmp_path / "in", image=changes), tmp_path / "out", match)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9)
) + "]>"  # fmt: skip
CVAT = {
    "entities": ("", BOMB, "declares a document type"),
    "an outer entity": ("", '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "document"),
    "broken": ("<polygon", "", "not valid XML"),
    "points": ('<polygon label="car" points="1,2;3,4;x,5"/>', "", "expected points"),
    "not finite": ('<polygon label="car" points="1,2;3,4;nan,5"/>', "", "not finite"),
    "a flood": (f'<polygon label="car" points="{"1,2;" * parse.MAX_POINTS}3,4"/>', "", "131,072"),
    "runs": ('<mask label="car" rle="1,99999999999" left="0" top="0" width="4" height="3"/>', "",
             "run lengths"),
    "words": ('<mask label="car" rle="a" left="0" top="0" width="4" height="3"/>', "", "no list"),
    "many": (f'<mask label="car" rle="{"0," * 99}1" left="0" top="0" width="4" height="3"/>', "",
             "more than 13"),
    "outside": ('<mask label="car" rle="12" left="28" top="0" width="4" height="3"/>', "", "of an"),
    "huge": ('<mask label="car" rle="1" left="0" top="0" width="1e9" height="1e9"/>', "", "of an"),
    "a box": ('<box label="car" xtl="a" ytl="0" xbr="1" ybr="1"/>', "", "expected xtl"),
    "far": ('<box label="car" xtl="-1e308" ytl="0" xbr="1e308" ybr="1"/>', "", "farther than"),
    "order": ('<box label="car" xtl="0" ytl="0" xbr="1" ybr="1" z_order="0.5"/>', "", "z_order"),
    "unknown": ('<box label="cra" xtl="0" ytl="0" xbr="1" ybr="1"/>', "", "Did you mean 'car'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CVAT)
def test_cvat(case, tmp_path):
    (tmp_path / "in").mkdir()
    shapes, head, match = CVAT[case]
    source = made.cvat(tmp_path / "in", shapes=shapes or "", head=head)
    refused("cvat", source, tmp_path / "out", match)


YOLO = {
    "words": ("0 a b c d e f", "is no 'class x y"), "nan": ("0 nan 0 1 0 1 1", "outside of 0..1"),
    "pixels": ("0 12 3 40 50 3 3", "outside of 0..1"), "a class": ("7 0 0 1 0 1 1", "class 7"),
    "below zero": ("-1 0 0 1 0 1 1", "class -1"), "a float": ("0.5 0 0 1 0 1 1", "is no 'class"),
    "odd": ("0 0 0 1 0 1 1 0", "3 or more points"),
    "a flood": ("0" + " 0.5" * (2 * parse.MAX_POINTS + 4), "is no 'class|131,072"),
}  # fmt: skip


@pytest.mark.parametrize("case", YOLO)
def test_yolo(case, tmp_path):
    source = yolo(tmp_path / "in", *YOLO[case][:1])
    refused("yolo", source, tmp_path / "out", YOLO[case][1])


def yolo(root, line, head="names: [car]"):
    made.photo(root / "images/a.png", (24, 30))
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text(line + "\n")
    (root / "data.yaml").write_text(head)
    return root


@pytest.mark.parametrize(("head", "match"), [
    ("names: [a, a]", "different ones"), ("names: {1: a}", "different ones"), ("[", "valid YAML"),
    ("names: !!python/object/apply:os.system ['true']", "not valid YAML"), ("x: 1", "got None"),
    ("a: &a [x]\nnames: [*a, *a]", "by reference"),
], ids=str)  # fmt: skip
def test_names_of_yolo(head, match, tmp_path):
    refused("yolo", yolo(tmp_path / "in", "0 0 0 1 0 1 1", head), tmp_path / "out", match)


@pytest.mark.parametrize("kind", [k for k in made.readable() if k not in ("labelme",)])
def test_an_empty_folder_is_none_of_any_format(kind, tmp_path):
    (tmp_path / "in").mkdir()
    refused(kind, tmp_path / "in", tmp_path / "out", str(tmp_path / "in"))


MADE = ("folder", "voc", "colours", "instances", "coco", "coco_panoptic", "cvat", "yolo", "labelme")


@pytest.mark.parametrize("kind", MADE)
def test_a_file_cut_short_or_emptied_is_named(kind, tmp_path):
    """Every file of a data set, cut to a half and to nothing; lists of lines may be shorter."""
    source = made.folder(tmp_path / "in", holes=False, void=False)
    made.run("folder", kind, source, tmp_path / "good", **(
        {"target": "instances"} if kind == "folder" else {}))  # fmt: skip
    beside = ("train.json",) if kind == "folder" else ()
    for file in sorted((tmp_path / "good").rglob("*")):
        table = kind == "folder" and file.parent.name != "good" and file.suffix == ".json"
        if not file.is_file() or file.suffix == ".txt" or table or file.name in beside:
            continue
        content = file.read_bytes()
        for part in (content[: len(content) // 2], b""):
            file.write_bytes(part)
            refused(kind, tmp_path / "good", tmp_path / "out", file.name.partition(".")[0])
        file.write_bytes(content)
    made.run(kind, "folder", tmp_path / "good", tmp_path / "fine")


def test_json_bombs_are_counted_before_they_are_parsed(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[" + "[]," * (parse.JSON_SECTIONS + 1) + "[]]")
    with pytest.raises(UserError, match="a.json: more than 8,388,608 lists"):
        parse.read_json(file)
    for text, what in (("[" * 100, "nested|valid"), ('{"a":1,"a":2}', "twice"), ("[NaN]", "NaN")):
        file.write_text(text + "]" * text.count("[" * 9) * 100)
        with pytest.raises(UserError, match=what):
            parse.read_json(file)


LIMITED = """
import resource, sys
from segjax.commands import cli
from segjax.data.formats import convert
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
sys.exit(cli.main(["run.py", "--mode=convert", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme"])
def test_hostile_files_need_little_memory(kind, tmp_path):
    """Under a limit that holds the interpreter and twenty times the file: claims cost nothing."""
    root = tmp_path / "in"
    root.mkdir()
    if kind == "coco":
        runs = {"size": [24, 30], "counts": "Pl_lllll" * 40_000}
        made.coco(root, annotations=[{"segmentation": runs}])
    elif kind == "cvat":
        made.cvat(root, head=BOMB, shapes="<text>&j;</text>")
    else:
        made.labelme(root)
        made.dump(root / "x/a.json", {"imagePath": "a.png", "shapes": [{}] * 200_000})
    arguments = [f"--from={kind}", "--to=folder", f"--input={root}", f"--output={tmp_path / 'o'}"]
    text = LIMITED.format(limit=1536 << 20)
    found = subprocess.run(
        [sys.executable, "-c", text, *arguments], cwd=program.ROOT, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert found.returncode == 2 and found.stderr.count("\n") == 1, found.stderr
    assert found.stderr.startswith("error: ") and str(root) in found.stderr
    assert not (tmp_path / "o").exists()


def test_pipes_and_folders_are_no_files(tmp_path):
    import os

    source = made.labelme(tmp_path / "in")
    (source / "x/a.json").unlink()
    os.mkfifo(source / "x/a.json")
    refused("labelme", source, tmp_path / "out", "is a pipe")
    (source / "x/a.json").unlink()
    made.labelme(tmp_path / "in")
    (source / "x/a.png").unlink()
    os.mkfifo(source / "x/a.png")
    refused("labelme", source, tmp_path / "out", "is a pipe")


def test_two_images_of_one_name_are_refused(tmp_path):
    """Their masks would have one name: endings do not count."""
    source = made.labelme(tmp_path / "in")
    content = json.loads((source / "x/a.json").read_text())
    Image.open(source / "x/a.png").save(source / "x/a.bmp")
    made.dump(source / "x/b.json", {**content, "imagePath": "a.bmp"})
    refused("labelme", source, tmp_path / "out", "2 images are called 'x/a'")


def test_options_that_mean_nothing_are_refused(tmp_path):
    source = made.labelme(tmp_path / "in")
    refused("labelme", source, tmp_path / "out", "--divisor means nothing", divisor=256)
    refused("labelme", source, tmp_path / "out", "--order='top' is none", order="top")
    with pytest.raises(UserError, match="--from=lableme|'lableme'"):
        kinds.check("lableme", "folder", frozenset())
    for text in ("car", "car=", "=car", "a=b,a=c"):
        with pytest.raises(UserError, match="--class_map"):
            classes.parse_map(text)
    for text in ("a,,b", "a,a"):
        with pytest.raises(UserError, match="--class_names"):
            classes.parse_names(text)

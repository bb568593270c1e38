"""Which files are predicted, and that no two outputs have one name."""

import itertools
import json
import pathlib
import unicodedata

import pytest

from segjax.errors import UserError
from segjax.inference import paths
from segjax.inference.outputs import kinds


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(inputs, **options):
    return [path.name for path in paths.list_inputs(str(inputs), **options).files]


def test_inputs_are_a_file_a_folder_or_a_glob(tmp_path):
    touch(tmp_path, "a.jpg", "b.PNG", "notes.txt", "deep/c.webp", "deep/a.png")
    assert sorted(listed(tmp_path)) == ["a.jpg", "a.png", "b.PNG", "c.webp"]
    assert listed(tmp_path / "*.jpg") == listed(tmp_path / "a.jpg") == ["a.jpg"]
    assert sorted(listed(tmp_path / "**/*.png")) == ["a.png"]
    for nothing in ("*.tif", "none", "deep/*.jpg"):
        with pytest.raises(UserError, match="no images"):
            listed(tmp_path / nothing)


@pytest.mark.parametrize("name", ["img[1].png", "a*.png", "b?.png", "[ab]/c.png", "x[0-9]/[z].png"])
def test_what_exists_comes_before_a_glob(tmp_path, name):
    """The rule: a name is a name if there is such a file or folder; else it is a pattern."""
    touch(tmp_path, name, "img1.png", "ab.png", "bc.png", "a/c.png", "x1/z.png")
    assert paths.list_inputs(str(tmp_path / name)).files == (tmp_path / name,)
    folder = (tmp_path / name).parent
    if folder != tmp_path:
        assert paths.list_inputs(str(folder)).files == (tmp_path / name,)


def test_links_in_a_circle_are_no_reason_to_stop(tmp_path):
    """The rule holds wherever paths are compared: with the output inside, and again."""
    touch(tmp_path, "a.png", "out/a.json")
    (tmp_path / "b.png").symlink_to("c.png")
    (tmp_path / "c.png").symlink_to("b.png")
    output = tmp_path / "out"
    found = listed(tmp_path, output=output)
    assert found == ["a.png", "b.png", "c.png"]
    for file in ("\0", str(tmp_path / "b.png")):
        facts = {"file": file, "size": [], "step": 0, "classes": {}}
        (output / "a.json").write_text(json.dumps(facts))
        with pytest.raises(UserError, match="would be overwritten"):
            paths.check_free(output, {tmp_path / "a.png": "a", tmp_path / "c.png": "c"}, run="")


HIDDEN = (
    ".a.png", "._a.png", ".ipynb_checkpoints/a-checkpoint.png", ".git/a.png", "__MACOSX/a.png",
    "__MACOSX/._a.png", "Thumbs.db", "desktop.ini", "deep/.cache/b.png",
)  # fmt: skip


@pytest.mark.parametrize("pattern", ["", "**/*.png", "*/**/*.png"])
def test_hidden_files_and_folders_are_no_images(tmp_path, pattern):
    """The rule holds for folders and for globs; a hidden file that is named itself is taken."""
    touch(tmp_path, "deep/a.png", *HIDDEN)
    assert listed(tmp_path / pattern) == ["a.png"]
    assert listed(tmp_path / ".a.png") == [".a.png"]
    assert listed(tmp_path / ".git") == listed(tmp_path / ".git/*.png") == ["a.png"]


@pytest.mark.parametrize("suffix", ["_mask", "_mask.png", "_M\u00e4sk"])
def test_masks_of_the_data_sets_suffix_are_no_images(tmp_path, suffix):
    ending = "" if suffix.endswith(".png") else ".png"
    touch(tmp_path, "a.png", "mask.png", f"a{suffix}{ending}", f"deep/b{suffix}{ending}")
    found = paths.list_inputs(str(tmp_path), label_suffix=suffix)
    assert [path.name for path in found.files] == ["a.png", "mask.png"]
    assert "4 images found, 2 to predict, 2 left out (masks" in found.describe()


def names_of(*files):
    return list(paths.output_names([pathlib.Path(file) for file in files]).values())


def test_names_are_stems_where_they_differ():
    assert names_of("x/a.png", "x/y/b.tif") == ["a", "b"]
    assert names_of("x/a.b.png") == ["a.b"]


COLLIDING = {
    "equal stems in three folders": ["p1/ct/slice1.png", "p2/ct/slice1.png", "p3/ct/slice1.png"],
    "one folder, two endings": ["a.png", "a.jpg", "a.tif"],
    "another's label": ["a.png", "a_label.png", "a_overlay.png", "a_label_label.png"],
    "another's output": ["a.png", *(f"A{tail.upper()}.png" for tail in kinds.TAILS if tail)],
    "all images'": ["predictions.png", "Contours_COCO.png", "x/predictions.png", "areas.png"],
    "case": ["Scan.png", "scan.png", "SCAN.jpg", "x/scan.png"],
    "joined by a line": ["a_b/c.png", "a/b_c.png", "c.png", "a/b/c.png", "b_c.png"],
    "composed and not": ["\u00e9.png", "e\u0301.png"],
    "the ending in a name": ["a.png", "a.jpg", "a_png.tif", "a_jpg.tif"],
    "long": ["x/" + "n" * 250 + ".png", "y/" + "n" * 250 + ".png", "n" * 249 + "m.png"],
    "long, in bytes": ["\u4e2d" * 80 + "a.png", "\u4e2d" * 80 + "b.png"],
}


@pytest.mark.parametrize("files", COLLIDING.values(), ids=COLLIDING)
def test_outputs_never_share_a_file(files):
    """The rule: no two files of all outputs are equal, in any case and any normal form."""
    for some in itertools.islice(itertools.permutations(files), 24):
        written = [
            unicodedata.normalize("NFC", name + tail).casefold()
            for name in names_of(*some)
            for tail in kinds.TAILS
        ]
        written += [name.partition(".")[0] for name in (kinds.RECORD, "contours_coco.json")]
        assert len(set(written)) == len(written), written
        assert max(len(name.encode()) for name in written) < 240
        assert not any("/" in name for name in written)


def test_ten_thousand_files_have_ten_thousand_names():
    """Every name is made once and looked up once: no stem is searched for in a list."""
    files = [f"p{i // 10}/slice{i % 10}.png" for i in range(10_000)]
    assert len(set(names_of(*files))) == 10_000


@pytest.mark.parametrize("stems", ["all alike", "all different", "long"])
def test_work_is_in_proportion_to_the_files(monkeypatch, tmp_path, stems):
    """Ten times as many files are ten times as many looks at a name, not a hundred times."""

    def looks(count):
        seen = [0]
        key = paths._key

        def counted(name):
            seen[0] += 1
            return key(name)

        monkeypatch.setattr(paths, "_key", counted)
        stem = {"all alike": "{0}/a", "all different": "x/{0}", "long": "{0}/" + "n" * 240}[stems]
        names = paths.output_names([pathlib.Path(f"{stem.format(i)}.png") for i in range(count)])
        paths.check_free(tmp_path, names, run="")
        monkeypatch.undo()
        assert len(set(names.values())) == count
        return seen[0]

    assert looks(1000) <= 11 * looks(100)

"""The rule: what was prepared is what its source gives, bit for bit, or an error that names it.

Whatever the axes, types, fields and sizes, on a disk or elsewhere, after a kill and after an edit.
"""

import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from segjax.data import core, hashes, prepared, preparing, store, synthetic, windows
from segjax.data.lazy import Lazy
from segjax.data.store import Store
from segjax.errors import ConfigError, DataError, UserError
from segjax.structs import Field
from segjax.views import colour
from tests.data import test_windows


class Ragged:
    """Examples of different sizes with every kind of field."""

    class_names = ("a", "b", "c")
    palette = colour.voc_palette(3)

    def __init__(self, dims=2, dtype="int16", *, length=7, lazily=False, alike=False):
        self.dims, self.dtype, self.length = dims, dtype, length
        self.lazily, self.alike = lazily, alike
        self.schema = {
            "image": Field("image", (2,), dtype),
            "label": Field("classes"),
            "maps": Field("labels", (3,)),
            "instance": Field("ids", dtype="uint16"),
            "spacing": Field("value", (dims,), "float32"),
            "age": Field("value", (), "int32"),
        }

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        size = tuple(
            20 + (0 if self.alike else 3 * (index % 4) + axis) for axis in range(self.dims)
        )
        high = 256 if self.dtype == "uint8" else 30_000
        image = random.integers(0, high, (*size, 2)).astype(self.dtype)
        arrays = {
            "image": image if self.dtype != "float32" else image / np.float32(7),
            "label": random.choice([0, 1, 2, 255], size).astype(np.uint8),
            "maps": random.choice([0, 1, 255], (*size, 3)).astype(np.uint8),
            "instance": random.integers(0, 60_000, size).astype(np.uint16),
        }
        if self.lazily:
            arrays = {
                name: Lazy(array.shape, array.dtype, array.__getitem__, name=name)
                for name, array in arrays.items()
            }
        spacing = random.uniform(0.5, 3, self.dims).astype(np.float32)
        more = {"spacing": spacing, "age": np.array(index, np.int32)}
        return {**arrays, **more, "name": f"images/{index}.x", "geometry": {"origin": [index, 0.5]}}


def write(source, root, split="train", **options):
    target = root if isinstance(root, Store) else Store(str(root))
    return preparing.write_split(source, target, split, made_from={"of": "a test"}, **options)


def equal(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        if isinstance(array, np.ndarray | Lazy):
            assert np.asarray(array).dtype == np.asarray(other[name]).dtype
            np.testing.assert_array_equal(np.asarray(array), np.asarray(other[name]))
        else:
            assert array == other[name]


@pytest.mark.parametrize("pieces", ["usual", "small"])
@pytest.mark.parametrize(("dims", "dtype"), [(1, "float32"), (2, "uint8"), (3, "int16")])
@pytest.mark.parametrize("kind", ["ragged", "alike", "lazily"])
def test_what_comes_out_went_in(dims, dtype, kind, pieces, tmp_path, monkeypatch):
    """In one pack or many, in one piece or many, read whole or in parts."""
    if pieces == "small":
        monkeypatch.setattr(preparing, "PACK_BYTES", 50_000)
        monkeypatch.setattr(store, "PIECE_BYTES", 500)
        monkeypatch.setattr(store, "SHARD_BYTES", 5000)
        monkeypatch.setattr(store, "SIDES", dict.fromkeys((1, 2, 3), 8))
    source = Ragged(dims, dtype, alike=kind == "alike", lazily=kind == "lazily")
    done = write(source, tmp_path)
    assert (done.found, done.before) == (7, 0) and done.packs >= 1
    found = prepared.Source(split="train", root=str(tmp_path), verify="all")
    assert len(found) == 7 and found.schema == source.schema
    assert (found.class_names, found.palette) == (source.class_names, source.palette)
    assert found.manifest_hash == done.manifest_hash
    again = pickle.loads(pickle.dumps(found))
    assert found.check() == {np.asarray(source[i]["label"]).shape for i in range(7)}
    for index in range(7):
        equal(found[index], source[index])
        equal(again[index], source[index])
        part = tuple(slice(3, 17) for _ in range(dims))
        for name in ("image", "label", "maps", "instance"):
            expected = np.asarray(source[index][name])[part]
            np.testing.assert_array_equal(found[index][name][part], expected)
    with pytest.raises(IndexError):
        found[7]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_training_batches_are_those_of_the_source(dims, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PIECE_BYTES", 500)
    monkeypatch.setattr(store, "SIDES", dict.fromkeys((1, 2, 3), 16))
    source = test_windows.Numbered(dims, length=6)
    write(source, tmp_path)
    found = prepared.Source(split="train", root=str(tmp_path))
    given = {"window": test_windows.THIRD, "size": test_windows.SIZE[dims]}
    for one, other in zip(
        test_windows.take(3, found, **given), test_windows.take(3, source, **given), strict=True
    ):
        equal(one, other)


def test_any_source_can_be_prepared_and_elsewhere_than_on_a_disk():
    for dims in (1, 2, 3):
        source = synthetic.Source(split="val", dims=dims, num_examples=3)
        write(source, "memory://elsewhere", f"val{dims}")
        found = prepared.Source(split=f"val{dims}", root="memory://elsewhere")
        for index in range(3):
            equal(found[index], source[index])
    with pytest.raises(DataError, match=r"memory://elsewhere/test/manifest.json: no such file"):
        prepared.Source(split="test", root="memory://elsewhere")


def test_many_small_images_are_few_files(tmp_path):
    write(Ragged(length=200), tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) <= 2 * 6 + 1


@pytest.mark.parametrize(("row", "packs"), [(1 << 20, 1), (1000, 7)])
def test_large_examples_of_different_sizes_do_not_stand_in_one_row(
    row, packs, tmp_path, monkeypatch
):
    """So that a window of any of them reads only what it needs; small ones are few files."""
    monkeypatch.setattr(preparing, "ROW_BYTES", row)
    monkeypatch.setattr(store, "PIECE_BYTES", 500)
    monkeypatch.setattr(store, "SIDES", dict.fromkeys((1, 2, 3), 8))
    source = Ragged()
    assert write(source, tmp_path).packs == packs
    found = prepared.Source(split="train", root=str(tmp_path))
    assert all(isinstance(found[index]["image"], Lazy) == (packs == 7) for index in range(7))
    for index in range(7):
        equal(found[index], source[index])
    alike = write(Ragged(alike=True), tmp_path, "alike")
    assert alike.packs == 1


def test_only_the_pieces_that_a_window_needs_are_read(tmp_path, monkeypatch):
    """Damage elsewhere in the file is not seen; in the window it is an error, in one line."""
    monkeypatch.setattr(store, "SIDES", {1: 64, 2: 64, 3: 16})
    monkeypatch.setattr(store, "PIECE_BYTES", 1000)
    source = synthetic.Source(split="val", size=(256, 256), num_examples=1)
    write(source, tmp_path)
    below = tmp_path / "train/packs/000000/image/c"
    (file,) = (path for path in below.rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[50] ^= 255  # in the first piece
    file.write_bytes(content)
    image = prepared.Source(split="train", root=str(tmp_path))[0]["image"]
    assert isinstance(image, Lazy)
    inside = slice(64, 256), slice(64, 256)
    np.testing.assert_array_equal(image[inside], source[0]["image"][inside])
    for region in ((slice(0, 256), slice(0, 256)), (slice(10, 20), slice(10, 20))):
        with pytest.raises(DataError, match=r"packs/000000/image: cannot be read: .*edited") as why:
            image[region]
        assert "\n" not in str(why.value) and len(str(why.value)) < 700


@pytest.mark.parametrize("value", [0, 7])
def test_a_file_that_is_missing_is_not_read_as_zeros(value, tmp_path, monkeypatch):
    """Nor are zeros that were written taken for missing; whether all is read or a part."""
    monkeypatch.setattr(store, "PIECE_BYTES", 1000)
    monkeypatch.setattr(store, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(store, "SIDES", {2: 32})
    plain = synthetic.Source(split="val", size=(128, 128), num_examples=1)

    class Even(core.View):
        def __getitem__(self, index):
            example = self.source[index]
            return example | {"image": np.full_like(example["image"], value)}

    source = Even(plain)
    write(source, tmp_path)
    found = prepared.Source(split="train", root=str(tmp_path))
    equal(found[0], source[0])
    below = tmp_path / "train/packs/000000/image/c"
    *_, last = sorted(path for path in below.rglob("*") if path.is_file())
    last.unlink()
    image = prepared.Source(split="train", root=str(tmp_path))[0]["image"]
    np.testing.assert_array_equal(image[0:32, 0:32], source[0]["image"][0:32, 0:32])
    for region in ((slice(0, 128),), (slice(100, 128), slice(100, 128))):
        with pytest.raises(DataError, match="packs/000000/image: cannot be read"):
            image[region]


def rewrite(root, name="label", row=0):
    """Change a value as other software would: with right checksums of pieces."""
    found = prepared.Source(split="train", root=str(root))
    opened = found._open(0, name)
    values = np.array(opened[row].read().result())
    values.reshape(-1)[5] ^= 1
    opened[row].write(values).result()


@pytest.mark.parametrize("sides", [256, 8])
def test_an_edit_is_noticed(sides, tmp_path, monkeypatch):
    """Where a field is read as a whole; of all examples where that is asked for; else not."""
    if sides == 8:
        monkeypatch.setattr(store, "PIECE_BYTES", 100)
    monkeypatch.setattr(store, "SIDES", {1: 64, 2: sides, 3: 16})
    source = Ragged(alike=True)
    write(source, tmp_path)
    rewrite(tmp_path, row=3)
    first = prepared.Source(split="train", root=str(tmp_path))
    first.check()
    equal(first[2], source[2])
    with pytest.raises(DataError, match=r"train: label of images/3\.x is not what was prepared"):
        np.asarray(first[3]["label"])
    with pytest.raises(DataError, match=r"train: label of images/3\.x is not what was prepared"):
        prepared.Source(split="train", root=str(tmp_path), verify="all").check()
    none = prepared.Source(split="train", root=str(tmp_path), verify="none")
    assert (np.asarray(none[3]["label"]) != source[3]["label"]).sum() == 1


def test_an_edited_manifest_is_noticed(tmp_path):
    write(Ragged(), tmp_path)
    path = tmp_path / "train/manifest.json"
    text = path.read_text()
    for old, new in (("images/1.x", "images/8.x"), ('"a"', '"d"'), ("uint16", "uint32")):
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match="its hash is not that of its content: it was edited"):
            prepared.Source(split="train", root=str(tmp_path))


WRONG = {
    "no JSON": lambda m: "{",
    "another format": lambda m: m | {"format": "x"},
    "a list": lambda m: [m],
    "no packs": lambda m: {k: v for k, v in m.items() if k != "packs"},
    "packs": lambda m: m | {"packs": 3},
    "empty pack": lambda m: m | {"packs": [{"stacked": True, "examples": []}]},
    "huge": lambda m: sized(m, [1 << 30, 1 << 30]),
    "negative": lambda m: sized(m, [-4, 20]),
    "a text": lambda m: sized(m, ["20", 20]),
    "four axes": lambda m: sized(m, [2, 2, 2, 2]),
    "kind": lambda m: (
        m | {"fields": m["fields"] | {"label": {"kind": "x", "shape": [], "dtype": "uint8"}}}
    ),
    "dtype": lambda m: (
        m | {"fields": m["fields"] | {"label": {"kind": "classes", "shape": [], "dtype": "O"}}}
    ),
    "no image": lambda m: m | {"fields": {"label": m["fields"]["label"]}},
    "palette": lambda m: m | {"palette": [[0, 0, 300]] * 3},
}


def sized(manifest, size):
    pack = manifest["packs"][0]
    return manifest | {"packs": [pack | {"examples": [pack["examples"][0] | {"size": size}]}]}


@pytest.mark.parametrize("kind", WRONG)
def test_a_manifest_of_a_stranger_is_one_line(kind, tmp_path):
    """With a right hash: whatever it claims, nothing of that size is made."""
    write(Ragged(), tmp_path)
    path = tmp_path / "train/manifest.json"
    wrong = WRONG[kind](json.loads(path.read_text()))
    if isinstance(wrong, dict):
        wrong = json.dumps({**wrong, "hash": prepared.hash_of(wrong)})
    path.write_text(wrong if isinstance(wrong, str) else json.dumps(wrong))
    with pytest.raises(DataError, match=r"manifest\.json: ") as why:
        prepared.Source(split="train", root=str(tmp_path))
    assert "\n" not in str(why.value)


def test_arrays_that_are_others_than_the_manifest_says_are_refused(tmp_path):
    write(Ragged(alike=True), tmp_path)
    path = tmp_path / "train/packs/000000/label/zarr.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"shape": [9, 20, 20]}))
    with pytest.raises(DataError, match=r"packs/000000/label: cannot be read"):
        prepared.Source(split="train", root=str(tmp_path))[0]
    path.unlink()
    with pytest.raises(DataError, match=r"packs/000000/label: cannot be read: NOT_FOUND"):
        prepared.Source(split="train", root=str(tmp_path))[0]


@pytest.mark.parametrize(
    "file",
    ["manifest.json", "packs/000000/label/zarr.json", "packs/000000/image/c/0/0/0/0"],
)
def test_what_is_no_file_is_not_waited_for(file, tmp_path):
    write(Ragged(alike=True), tmp_path)
    os.remove(tmp_path / "train" / file)
    os.mkfifo(tmp_path / "train" / file)
    with pytest.raises(DataError, match=f"{file}: is a pipe"):
        prepared.Source(split="train", root=str(tmp_path))[0]


class Stop(Exception):
    pass


def contents(folder):
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", ["ragged", "alike", "lazily"])
def test_what_was_stopped_goes_on_where_it_was(kind, tmp_path, monkeypatch):
    """Only the pack that was being written is made twice; until the end there is no split."""
    monkeypatch.setattr(preparing, "PACK_BYTES", 9_000)
    source = Ragged(alike=kind == "alike", lazily=kind == "lazily")
    whole = write(source, tmp_path / "whole")
    assert whole.packs > 3

    def stop(done):
        if done >= 3:
            raise Stop

    with pytest.raises(Stop):
        write(source, tmp_path / "part", tell=stop)
    with pytest.raises(DataError, match="not complete"):
        prepared.Source(split="train", root=str(tmp_path / "part"))
    left = tmp_path / "part/train/packs" / f"{9:06d}" / "image"
    left.mkdir(parents=True)
    done = write(source, tmp_path / "part")
    assert done.found == 7 and 3 <= done.before < 7
    assert done.packs < whole.packs and done.manifest_hash == whole.manifest_hash
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    again = write(source, tmp_path / "part")
    assert again == whole._replace(before=7, packs=0, num_bytes=0)


KILLED = """
    import os, signal, sys
    from segjax.data import preparing, store
    from tests.data.test_prepared import Ragged, write
    preparing.PACK_BYTES = 10_000
    plain, calls = store.Writer.write, []
    def kill(self, region, values):
        calls.append(region)
        if len(calls) == 15:  # the third array of the third pack, of which zarr.json is there
            os.kill(os.getpid(), signal.SIGKILL)
        plain(self, region, values)
    store.Writer.write = kill
    write(Ragged(), sys.argv[1])
"""


def test_after_sigkill_too(tmp_path, monkeypatch):
    program = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "part")]
    assert subprocess.run(program).returncode == -signal.SIGKILL
    left = contents(tmp_path / "part")
    assert "train/packs/000002/maps/zarr.json" in left and "train/manifest.json" not in left
    monkeypatch.setattr(preparing, "PACK_BYTES", 10_000)
    done = write(Ragged(), tmp_path / "part")
    assert 0 < done.before < 7
    assert done.manifest_hash == write(Ragged(), tmp_path / "whole").manifest_hash
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")


def test_the_folders_of_others_are_left_alone(tmp_path):
    """Of another data set, prepared or begun, and of something else altogether."""
    (tmp_path / "mine/train").mkdir(parents=True)
    (tmp_path / "mine/train/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt: is not of a split that is being prepared"):
        write(Ragged(), tmp_path / "mine")
    write(Ragged(), tmp_path / "other")

    def stop(done):
        raise Stop

    with pytest.raises(Stop):
        write(Ragged(), tmp_path / "begun", tell=stop)
    for place in ("mine", "other", "begun"):
        before = contents(tmp_path / place)
        with pytest.raises(ConfigError):
            write(Ragged(dtype="uint8"), tmp_path / place)
        assert contents(tmp_path / place) == before
    with pytest.raises(ConfigError, match="holds a split of other data: num_examples differ"):
        write(Ragged(length=8), tmp_path / "other")


@pytest.mark.parametrize("split", ["../x", "a/../../x", "/x", ".", ""])
def test_a_split_does_not_lead_out_of_the_root(split, tmp_path):
    with pytest.raises(DataError, match="is no name of a folder"):
        prepared.Source(split=split, root=str(tmp_path))


def test_where_nothing_can_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError) as why:
        write(Ragged(), tmp_path / "file")
    assert "\n" not in str(why.value)


def test_wrong_examples_are_named(tmp_path):
    source = Ragged()
    source.schema = source.schema | {"image": Field("image", (2,), "uint8")}
    with pytest.raises(DataError, match=r"images/0\.x: image of int16; expected uint8"):
        write(source, tmp_path)


def test_a_large_array_is_written_and_compared_in_bands(tmp_path, monkeypatch):
    """So that memory does not grow with it: no more rows are asked for than a file holds."""
    monkeypatch.setattr(store, "SHARD_BYTES", 64 * 600 * 3)
    monkeypatch.setattr(store, "PIECE_BYTES", 1000)
    monkeypatch.setattr(store, "SIDES", {2: 64})
    monkeypatch.setattr(preparing, "PACK_BYTES", 1)
    source, asked = synthetic.Source(split="val", size=(500, 600), num_examples=2), []
    plain = source[0]

    class Large(core.View):
        def __getitem__(self, index):
            def read(region):
                asked.append(region[0].stop - region[0].start)
                return plain["image"][region]

            image = Lazy(plain["image"].shape, np.uint8, read, name="x")
            return plain | {"image": image}

    write(Large(source), tmp_path)
    assert max(asked) <= 64 and len(asked) >= 2 * 8
    found = prepared.Source(split="train", root=str(tmp_path), verify="all")
    found.check()
    equal(found[1], plain)


def test_an_edited_data_set_is_told_from_the_one_before(tmp_path):
    write(Ragged(), tmp_path)
    now = hashes.of_source(prepared.Source(split="train", root=str(tmp_path)))
    assert now["examples"] == 7 and len(now["hash"]) == 64
    assert hashes.compare(now, now, split="train") == []
    for changed, said in (
        ({"examples": 6}, "train: the data has changed since the run was made: 6 examples then, 7"),
        ({"hash": "x"}, "of other names or content"),
        ({"times": "x"}, "were written again"),
    ):
        (line,) = hashes.compare(now | changed, now, split="train")
        assert said in line
    for nothing in (None, {}, {"examples": 3}, [1]):
        assert hashes.compare(nothing, now, split="train") == []


def test_windows_of_prepared_volumes_are_lazy_and_bands_are_few(tmp_path, monkeypatch):
    """A window of a volume does not read the volume."""
    monkeypatch.setattr(store, "PIECE_BYTES", 1000)
    source = synthetic.Source(split="val", dims=3, size=(96, 96, 96), num_examples=1)
    write(source, tmp_path)
    found = prepared.Source(split="train", root=str(tmp_path))
    shapes = []
    monkeypatch.setattr(
        Store, "read_array",
        lambda self, opened, region, key, read=Store.read_array: (
            shapes.append((found_part := read(self, opened, region, key)).shape) or found_part
        ),
    )  # fmt: skip
    draw = windows.Windows(
        found, schema=core.choose_fields(found.schema), size=(32, 32, 32), pad_value=0, seed=0,
        sampling=windows.PLAIN,
    )  # fmt: skip
    draw(0, 1)
    assert {shape[:3] for shape in shapes} == {(32, 32, 32)}

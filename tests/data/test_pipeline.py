import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from segjax.data import core, fit, folder, pipeline
from segjax.errors import ConfigError, DataError
from segjax.structs import Example, Field

SIZE = (32, 48)
SCHEMA = core.semantic_schema(3)


class Numbered:
    """Examples whose every pixel is their number; `broken` ones cannot be read."""

    class_names = ("a", "b")
    palette = ((0, 0, 0), (1, 1, 1))

    def __init__(self, length=10, *, broken=(), dtype="uint8"):
        self.length, self.broken, self.dtype = length, broken, dtype
        self.schema = core.semantic_schema(3, dtype=dtype)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.broken:
            raise DataError(f"number {index} is broken")
        image = np.full((*SIZE, 3), index, self.dtype)
        return Example(image=image, label=np.full(SIZE, index % 2, np.uint8), name=str(index))


def take(count, source, **options):
    """Return the first batches of training, with `number`: which example each row is."""
    options = {"batch_size": 4, "size": SIZE, "seed": 1, "schema": SCHEMA} | options
    batches = pipeline.train_batches(source, **options)
    taken = [
        batch | {"number": batch["image"].reshape(len(batch["image"]), -1)[:, 0].tolist()}
        for batch in itertools.islice(batches, count)
    ]
    batches.close()
    return taken


def test_batch_contract():
    batch = take(1, Numbered())[0]
    shapes = pipeline.batch_shapes(4, SCHEMA, SIZE)
    for name, spec in shapes.items():
        assert (batch[name].shape, batch[name].dtype) == (spec.shape, spec.dtype), name
    assert batch.keys() - shapes.keys() == {"number"}
    assert batch["mask"].all()
    np.testing.assert_array_equal(batch["label"][:, 3, 3], np.array(batch["number"]) % 2)


def test_each_epoch_is_another_permutation():
    rows = np.concatenate([batch["number"] for batch in take(15, Numbered())])  # 6 epochs of 10
    epochs = rows.reshape(6, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_order_depends_on_the_seed_alone():
    rows = {
        (seed, threads): tuple(tuple(batch["number"]) for batch in take(5, Numbered(), **options))
        for seed in (1, 2)
        for threads in (0, 1, 3)
        for options in [{"seed": seed, "threads": threads}]
    }
    assert rows[1, 0] == rows[1, 1] == rows[1, 3] != rows[2, 0] == rows[2, 3]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_in_order_make_up_the_global_batch(count):
    whole = take(6, Numbered())
    parts = [take(6, Numbered(), process_index=p, process_count=count) for p in range(count)]
    for t, batch in enumerate(whole):
        for name in ("image", "label", "mask", "index"):
            rows = np.concatenate([part[t][name] for part in parts])
            np.testing.assert_array_equal(rows, batch[name])


def test_starting_late_is_resuming():
    whole = take(9, Numbered())
    for start, (p, count) in ((7, (0, 1)), (4, (1, 2))):
        resumed = take(2, Numbered(), start_step=start, process_index=p, process_count=count)
        rows = slice(p * 4 // count, (p + 1) * 4 // count)
        for t in range(2):
            assert resumed[t]["number"] == whole[start + t]["number"][rows]
            np.testing.assert_array_equal(resumed[t]["index"], whole[start + t]["index"][rows])


def test_index_is_the_stream_position_and_wraps():
    assert [batch["index"].tolist() for batch in take(2, Numbered())] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]
    late = take(2, Numbered(), start_step=2**29 - 1)
    assert [batch["index"][-1] for batch in late] == [2**31 - 1, 3]


def test_one_example_and_batch_of_one():
    assert [batch["number"] for batch in take(3, Numbered(1), batch_size=1)] == [[0]] * 3
    assert take(1, Numbered(1), batch_size=3)[0]["number"] == [0, 0, 0]


def test_cache_changes_nothing_but_the_reads():
    class Counting(Numbered):
        reads = 0

        def __getitem__(self, index):
            type(self).reads += 1
            return super().__getitem__(index)

    cached = take(20, Counting(), cache=True, threads=1)
    assert Counting.reads == 10
    for batch, plain in zip(cached, take(20, Numbered()), strict=True):
        np.testing.assert_array_equal(batch["image"], plain["image"])


@pytest.mark.parametrize("threads", [0, 2])
def test_data_errors_reach_the_caller_as_they_are(threads):
    with pytest.raises(DataError, match="^number 3 is broken"):
        take(10, Numbered(broken=(3,)), threads=threads)
    with pytest.raises(DataError, match="^number 3 is broken"):
        list(pipeline.eval_examples(Numbered(broken=(3,)), dict, threads=threads))


def test_wrong_channels_are_not_broadcast_nor_dtypes_cast():
    with pytest.raises(DataError, match=r"image of shape .* expected \(32, 48, 1\)"):
        take(1, Numbered(), schema=core.semantic_schema(1))
    with pytest.raises(DataError, match="uint8; expected .*uint16, as the data set's schema"):
        take(1, Numbered(), schema=core.semantic_schema(3, dtype="uint16"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_images_keep_their_dtype(dtype):
    source = Numbered(dtype=dtype)
    batch = take(1, source, schema=source.schema)[0]
    assert batch["image"].dtype == dtype
    assert pipeline.batch_shapes(4, source.schema, SIZE)["image"].dtype == dtype


class Signals:
    """Five signals of growing length, each with its instances and its sampling rate."""

    class_names = ("a", "b")
    palette = ((0, 0, 0), (1, 1, 1))
    schema = {
        **core.semantic_schema(2, dtype="int16"),
        "instance": Field("ids", dtype="uint16"),
        "rate": Field("value", (2,), "float32"),
    }

    def __len__(self):
        return 5

    def __getitem__(self, index):
        length = 40 + 10 * index
        return {
            "image": np.full((length, 2), -1000 * index, np.int16),
            "label": np.full(length, index % 2, np.uint8),
            "instance": np.full(length, 300 + index, np.uint16),
            "rate": np.array([index, 0.5], np.float32),
            "name": f"signal {index}",
        }


def test_every_field_of_the_schema_travels_and_no_other():
    source = Signals()
    named = core.choose_fields(source.schema, ["instance", "rate"])
    options = {"size": (96,), "pad_value": -5}
    for schema in (named, core.choose_fields(source.schema)):
        fitted = fit.Fitted(source, schema=schema, fit="pad", **options)
        batch = pipeline.stack([fitted[0]], [0], schema=schema, num_rows=4, **options)
        shapes = pipeline.batch_shapes(4, schema, (96,))
        assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
            name: (x.shape, x.dtype) for name, x in shapes.items()
        }
    fitted = fit.Fitted(source, schema=named, fit="pad", **options)
    rows = [fitted[i] for i in range(5)]
    first = pipeline.stack(rows[:4], range(4), schema=named, num_rows=4, **options)
    last = pipeline.stack(rows[4:], [4], schema=named, num_rows=4, **options)
    assert (first["image"][1, :50] == -1000).all() and (first["image"][1, 50:] == -5).all()
    assert (first["label"][1, :50] == 1).all() and (first["label"][1, 50:] == 255).all()
    assert (first["instance"][1, :50] == 301).all() and (first["instance"][1, 50:] == 0).all()
    assert first["rate"][:, 0].tolist() == [0, 1, 2, 3]
    assert last["mask"].tolist() == [True, False, False, False]
    assert (last["rate"][1:] == 0).all() and (last["instance"][1:] == 0).all()
    assert (last["image"][1:] == -5).all() and (last["label"][1:] == 255).all()
    cached = take(2, source, schema=named, size=(96,), fit="pad", cache=True)
    plain = take(2, source, schema=named, size=(96,), fit="pad")
    for one, other in zip(cached, plain, strict=True):
        for name in shapes:
            np.testing.assert_array_equal(one[name], other[name])


def test_batch_size_must_divide():
    given = {"seed": 0, "schema": SCHEMA}
    with pytest.raises(ConfigError, match="batch_size=10: .* 4 processes.* 8 or 12"):
        pipeline.train_batches(Numbered(), batch_size=10, size=SIZE, process_count=4, **given)
    with pytest.raises(ConfigError, match="such as 4"):
        pipeline.train_batches(Numbered(), batch_size=2, size=SIZE, process_count=4, **given)
    with pytest.raises(ConfigError, match="fit='stretch'"):
        pipeline.train_batches(Numbered(), batch_size=4, size=SIZE, fit="stretch", **given)
    with pytest.raises(ConfigError, match=r"size=\(\): expected the sides"):
        pipeline.train_batches(Numbered(), batch_size=4, size=(), **given)


def test_cache_is_not_for_workers():
    with pytest.raises(ConfigError, match="cache=True with workers=2"):
        take(1, Numbered(), cache=True, workers=2)


@pytest.mark.parametrize(("length", "count"), [(10, 2), (9, 4), (3, 4), (8, 1)])
def test_evaluation_sees_every_example_once(length, count):
    source = Numbered(length)
    seen = []
    for p in range(count):
        found = list(
            pipeline.eval_examples(
                source, lambda example: example["image"], process_index=p, process_count=count
            )
        )
        numbers = [number for number, _ in found]
        assert numbers == sorted(numbers)
        for number, image in found:
            np.testing.assert_array_equal(image, source[number]["image"])
        seen += numbers
    assert sorted(seen) == list(range(length))


def test_rows_that_fill_up_a_batch_hold_nothing():
    source = fit.Fitted(Numbered(), schema=SCHEMA, size=SIZE, fit="resize")
    batch = pipeline.stack([source[3]], [3], schema=SCHEMA, num_rows=3, size=SIZE, pad_value=7)
    assert batch["index"].tolist() == [3, -1, -1]
    assert batch["mask"].tolist() == [True, False, False]
    np.testing.assert_array_equal(batch["image"][0], source[3]["image"])
    assert (batch["label"][1:] == 255).all() and (batch["image"][1:] == 7).all()
    assert batch["label"].dtype == batch["index"].dtype == np.int32


@pytest.fixture
def files(tmp_path):
    """Return a folder data set of six images, of which number 4 is truncated."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    for i in range(6):
        image = Image.fromarray(rng.integers(0, 255, (40, 56, 3), np.uint8))
        image.save(tmp_path / f"train/images/{i}.jpg")
        Image.fromarray(np.zeros((40, 56), np.uint8)).save(tmp_path / f"train/labels/{i}.png")
    broken = tmp_path / "train/images/4.jpg"
    broken.write_bytes(broken.read_bytes()[:-500])
    return folder.Source(split="train", root=str(tmp_path), class_names=("a", "b"))


def test_truncated_file_in_a_thread(files):
    with pytest.raises(DataError, match=r"4\.jpg: cannot be read: .*truncated"):
        take(3, files)


@pytest.mark.slow
def test_workers_give_the_same_batches_and_errors(files):
    with pytest.raises(DataError, match=r"4\.jpg: cannot be read: .*truncated"):
        take(3, files, workers=1)
    files.files[4] = files.files[3]
    for batch, plain in zip(take(5, files, workers=2), take(5, files), strict=True):
        for name in ("image", "label", "mask", "index"):
            np.testing.assert_array_equal(batch[name], plain[name])


ORPHAN = """
import os, sys
from segjax.data import folder, pipeline
if __name__ == "__main__":
    source = folder.Source(split="train", root=sys.argv[1], class_names=("a", "b"))
    batches = pipeline.train_batches(
        source, schema=source.schema, batch_size=2, size=(32, 32), seed=0, workers=1
    )
    next(batches)
    import multiprocessing
    print(multiprocessing.active_children()[0].pid, flush=True)
    sys.stdin.read()
"""


def alive(pid):
    """Say whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_workers_die_with_the_main_process_and_leave_signals_to_it(files, tmp_path):
    files.files[4] = files.files[3]
    broken = tmp_path / "train/images/4.jpg"
    broken.write_bytes((tmp_path / "train/images/3.jpg").read_bytes())
    script = tmp_path / "main.py"
    script.write_text(ORPHAN)
    main = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    worker = int(main.stdout.readline())
    try:
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.5)
        assert alive(worker)
    finally:
        main.kill()
        main.wait()
    deadline = time.monotonic() + 10
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)


@pytest.mark.skipif("SEGJAX_DATA" not in os.environ, reason="SEGJAX_DATA is not set")
def test_camvid_batches():
    source = folder.Source(split="val", root="$SEGJAX_DATA/camvid")
    examples = pipeline.eval_examples(source, lambda example: example["label"].shape)
    found = list(examples)
    assert [number for number, _ in found] == list(range(101))
    assert {shape for _, shape in found} == {(360, 480)}

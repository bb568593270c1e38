"""The rule: a row's window is a part of its example, at a place that seed and position decide.

Whatever the number of axes, the fields, the kind of array, the processes, threads and workers.
"""

import collections
import functools
import itertools
import pickle

import numpy as np
import pytest

from configs import quickstart
from segjax.assemble import setup
from segjax.data import core, fit, lazy, look, pipeline, windows
from segjax.data.lazy import Lazy
from segjax.errors import ConfigError, DataError
from segjax.structs import Field
from segjax.views import colour

SIZES = {1: [(90,), (40,), (51,)], 2: [(70, 90), (33, 200), (20, 41)], 3: [(40, 44, 50)] * 3}
SIZE = {1: (48,), 2: (32, 40), 3: (16, 32, 40)}
THIRD = windows.Sampling(1 / 3, (1, 2, 3))


class Numbered:
    """Images whose pixels are their own place, with a few pixels of classes 1 to 3 in some."""

    class_names = ("ground", "a", "b", "c")
    palette = colour.voc_palette(4)

    def __init__(self, dims=2, *, length=3, lazily=False, multilabel=False):
        self.dims, self.length, self.lazily, self.multilabel = dims, length, lazily, multilabel
        self.schema = {
            "image": Field("image", (dims + 1,), "int16"),
            "label": Field("labels", (4,)) if multilabel else Field("classes"),
            "instance": Field("ids", dtype="uint16"),
            "spacing": Field("value", (dims,), "float32"),
        }
        self.reads, self.regions = collections.Counter(), []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.reads[index] += 1
        size = SIZES[self.dims][index % 3]
        places = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
        image = np.concatenate([places, np.full((*size, 1), index)], axis=-1).astype(np.int16)
        label = np.zeros(size, np.uint8)
        if index % 3:  # the first has nothing but ground
            label[tuple(side - 3 for side in size)] = 1
            label[tuple(side // 2 for side in size)] = 2
            label[(1,) * self.dims] = 255
        if self.multilabel:
            label = (label[..., None] == np.arange(4)).astype(np.uint8)
        arrays = {"image": image, "label": label, "instance": image[..., 0].astype(np.uint16) + 1}
        if self.lazily:
            arrays = {name: self._lazy(name, array) for name, array in arrays.items()}
        return {
            **arrays,
            "spacing": np.full(self.dims, index + 0.5, np.float32),
            "name": str(index),
        }

    def _lazy(self, name, array):
        def read(region):
            self.regions.append((name, region))
            return array[region]

        return Lazy(array.shape, array.dtype, read, name=name)


def cut(source, *, seed=3, sampling=windows.PLAIN, fields=("instance", "spacing"), **options):
    given = {"schema": core.choose_fields(source.schema, fields), "size": SIZE[source.dims]}
    return windows.Windows(source, **given, pad_value=-1, seed=seed, sampling=sampling, **options)


def take(count, source, **options):
    options = {"batch_size": 8, "size": SIZE[2], "seed": 1, "pad_value": 0} | options
    schema = core.choose_fields(source.schema, ["instance", "spacing"])
    batches = pipeline.train_batches(source, schema=schema, fit="window", **options)
    found = list(itertools.islice(batches, count))
    batches.close()
    return found


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("multilabel", [False, True])
def test_a_window_is_the_same_part_of_every_field(dims, multilabel):
    """Cut out where the image is larger, padded by each field's fill where it is smaller."""
    source = Numbered(dims, multilabel=multilabel)
    draw = cut(source, sampling=THIRD)
    for number, position in itertools.product(range(3), range(6)):
        found, whole = draw(number, position), source[number]
        low = found["image"][(0,) * dims][:dims]
        region = tuple(slice(a, a + side) for a, side in zip(low, SIZE[dims], strict=True))
        for name, fill in (("image", -1), ("label", 255), ("instance", 0)):
            expected = fit.pad(whole[name][region], size=SIZE[dims], value=fill)
            np.testing.assert_array_equal(found[name], expected)
            assert found[name].dtype == whole[name].dtype
        np.testing.assert_array_equal(found["spacing"], whole["spacing"])
        assert found["name"] == str(number)


def test_places_reach_all_of_the_image_evenly():
    draw = cut(Numbered(2))
    low = np.stack([draw(0, position)["image"][0, 0, :2] for position in range(3000)])
    for axis, spare in enumerate((70 - 32, 90 - 40)):
        counts = np.bincount(low[:, axis], minlength=spare + 1)
        assert len(counts) == spare + 1
        expected = 3000 / (spare + 1)
        assert ((counts - expected) ** 2 / expected).sum() < 2 * (spare + 1)


def test_a_share_of_the_rows_holds_a_chosen_class_each_as_often():
    """And these windows have the chosen pixel in their middle, moved inwards at the border."""
    source = Numbered(2)
    plain, third = cut(source), cut(source, sampling=THIRD)
    moved = [p for p in range(3000) if (plain(1, p)["label"] != third(1, p)["label"]).any()]
    middle = collections.Counter()
    for position in moved:
        label = third(1, position)["label"]
        assert {*np.unique(label[label < 255])} & {1, 2}
        middle[int(label[16, 20] == 2)] += 1  # that of class 1 lies in a corner, no window's middle
    assert abs(len(moved) / 3000 - 1 / 3) < 4 * np.sqrt(1 / 3 * 2 / 3 / 3000)
    assert 0.4 < middle[1] / len(moved) < 0.6
    always = cut(source, sampling=windows.Sampling(1.0, (1,)))
    assert all((always(1, position)["label"] == 1).any() for position in range(50))
    assert always.plain == 0


def test_an_example_without_the_class_is_drawn_plainly_and_counted():
    source = Numbered(2)
    plain, wanted = cut(source), cut(source, sampling=windows.Sampling(1.0, (1, 2)))
    for position in range(20):
        equal(plain(0, position), wanted(0, position))
    assert wanted.plain == 20 and plain.plain == 0
    found = look.look(source, wanted=(1, 2))
    assert found.without == 1 and look.look(source).without == 0
    notes = look.check(found, source.class_names, split="train")
    assert any("1 have no pixel of config.input.window.classes" in note for note in notes)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("multilabel", [False, True])
def test_of_files_in_parts_only_the_window_is_read(dims, multilabel, monkeypatch):
    """And what is read of the label to find classes is gone through in bands, once."""
    monkeypatch.setattr(lazy, "BAND", 700)
    source = Numbered(dims, lazily=True, multilabel=multilabel)
    whole = cut(Numbered(dims, multilabel=multilabel), sampling=THIRD)
    parts = cut(source, sampling=THIRD)
    for number, position in itertools.product((1, 2), range(8)):
        equal(parts(number, position), whole(number, position))
    assert source.reads == {1: 1, 2: 1}, "large files stay open"
    for name, region in source.regions:
        read = [part.stop - part.start for part in region[:dims]]
        banded = name == "label" and (read[0] == 1 or np.prod(read) <= 700)
        assert banded or all(a <= b for a, b in zip(read, SIZE[dims], strict=True))
    bands = [read for read in source.regions if read[0] == "label" and read[1][0].start == 0]
    assert len(bands) >= 1


def test_few_large_files_stay_open():
    source = Numbered(2, length=9, lazily=True)
    parts = cut(source)
    for number in (0, 1, 2, 0, 2):
        parts(number, 0)
    assert source.reads == {0: 2, 1: 1, 2: 1} and windows.OPEN == 2


@pytest.mark.parametrize("count", [2, 4])
def test_processes_in_order_make_up_the_global_batch(count):
    whole = take(4, Numbered(), window=THIRD)
    parts = [
        take(4, Numbered(), window=THIRD, process_index=p, process_count=count)
        for p in range(count)
    ]
    for t, batch in enumerate(whole):
        for name in batch:
            rows = np.concatenate([part[t][name] for part in parts])
            np.testing.assert_array_equal(rows, batch[name])


def test_threads_starts_and_the_cache_change_nothing_but_the_seed_does():
    whole = take(6, Numbered(), window=THIRD)
    for options in ({"threads": 0}, {"threads": 3}, {"cache": True, "threads": 3}):
        for one, other in zip(take(6, Numbered(), window=THIRD, **options), whole, strict=True):
            equal(one, other)
    for one, other in zip(take(2, Numbered(), window=THIRD, start_step=4), whole[4:], strict=True):
        equal(one, other)
    lazily = take(6, Numbered(lazily=True), window=THIRD)
    for one, other in zip(lazily, whole, strict=True):
        equal(one, other)
    assert (take(1, Numbered(), window=THIRD, seed=2)[0]["image"] != whole[0]["image"]).any()
    first, again = [take(4, Numbered(length=1), batch_size=1)[i]["image"] for i in (0, 3)]
    assert (first != again).any(), "a row of the same example has another place"


@pytest.mark.slow
def test_workers_change_nothing():
    whole = take(4, Numbered(), window=THIRD)
    for one, other in zip(take(4, Numbered(), window=THIRD, workers=2), whole, strict=True):
        equal(one, other)


def test_the_cache_keeps_whole_examples_within_its_bounds(monkeypatch):
    source = Numbered(2)
    draw = cut(source, cache=True)
    for position in range(9):
        draw(position % 3, position)
    assert source.reads == {0: 1, 1: 1, 2: 1}
    size = sum(source[0][name].nbytes for name in source.schema)
    monkeypatch.setattr(core, "CACHE_BYTES", size)
    source.reads.clear()
    draw = cut(source, cache=True)
    for position in range(6):
        draw(position % 2, position)
    assert source.reads == {0: 1, 1: 3}
    again = pickle.loads(pickle.dumps(draw))
    equal(again(1, 5), draw(1, 5))


@pytest.mark.parametrize("many", [100, 50_000])
def test_pixels_of_a_class_are_drawn_evenly_from_all_bands(many, monkeypatch):
    """All where there are few, else `PIXELS` of them, each as likely whatever band it is in."""
    monkeypatch.setattr(lazy, "BAND", 999)
    random = np.random.default_rng(0)
    label = np.zeros(100_000, np.uint8)
    chosen = np.sort(random.choice(100_000, many, replace=False))
    label[chosen], label[0] = 7, 255
    given = dict(classes=(3, 7), multilabel=False, random=np.random.default_rng(1))
    found = windows.find_places(label.reshape(400, 250), **given)
    assert [*found] == [7]
    if many <= windows.PIXELS:
        assert np.sort(found[7]).tolist() == chosen.tolist()
    else:
        assert len({*found[7].tolist()}) == windows.PIXELS and (label[found[7]] == 7).all()
        counts = np.bincount(found[7] // 10_000, minlength=10)
        expected = windows.PIXELS / 10
        assert ((counts - expected) ** 2 / expected).sum() < 28  # 0.1 % of chance


@pytest.mark.parametrize(("room", "times"), [(0, 5), (1 << 20, 1)])
def test_places_that_do_not_fit_are_found_again(room, times, monkeypatch):
    """And they are the same ones."""
    calls, find = [], windows.find_places
    sampling = windows.Sampling(1.0, (1, 2))
    expected = [cut(Numbered(), sampling=sampling)(1, position) for position in range(5)]
    monkeypatch.setattr(windows, "PLACES_BYTES", room)
    monkeypatch.setattr(windows, "find_places", lambda *a, **o: calls.append(a) or find(*a, **o))
    draw = cut(Numbered(), sampling=sampling)
    for position in range(5):
        equal(draw(1, position), expected[position])
    assert len(calls) == times


def test_classes_are_numbers_or_names():
    names = ("ground", "a", "b")
    make = functools.partial(windows.make_sampling, how="window")
    section = {"share": 0.5, "classes": ["b", 1, "a"]}
    assert make(section, names, multilabel=False) == (0.5, (1, 2))
    assert make({"share": 0, "classes": []}, names, multilabel=False).classes == (1, 2)
    assert make({"share": 0, "classes": []}, names, multilabel=True).classes == (0, 1, 2)
    with pytest.raises(ConfigError, match=r"no class 'bb'\. Did you mean 'b'"):
        make({"share": 1, "classes": ["bb"]}, names, multilabel=False)
    with pytest.raises(ConfigError, match=r"no class 3; expected 0 to 2"):
        make({"share": 1, "classes": [3]}, names, multilabel=False)


def test_another_number_of_axes_is_one_line():
    source = Numbered(3)
    given = dict(schema=source.schema, pad_value=0, seed=0, sampling=windows.PLAIN)
    with pytest.raises(DataError, match="0: 40x44x50 has 3 axes in space, the canvas 32x40 has 2"):
        windows.Windows(source, size=(32, 40), **given)(0, 0)


def test_evaluation_sees_images_whole_in_windows_and_a_share_needs_windows():
    config = quickstart.get_config("debug")
    config.input.window.share = 0.5
    with pytest.raises(ConfigError, match=r"share=0.5: nothing is cut out with fit='resize'"):
        setup.make_setup(config)
    config.input.fit = "window"
    made, _ = setup.make_setup(config)
    assert made.parts.canvas.fit == "window" and made.parts.layout.canvas.fit == "pad"
    assert made.parts.layout.sides((500, 70), name="x") == (500, 70)
    assert made.parts.canvas.scale((500, 70), name="x") == 1
    assert made.parts.window.share == 0.5 and 0 not in made.parts.window.classes

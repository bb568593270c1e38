"""Published benchmarks by config: on a miniature of each publisher's own folders."""

import json
import os
import pathlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image

from configs import (
    ade20k,
    cityscapes,
    cityscapes_panoptic,
    coco,
    coco_instance,
    coco_panoptic,
    dsb2018,
    isbi2012,
    lidc,
    msd,
    pets,
    protocols,
    voc,
)
from segjax.assemble import parts as parts_lib
from segjax.config import schema, sections
from segjax.data import core, fit, hashes, panoptic
from segjax.data.formats import cityscapes as cityscapes_format
from segjax.errors import ConfigError, DataError
from segjax.inference.layout import Plan
from segjax.runs import train
from tests import benchmark_files as files


class Case(NamedTuple):
    """A config on its miniature: its file, its argument, and how many examples it has."""

    module: Any
    make: Callable[[pathlib.Path], None]
    arg: str = ""
    examples: Mapping[str, int] = {"train": 2, "val": 2}


TENTHS = {"train": 7, "val": 1, "test": 2}
CASES = {
    "voc": Case(voc, files.make_voc),
    "voc_sbd": Case(voc, files.make_sbd, "split=trainaug", {"trainaug": 3, "val": 2}),
    "voc_png": Case(voc, files.make_voc_png, "split=trainaug,masks=png", {"trainaug": 2, "val": 2}),
    "cityscapes": Case(cityscapes, files.make_cityscapes),
    "cityscapes_extra": Case(
        cityscapes, files.make_cityscapes_extra, "split=train_extra", {"train_extra": 2, "val": 2}
    ),
    "ade20k": Case(ade20k, files.make_ade20k, "", {"training": 2, "validation": 2}),
    "pets": Case(pets, files.make_pets, "", {"trainval": 2, "test": 2}),
    "pets_border": Case(pets, files.make_pets, "border=class", {"trainval": 2, "test": 2}),
    "isbi2012": Case(isbi2012, files.make_isbi2012, "", TENTHS),
    "dsb2018": Case(dsb2018, files.make_fluorescence, "", {"train": 3, "val": 2, "test": 2}),
    "dsb2018_stage1": Case(dsb2018, files.make_dsb2018, "data=stage1", TENTHS),
    "dsb2018_pixels": Case(dsb2018, files.make_dsb2018, "data=stage1,task=semantic", TENTHS),
    "coco_stuff": Case(coco, files.make_coco_stuff),
    "coco_panoptic": Case(coco, files.make_coco_panoptic, "labels=panoptic"),
    "coco_instances": Case(coco, files.make_coco_instances, "labels=instances"),
    "coco_objects": Case(coco_instance, files.make_coco_instances),
    "coco_regions": Case(coco_panoptic, files.make_coco_panoptic),
    "cityscapes_regions": Case(cityscapes_panoptic, files.make_cityscapes_panoptic),
    "coco_regions_mask2former": Case(coco_panoptic, files.make_coco_panoptic, "model=mask2former"),
    "cityscapes_regions_mask2former": Case(
        cityscapes_panoptic, files.make_cityscapes_panoptic, "model=mask2former,encoder=swin_t"
    ),
    "msd": Case(msd, files.make_msd, "task=Task05_Prostate", TENTHS),
    "lidc": Case(lidc, files.make_lidc, "", TENTHS),
}


def config_of(name, tmp_path, monkeypatch, size="debug"):
    """Write a miniature of a benchmark, and return its config for it."""
    case = CASES[name]
    case.make(tmp_path)
    monkeypatch.setenv("SEGJAX_DATA", str(tmp_path))
    return sections.section(case.module.get_config(f"{case.arg},size={size}".strip(",")))


def splits_of(config):
    return [config["input"]["split"], *(each["split"] for each in config["evals"].values())]


@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_is_read_as_its_publisher_lays_it_out(name, tmp_path, monkeypatch):
    """Every split opens, its headers are sound, and every example holds classes and void alone."""
    config = config_of(name, tmp_path, monkeypatch)
    schema.check(config)
    for split in splits_of(config):
        source = parts_lib.make_source(config, split)
        assert len(source) == CASES[name].examples[split], split
        if isinstance(source, core.Checkable):
            source.check()
        for example in (source[i] for i in range(len(source))):
            values = set(np.unique(np.asarray(example["label"])).tolist())
            assert values <= {*range(len(source.class_names)), 255}
            assert example["image"].shape[:-1] == example["label"].shape
    assert len(source.palette) == len(source.class_names)


@pytest.mark.parametrize("name", [name for name in CASES if name != "msd"])
def test_a_split_of_another_size_than_published_is_an_error(name, tmp_path, monkeypatch):
    """The rule: whatever reads it, a count that is published is checked, and 0 takes any."""
    config = config_of(name, tmp_path, monkeypatch, size="full")
    for split in splits_of(config):
        expected = config["input"]["source"]["expected"]
        with pytest.raises(DataError, match=r"examples in split .*, expected \d.*=0\.$") as error:
            parts_lib.make_source(config, split)
        assert f"--config.input.source.expected.{split}=0" in str(error.value)
        expected[split] = 0
        assert len(parts_lib.make_source(config, split)) == CASES[name].examples[split]


def test_the_decathlon_counts_what_its_own_file_says(tmp_path, monkeypatch):
    config = config_of("msd", tmp_path, monkeypatch)
    path = tmp_path / "Task05_Prostate/dataset.json"
    path.write_text(path.read_text().replace('"numTraining": 10', '"numTraining": 32'))
    with pytest.raises(DataError, match="10 examples in split 'all', expected 32"):
        parts_lib.make_source(config, "train")
    config["input"]["source"]["expected"] = {"all": 0}
    assert len(parts_lib.make_source(config, "train")) == 7


@pytest.mark.parametrize("name", CASES)
def test_worker_processes_read_the_same(name, tmp_path, monkeypatch):
    """The rule of `core.Source`: it is pickled for them, whatever it has read already."""
    config = config_of(name, tmp_path, monkeypatch)
    source = parts_lib.make_source(config, config["input"]["split"])
    example = source[0]
    again = pickle.loads(pickle.dumps(source))[0]  # noqa: S301  its own
    for field in ("image", "label"):
        np.testing.assert_array_equal(np.asarray(again[field]), np.asarray(example[field]))


@pytest.mark.parametrize("name", CASES)
def test_an_edited_label_is_noticed(name, tmp_path, monkeypatch):
    """The rule: whatever says what the labels are is among the files of the source's hash."""
    config = config_of(name, tmp_path, monkeypatch)
    split = config["input"]["split"]
    source = parts_lib.make_source(config, split)
    before = hashes.of_source(source)
    assert before["examples"] == len(source) and before["hash"]
    file = [mask for mask in source.files[0][1] if mask][-1]
    os.utime(file, ns=(0, 0))
    assert hashes.of_source(parts_lib.make_source(config, split))["times"] != before["times"]


@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_is_dealt_to_folds(name, tmp_path, monkeypatch):
    """Whatever reads it: names without reading, each example held out once, objects as they are."""
    config = config_of(name, tmp_path, monkeypatch)
    inner, split = config["input"]["source"], config["input"]["split"]
    whole = parts_lib.make_source(config, split)
    every = {whole[i]["name"]: i for i in range(len(whole))}
    assert core.names_of(whole, split) == [*every]
    kind = "grouped" if name == "lidc" else "plain"
    about = {"type": "folds", "source": inner, "splits": [split], "folds": 2, "kind": kind}
    held, trained = [], []
    for fold in range(2):
        config["input"]["source"] = {**about, "fold": fold}
        for part, found in (("val", held), ("train", trained)):
            source = pickle.loads(pickle.dumps(parts_lib.make_source(config, part)))  # noqa: S301
            names = core.names_of(source, part)
            assert names == [source[i]["name"] for i in range(len(source))]
            assert core.reading_of(source) == core.reading_of(whole)
            assert hashes.of_source(source)["hash"] and source.schema == whole.schema
            source.check()
            found += names
            np.testing.assert_array_equal(
                np.asarray(source[0]["label"]), np.asarray(whole[every[names[0]]]["label"])
            )
            if "object_masks" in whole.schema:
                one, other = source.objects(0), whole.objects(every[names[0]])
                np.testing.assert_array_equal(one.boxes, other.boxes)
                counts = source.object_counts()
                assert counts is None or counts[0] == len(one.classes)
    assert sorted(held) == sorted(trained) == sorted(every)


def stored_and_label(name, split, tmp_path, monkeypatch, index=0):
    """Return a mask as Pillow reads it, and the label that the source makes of it."""
    source = parts_lib.make_source(config_of(name, tmp_path, monkeypatch), split)
    _, masks = source.files[index]
    stored = [np.asarray(Image.open(mask)) for mask in masks]
    return stored[0] if len(stored) == 1 else stored, source[index]["label"]


@pytest.mark.parametrize("name", ["voc", "voc_sbd", "voc_png"])
def test_voc_is_scored_on_its_own_masks_whatever_trains(name, tmp_path, monkeypatch):
    stored, label = stored_and_label(name, "val", tmp_path, monkeypatch)
    np.testing.assert_array_equal(label, stored)
    assert (label[:3] == 255).all()


def test_trainaug_has_vocs_masks_where_it_has_any_and_nothing_of_val(tmp_path, monkeypatch):
    """As in SBD's protocol: both lists and VOC's train, without VOC's val."""
    source = parts_lib.make_source(config_of("voc_sbd", tmp_path, monkeypatch), "trainaug")
    names = {pathlib.Path(image).stem: mask.suffix for image, (mask,) in source.files}
    assert names == {"2007_train0": ".png", "2007_train1": ".png", "2008_other": ".mat"}
    mat = tmp_path / "benchmark_RELEASE/dataset/cls/2008_other.mat"
    expected = scipy.io.loadmat(mat)["GTcls"][0, 0]["Segmentation"]
    np.testing.assert_array_equal(source[2]["label"], expected)


def test_ade20k_begins_with_void(tmp_path, monkeypatch):
    stored, label = stored_and_label("ade20k", "validation", tmp_path, monkeypatch)
    np.testing.assert_array_equal(label[stored > 0], stored[stored > 0] - 1)
    assert (label[stored == 0] == 255).all()


@pytest.mark.parametrize(
    ("name", "split"),
    [("cityscapes", "train"), ("cityscapes_extra", "train_extra"), ("cityscapes_extra", "val")],
)
def test_cityscapes_ids_become_train_ids(name, split, tmp_path, monkeypatch):
    stored, label = stored_and_label(name, split, tmp_path, monkeypatch)
    for train_id, (title, number) in enumerate(cityscapes.IDS.items()):
        assert (label[stored == number] == train_id).all(), title
    assert (label[~np.isin(stored, list(cityscapes.IDS.values()))] == 255).all()


def test_cityscapes_names_and_colours_are_those_of_the_format(tmp_path, monkeypatch):
    """Two tables, of the benchmark and of the annotation format, written apart."""
    source = parts_lib.make_source(config_of("cityscapes", tmp_path, monkeypatch), "val")
    labels = [cityscapes_format.LABELS[number] for number in cityscapes.IDS.values()]
    assert source.class_names == tuple(label.name for label in labels)
    assert source.palette == tuple(label.colour for label in labels)


def test_a_pet_s_rim_is_void_or_a_class(tmp_path, monkeypatch):
    stored, label = stored_and_label("pets", "test", tmp_path, monkeypatch)
    np.testing.assert_array_equal(label, np.array([9, 0, 1, 255])[stored])
    config = sections.section(pets.get_config("border=class,size=debug"))
    again = parts_lib.make_source(config, "test")[0]["label"]
    np.testing.assert_array_equal(again, stored - 1)


def test_isbi_s_slices_are_those_of_the_stacks(tmp_path, monkeypatch):
    source = parts_lib.make_source(config_of("isbi2012", tmp_path, monkeypatch), "test")
    images, labels = (
        tifffile.imread(tmp_path / f"isbi2012/train-{name}.tif") for name in ("volume", "labels")
    )
    for example, plane in zip((source[0], source[1]), (8, 9), strict=True):
        np.testing.assert_array_equal(example["image"][..., 0], images[plane])
        np.testing.assert_array_equal(example["label"], labels[plane] == 0)


def test_any_nucleus_is_the_class(tmp_path, monkeypatch):
    stored, label = stored_and_label("dsb2018_pixels", "val", tmp_path, monkeypatch)
    assert len(stored) == 3
    np.testing.assert_array_equal(label, np.maximum.reduce(stored) // 255)


def test_coco_stuff_s_gaps_close(tmp_path, monkeypatch):
    stored, label = stored_and_label("coco_stuff", "val", tmp_path, monkeypatch)
    for number, name in ((0, "person"), (12, "stop sign"), (89, "toothbrush"), (91, "banner")):
        here = stored == number
        assert here.any() and ((*coco.THINGS, *coco.STUFF)[label[here][0]]) == name
    assert (label[stored == 181] == 170).all() and (label[stored == 255] == 255).all()


def test_panoptic_segments_become_their_categories(tmp_path, monkeypatch):
    source = parts_lib.make_source(config_of("coco_panoptic", tmp_path, monkeypatch), "val")
    assert source.class_names == ("person", "rug-merged")
    assert source.palette == ((220, 20, 60), (1, 2, 3))
    expected = np.array([255, 1, 0, 0])[np.arange(3000).reshape(50, 60) % 4]
    np.testing.assert_array_equal(source[1]["label"], expected)


def test_panoptic_classes_are_those_of_the_publisher_s_converter():
    """Its own sample, and what panopticapi made of it: category in red, instance in green."""
    folder = pathlib.Path(os.environ.get("SEGJAX_DATA", "no data")) / "formats/coco_panoptic"
    if not folder.is_dir():
        pytest.skip("COCO's own sample is not in SEGJAX_DATA/formats")
    source = panoptic.Source(
        split="val", root=str(folder), images="input_images", annotations="panoptic_examples.json"
    )
    categories = json.loads((folder / "panoptic_examples.json").read_text())["categories"]
    numbers = np.zeros(256, int)
    numbers[: len(categories)] = sorted(one["id"] for one in categories)
    assert len(source) == 2 and len(source.class_names) == 133
    for example in (source[0], source[1]):
        stem = pathlib.Path(example["name"]).stem
        published = np.asarray(Image.open(folder / f"panoptic_examples_2ch_format/{stem}.png"))
        np.testing.assert_array_equal(numbers[example["label"]], published[..., 0])


def test_instances_are_drawn_in_order(tmp_path, monkeypatch):
    source = parts_lib.make_source(config_of("coco_instances", tmp_path, monkeypatch), "val")
    assert source.class_names == ("background", "person", "rug-merged")
    label = source[0]["label"]
    assert (label[12:28, 12:18] == 1).all() and (label[22:38, 22:38] == 2).all()
    assert (label[:9] == 0).all() and (source[1]["label"] == 0).all()


def test_cityscapes_objects_are_cars_and_a_group_of_them(tmp_path, monkeypatch):
    source = parts_lib.make_source(config_of("cityscapes_regions", tmp_path, monkeypatch), "val")
    names = [source.class_names[number] for number in source.things]
    assert names == list(cityscapes_panoptic.THINGS)
    found, label = source.objects(0), source[0]["label"]
    shown = [source.class_names[number] for number in found.classes]
    assert shown == ["car", "person", "car", "car"]
    assert found.crowd.tolist() == [True, False, False, False]
    assert found.boxes.tolist()[2:] == [[30, 10, 40, 30], [30, 40, 40, 70]]
    road, sky, car = (source.class_names.index(name) for name in ("road", "sky", "car"))
    assert label[25, 0] == road and label[0, 0] == sky and (label[45:50, 10:90] == car).all()
    assert (label[:, 125:] == 255).all()


@pytest.mark.parametrize("name", ["coco_objects", "coco_regions", "cityscapes_regions"])
def test_benchmarks_of_objects_count_things_alone(name, tmp_path, monkeypatch):
    """Classes that the model answers: all of a panoptic one, the things of the others."""
    config = config_of(name, tmp_path, monkeypatch)
    source = parts_lib.make_source(config, "train")
    parts = parts_lib.make_parts(config, parts_lib.classes_of(source), available=source.schema)
    things, names = len(parts.classes.things), len(source.class_names)
    assert 0 < things < names
    assert parts.model.num_classes == (things if name == "coco_objects" else names)


def test_a_decathlon_volume_has_its_modalities_and_labels(tmp_path, monkeypatch):
    source = parts_lib.make_source(config_of("msd", tmp_path, monkeypatch), "val")
    assert source.class_names == ("background", "PZ", "TZ")
    image, label = (
        nibabel.load(tmp_path / f"Task05_Prostate/{kind}sTr/prostate_07.nii.gz").get_fdata()
        for kind in ("image", "label")
    )
    np.testing.assert_array_equal(source[0]["label"], label.transpose(2, 1, 0))
    np.testing.assert_allclose(source[0]["image"], image.transpose(2, 1, 0, 3), rtol=1e-6)


OF_OBJECTS = {
    "coco_objects": "AP", "coco_regions": "PQ", "cityscapes_regions": "PQ", "dsb2018": "AP",
    "dsb2018_stage1": "AP", "coco_regions_mask2former": "PQ",
    "cityscapes_regions_mask2former": "PQ",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in OF_OBJECTS])
def test_a_benchmark_takes_two_steps_and_is_scored(name, tmp_path, monkeypatch):
    """In the windows of its protocol, made small; every valid pixel of the masks counts once."""
    config = config_of(name, tmp_path, monkeypatch)
    case = CASES[name]
    own = case.module.get_config(case.arg).inference.to_dict()
    config["mesh"] = dict(data=2, fsdp=1, space=4)
    own["size"] = (48, 64) if len(own["size"]) == 2 else config["input"]["size"]
    own |= {"short_side": 56} if own["short_side"] else {}
    config["inference"] = own
    assert train.run(tmp_path / "run", config) == 0
    result = json.loads((tmp_path / "run/eval/val.json").read_text())
    source = parts_lib.make_source(config, config["evals"]["val"]["split"])
    valid = sum(int((np.asarray(source[i]["label"]) != 255).sum()) for i in range(len(source)))
    assert result["num_pixels"] == valid and result["inference"]["blend"] == own["blend"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_OBJECTS)
def test_a_benchmark_of_objects_takes_two_steps_and_is_scored(name, tmp_path, monkeypatch):
    config = config_of(name, tmp_path, monkeypatch)
    config["mesh"] = dict(data=8, fsdp=1, space=1)
    for section in (config["input"], *config["evals"].values()):
        section["batch_size"] = 8
    assert train.run(tmp_path / "run", config) == 0
    result = json.loads((tmp_path / "run/eval/val.json").read_text())
    assert 0 <= result[OF_OBJECTS[name]] <= 1
    assert result["num_examples"] == CASES[name].examples["val"]


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_a_protocol_sees_images_as_published(name):
    config = schema.defaults()
    config.input.size = (96, 96, 96) if name == "msd" else (512, 512)
    config.input.fit = "pad"
    protocols.put(config, name)
    canvas = fit.Canvas(tuple(config.input.size), "pad", 0)
    layout = parts_lib.make_layout(sections.section(config)["inference"], canvas)
    expected = {  # image: sides that the network sees, windows along each axis
        "as_trained": ((375, 500), (375, 500), (1, 1)),
        "voc": ((375, 500), (375, 500), (1, 1)),
        "voc_multi_scale": ((375, 500), (375, 500), (1, 1)),
        "ade20k": ((600, 900), (512, 768), (1, 2)),
        "ade20k_multi_scale": ((512, 3000), (350, 2048), (1, 6)),
        "cityscapes": ((1024, 2048), (1024, 2048), (1, 1)),
        "cityscapes_sliding": ((1024, 2048), (1024, 2048), (2, 4)),
        "msd": ((96, 200, 150), (96, 200, 150), (1, 4, 3)),
    }
    whole, sides, windows = expected[name]
    plan = Plan(whole, layout)
    assert plan.views[0].sides == sides
    assert tuple(len(axis.starts) for axis in plan.views[0].axes) == windows
    views = {"voc_multi_scale": 12, "ade20k_multi_scale": 12, "msd": 8}
    assert len(plan.views) == views.get(name, 1)


def test_another_protocol_is_an_error():
    with pytest.raises(ConfigError, match="protocol='vok' is none of"):
        voc.get_config("protocol=vok")

"""Published benchmarks by config: on a miniature of each publisher's own folders."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import ade20k, cityscapes, protocols, voc
from segjax.assemble import parts as parts_lib
from segjax.config import schema, sections
from segjax.data import fit
from segjax.errors import ConfigError
from segjax.inference.layout import Plan
from segjax.runs import train

RANDOM = np.random.default_rng(0)


def save(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image = image.convert("P")
        image.putdata(array.ravel().tolist())
    image.save(path)


def picture(size):
    return RANDOM.integers(0, 256, (*size, 3), np.uint8)


def make_voc(root):
    root = root / "VOCdevkit/VOC2012"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for split in ("train", "val"):
        names = [f"2007_{split}{i}" for i in range(2)]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")
        for name, size in zip(names, [(75, 100), (100, 66)], strict=True):
            save(root / f"JPEGImages/{name}.jpg", picture(size))
            label = RANDOM.integers(0, 21, size).astype(np.uint8)
            label[:3] = 255
            save(root / f"SegmentationClass/{name}.png", label, palette=True)
    save(root / "JPEGImages/2008_other.jpg", picture((60, 60)))  # an image without a mask


def make_cityscapes(root):
    for split, town in (("train", "aachen"), ("val", "lindau")):
        for i in range(2):
            stem = f"{town}_00000{i}_000019"
            image = root / f"cityscapes/leftImg8bit/{split}/{town}/{stem}_leftImg8bit.png"
            save(image, picture((64, 128)))
            folder = root / f"cityscapes/gtFine/{split}/{town}"
            ids = RANDOM.integers(0, 34, (64, 128)).astype(np.uint8)
            ids[0, 0] = 255  # -1, a license plate
            save(folder / f"{stem}_gtFine_labelIds.png", ids)
            save(folder / f"{stem}_gtFine_color.png", picture((64, 128)))
            save(folder / f"{stem}_gtFine_instanceIds.png", ids)


def make_ade20k(root):
    root = root / "ADEChallengeData2016"
    for split, size in (("training", (90, 70)), ("validation", (64, 200))):
        for i in range(2):
            save(root / f"images/{split}/ADE_{i}.jpg", picture(size))
            label = RANDOM.integers(0, 151, size).astype(np.uint8)
            save(root / f"annotations/{split}/ADE_{i}.png", label)


FILES = {"voc": (voc, make_voc), "cityscapes": (cityscapes, make_cityscapes)}
FILES |= {"ade20k": (ade20k, make_ade20k)}


def debug_config(name, tmp_path, monkeypatch):
    """Write a miniature of a benchmark, and return its config for it."""
    module, make = FILES[name]
    make(tmp_path)
    monkeypatch.setenv("SEGJAX_DATA", str(tmp_path))
    return sections.section(module.get_config("size=debug"))


@pytest.mark.parametrize("name", FILES)
def test_the_publishers_masks_are_read_as_they_are(name, tmp_path, monkeypatch):
    config = debug_config(name, tmp_path, monkeypatch)
    source = parts_lib.make_source(config, config["evals"]["val"]["split"])
    assert len(source) == 2
    example = source[0]
    _, (label_file,) = source.files[0]
    stored, label = np.asarray(Image.open(label_file)), example["label"]
    if name == "voc":
        np.testing.assert_array_equal(label, stored)
    elif name == "ade20k":
        np.testing.assert_array_equal(label[stored > 0], stored[stored > 0] - 1)
        assert (label[stored == 0] == 255).all()
    else:
        for train_id, (title, number) in enumerate(cityscapes.IDS.items()):
            assert (label[stored == number] == train_id).all(), title
        assert (label[~np.isin(stored, list(cityscapes.IDS.values()))] == 255).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_takes_two_steps_and_is_scored(name, tmp_path, monkeypatch):
    """In the windows of its protocol, made small; every valid pixel of the masks counts once."""
    config = debug_config(name, tmp_path, monkeypatch)
    own = dict(FILES[name][0].get_config("").inference.to_dict(), size=(48, 64))
    config["inference"] = own | ({"short_side": 56} if own["short_side"] else {})
    config["mesh"] = dict(data=2, fsdp=1, space=4)
    assert train.run(tmp_path / "run", config) == 0
    result = json.loads((tmp_path / "run/eval/val.json").read_text())
    source = parts_lib.make_source(config, config["evals"]["val"]["split"])
    valid = sum(int((source[i]["label"] != 255).sum()) for i in range(2))
    assert result["num_pixels"] == valid and result["inference"]["blend"] == own["blend"]


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

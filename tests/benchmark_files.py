"""Miniatures of benchmarks, each in its publisher's own layout."""

import json

import nibabel
import numpy as np
import scipy.io
import tifffile
from PIL import Image

from configs import coco
from tests.data import lidc_files

RANDOM = np.random.default_rng(0)
PATIENTS = 10


def save(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image = image.convert("P")
        image.putdata(array.ravel().tolist())
    image.save(path)


def picture(size):
    return RANDOM.integers(0, 256, (*size, 3), np.uint8)


def classes(size, count):
    return RANDOM.integers(0, count, size).astype(np.uint8)


def write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


def make_voc(root):
    root = root / "VOCdevkit/VOC2012"
    for split in ("train", "val"):
        names = [f"2007_{split}{i}" for i in range(2)]
        write_list(root / f"ImageSets/Segmentation/{split}.txt", names)
        for name, size in zip(names, [(75, 100), (100, 66)], strict=True):
            save(root / f"JPEGImages/{name}.jpg", picture(size))
            label = classes(size, 21)
            label[:3] = 255
            save(root / f"SegmentationClass/{name}.png", label, palette=True)
    save(root / "JPEGImages/2008_other.jpg", picture((60, 60)))  # an image without a mask


def make_sbd(root):
    """SBD has an image of each of VOC's splits, and `2008_other`, which VOC has no mask of."""
    make_voc(root)
    sbd = root / "benchmark_RELEASE/dataset"
    write_list(sbd / "train.txt", ["2007_train0", "2007_val1"])
    write_list(sbd / "val.txt", ["2008_other"])
    (sbd / "cls").mkdir()
    for name in ("2007_train0", "2007_val1", "2008_other"):
        whole = {"Boundaries": np.zeros((2, 1), object), "Segmentation": classes((60, 60), 21)}
        whole["CategoriesPresent"] = np.array([[1.0]])
        scipy.io.savemat(sbd / f"cls/{name}.mat", {"GTcls": whole}, do_compression=True)


def make_voc_png(root):
    make_voc(root)
    root = root / "VOCdevkit/VOC2012"
    for name, size in (("2007_train0", (75, 100)), ("2008_other", (60, 60))):
        save(root / f"SegmentationClassAug/{name}.png", classes(size, 21))
    write_list(root / "ImageSets/Segmentation/trainaug.txt", ["2007_train0", "2008_other"])


def make_cityscapes(root, kind="gtFine", splits=(("train", "aachen"), ("val", "lindau"))):
    for split, town in splits:
        for i in range(2):
            stem = f"{town}_00000{i}_000019"
            image = root / f"cityscapes/leftImg8bit/{split}/{town}/{stem}_leftImg8bit.png"
            save(image, picture((64, 128)))
            folder = root / f"cityscapes/{kind}/{split}/{town}"
            ids = classes((64, 128), 34)
            ids[0, 0] = 255  # -1, a license plate
            save(folder / f"{stem}_{kind}_labelIds.png", ids)
            save(folder / f"{stem}_{kind}_color.png", picture((64, 128)))
            save(folder / f"{stem}_{kind}_instanceIds.png", ids)


def make_cityscapes_panoptic(root):
    """With cars 0 and 1 beside a group of cars, and one that has no number."""
    make_cityscapes(root)
    for file in (root / "cityscapes/gtFine").rglob("*_instanceIds.png"):
        numbers = np.full((64, 128), 7, np.uint16)
        numbers[:20] = 23
        numbers[30:40, 10:30], numbers[30:40, 40:70] = 26_000, 26_001
        numbers[45:50, 10:90], numbers[52:60, 100:110] = 26, 24_003
        numbers[:, 125:] = 3
        save(file, numbers)


def make_cityscapes_extra(root):
    make_cityscapes(root)
    make_cityscapes(root, "gtCoarse", [("train_extra", "ulm")])


def make_ade20k(root):
    root = root / "ADEChallengeData2016"
    for split, size in (("training", (90, 70)), ("validation", (64, 200))):
        for i in range(2):
            save(root / f"images/{split}/ADE_{i}.jpg", picture(size))
            save(root / f"annotations/{split}/ADE_{i}.png", classes(size, 151))


def make_pets(root):
    root = root / "pets"
    for split in ("trainval", "test"):
        names = [f"Abyssinian_{split}{i}" for i in range(2)]
        write_list(root / f"annotations/{split}.txt", [f"{name} 1 1 1" for name in names])
        for name in names:
            save(root / f"images/{name}.jpg", picture((60, 80)))
            save(root / f"annotations/trimaps/{name}.png", 1 + classes((60, 80), 3))
            (root / f"annotations/trimaps/._{name}.png").write_bytes(b"of macOS")
    (root / "images/Abyssinian_100.mat").write_bytes(b"as published")


def make_isbi2012(root):
    (root / "isbi2012").mkdir()
    for name, high in (("volume", 256), ("labels", 2)):
        stack = RANDOM.integers(0, high, (10, 64, 64)).astype(np.uint8)
        stack = stack * 255 if high == 2 else stack
        tifffile.imwrite(root / f"isbi2012/train-{name}.tif", stack, photometric="minisblack")


def make_dsb2018(root):
    for i in range(10):
        folder = root / f"stage1_train/{i:02d}ab"
        opaque = np.concatenate([picture((50, 60)), np.full((50, 60, 1), 255, np.uint8)], axis=-1)
        save(folder / f"images/{i:02d}ab.png", opaque)
        for k in range(3):
            mask = np.zeros((50, 60), np.uint8)
            mask[5 + 10 * k : 12 + 10 * k, 8 : 20 + k] = 255
            save(folder / f"masks/{k}.png", mask)


def make_fluorescence(root):
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        for i in range(count):
            folder = root / f"dsb2018/{split}"
            save(folder / f"images/{i}.png", picture((70, 80))[..., 0])
            nuclei = np.zeros((70, 80), np.uint16)
            for k in range(3):
                nuclei[5 + 20 * k : 17 + 20 * k, 8 : 20 + k] = 300 + k
            save(folder / f"instances/{i}.png", nuclei)


def make_msd(root):
    """Two modalities, which the task's images do not have, but others of the Decathlon do."""
    root = root / "Task05_Prostate"
    pairs = []
    for i in range(10):
        pair = {kind: f"./{kind}sTr/prostate_{i:02d}.nii.gz" for kind in ("image", "label")}
        pairs.append(pair)
        image = RANDOM.normal(300, 50, (24, 20, 12, 2)).astype(np.float32)
        label = RANDOM.integers(0, 3, (24, 20, 12)).astype(np.uint8)
        for kind, array in (("image", image), ("label", label)):
            path = root / pair[kind]
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(array, np.diag([1, 1, 3.0, 1])).to_filename(path)
    about = {
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "modality": {"0": "T2", "1": "ADC"}, "numTraining": 10, "training": pairs, "test": [],
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(about))


def make_lidc(root):
    """Two readers outline a diamond, a third one another; a patient has a radiograph beside."""
    for i in range(PATIENTS):
        patient = root / f"LIDC-IDRI/LIDC-IDRI-{i + 1:04d}"
        series = patient / "01-01-2000-30178/3000566.000000-03192"
        volume = RANDOM.integers(-1000, 400, (6, 32, 36)).astype(np.int16)
        lidc_files.save_series(series, volume, uid=f"1.2.{i}")
        outline = lidc_files.nodule(
            lidc_files.roi(2, lidc_files.DIAMOND), lidc_files.roi(3, lidc_files.DIAMOND)
        )
        moved = lidc_files.nodule(lidc_files.roi(3, [(x + 3, y) for x, y in lidc_files.DIAMOND]))
        lidc_files.save_xml(series / "069.xml", [[outline], [outline], [moved], []])
    lidc_files.save_radiograph(patient / "01-01-2000-30179/3000567.000000-03193")


def make_coco_images(root, split):
    names = [f"{number:012d}" for number in (9, 42)]
    for name in names:
        save(root / f"coco/{split}2017/{name}.jpg", picture((50, 60)))
    return names


def make_coco_stuff(root):
    for split in ("train", "val"):
        for name in make_coco_images(root, split):
            stored = np.array([*(number - 1 for number in coco.IDS), 255])
            label = stored[RANDOM.integers(0, len(stored), (50, 60))].astype(np.uint8)
            save(root / f"coco/stuffthingmaps/{split}2017/{name}.png", label)


CATEGORIES = [
    {"id": 200, "name": "rug-merged", "isthing": 0, "color": [1, 2, 3], "supercategory": ""},
    {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60], "supercategory": ""},
]


def coco_json(root, name, split, annotations, names):
    images = [
        {"id": int(own), "file_name": f"{own}.jpg", "height": 50, "width": 60} for own in names
    ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = root / f"coco/annotations/{name}_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def make_coco_panoptic(root):
    for split in ("train", "val"):
        names, annotations = make_coco_images(root, split), []
        for name in names:
            ids = np.array([0, 70_000, 300, 5])[np.arange(3000).reshape(50, 60) % 4]
            shades = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
            save(root / f"coco/annotations/panoptic_{split}2017/{name}.png", shades)
            segments = [
                {"id": number, "category_id": kind, "iscrowd": 0}
                for number, kind in ((70_000, 200), (300, 1), (5, 1))
            ]
            annotations.append(
                {"image_id": int(name), "file_name": f"{name}.png", "segments_info": segments}
            )
        coco_json(root, "panoptic", split, annotations, names)


def make_coco_instances(root):
    """A person, and a rug that lies on it; the second image has nothing on it."""
    for split in ("train", "val"):
        names = make_coco_images(root, split)
        boxes = {1: (10, 10, 30, 30), 200: (20, 20, 40, 40)}
        annotations = [
            {"id": kind, "image_id": int(names[0]), "category_id": kind, "iscrowd": 0,
             "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
            for kind, (x0, y0, x1, y1) in boxes.items()
        ]  # fmt: skip
        coco_json(root, "instances", split, annotations, names)

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from configs import pets
from segjax.data import core, pipeline, tfds
from segjax.errors import ConfigError, DataError

NAMES = ("pet", "background", "border")


def mask(number):
    label = np.ones((50 + number, 60), np.uint8)
    label[10:20], label[:, 40:] = 2, 3
    return label


class TinyPets(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Six images whose masks hold 1..3, as Oxford-IIIT Pet's do."""

    VERSION = tensorflow_datasets.core.Version("1.2.0")

    def _info(self):
        features = tensorflow_datasets.features
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict(
                {
                    "image": features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "segmentation_mask": features.Image(
                        shape=(None, None, 1), encoding_format="png"
                    ),
                    "named_mask": features.LabeledImage(
                        labels=["void", *NAMES], shape=(None, None, 1), encoding_format="png"
                    ),
                    "file_name": features.Text(),
                }
            ),
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples(0, 4), "test": self._generate_examples(4, 6)}

    def _generate_examples(self, start, stop):
        for i in range(start, stop):
            label = Image.fromarray(mask(i))
            yield (
                i,
                {
                    "image": Image.fromarray(np.full((50 + i, 60, 3), 40 * i, np.uint8)),
                    "segmentation_mask": label,
                    "named_mask": label,
                    "file_name": f"{i}.jpg",
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("tfds"))
    TinyPets(data_dir=path, file_format="array_record").download_and_prepare()
    return path


def open_pets(data_dir, **changes):
    arguments = {"split": "train", "name": "tiny_pets", "label_offset": -1, "class_names": NAMES}
    return tfds.Source(**(arguments | {"data_dir": data_dir} | changes))


def test_reads_images_and_masks(data_dir):
    source = open_pets(data_dir)
    assert (len(source), source.class_names, core.channels_of(source.schema)) == (4, NAMES, 3)
    for i in range(4):
        example = source[i]
        number = round(example["image"].mean() / 40)  # TFDS shuffles when it prepares
        assert example["image"].shape == (50 + number, 60, 3)
        np.testing.assert_array_equal(example["label"], mask(number) - 1)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[1]["label"], source[1]["label"])


def test_threads_read_the_same_records(data_dir):
    source = open_pets(data_dir)
    options = {"schema": source.schema, "batch_size": 4, "size": (64, 64), "fit": "pad", "seed": 0}
    threaded = pipeline.train_batches(source, threads=4, **options)
    alone = pipeline.train_batches(source, threads=0, **options)
    for _ in range(20):
        np.testing.assert_array_equal(next(threaded)["image"], next(alone)["image"])
    threaded.close()


def test_names_of_the_feature_and_ignored_value(data_dir):
    source = open_pets(
        data_dir, label_key="named_mask", class_names=(), label_offset=0, ignore_index=3
    )
    assert source.class_names == ("void", *NAMES)
    assert set(np.unique(source[0]["label"])) == {1, 2, 255}
    assert open_pets(data_dir, class_names=(), num_classes=3).class_names[2] == "class 2"
    with pytest.raises(ConfigError, match="Set class_names"):
        open_pets(data_dir, class_names=())


@pytest.mark.parametrize(
    "entries", [{1: 2, 2: 0, 3: 1}, {"1": 2, "2": 0, "*": 1}, {"2": 0, "3-9": 1}]
)
def test_label_map_and_dtype(data_dir, entries):
    """As of a folder: the class of each stored value, and the type of the images."""
    ignore = -1 if len(entries) == 3 else 1
    source = open_pets(
        data_dir, label_offset=0, label_map=entries, ignore_index=ignore, dtype="float32"
    )
    example, plain = source[0], open_pets(data_dir)[0]
    expected = np.array([2, 0, 1], np.uint8)[plain["label"]]
    np.testing.assert_array_equal(
        example["label"], np.where(expected == 2, 255 if ignore == 1 else 2, expected)
    )
    assert example["image"].dtype == source.schema["image"].dtype == "float32"
    np.testing.assert_array_equal(example["image"], plain["image"])


@pytest.mark.parametrize("split", ["test", "train[:50%]", "train[2:]"])
def test_splits_and_slices(data_dir, split):
    assert len(open_pets(data_dir, split=split)) == 2


@pytest.mark.parametrize("name", ["tiny_pets:1.2.0", "tiny_pets"])
def test_version(data_dir, name):
    assert len(open_pets(data_dir, name=name)) == 4


def test_label_out_of_range(data_dir):
    with pytest.raises(DataError, match=r"tiny_pets/train/0 \(segmentation_mask\): label value 3 "):
        _ = open_pets(data_dir, label_offset=0)[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "oxford_iiit_pet"}, "tfds build oxford_iiit_pet .*--file_format=array_record"),
        ({"name": "tiny_pets:9.9.9"}, "not prepared"),
        ({"split": "val"}, "has the splits train, test"),
        ({"image_key": "picture"}, "image_key='picture'.*image, named_mask, segmentation_mask"),
        ({"label_key": "file_name"}, "label_key='file_name'"),
    ],
)
def test_what_is_missing_is_named(data_dir, changes, expected):
    with pytest.raises(DataError, match=expected):
        open_pets(data_dir, **changes)


def test_configs_are_listed(tmp_path):
    for config in ("large", "small"):
        path = tmp_path / "scenes" / config / "1.0.0"
        path.mkdir(parents=True)
        for name in ("features.json", "dataset_info.json"):
            (path / name).write_text("{}")
    with pytest.raises(DataError, match="name='scenes/large'.*large, small"):
        tfds.find_prepared("scenes", data_dir=str(tmp_path))
    assert tfds.find_prepared("scenes/small", data_dir=str(tmp_path)).parent.name == "small"


def test_newest_version_is_read(tmp_path):
    for version in ("1.9.0", "1.10.0"):
        path = tmp_path / "scenes" / version
        path.mkdir(parents=True)
        for name in ("features.json", "dataset_info.json"):
            (path / name).write_text("{}")
    assert tfds.find_prepared("scenes", data_dir=str(tmp_path)).name == "1.10.0"


def test_tfrecords_have_no_random_access(data_dir, tmp_path):
    path = tfds.find_prepared("tiny_pets", data_dir=data_dir)
    copy = tmp_path / "tiny_pets" / "1.2.0"
    copy.mkdir(parents=True)
    for name in ("features.json", "dataset_info.json"):
        (copy / name).write_text((path / name).read_text())
    info = json.loads((copy / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (copy / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="prepared as tfrecord.*array_record"):
        open_pets(str(tmp_path))


def test_tensorflow_is_never_imported(data_dir):
    code = (
        "import sys; from segjax.data import tfds; "
        f"s = tfds.Source(split='train', name='tiny_pets', data_dir={data_dir!r}, "
        "label_offset=-1, num_classes=3); s[0]; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("border", "last"), [("void", 255), ("class", 2)])
def test_the_benchmark_of_pets_reads_them(data_dir, border, last):
    section = pets.get_config(f"from=tfds,border={border}").input.source.to_dict()
    del section["type"]
    section |= {"name": "tiny_pets", "data_dir": data_dir}
    with pytest.raises(DataError, match="4 examples in split 'train', expected 3,680"):
        tfds.Source(split="train", **section)
    section["expected"] = {"train": 4}
    label = tfds.Source(split="train", **section)[0]["label"]
    expected = {50 + i: np.array([9, 0, 1, last])[mask(i)] for i in range(4)}[len(label)]
    np.testing.assert_array_equal(label, expected)
